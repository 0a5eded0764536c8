// SPDX-License-Identifier: Apache-2.0
//! A user's session with hubs of its own, real and pretended.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;

use serde_json::{Value, json};
use tempfile::TempDir;
use terok_clearance::wire::clearance2::Event;

use crate::schema;

/// The sandbox that readers report for unless they say another.
pub(crate) const SANDBOX: &str = "0123456789ab";

/// A runtime directory, and nothing in the environment but what says so.
pub(crate) struct Session(TempDir);

impl Session {
    pub(crate) fn new() -> Self {
        let private = PermissionsExt::from_mode(0o700);
        let directory = tempfile::Builder::new().permissions(private).tempdir();
        Self(directory.unwrap())
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

    /// Runs it to its end, and returns what it said and its status.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        Said::of(self.command(args).output().unwrap())
    }

    /// Runs it with `--json`, and returns its lines, each as the schema has it, and its status.
    pub(crate) fn json(&self, args: &[&str]) -> (Vec<Value>, i32) {
        let said = self.run(&[&["--json"], args].concat());
        assert_eq!(said.error, "", "{args:?}");
        (schema::lines(&said.text), said.status)
    }

    /// Starts a service, and returns it once it has logged `ready`.
    fn start(&self, args: &[&str], ready: &str) -> Process {
        let mut command = self.command(args);
        let mut process = Process(command.stderr(Stdio::piped()).spawn().unwrap());
        let mut log = BufReader::new(process.0.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(ready) {
            assert_ne!(log.read_line(&mut said).unwrap(), 0, "it ended: {said}");
        }
        // Nobody reads on; it must not end for that.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        process
    }

    /// Starts the hub of all sandboxes.
    pub(crate) fn serve(&self) -> Process {
        self.start(&["serve"], "the hub listens")
    }

    /// Starts a hub at the sockets of one sandbox's own, which has its orders carried out by the
    /// one helper.
    pub(crate) fn hub_of(&self, sandbox: &str) -> Process {
        let own = |kind: &str, file: &str| {
            let path = self.path(&format!("terok/{kind}/{sandbox}/{file}"));
            path.to_str().unwrap().to_owned()
        };
        let (hub, ingester) = (own("clearance", "hub.sock"), own("events", "ingester.sock"));
        let sockets = ["--clearance-socket", &hub, "--reader-socket", &ingester];
        self.start(&[&["serve"], &sockets[..]].concat(), "the hub listens")
    }

    /// Starts the helper with a `terok-shield` that notes what it is told, and does `also`.
    pub(crate) fn helper(&self, also: &str) -> Process {
        let shield = self.path("terok-shield");
        let note = self.path("orders");
        let script = format!("#!/bin/sh\necho \"$@\" >> {}\n{also}\n", note.display());
        std::fs::write(&shield, script).unwrap();
        std::fs::set_permissions(&shield, PermissionsExt::from_mode(0o700)).unwrap();
        let args = ["serve-verdict", "--shield", shield.to_str().unwrap()];
        self.start(&args, "the verdict helper listens")
    }

    /// Returns what `terok-shield` was told, in the order in which it was.
    pub(crate) fn orders(&self) -> Vec<String> {
        let orders = std::fs::read_to_string(self.path("orders")).unwrap_or_default();
        orders.lines().map(str::to_owned).collect()
    }

    /// Reports a blocked packet for each name to the hub of all, and waits until each is asked.
    pub(crate) fn report(&self, names: &[&str]) {
        self.report_to("terok-shield-events.sock", SANDBOX, names);
    }

    /// Reports to the hub of one sandbox.
    pub(crate) fn report_of(&self, sandbox: &str, names: &[&str]) {
        let ingester = format!("terok/events/{sandbox}/ingester.sock");
        self.report_to(&ingester, sandbox, names);
    }

    fn report_to(&self, ingester: &str, sandbox: &str, names: &[&str]) {
        let events = names.iter().enumerate().map(|(n, name)| {
            json!({
                "type": "pending", "container": sandbox, "id": format!("{sandbox}:{n}"),
                "dest": "203.0.113.7", "port": 443, "proto": 6, "domain": name,
                "dossier": {"project": "warp", "task": "build"}, "ts": "",
            })
        });
        self.say(ingester, &events.collect::<Vec<_>>());
        let asked = |listed: &Value| listed["container"] == sandbox;
        while self
            .json(&["list"])
            .0
            .iter()
            .filter(|line| asked(line))
            .count()
            < names.len()
        {}
    }

    /// Says this as a reader does.
    pub(crate) fn say(&self, ingester: &str, events: &[Value]) {
        let mut reader = UnixStream::connect(self.path(ingester)).unwrap();
        for event in events {
            writeln!(reader, "{event}").unwrap();
        }
    }

    /// Starts `watch --json`.
    pub(crate) fn watch(&self, args: &[&str]) -> Watch {
        let mut command = self.command(&[&["watch", "--json"], args].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Watch {
            process: Process(child),
            lines,
        }
    }
}

/// What a run said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) error: String,
    pub(crate) status: i32,
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            text: String::from_utf8(output.stdout).unwrap(),
            error: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code().unwrap(),
        }
    }
}

/// A process that does not outlive its test.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn end(&mut self) -> ExitStatus {
        self.0.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A `watch` that a script reads.
pub(crate) struct Watch {
    pub(crate) process: Process,
    pub(crate) lines: BufReader<ChildStdout>,
}

impl Watch {
    /// Returns the next line of this kind.
    pub(crate) fn next(&mut self, event: &str) -> Value {
        let mut before = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).unwrap();
            assert_ne!(read, 0, "it ended before {event}: {before:?}");
            let line = schema::line(&line);
            if line["event"] == event {
                return line;
            }
            before.push(line);
        }
    }

    /// Ends it with Ctrl-C.
    pub(crate) fn interrupt(mut self) -> ExitStatus {
        self.process.signal(rustix::process::Signal::INT);
        self.process.end()
    }
}

/// What a pretended hub does with calls of a method; `Subscribe` is one of them.
pub(crate) enum Act {
    /// It says this, whole frames, and keeps the connection.
    Say(Vec<u8>),
    /// It hangs up.
    HangUp,
    /// It says nothing, for ever.
    Hang,
}

/// Returns a reply's frame.
pub(crate) fn reply(parameters: &Value) -> Act {
    framed(&json!({ "parameters": parameters }))
}

/// Returns a frame.
pub(crate) fn framed(message: &Value) -> Act {
    let mut frame = message.to_string().into_bytes();
    frame.push(0);
    Act::Say(frame)
}

/// Returns the frames of a `Subscribe` stream.
pub(crate) fn stream(events: &[Event]) -> Act {
    let mut frames = Vec::new();
    for (seq, event) in (1..).zip(events) {
        event.append_frame(seq, &mut frames);
    }
    Act::Say(frames)
}

/// Pretends to be a hub at `path`: `act` says what it does with a method's last name and its
/// parameters. Returns where it tells of every call.
pub(crate) fn pretend(
    path: &Path,
    interface: &'static str,
    act: impl Fn(&str, &Value) -> Act + Clone + Send + 'static,
) -> mpsc::Receiver<(String, Value)> {
    let directory = path.parent().unwrap();
    std::fs::create_dir_all(directory).unwrap();
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o700)).unwrap();
    let listener = UnixListener::bind(path).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (act, tell) = (act.clone(), tell.clone());
            std::thread::spawn(move || converse(stream.unwrap(), interface, &act, &tell));
        }
    });
    told
}

fn converse(
    stream: UnixStream,
    interface: &str,
    act: &impl Fn(&str, &Value) -> Act,
    tell: &mpsc::Sender<(String, Value)>,
) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut call = Vec::new();
        if stream.read_until(0, &mut call).unwrap_or(0) == 0 {
            return;
        }
        call.pop();
        let call: Value = serde_json::from_slice(&call).unwrap();
        let method = call["method"].as_str().unwrap();
        let name = method.rsplit('.').next().unwrap();
        let act = if name == "GetInfo" {
            reply(&json!({
                "vendor": "test", "product": "test", "version": "1", "url": "https://example.com",
                "interfaces": ["org.varlink.service", interface],
            }))
        } else {
            drop(tell.send((name.to_owned(), call["parameters"].clone())));
            act(name, &call["parameters"])
        };
        match act {
            Act::Say(frames) => {
                if stream.get_mut().write_all(&frames).is_err() {
                    return;
                }
            }
            Act::HangUp => return,
            Act::Hang => {
                // Until the other side is gone.
                drop(stream.read_to_end(&mut Vec::new()));
                return;
            }
        }
    }
}

/// Returns a question as a hub has it.
pub(crate) fn request(id: &str, dest: &str) -> Event {
    let (container, _) = id.split_once(':').unwrap();
    let request = json!({
        "id": id, "container": container, "dest": dest, "address": "203.0.113.7", "port": 443,
        "protocol": "tcp", "domain": dest,
        "scope": {"dest": dest, "port": 443, "protocol": "tcp", "keep": "sandbox"},
        "process": {"pid": 7, "uid": 0, "name": "curl", "command": ["curl", "https://x"]},
        "dossier": {"name": "a"}, "first_seen": 1, "last_seen": 2, "count": 3,
    });
    Event::Pending(serde_json::from_value(request).unwrap())
}
