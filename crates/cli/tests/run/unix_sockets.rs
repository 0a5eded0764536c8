// SPDX-License-Identifier: Apache-2.0
//! Unix sockets of a workload: its own work, all others are out of reach, whatever their name, age,
//! kind or place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::user::{Shell, User, as_everybody, quoted, told};

/// The script with the programs.
const PROGRAMS: &str = include_str!("unix_sockets.py");

/// Returns the command that runs one of the programs.
fn program(user: &User, args: &str) -> String {
    let script = user.path("work/programs.py");
    if !script.exists() {
        user.add_file("work/programs.py", PROGRAMS);
    }
    format!("python3 {} {args}", script.display())
}

/// Asserts that a program works outside, and inside in no way.
fn only_outside(user: &User, shell: &mut Shell, args: &str) {
    let outside = user.outside(&program(user, args));
    assert!(outside.status.success(), "{args}\n{}", told(&outside));
    for way in user.ways() {
        let script = quoted(&program(user, args));
        let (status, said) = shell.does(&format!("{way} '{script}'"));
        assert_ne!(status, 0, "inside, {way}: {args}\n{said}");
    }
}

/// Listens at `path`, for everybody.
fn listen(path: &Path) -> UnixListener {
    let listener = UnixListener::bind(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    listener
}

/// Gives a listener another path by hard links, as ssh does.
fn listen_linked(path: &Path) -> UnixListener {
    let bound = path.with_extension("bound");
    let listener = listen(&bound);
    fs::hard_link(&bound, path).unwrap();
    fs::remove_file(&bound).unwrap();
    listener
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_socket_of_the_operator_at_any_path() {
    as_everybody(|user| {
        let place = user.directory("place");
        let before = [
            listen(&place.join("bound")),
            listen_linked(&place.join("linked")),
            listen(&place.join("new\nline")),
        ];
        let mut shell = user.shell_inside();
        let after = [listen_linked(&place.join("later"))];
        // A path that the sandbox had made its own before.
        let (status, said) = shell.does(&program(user, &format!("peers {}/own", place.display())));
        assert_eq!(status, 0, "{said}");
        let again = listen(&place.join("own"));
        for name in ["bound", "linked", "new\nline", "later", "own"] {
            let path = place.join(name);
            only_outside(user, &mut shell, &format!("any_way \"{}\"", path.display()));
        }
        drop((before, after, again));
    });
}

#[test]
fn a_socket_shown_at_another_path_by_a_mount() {
    as_everybody(|user| {
        let place = user.directory("place");
        let listener = listen(&place.join("socket"));
        let mut shell = user.shell_inside();
        for mount in [
            "mount --bind {from}/socket {to}/socket",
            "mount --bind {from} {to}",
        ] {
            let to = user.directory("to");
            user.add_file("to/socket", "");
            let mount = mount
                .replace("{from}", &place.display().to_string())
                .replace("{to}", &to.display().to_string());
            let connect = program(user, &format!("connect {}/socket", to.display()));
            let ways = user.ways().iter().filter(|way| way.contains('m'));
            for way in ways {
                let mounted = format!("{mount} && test -S {}/socket", to.display());
                let control = format!("{way} '{mounted}'");
                assert_eq!(shell.does(&control).0, 0, "{control}");
                let act = format!("{way} '{mounted} && {connect}'");
                let (status, said) = shell.does(&act);
                assert_ne!(status, 0, "{act}\n{said}");
                assert!(said.contains("Permission denied"), "{said}");
            }
        }
        drop(listener);
    });
}

#[test]
fn datagram_sockets_and_other_kinds() {
    as_everybody(|user| {
        let place = user.directory("place");
        let datagrams = UnixDatagram::bind(place.join("datagrams")).unwrap();
        fs::set_permissions(place.join("datagrams"), fs::Permissions::from_mode(0o777)).unwrap();
        let packets = user
            .command("python3")
            .args([
                "-c",
                "import socket, sys\n\
                s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n\
                s.bind('packets'); s.listen(); print(flush=True); sys.stdin.read()",
            ])
            .current_dir(&place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut packets = packets.unwrap();
        let mut ready = [0];
        std::io::Read::read_exact(packets.stdout.as_mut().unwrap(), &mut ready).unwrap();
        let mut shell = user.shell_inside();
        let place = place.display();
        only_outside(user, &mut shell, &format!("datagrams {place}/datagrams"));
        only_outside(
            user,
            &mut shell,
            &format!("connect {place}/packets SEQPACKET"),
        );
        end(packets);
        drop(datagrams);
    });
}

#[test]
fn an_address_or_descriptor_that_is_exchanged_during_the_decision() {
    as_everybody(|user| {
        let place = user.directory("place");
        let outside = listen(&place.join("outside"));
        outside.set_nonblocking(true).unwrap();
        let mut shell = user.shell_inside();
        let place = place.display();
        let act = program(user, &format!("swapped {place}/outside {place}/inside"));
        let (status, said) = shell.does(&act);
        assert_eq!(status, 0, "connections to its own socket are made: {said}");
        let reached = outside.accept();
        assert!(reached.is_err(), "{reached:?}");
        // Control: the same program reaches both outside.
        let control = user.outside(&act.replace("/inside", "/inside2"));
        assert!(control.status.success(), "{}", told(&control));
        outside.accept().unwrap();
    });
}

#[test]
fn the_descriptors_of_the_first_process_lead_nowhere() {
    as_everybody(|user| {
        // A directory that is out of the workload's reach, but open in `run`, and in each process
        // that it starts.
        let place = user.directory("runtime/place");
        let mut run = user.command("sh");
        let program_path = user.program();
        run.arg("-c").arg(format!(
            "exec {} run --network none -- sh 9<{} 8</",
            program_path.display(),
            place.display()
        ));
        let mut shell = Shell::start(run);
        for way in user.ways() {
            let script = quoted(&program(user, "nowhere socket"));
            let (status, said) = shell.does(&format!("{way} '{script}'"));
            assert_eq!(status, 0, "{way}: {said}");
            // The caller's own directories, open for the call, are no way out.
            assert_eq!(fs::read_dir(&place).unwrap().count(), 0, "{way}: {said}");
            shell.does("rm -f /socket socket");
        }
    });
}

#[test]
fn programs_talk_to_each_other() {
    as_everybody(|user| {
        let place = user.directory("place");
        let place = place.display();
        let mut shell = user.shell_inside();
        for (number, way) in user.ways().iter().enumerate() {
            for name in ["peers", "backlog", "signals", "ended"] {
                let act = program(user, &format!("{name} {place}/{name}{number}"));
                let (status, said) = shell.does(&format!("rm -f {place}/below; {way} '{act}'"));
                assert_eq!(status, 0, "{way}: {act}\n{said}");
            }
        }
        let (status, said) = shell.does(&program(user, "storm 0"));
        assert_eq!(status, 0, "{said}");
        // From a network namespace of its own, as in the sandbox of a coding agent.
        let serve = format!("exec socat UNIX-LISTEN:{place}/bridge,fork SYSTEM:cat");
        let serve = if which("socat") {
            serve
        } else {
            format!(
                "exec python3 -c 'import socket; s=socket.socket(socket.AF_UNIX); \
                 s.bind(\"{place}/bridge\"); s.listen()\nwhile True: s.accept()[0].close()'"
            )
        };
        shell.does(&format!(
            "({serve}) & until test -S {place}/bridge; do :; done"
        ));
        for way in user.ways() {
            let act = program(user, &format!("connect {place}/bridge"));
            let (status, said) = shell.does(&format!("{way} '{act}'"));
            assert_eq!(status, 0, "{way}: {said}");
        }
        shell.does("kill $!");
    });
}

fn which(program: &str) -> bool {
    let found = Command::new("which").arg(program).output();
    found.is_ok_and(|output| output.status.success())
}

#[test]
fn errors_are_those_of_the_kernel() {
    as_everybody(|user| {
        let place = user.directory("place");
        let place = place.display();
        let outside = user.outside(&program(user, &format!("errors {place}/outside")));
        assert!(outside.status.success(), "{}", told(&outside));
        let inside = user.inside(&program(user, &format!("errors {place}/inside")));
        let lines = |output: &std::process::Output| {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(&inside), lines(&outside), "{}", told(&inside));
        assert!(lines(&inside).len() > 20);
    });
}

#[test]
fn common_programs_use_their_sockets() {
    as_everybody(|user| {
        let tmux = "TMUX_TMPDIR=$PWD tmux -f /dev/null";
        let multiprocessing = "python3 -c 'import multiprocessing as m\n\
            with m.Manager() as manager:\n  \
              numbers = manager.list([1])\n  numbers.append(2)\n  assert list(numbers) == [1, 2]\n\
            with m.get_context(\"forkserver\").Pool(2) as pool:\n  \
              assert pool.map(abs, [-1, -2]) == [1, 2]'";
        for script in [
            multiprocessing.to_owned(),
            format!(
                "{tmux} new-session -d 'echo here; cat' && {tmux} wait-for -S x && \
                 {tmux} list-sessions && {tmux} kill-server"
            ),
            "mkdir -m 700 $PWD/g && export GNUPGHOME=$PWD/g && \
             gpg-connect-agent /bye && gpgconf --kill gpg-agent"
                .to_owned(),
            "eval $(ssh-agent -s) && ssh-keygen -q -t ed25519 -N '' -f $PWD/k && \
             ssh-add -q $PWD/k && ssh-add -l && ssh-agent -k"
                .to_owned(),
        ] {
            let output = user.inside(&format!("export LANG=C; {script}"));
            if script.contains("ssh-") && !user.is_root() && user.uid().is_some() {
                continue; // ssh wants a user that the machine knows
            }
            assert!(output.status.success(), "{script}\n{}", told(&output));
        }
    });
}

/// Runs sshd and a master connection to it.
struct MasterConnection {
    home: PathBuf,
    sshd: Child,
    master: Child,
}

impl MasterConnection {
    fn start(user: &User) -> Self {
        let home = user.directory("ssh");
        let make = |name: &str| {
            let made = user.outside(&format!(
                "ssh-keygen -q -t ed25519 -N '' -f {}/{name}",
                home.display()
            ));
            assert!(made.status.success(), "{}", told(&made));
        };
        make("host");
        make("client");
        fs::copy(home.join("client.pub"), home.join("authorized")).unwrap();
        if user.is_root() {
            fs::create_dir_all("/run/sshd").unwrap(); // as the service of the package
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let place = home.display();
        let sshd = user
            .command("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", "/dev/null", "-p", &port.to_string()])
            .args(["-h", &format!("{place}/host")])
            .args(["-o", &format!("AuthorizedKeysFile={place}/authorized")])
            .args(["-o", "ListenAddress=127.0.0.1", "-o", "PidFile=none"])
            .args(["-o", "StrictModes=no", "-o", "UsePAM=no"])
            .stderr(Stdio::piped())
            .spawn();
        let mut sshd = sshd.unwrap();
        let mut said = std::io::BufReader::new(sshd.stderr.as_mut().unwrap());
        let mut lines = String::new();
        while !lines.contains("Server listening") {
            let read = std::io::BufRead::read_line(&mut said, &mut lines).unwrap();
            assert_ne!(read, 0, "sshd ended: {lines}");
        }
        let master = user
            .command("ssh")
            .args(["-F", "/dev/null", "-M", "-N", "-S"])
            .arg(home.join("master"))
            .args(["-i", &format!("{place}/client"), "-p", &port.to_string()])
            .args(["-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "127.0.0.1"])
            .spawn();
        let connection = Self {
            home,
            sshd,
            master: master.unwrap(),
        };
        connection.wait_until_open();
        connection
    }

    /// ssh gives the socket its name when the connection is open.
    fn wait_until_open(&self) {
        let inotify = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC).unwrap();
        let watched = rustix::fs::inotify::WatchFlags::CREATE;
        rustix::fs::inotify::add_watch(&inotify, &self.home, watched).unwrap();
        let mut events = [0; 4096];
        while !self.home.join("master").exists() {
            rustix::io::read(&inotify, &mut events).unwrap();
        }
    }

    /// A command that runs `touch FILE` on the other side of the connection.
    fn touch(&self, file: &Path) -> String {
        format!(
            "ssh -F /dev/null -o BatchMode=yes -S {} other touch {}",
            self.home.join("master").display(),
            file.display()
        )
    }
}

impl Drop for MasterConnection {
    fn drop(&mut self) {
        for child in [&mut self.master, &mut self.sshd] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

#[test]
fn a_master_connection_of_ssh() {
    // ssh and sshd want a user that the machine knows.
    let user = User::new(None);
    let connection = MasterConnection::start(&user);
    let proof = user.path("work/proof");
    let touch = connection.touch(&proof);
    for way in user.ways() {
        let inside = user.inside(&format!("{way} '{touch}'"));
        assert!(!inside.status.success(), "{way}: {}", told(&inside));
        assert!(!proof.exists(), "{way}");
    }
    assert!(
        connection.home.join("master").exists(),
        "ssh must not remove it"
    );
    let outside = user.outside(&touch);
    assert!(
        outside.status.success() && proof.exists(),
        "{}",
        told(&outside)
    );
    // Handed in, it can be used.
    fs::remove_file(&proof).unwrap();
    let master = connection.home.join("master");
    let output = user
        .run(&["--network", "none", "--socket"])
        .arg(&master)
        .args(["--", "sh", "-c", &touch])
        .output()
        .unwrap();
    assert!(
        output.status.success() && proof.exists(),
        "{}",
        told(&output)
    );
}

#[test]
fn a_socket_that_is_handed_in() {
    as_everybody(|user| {
        let place = user.directory("place");
        let given = listen(&place.join("given"));
        let other = listen(&place.join("other"));
        let hidden = user.directory("runtime/agent").join("socket");
        let in_runtime = listen(&hidden);
        user.own(&place.join("other")); // to link it
        let (given_path, other_path) = (place.join("given"), place.join("other"));
        let mut run = user.run(&["--network", "none", "--socket"]);
        run.arg(&given_path).arg("--socket").arg(&hidden);
        run.args(["--", "sh"]).env("SSH_AUTH_SOCK", &given_path);
        run.env("DOCKER_HOST", format!("unix://{}", other_path.display()));
        run.stderr(Stdio::piped());
        let mut shell = Shell::start(run);
        let mut stderr = std::io::BufReader::new(shell.child.stderr.take().unwrap());
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
        assert!(line.contains(&given_path.display().to_string()), "{line}");
        let connect = |path: &Path| program(user, &format!("connect {}", path.display()));
        for way in user.ways() {
            for (path, expected) in [(&given_path, true), (&other_path, false)] {
                let (status, said) = shell.does(&format!("{way} '{}'", connect(path)));
                assert_eq!(status == 0, expected, "{way} {path:?}: {said}");
            }
        }
        assert_eq!(
            shell.does("echo $SSH_AUTH_SOCK").1,
            given_path.display().to_string()
        );
        assert_eq!(shell.does("echo $DOCKER_HOST").1, "");
        // It is this socket, not whatever is at its path later.
        let replace = format!("ln {0}/other {0}/x && mv {0}/x {0}/given", place.display());
        assert_eq!(shell.does(&replace).0, 0);
        assert_ne!(shell.does(&connect(&given_path)).0, 0);
        drop((given, other, in_runtime));
    });
}

#[test]
fn only_a_socket_of_others_can_be_handed_in() {
    as_everybody(|user| {
        let mut shell = user.shell_inside();
        let own = user.hub();
        user.add_file("work/file", "");
        let missing = user.path("work/missing");
        for (path, expected) in [
            (&own, "could answer its own questions"),
            (&user.path("work/file"), "cannot share"),
            (&user.path("work"), "cannot share"),
            (&missing, "cannot share"),
        ] {
            let output = user
                .run(&["--network", "none", "--socket"])
                .arg(path)
                .args(["--", "true"])
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(125), "{}", told(&output));
            let said = told(&output);
            assert!(said.contains(expected), "{said}");
            assert!(said.contains(&path.display().to_string()), "{said}");
        }
        assert_eq!(shell.does("true").0, 0);
    });
}

#[test]
fn each_user_of_roots_sandbox_has_its_own_rights() {
    let user = User::new(None);
    if !user.is_root() {
        return; // others have one user only
    }
    let place = user.directory("place");
    let output = user.inside(&program(&user, &format!("users {}", place.display())));
    assert!(output.status.success(), "{}", told(&output));
    assert!(!Path::new("/root/socket").exists());
}
