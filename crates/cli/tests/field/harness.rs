// SPDX-License-Identifier: Apache-2.0
//! A user's session with sandboxes that ask.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::child::ChildGuard;
use test_support::directory::private_directory;
use test_support::packets::pending_line;

/// A runtime directory and a home directory, without any other environment but `PATH`.
pub(crate) struct UserSession(TempDir);

/// Output and status of a program.
#[derive(Debug)]
pub(crate) struct ProgramOutput {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: Option<i32>,
}

impl UserSession {
    pub(crate) fn new() -> Self {
        Self(private_directory())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_terok-clearance"));
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("XDG_RUNTIME_DIR", self.0.path())
            .env("HOME", self.0.path())
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> ProgramOutput {
        output_of(&mut self.command(args))
    }

    /// Starts a sandbox that tries these hosts, and waits for the questions.
    pub(crate) fn sandbox(&self, name: &str, hosts: &[&str]) -> ChildGuard {
        let before = self.questions().len();
        let script = "for host; do (exec 3<>/dev/tcp/$host/443); done; cat";
        let run = ["run", "--ui", "none", "--quiet", "--name", name, "--"];
        let args = [&run, &["bash", "-c", script, "bash"][..], hosts].concat();
        let mut command = self.command(&args);
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let sandbox = ChildGuard::spawn(&mut command);
        while self.questions().len() < before + hosts.len() {}
        sandbox
    }

    /// Starts the hub for all sandboxes, and reports a question of each container, all called `web`.
    pub(crate) fn shared_hub(&self, ids: &[&str]) -> ChildGuard {
        let mut command = self.command(&["serve"]);
        let mut hub = ChildGuard::spawn(command.stderr(Stdio::piped()));
        let mut log = BufReader::new(hub.stderr.take().unwrap());
        let mut text = String::new();
        while !text.contains("the hub listens") {
            assert_ne!(log.read_line(&mut text).unwrap(), 0, "{text}");
        }
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let mut reader = UnixStream::connect(self.path("terok-shield-events.sock")).unwrap();
        for id in ids {
            let (container, number) = id.split_once(':').unwrap();
            let dossier = json!({"name": "web"});
            let name = format!("n{number}.{container}.example");
            let line = pending_line(container, number, "203.0.113.7", &name, &dossier);
            reader.write_all(line.as_bytes()).unwrap();
        }
        while self.questions().len() < ids.len() {}
        hub
    }

    /// Returns the pending questions of all sandboxes.
    pub(crate) fn questions(&self) -> Vec<Value> {
        let listed = self.run(&["--json", "list"]);
        let lines = listed.stdout.lines();
        let lines = lines.map(|line| serde_json::from_str(line).unwrap());
        lines
            .filter(|line: &Value| line["event"] == "listed")
            .collect()
    }

    /// Returns the request ids of the pending questions of a sandbox.
    pub(crate) fn ids(&self, name: &str) -> Vec<String> {
        let questions = self.questions().into_iter();
        let named = questions.filter(|question| question["dossier"]["name"] == name);
        named
            .map(|question| question["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

pub(crate) fn output_of(command: &mut Command) -> ProgramOutput {
    let output = command.output().unwrap();
    ProgramOutput {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        status: output.status.code(),
    }
}
