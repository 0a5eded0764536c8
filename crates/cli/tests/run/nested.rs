// SPDX-License-Identifier: Apache-2.0
//! Sandboxes inside the sandbox: what they need, and what it does not give them.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::user::{Shell, User, as_everybody, quoted, told};

const BUBBLEWRAP: [&str; 9] = [
    "bwrap",
    "--ro-bind",
    "/",
    "/",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--unshare-all",
];

#[test]
fn bubblewrap_works() {
    as_everybody(|user| {
        let script = "test $$ -lt 10 && test -r /proc/self/status && echo in it";
        let run = |options: &[&str]| {
            let args = [options, &["--network", "none", "--"], &BUBBLEWRAP].concat();
            let args = [&args, &["sh", "-c", script][..]].concat();
            user.run(&args).output().unwrap()
        };
        let nested = run(&["--nested"]);
        assert_eq!(nested.stdout, b"in it\n", "{}", told(&nested));
        // Without it, the machine's root could change the kernel's settings.
        let plain = run(&[]);
        assert_eq!(plain.status.success(), !user.is_root(), "{}", told(&plain));
    });
}

#[test]
fn a_new_proc_changes_no_setting_of_the_kernel() {
    as_everybody(|user| {
        let mut shell = user.shell_inside();
        let new = "unshare -Urmpf --mount-proc sh -c";
        let (status, said) = shell.does(&format!("{new} 'test -r /proc/1/status'"));
        assert_eq!(status == 0, !user.is_root(), "{said}");
        for setting in ["sys/kernel/core_pattern", "sys/vm/overcommit_memory"] {
            let act = format!("v=$(cat /proc/{setting}) && echo \"$v\" > /proc/{setting}");
            let (status, said) = shell.does(&format!("{new} '{}'", quoted(&act)));
            assert_ne!(status, 0, "{setting}: {said}");
        }
        let (status, said) = shell.does(&format!("{new} 'echo h > /proc/sysrq-trigger'"));
        assert_ne!(status, 0, "{said}");
        // The complete one lies out of reach.
        let (_, settings) = shell.does("ls /proc/sys");
        assert!(settings.contains("kernel"), "{settings}");
        assert!(!settings.contains("sysrq-trigger"), "{settings}");
    });
}

/// Mounts the control groups of the caller, and succeeds if a process of outside can be ended.
const END_SUPERVISOR: &str = "mkdir -p /dev/shm/c && mount -t cgroup2 none /dev/shm/c && \
    test -w /dev/shm/c/cgroup.procs && grep -qx 0 /dev/shm/c/cgroup.procs";

#[test]
fn control_groups_of_outside_are_out_of_reach() {
    as_everybody(|user| {
        let mut shell = user.shell_inside();
        for way in user.ways().iter().filter(|way| way.contains("unshare")) {
            let own_groups = way.replace("unshare", "unshare --mount --cgroup");
            for way in [*way, &own_groups] {
                let (status, said) = shell.does(&format!("{way} '{END_SUPERVISOR}'"));
                assert_ne!(status, 0, "{way}: {said}");
            }
        }
    });
}

/// A control group below the calling process's, which belongs to a user. Removed on drop.
struct Delegated(PathBuf);

impl Delegated {
    /// Returns `None` where control groups (version 2) are not mounted or writable.
    fn to(user: &User) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mut mounts = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = mounts.find(|fields| fields[2] == "cgroup2")?;
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
        let name = format!("terok-test-{}", std::process::id());
        let group = Path::new(mount[1]).join(own).join(name);
        fs::create_dir(&group).ok()?;
        let group = Self(group);
        for file in [
            "",
            "cgroup.procs",
            "cgroup.subtree_control",
            "cgroup.threads",
        ] {
            chown(group.0.join(file), user.uid(), user.uid()).unwrap();
        }
        Some(group)
    }

    /// Returns a run of the user in the group.
    fn run(&self, user: &User, args: &[&str]) -> Command {
        let enter = "echo $$ > \"$0/cgroup.procs\" && exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", enter]).arg(&self.0).arg("setpriv");
        let uid = user.uid().unwrap();
        let ids = ["--reuid", "--regid"].map(|flag| format!("{flag}={uid}"));
        command.args(ids).args(["--clear-groups", "env", "-i"]);
        command.arg("PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        for (name, below) in [("HOME", "home"), ("XDG_RUNTIME_DIR", "runtime")] {
            command.arg(format!("{name}={}", user.path(below).display()));
        }
        command.arg(user.program()).arg("run").args(args);
        command.current_dir(user.path("work")).stdin(Stdio::null());
        command
    }

    fn children(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).unwrap();
        let entries = entries.map(|entry| entry.unwrap().path());
        entries.filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for child in self.children() {
            drop(fs::remove_dir(child.join("sandbox")));
            drop(fs::remove_dir(child));
        }
        drop(fs::remove_dir(&self.0));
    }
}

#[test]
fn in_a_delegated_control_group_the_sandbox_has_one_of_its_own() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root to delegate a control group");
        return;
    }
    let user = User::new(Some(54_321));
    let Some(group) = Delegated::to(&user) else {
        eprintln!("skipped: no control groups of version 2");
        return;
    };
    let nested = "unshare -Urm --cgroup sh -c";
    let mut shell = Shell::start(group.run(&user, &["--network", "none", "--", "sh"]));
    assert_eq!(group.children().len(), 1);
    let mount = "mkdir -p /dev/shm/c && mount -t cgroup2 none /dev/shm/c";
    let (_, said) = shell.does(&format!(
        "{nested} '{mount} && test -w /dev/shm/c/cgroup.procs && echo writable; ls /dev/shm/c'"
    ));
    assert!(said.starts_with("writable"), "{said}");
    let (status, said) = shell.does(&format!("{nested} '{END_SUPERVISOR}'"));
    assert_ne!(status, 0, "{said}");
    // The limits are in the group above.
    let (status, said) = shell.does(&format!("{nested} '{mount} && ls /dev/shm/c/../sandbox'"));
    assert_ne!(status, 0, "{said}");
    // It can end itself and nothing else.
    shell.begins(&format!(
        "{nested} '{mount} && echo 1 > /dev/shm/c/cgroup.kill'"
    ));
    assert_eq!(
        shell.child.wait().unwrap().code(),
        Some(128 + libc::SIGKILL)
    );
    assert_eq!(group.children(), Vec::<PathBuf>::new());

    // A supervisor that was killed leaves its group behind, and the next start removes it.
    let mut shell = Shell::start(group.run(&user, &["--network", "none", "--", "sh"]));
    let init = super::escape::sandbox_of(&shell);
    let init = netns::ProcessHandle::open(init).unwrap();
    shell.child.kill().unwrap();
    shell.close();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    runtime
        .unwrap()
        .block_on(async { init.wait_for_exit().await.unwrap() });
    let output = group
        .run(&user, &["--network", "none", "--", "true"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(group.children(), Vec::<PathBuf>::new());
}
