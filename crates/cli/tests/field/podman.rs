// SPDX-License-Identifier: Apache-2.0
//! The order of README's commands for a container: guarded before its program starts.
//!
//! Needs podman and runc, and root, because a rootless podman needs a machine of its own, as the
//! tests in `tests/interop` make it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use test_support::child::ChildGuard;

use super::harness::{ProgramOutput, UserSession, output_of};

/// A container store with an image of busybox.
struct Podman<'a>(&'a UserSession);

impl<'a> Podman<'a> {
    fn new(session: &'a UserSession) -> Self {
        let podman = Self(session);
        let image = session.path("image");
        std::fs::create_dir_all(image.join("bin")).unwrap();
        std::fs::copy("/usr/bin/busybox", image.join("bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", image.join("bin/sh")).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["-C", image.to_str().unwrap(), "-cf"])
            .arg(session.path("image.tar"))
            .arg(".");
        assert!(tar.status().unwrap().success());
        podman.done(&[
            "import",
            session.path("image.tar").to_str().unwrap(),
            "bb:latest",
        ]);
        podman
    }

    fn run(&self, args: &[&str]) -> ProgramOutput {
        let mut podman = Command::new("podman");
        podman.arg("--root").arg(self.0.path("store"));
        podman.arg("--runroot").arg(self.0.path("run"));
        podman.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
        podman.args(["--runtime", "runc"]).args(args);
        output_of(podman.env("XDG_RUNTIME_DIR", self.0.path("")))
    }

    fn done(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status, Some(0), "{args:?}: {output:?}");
        output.stdout.trim().to_owned()
    }

    /// Creates a container that tries a destination at once, and returns its first process after
    /// `podman init`.
    fn init(&self, capabilities: &[&str]) -> String {
        let limits = [
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=1024:1024",
        ];
        let create = ["create", "--name", "web", "--network", "none"];
        let script = "echo started; busybox nc -w 1 203.0.113.7 80; echo status $?; read x";
        let program = ["--interactive", "bb:latest", "/bin/sh", "-c", script];
        self.done(&[&create[..], capabilities, &limits, &program].concat());
        assert_eq!(self.pid(), "0");
        self.done(&["init", "web"]);
        let pid = self.pid();
        // A way out that leads nowhere.
        for words in [
            "link add out0 type veth peer name in0",
            "address add 192.0.2.2/24 dev out0",
            "link set in0 up",
            "link set out0 up",
            "route add default via 192.0.2.1 dev out0",
        ] {
            let mut ip = Command::new("nsenter");
            ip.args(["-t", &pid, "-n", "ip"]).args(words.split(' '));
            assert!(ip.status().unwrap().success(), "{words}");
        }
        pid
    }

    fn pid(&self) -> String {
        self.done(&["inspect", "-f", "{{.State.Pid}}", "web"])
    }
}

impl Drop for Podman<'_> {
    fn drop(&mut self) {
        drop(self.run(&["rm", "--force", "--time", "0", "web"]));
    }
}

/// Starts `supervise`, and returns it with its next line of output.
fn supervise(session: &UserSession, pid: &str) -> (ChildGuard, String) {
    let mut command = session.command(&["supervise", "--name", "web", "--pid", pid]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = ChildGuard::spawn(&mut command);
    let mut line = String::new();
    BufReader::new(process.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    (process, line)
}

#[test]
fn a_container_is_guarded_before_its_program_starts() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let session = UserSession::new();
    let podman = Podman::new(&session);
    // A container that does not run.
    let refused = session.run(&["supervise", "--name", "web", "--pid", "0"]);
    assert!(refused.stderr.contains("podman init"), "{refused:?}");

    let pid = podman.init(&["--cap-drop", "NET_RAW,NET_ADMIN"]);
    let (mut supervisor, line) = supervise(&session, &pid);
    assert!(
        line.starts_with(&format!("guarding process {pid}")),
        "{line}"
    );
    podman.done(&["start", "web"]);
    // Its first connection is a question already.
    while session.questions().is_empty() {}
    assert_eq!(session.questions()[0]["dest"], "203.0.113.7");
    podman.done(&["rm", "--force", "--time", "0", "web"]);
    assert!(supervisor.wait().unwrap().success());
}

#[test]
fn a_container_with_capabilities_is_refused_before_or_after_its_start() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let session = UserSession::new();
    let podman = Podman::new(&session);
    let pid = podman.init(&["--cap-add", "NET_RAW"]);
    let (mut supervisor, line) = supervise(&session, &pid);
    assert_eq!(
        (line.as_str(), supervisor.wait().unwrap().code()),
        ("", Some(1))
    );
}
