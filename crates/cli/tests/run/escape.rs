// SPDX-License-Identifier: Apache-2.0
//! Attempts of a workload to answer its own questions or to escape. Each test shows that an attempt
//! fails inside the sandbox and succeeds outside, so that the sandbox is the reason.

use std::io::BufRead as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;

use super::kernel::{call, socket};
use super::user::{Shell, User, as_everybody, quoted, told};

/// A script that connects to a unix socket.
fn connect(path: &Path) -> String {
    let script = "use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; \
        connect(S, sockaddr_un($ARGV[0])) or die $!";
    format!("perl -e '{script}' {}", path.display())
}

/// Listens at `path`.
fn listen(path: &Path) -> UnixListener {
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    listener
}

/// Asserts that `script` succeeds outside and fails in the sandbox of `shell`, also in nested user
/// namespaces.
fn only_outside(user: &User, shell: &mut Shell, script: &str) {
    let outside = user.outside(script);
    assert!(
        outside.status.success(),
        "outside: {script}\n{}",
        told(&outside)
    );
    for way in user.ways() {
        let (status, said) = shell.does(&format!("{way} '{}'", quoted(script)));
        assert_ne!(status, 0, "inside, {way}: {script}\n{said}");
    }
}

#[test]
fn its_own_hub_and_ingester() {
    as_everybody(|user| {
        let mut shell = user.shell_inside();
        let hub = user.hub();
        let id = hub.parent().unwrap().file_name().unwrap().to_str().unwrap();
        let ingester = user
            .path("runtime/terok/events")
            .join(id)
            .join("ingester.sock");
        for socket in [&hub, &ingester] {
            only_outside(user, &mut shell, &connect(socket));
        }
    });
}

#[test]
fn the_runtime_directory() {
    as_everybody(|user| {
        let mut shell = user.shell_inside();
        let runtime = user.path("runtime");
        let runtime = runtime.display();
        only_outside(user, &mut shell, &format!("ls {runtime}/terok"));
        only_outside(user, &mut shell, &format!("touch {runtime}/mine"));
        // A directory that cannot be renamed cannot be replaced by the workload.
        let (status, said) = shell.does(&format!("mv {runtime} {runtime}.away"));
        assert_ne!(status, 0, "{said}");
    });
}

#[test]
fn the_session_bus() {
    as_everybody(|user| {
        // A real bus if one is available, otherwise a listener: only reachability matters.
        let elsewhere = user.directory("elsewhere").join("bus");
        let runtime = user.path("runtime/bus");
        let address = format!("unix:path={}", elsewhere.display());
        let bus = user
            .command("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address"])
            .args(["--address", &address])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut bus = bus.ok();
        let mut said = String::new();
        if let Some(output) = bus.as_mut().and_then(|bus| bus.stdout.take()) {
            std::io::BufReader::new(output)
                .read_line(&mut said)
                .unwrap();
        }
        // The bus ends at once for a user unknown to the machine.
        let listener = said.is_empty().then(|| listen(&elsewhere));
        let session = listen(&runtime);
        let mut shell = Shell::start({
            let mut run = user.run(&["--network", "none", "--", "sh"]);
            run.env("DBUS_SESSION_BUS_ADDRESS", &address);
            run
        });
        for path in [&elsewhere, &runtime] {
            only_outside(user, &mut shell, &connect(path));
        }
        assert_eq!(
            shell
                .does("echo $DBUS_SESSION_BUS_ADDRESS$XDG_RUNTIME_DIR")
                .1,
            ""
        );
        if let Some(bus) = bus {
            end(bus);
        }
        drop((session, listener));
    });
}

#[test]
fn sockets_in_run_such_as_systemds_and_the_system_bus() {
    as_everybody(|user| {
        // `systemd-run` connects to one of these; only root can create a listener in /run.
        let before: Vec<_> = std::fs::read_dir("/run").unwrap().collect();
        let mut shell = user.shell_inside();
        let (_, inside) = shell.does("ls -A /run");
        assert_eq!(
            inside,
            "lock\nterok-clearance\nterok-hosts\nterok-resolv.conf",
            "of {} entries outside",
            before.len()
        );
        let (_, own) = shell.does("ls -A /run/terok-clearance");
        assert_eq!(own, "request.sock", "over which nothing is answered");
        if rustix::process::geteuid().is_root() {
            let private = tempfile::Builder::new()
                .prefix("terok-")
                .tempdir_in("/run")
                .unwrap();
            let open = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(private.path(), open).unwrap();
            let path = private.path().join("private");
            let listener = listen(&path);
            only_outside(user, &mut shell, &connect(&path));
            drop(listener);
        }
    });
}

#[test]
fn a_container_engines_socket() {
    as_everybody(|user| {
        let anywhere = user.directory("engine").join("engine.sock");
        let known = user.directory("home/.docker/run").join("docker.sock");
        user.own(&user.path("home/.docker"));
        let listeners = [listen(&anywhere), listen(&known)];
        let mut shell = Shell::start({
            let mut run = user.run(&["--network", "none", "--", "sh"]);
            run.env("DOCKER_HOST", format!("unix://{}", anywhere.display()));
            run
        });
        for path in [&anywhere, &known] {
            only_outside(user, &mut shell, &connect(path));
        }
        assert_eq!(shell.does("echo $DOCKER_HOST").1, "");
        drop(listeners);
    });
}

#[test]
fn a_socket_in_the_abstract_namespace() {
    as_everybody(|user| {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("terok-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        user.only_outside(&format!(
            "perl -e 'use Socket; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; \
             connect(S, pack(\"S a*\", PF_UNIX, \"\\0{name}\")) or die $!'"
        ));
        drop(listener);
    });
}

#[test]
fn the_supervisors_memory() {
    as_everybody(|user| {
        let mut shell = user.shell_inside();
        let pid = shell.child.id();
        only_outside(user, &mut shell, &format!("kill -0 {pid}"));
        let ptrace = libc::SYS_ptrace;
        let read = libc::SYS_process_vm_readv;
        // The supervisor has no process id inside; the first process is the closest to it.
        for target in [pid, 1] {
            let attach = call(ptrace, &format!("{}, {target}, 0, 0", libc::PTRACE_ATTACH));
            let seize = call(ptrace, &format!("{}, {target}, 0, 0", libc::PTRACE_SEIZE));
            let vectors = format!("{target}, pack(\"QQ\", 0, 8), 1, pack(\"QQ\", 0, 8), 1, 0");
            let memory = format!("head -c 1 /proc/{target}/mem");
            let environment = format!("cat /proc/{target}/environ");
            let root = format!("ls /proc/{target}/root/");
            for act in [
                attach,
                seize,
                call(read, &vectors),
                memory,
                environment,
                root,
            ] {
                let (status, said) = shell.does(&act);
                assert_ne!(status, 0, "{act}\n{said}");
            }
        }
        // Other processes of the same user cannot read the supervisor's memory from outside either.
        if !user.is_root() {
            let memory = user.outside(&format!("cat /proc/{pid}/environ"));
            assert!(!memory.status.success(), "{}", told(&memory));
        }
        let sleeper = user.command("sleep").arg("60").spawn().unwrap();
        let control = user.outside(&format!("cat /proc/{}/environ", sleeper.id()));
        assert!(control.status.success(), "{}", told(&control));
        end(sleeper);
        // The first process cannot be killed from inside: the signal has no effect.
        shell.does("kill -9 1; kill -TERM 1; kill -HUP 1");
        assert_eq!(shell.does("echo alive").1, "alive");
    });
}

fn end(mut child: std::process::Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn our_configuration_and_state() {
    as_everybody(|user| {
        let config = user.directory("home/.config/terok-clearance");
        user.directory("home/.config");
        std::fs::write(config.join("secret"), "x").unwrap();
        user.own(&config.join("secret"));
        let mut shell = user.shell_inside();
        // The state directory did not exist: `run` creates it before the workload can.
        let state = user.path("home/.local/state/terok-clearance");
        assert!(state.is_dir(), "{}", state.display());
        let (config, state) = (config.display(), state.display());
        only_outside(user, &mut shell, &format!("cat {config}/secret"));
        for directory in [format!("{config}"), format!("{state}")] {
            only_outside(user, &mut shell, &format!("touch {directory}/mine"));
        }
        // The directory cannot be replaced by renaming a parent directory either.
        let home = user.path("home");
        let home = home.display();
        for directory in [
            format!("{config}"),
            format!("{state}"),
            format!("{home}/.config"),
            format!("{home}/.local"),
            format!("{home}/.local/state"),
            format!("{home}"),
        ] {
            for way in user.ways() {
                let act = format!("{way} 'mv {directory} {directory}.away'");
                let (status, said) = shell.does(&act);
                assert_ne!(status, 0, "{act}\n{said}");
            }
        }
        // Control: the workload can rename the neighbouring directories.
        let other = user.directory("home/other");
        let other = other.display();
        let (status, said) = shell.does(&format!("mv {other} {other}.away"));
        assert_eq!(status, 0, "{said}");
    });
}

#[test]
fn its_own_network() {
    as_everybody(|user| {
        let mut shell = Shell::start(user.run(&["--ui", "none", "--", "sh"]));
        let init = sandbox_of(&shell);
        let state = |what: &str| {
            let enter = format!("nsenter -U --preserve-credentials -n -t {init} {what}");
            let output = user.outside(&enter);
            assert!(output.status.success(), "{}", told(&output));
            String::from_utf8(output.stdout).unwrap()
        };
        // The rules are in the gateway: a mistake in the sandbox's own namespace opens nothing.
        let all = [
            "nft list ruleset",
            "ip -o address show scope global",
            "ip route",
            "ip -6 route",
        ];
        let before = all.map(state);
        assert_eq!(before[0], "");
        assert!(before[1].contains("198.19.0.2/30"), "{}", before[1]);

        let acts = [
            "nft add table inet x && ! nft delete table inet x".to_owned(),
            "nft list ruleset | grep -q terok_shield".to_owned(),
            socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
            "ip link add dummy0 type dummy && ip link show dummy0 && ! ip link del dummy0"
                .to_owned(),
            "ip link set lo down && ! ip link set lo up".to_owned(),
            "ip link set eth0 down".to_owned(),
            "ip address add 203.0.113.77/32 dev eth0".to_owned(),
            "ip route del default".to_owned(),
        ];
        for act in &acts {
            for way in user.ways() {
                let act = quoted(act);
                let (status, said) = shell.does(&format!("{way} '{act}'"));
                assert_ne!(status, 0, "{way}: {act}\n{said}");
            }
        }
        assert_eq!(before, all.map(state));
        // Control: the owner of a network namespace can change its rules.
        let control = user.outside("unshare -Urn nft add table inet x");
        assert!(control.status.success(), "{}", told(&control));
    });
}

/// The process id of the sandbox's first process.
pub(crate) fn sandbox_of(shell: &Shell) -> u32 {
    let pid = shell.child.id();
    let children = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(children).unwrap();
    children.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn the_namespaces_of_the_first_process() {
    as_everybody(|user| {
        let mut shell = user.shell_inside();
        for way in ["-n", "-m", "-p", "-U", "-U -n", "-a"] {
            for prefix in user.ways() {
                let (status, said) = shell.does(&format!("{prefix} 'nsenter -t 1 {way} true'"));
                // With a nested pid namespace, process 1 is the script's own first process.
                let own = prefix.contains("pf") && way != "-n" && way != "-a" && way != "-U -n";
                assert!(status != 0 || own, "{prefix} nsenter {way}: {said}");
            }
        }
        let init = sandbox_of(&shell);
        let control = user.outside(&format!(
            "nsenter -U --preserve-credentials -n -t {init} true"
        ));
        assert!(control.status.success(), "{}", told(&control));
    });
}

#[test]
fn paths_hidden_by_mounts() {
    as_everybody(|user| {
        let mut shell = user.shell_inside();
        let hub = user.hub();
        let runtime = user.path("runtime");
        let (home, runtime) = (user.path(""), runtime.display());
        let home = home.display();
        let reach = quoted(&connect(&hub));
        for act in [
            format!("umount {runtime}"),
            format!("umount -l {runtime}"),
            "umount -l /".to_owned(),
            format!("umount -l {home}"),
            "umount -l /run".to_owned(),
            "umount -l /proc".to_owned(),
            "umount -l /dev".to_owned(),
            format!("mount -o remount,bind,rw {runtime}"),
            "mount -o remount,bind,rw /sys".to_owned(),
            "mount -o remount,bind,rw /proc/sys".to_owned(),
            "mount -o remount,bind,dev /tmp".to_owned(),
            // An ordinary user may mount the processes of a namespace of its own.
            "mkdir -p /dev/shm/p && mount -t proc proc /dev/shm/p && \
                test -w /dev/shm/p/sysrq-trigger"
                .to_owned(),
            format!(
                "mkdir -p /dev/shm/b && mount --bind {home} /dev/shm/b && ls /dev/shm/b/runtime/terok"
            ),
            format!(
                "mkdir -p /dev/shm/r && mount --rbind {home} /dev/shm/r && ls /dev/shm/r/runtime/terok"
            ),
            format!(
                "mkdir -p /dev/shm/l /dev/shm/u /dev/shm/w /dev/shm/m && mount -t overlay o \
                -o lowerdir={home},upperdir=/dev/shm/u,workdir=/dev/shm/w /dev/shm/m && \
                ls /dev/shm/m/runtime/terok"
            ),
        ] {
            for way in user.ways() {
                let (status, said) = shell.does(&format!("{way} '{act}'"));
                assert_ne!(status, 0, "{way}: {act}\n{said}");
            }
        }
        for way in user.ways() {
            let (status, said) = shell.does(&format!(
                "{way} 'umount -l {runtime}; umount -l {home}; umount -l /; {reach}'"
            ));
            assert_ne!(status, 0, "{way}: {said}");
        }
        let control = user.outside(&connect(&hub));
        assert!(control.status.success(), "{}", told(&control));
    });
}

#[test]
fn a_terminal_multiplexer() {
    as_everybody(|user| {
        let directory = user.directory("tmux");
        let tmux = |args: &str| format!("TMUX_TMPDIR={} tmux {args}", directory.display());
        let started = user.outside(&tmux("-f /dev/null new-session -d 'cat'"));
        assert!(started.status.success(), "{}", told(&started));
        user.only_outside(&tmux("list-sessions"));
        let mut run = user.run(&[
            "--network",
            "none",
            "--",
            "sh",
            "-c",
            "echo $TMUX$STY; tmux ls",
        ]);
        let said = run
            .env("TMUX", "x")
            .env("STY", "y")
            .env("TMUX_TMPDIR", &directory)
            .output();
        let said = said.unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "\n");
        assert!(!said.status.success());
        user.outside(&tmux("kill-server"));
    });
}

#[test]
fn second_paths_to_hidden_files() {
    // Only in a private mount namespace can a file system be mounted twice.
    as_everybody(|user| {
        let twice = user.directory("twice");
        let inner = format!(
            "mount --bind {home} {twice} && cd {home}/work && touch {twice}/runtime/a && \
             {program} run --network none -- sh -c \
             'ls {twice}/work && ! ls {twice}/runtime/a && ! touch {twice}/runtime/b && \
              ! touch {twice}/home/.config/terok-clearance/c'",
            home = user.path("").display(),
            twice = twice.display(),
            program = user.program().display(),
        );
        let output = user
            .command("unshare")
            .args(["-Urm", "sh", "-c", &inner])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", told(&output));
    });
}
