// SPDX-License-Identifier: Apache-2.0
//! A runtime directory with hubs of its own, and the programs that run with it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{ChildStdout, Command, ExitStatus, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use terok_clearance::wire::clearance2::Event;
use test_support::child::ChildGuard;
use test_support::directory::{private_directory, write_script};
use test_support::packets::pending_line;
use test_support::questions::question;

use crate::schema;

/// The sandbox of reports without another one.
pub(crate) const SANDBOX: &str = "0123456789ab";

/// A runtime directory, and programs with no other environment.
pub(crate) struct ScriptHarness(TempDir);

impl ScriptHarness {
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
            .env("XDG_RUNTIME_DIR", self.0.path())
            .env("HOME", self.0.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program, and returns its output and status.
    pub(crate) fn run(&self, args: &[&str]) -> ProgramOutput {
        ProgramOutput::of(self.command(args).output().unwrap())
    }

    /// Runs the program with `--json`, and returns its lines, each checked with the schema, and its
    /// status.
    pub(crate) fn run_json(&self, args: &[&str]) -> (Vec<Value>, i32) {
        let output = self.run(&[&["--json"], args].concat());
        assert_eq!(output.stderr, "", "{args:?}");
        (schema::lines(&output.stdout), output.status)
    }

    /// Starts a service, and returns it once its log contains `ready`.
    pub(crate) fn start(&self, args: &[&str], ready: &str) -> ChildGuard {
        let mut command = self.command(args);
        let mut service = ChildGuard::spawn(command.stderr(Stdio::piped()));
        let mut log = BufReader::new(service.stderr.take().unwrap());
        let mut text = String::new();
        while !text.contains(ready) {
            assert_ne!(
                log.read_line(&mut text).unwrap(),
                0,
                "{args:?} ended: {text}"
            );
        }
        // A full or closed pipe must not stop the service.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        service
    }

    /// Starts the shared hub.
    pub(crate) fn start_shared_hub(&self) -> ChildGuard {
        self.start(&["serve"], "the hub listens")
    }

    /// Starts a hub at the sockets of one sandbox, which sends its orders to the shared verdict
    /// helper.
    pub(crate) fn start_hub(&self, sandbox: &str) -> ChildGuard {
        let own = |kind: &str, file: &str| {
            let path = self.path(&format!("terok/{kind}/{sandbox}/{file}"));
            path.to_str().unwrap().to_owned()
        };
        let (hub, ingester) = (own("clearance", "hub.sock"), own("events", "ingester.sock"));
        let sockets = ["--clearance-socket", &hub, "--reader-socket", &ingester];
        self.start(&[&["serve"], &sockets[..]].concat(), "the hub listens")
    }

    /// Starts the verdict helper with a `terok-shield` that records its arguments and runs `also`.
    pub(crate) fn start_verdict_helper(&self, also: &str) -> ChildGuard {
        let record = format!("echo \"$@\" >> {}", self.path("orders").display());
        let lines = format!("{record}\n{also}");
        let shield = write_script(self.0.path(), "terok-shield", &lines);
        let args = ["serve-verdict", "--shield", shield.to_str().unwrap()];
        self.start(&args, "the verdict helper listens")
    }

    /// Returns the arguments of each run of `terok-shield`, in order.
    pub(crate) fn orders(&self) -> Vec<String> {
        let orders = std::fs::read_to_string(self.path("orders")).unwrap_or_default();
        orders.lines().map(str::to_owned).collect()
    }

    /// Reports a blocked packet for each name to the shared hub, and waits for the questions.
    pub(crate) fn report(&self, names: &[&str]) {
        self.report_to("terok-shield-events.sock", SANDBOX, names);
    }

    /// Reports to the hub of one sandbox, and waits for the questions.
    pub(crate) fn report_to_hub(&self, sandbox: &str, names: &[&str]) {
        let ingester = format!("terok/events/{sandbox}/ingester.sock");
        self.report_to(&ingester, sandbox, names);
    }

    fn report_to(&self, ingester: &str, sandbox: &str, names: &[&str]) {
        let dossier = json!({"project": "warp", "task": "build"});
        let mut reader = UnixStream::connect(self.path(ingester)).unwrap();
        for (number, name) in names.iter().enumerate() {
            let line = pending_line(sandbox, &number.to_string(), "203.0.113.7", name, &dossier);
            reader.write_all(line.as_bytes()).unwrap();
        }
        let questions = |listed: &Value| listed["container"] == sandbox;
        while self
            .run_json(&["list"])
            .0
            .iter()
            .filter(|line| questions(line))
            .count()
            < names.len()
        {}
    }

    /// Sends events to an ingester socket.
    pub(crate) fn report_events(&self, ingester: &str, events: &[Value]) {
        let mut reader = UnixStream::connect(self.path(ingester)).unwrap();
        for event in events {
            writeln!(reader, "{event}").unwrap();
        }
    }

    /// Starts `watch --json`.
    pub(crate) fn watch(&self, args: &[&str]) -> WatchProcess {
        let mut command = self.command(&[&["watch", "--json"], args].concat());
        let mut process = ChildGuard::spawn(command.stdout(Stdio::piped()));
        let lines = BufReader::new(process.stdout.take().unwrap());
        WatchProcess { process, lines }
    }
}

/// Output and status of a program.
#[derive(Debug)]
pub(crate) struct ProgramOutput {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: i32,
}

impl ProgramOutput {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code().unwrap(),
        }
    }
}

/// A running `watch --json`.
pub(crate) struct WatchProcess {
    pub(crate) process: ChildGuard,
    pub(crate) lines: BufReader<ChildStdout>,
}

impl WatchProcess {
    /// Returns the next line of this kind.
    pub(crate) fn next(&mut self, event: &str) -> Value {
        let mut before = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "the output ended before {event}: {before:?}");
            let line = schema::line(&line);
            if line["event"] == event {
                return line;
            }
            before.push(line);
        }
    }

    /// Sends SIGINT, and returns the exit status.
    pub(crate) fn interrupt(mut self) -> ExitStatus {
        self.process.signal(rustix::process::Signal::INT);
        self.process.wait().unwrap()
    }
}

/// Returns the event of a pending question.
pub(crate) fn pending(id: &str, dest: &str) -> Event {
    let (container, number) = id.split_once(':').unwrap();
    let changes = json!({
        "process": {"pid": 7, "uid": 0, "name": "curl", "command": ["curl", "https://x"]},
        "dossier": {"name": "a"}, "first_seen": 1, "last_seen": 2, "count": 3,
    });
    Event::Pending(question(container, number.parse().unwrap(), dest, changes))
}
