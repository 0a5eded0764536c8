// SPDX-License-Identifier: Apache-2.0
//! Files of root and programs that insist on their owner, and root's own users and groups.

use std::fs;
use std::process::Command;

use super::user::{User, as_everybody, told};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs `script` for the user on a machine whose `/etc/passwd` knows it and whose `/etc/ssh` is
/// `prepare`d by root, in the directory `$ETC`.
fn with_ssh_config(user: &User, prepare: &str, script: &str) -> std::process::Output {
    let uid = user.uid().unwrap();
    let home = user.path("home");
    let home = home.display();
    let machine = format!(
        "set -e; mount -t tmpfs none /mnt; cp -a /etc/ssh /etc/passwd /mnt; ETC=/mnt; \
         rm -rf /mnt/ssh/ssh_config.d; mkdir -p /mnt/ssh/ssh_config.d; \
         echo 'Include /etc/ssh/ssh_config.d/*.conf' > /mnt/ssh/ssh_config; \
         echo 'tester:x:{uid}:{uid}::{home}:/bin/sh' >> /mnt/passwd; {prepare}; \
         mount --bind /mnt/passwd /etc/passwd; mount --bind /mnt/ssh /etc/ssh; \
         cd {work}; exec setpriv --reuid={uid} --regid={uid} --clear-groups env -i \
         PATH=/usr/local/bin:/usr/bin:/bin HOME={home} XDG_RUNTIME_DIR={runtime} \
         {program} run --network none -- sh -c \"$0\"",
        work = user.path("work").display(),
        runtime = user.path("runtime").display(),
        program = user.program().display(),
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &machine, script]);
    command.output().unwrap()
}

#[test]
fn ssh_takes_the_configuration_of_the_machine() {
    if !is_root() {
        eprintln!("skipped: needs files of another user");
        return;
    }
    let user = User::new(Some(54_321));
    user.directory("home/.ssh");
    let ssh = "ssh -G example.test";
    let check = |prepare: &str, script: &str, expected: &str| {
        let output = with_ssh_config(&user, prepare, script);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{prepare}: {}", told(&output));
        assert!(
            said.lines().any(|line| line == expected),
            "{prepare}: {said}"
        );
    };
    let write = "echo 'Port 2201' > $ETC/ssh/ssh_config.d/x.conf";
    check(write, ssh, "port 2201");
    check(
        write,
        &format!("unshare -U --map-current-user {ssh}"),
        "port 2201",
    );
    // Files that these include, by a link, at another place, with a blank.
    let include = "echo 'Include /etc/ssh/more/\"a b\"* /etc/ssh/link' > \
        $ETC/ssh/ssh_config.d/x.conf; mkdir $ETC/ssh/more; \
        echo 'Port 2202' > \"$ETC/ssh/more/a b.txt\"; \
        echo 'User linked' > $ETC/ssh/target; ln -s target $ETC/ssh/link";
    check(include, ssh, "port 2202");
    check(include, ssh, "user linked");
    // The user's configuration may be root's as well.
    let home = user.path("home/.ssh/config");
    fs::write(&home, "Port 2203\n").unwrap();
    check("true", ssh, "port 2203");
    fs::remove_file(&home).unwrap();
    // A copy gives no right that the file does not give: nothing unreadable, nothing to write.
    check(
        "echo 'Port 2204' > $ETC/ssh/ssh_config.d/x.conf; \
         echo secret > $ETC/ssh/ssh_config.d/y.conf; chmod 600 $ETC/ssh/ssh_config.d/y.conf",
        "cat /etc/ssh/ssh_config.d/y.conf || echo x >> /etc/ssh/ssh_config.d/x.conf || echo held",
        "held",
    );
}

/// A repository of packages in a directory: no network is needed.
#[test]
fn apt_changes_to_its_own_user() {
    let user = User::new(None);
    if !user.is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let repository = user.directory("repository");
    fs::write(repository.join("Packages"), "").unwrap();
    let state = user.directory("state");
    for below in ["lists/partial", "cache/archives/partial", "empty"] {
        fs::create_dir_all(state.join(below)).unwrap();
    }
    let open = |path: &std::path::Path| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    open(&repository);
    open(&state);
    let state = state.display();
    let list = user.path("state/list");
    let line = format!("deb [trusted=yes] copy:{} ./\n", repository.display());
    fs::write(&list, line).unwrap();
    let script = format!(
        "apt-get update -o Dir::Etc::SourceList={state}/list -o Dir::Etc::SourceParts={state}/empty \
         -o Dir::State::Lists={state}/lists -o Dir::Cache={state}/cache 2>&1",
    );
    let output = user.inside(&script);
    assert!(output.status.success(), "{}", told(&output));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!said.contains("W:") && !said.contains("E:"), "{said}");
}

#[test]
fn root_has_its_users_and_no_right_over_the_machine() {
    let user = User::new(None);
    if !user.is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let inside = user.inside("setpriv --reuid=65534 --regid=65534 --clear-groups id -u");
    assert_eq!(inside.stdout, b"65534\n", "{}", told(&inside));
    let mut shell = user.shell_inside();
    for act in [
        "mount -t tmpfs none /mnt",
        "umount /proc",
        "hostname x",
        "chroot / true",
        "ip link add dummy0 type dummy",
        "ip link set lo down",
        "mknod /dev/shm/x b 7 0",
        "date -s @1",
        "nsenter -t 1 -n true",
        "nsenter -t 1 -m true",
        "cat /proc/1/environ",
        "echo 1 > /proc/sys/kernel/sysrq",
        "prlimit --nofile=100000000 true",
        "nice -n -5 sh -c \"test \\$(nice) -lt 0\"",
    ] {
        for way in user.ways().iter().filter(|way| way.starts_with("sh")) {
            let act = super::user::quoted(act);
            let (status, said) = shell.does(&format!("{way} '{act}'"));
            assert_ne!(status, 0, "{act}: {said}");
        }
    }
}

/// What the next run executes outside.
#[test]
fn the_own_program_cannot_be_replaced() {
    as_everybody(|user| {
        let program = user.path("bin/terok-clearance");
        user.directory("bin");
        fs::copy(user.program(), &program).unwrap();
        user.own(&program);
        let mut run = user.command(&program);
        let mut shell = super::user::Shell::start({
            run.args(["run", "--network", "none", "--", "sh"]);
            run
        });
        // The copy that runs is busy; a mount shows that the file is protected as such.
        let path = program.display();
        let bin = user.path("bin");
        let bin = bin.display();
        for way in user.ways() {
            for act in [
                format!("rm {path}"),
                format!("mv {path} {path}.old"),
                format!("mv {bin} {bin}.old"),
                format!("cp /bin/true {bin}/new && mv -f {bin}/new {path}"),
                format!("chmod u+s {path}"),
                format!("umount {path}"),
            ] {
                let (status, said) = shell.does(&format!("{way} '{act}'"));
                assert_ne!(status, 0, "{way}: {act}: {said}");
            }
        }
        let (_, mounts) = shell.does(&format!("grep ' {path} ' /proc/self/mounts"));
        assert!(mounts.contains(" ro,"), "{mounts}");
        let (status, said) = shell.does(&format!("touch {bin}/other"));
        assert_eq!(status, 0, "{said}");
    });
}
