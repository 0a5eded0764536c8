// SPDX-License-Identifier: Apache-2.0
//! Runs the demo and reads its output.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// The user that runs the demo. One of the two kinds is root, the other is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum User {
    /// The user that runs the tests.
    Me,
    /// The other kind: an ordinary user if root runs the tests, otherwise root of a user namespace.
    Other,
}

/// A copy of the program that every user can execute.
#[derive(Debug)]
pub(crate) struct Demo {
    directory: TempDir,
}

/// The output of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Standard output, parsed as JSON.
    pub(crate) steps: Vec<Value>,
}

impl Demo {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), open).unwrap();
        let this = Self { directory };
        fs::copy(env!("CARGO_BIN_EXE_terok-clearance"), this.program()).unwrap();
        this
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.directory.path().join("terok-clearance")
    }

    /// Returns the command, with a minimal environment like that of a service.
    pub(crate) fn command(&self, user: User, arguments: &[&str]) -> Command {
        let root = rustix::process::geteuid().is_root();
        let mut command = match user {
            User::Other if !root => {
                let mut command = Command::new("unshare");
                command
                    .args(["--user", "--map-root-user"])
                    .arg(self.program());
                command
            }
            _ => Command::new(self.program()),
        };
        if user == User::Other && root {
            command.uid(12_345).gid(12_345);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).args(arguments);
        // The user that runs the tests may have a desktop, which must not be used.
        command.env("DBUS_SESSION_BUS_ADDRESS", "disabled:");
        command
    }

    /// Starts the demo with pipes.
    pub(crate) fn start(&self, user: User, arguments: &[&str]) -> Started {
        let mut child = self
            .command(user, arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Started {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            steps: Vec::new(),
            child,
        }
    }

    /// Runs the demo to the end. Reads standard error to the end, which shows that no process is
    /// left.
    pub(crate) fn run(&self, user: User, arguments: &[&str], input: &str) -> Run {
        let mut started = self.start(user, arguments);
        // The demo may end before reading the whole input.
        drop(started.stdin.take().unwrap().write_all(input.as_bytes()));
        let run = started.end();
        if arguments.contains(&"--json") {
            let socket = PathBuf::from(run.step("firewall")["socket"].as_str().unwrap());
            assert_swept(&socket);
        }
        run
    }
}

/// Fails if the directory that contained `socket` still exists.
pub(crate) fn assert_swept(socket: &std::path::Path) {
    let directory = socket.ancestors().nth(4).unwrap();
    assert!(
        directory.starts_with("/tmp") && directory.to_str().unwrap().contains("terok-demo-"),
        "{}",
        directory.display()
    );
    assert!(!directory.exists(), "{} is left", directory.display());
}

/// A running demo.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    steps: Vec<Value>,
}

impl Started {
    /// Reads up to the next step `name`.
    pub(crate) fn until(&mut self, name: &str) -> Value {
        loop {
            let mut line = String::new();
            self.stdout.read_line(&mut line).unwrap();
            assert_ne!(line, "", "no step {name}: {:#?}", self.steps);
            let step: Value = serde_json::from_str(&line).unwrap();
            self.steps.push(step.clone());
            if step["step"] == name {
                return step;
            }
        }
    }

    pub(crate) fn answer(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(line.as_bytes()).unwrap();
    }

    /// Waits until the demo and all its processes have ended.
    pub(crate) fn end(mut self) -> Run {
        drop(self.stdin.take());
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        let mut errors = self.child.stderr.take().unwrap();
        errors.read_to_string(&mut stderr).unwrap();
        let status = self.child.wait().unwrap().code();
        let rest = stdout
            .lines()
            .map_while(|line| serde_json::from_str(line).ok());
        let steps = self.steps.into_iter().chain(rest).collect();
        Run {
            status,
            stdout,
            stderr,
            steps,
        }
    }
}

impl Run {
    pub(crate) fn step(&self, name: &str) -> &Value {
        let found = self.steps.iter().find(|step| step["step"] == name);
        found.unwrap_or_else(|| panic!("no step {name}: {self:#?}"))
    }

    pub(crate) fn summary(&self) -> &Value {
        let last = self
            .steps
            .last()
            .unwrap_or_else(|| panic!("no steps: {self:#?}"));
        assert_eq!(last["step"], "summary", "the last step: {self:#?}");
        last
    }
}
