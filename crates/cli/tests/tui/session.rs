// SPDX-License-Identifier: Apache-2.0
//! A user's session: a hub, a verdict helper, and a `terok-shield` that records its arguments.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;
use test_support::child::ChildGuard;
use test_support::directory::private_directory;
use test_support::packets::pending_line;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_terok-clearance");

/// A session and its running services.
pub(crate) struct Session {
    directory: TempDir,
    running: Vec<Service>,
}

/// A service and its log.
struct Service {
    _child: ChildGuard,
    _log: BufReader<ChildStderr>,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self {
            directory: private_directory(),
            running: Vec::new(),
        }
    }

    /// Starts a session with a hub whose answers are applied or refused by `terok-shield`.
    pub(crate) fn served(shield_takes_it: bool) -> Self {
        let mut session = Self::new();
        let status = i32::from(!shield_takes_it);
        let said = session.path("said");
        let script = format!(
            "#!/bin/sh\necho \"$1 $2 $3\" >>{}\n[ {status} = 0 ] || echo no such container >&2\nexit {status}\n",
            said.display()
        );
        let shield = session.path("terok-shield");
        std::fs::write(&shield, script).unwrap();
        std::fs::set_permissions(&shield, PermissionsExt::from_mode(0o700)).unwrap();
        let shield = shield.to_str().unwrap().to_owned();
        session.start(
            &["serve-verdict", "--shield", &shield],
            "the verdict helper listens",
        );
        session.serve();
        session
    }

    pub(crate) fn serve(&mut self) {
        self.start(&["serve"], "the hub listens");
    }

    /// Kills the service that was started last, like a crash.
    pub(crate) fn kill_last(&mut self) {
        drop(self.running.pop());
    }

    fn start(&mut self, args: &[&str], ready: &str) {
        let mut command = Command::new(PROGRAM);
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.directory.path())
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = ChildGuard::spawn(&mut command);
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(ready) {
            assert_ne!(log.read_line(&mut said).unwrap(), 0, "it ended: {said}");
        }
        self.running.push(Service {
            _child: child,
            _log: log,
        });
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn runtime(&self) -> &Path {
        self.directory.path()
    }

    /// Reports a blocked packet for each name, like a reader.
    pub(crate) fn report(&self, names: &[&str]) {
        let mut reader = UnixStream::connect(self.path("terok-shield-events.sock")).unwrap();
        for name in names {
            let dossier = json!({"project": "warp", "task": "build", "name": "web"});
            let line = pending_line("0123456789ab", name, "203.0.113.7", name, &dossier);
            reader.write_all(line.as_bytes()).unwrap();
        }
    }

    /// Reports this number of blocked packets from this number of sandboxes, all at once.
    pub(crate) fn storm(&self, sandboxes: usize, questions: usize) {
        let mut reader = UnixStream::connect(self.path("terok-shield-events.sock")).unwrap();
        let line = |n: usize| {
            let sandbox = format!("sandbox{}", n % sandboxes);
            let name = format!("host{n}.example");
            pending_line(&sandbox, &n.to_string(), "203.0.113.7", &name, &json!({}))
        };
        let lines: String = (0..questions).map(line).collect();
        reader.write_all(lines.as_bytes()).unwrap();
    }

    /// Returns the orders received by `terok-shield`, one per line.
    pub(crate) fn ordered(&self) -> String {
        std::fs::read_to_string(self.path("said")).unwrap_or_default()
    }
}
