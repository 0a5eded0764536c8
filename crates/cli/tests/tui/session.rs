// SPDX-License-Identifier: Apache-2.0
//! A user's session: a hub, a verdict helper, and a `terok-shield` that writes down what it is told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_terok-clearance");

/// A session, and what runs in it.
pub(crate) struct Session {
    directory: TempDir,
    running: Vec<Service>,
}

/// A service that does not outlive its test.
struct Service {
    child: Child,
    _log: BufReader<std::process::ChildStderr>,
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Session {
    pub(crate) fn new() -> Self {
        let private = PermissionsExt::from_mode(0o700);
        let directory = tempfile::Builder::new().permissions(private).tempdir();
        Self {
            directory: directory.unwrap(),
            running: Vec::new(),
        }
    }

    /// A session with a hub whose answers `terok-shield` carries out, or refuses.
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

    /// Kills the service that was started last, as a crash would.
    pub(crate) fn kill_last(&mut self) {
        drop(self.running.pop());
    }

    fn start(&mut self, args: &[&str], ready: &str) {
        let mut child = Command::new(PROGRAM)
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.directory.path())
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(ready) {
            assert_ne!(log.read_line(&mut said).unwrap(), 0, "it ended: {said}");
        }
        self.running.push(Service { child, _log: log });
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn runtime(&self) -> &Path {
        self.directory.path()
    }

    /// Reports a blocked packet for each name, as a reader does.
    pub(crate) fn report(&self, names: &[&str]) {
        let mut reader = UnixStream::connect(self.path("terok-shield-events.sock")).unwrap();
        for name in names {
            let event = json!({
                "type": "pending", "container": "0123456789ab", "id": format!("0123456789ab:{name}"),
                "dest": "203.0.113.7", "port": 443, "proto": 6, "domain": name,
                "dossier": {"project": "warp", "task": "build", "name": "web"}, "ts": "",
            });
            writeln!(reader, "{event}").unwrap();
        }
    }

    /// Reports so many blocked packets, of so many sandboxes by turns, all at once.
    pub(crate) fn storm(&self, sandboxes: usize, questions: usize) {
        let mut reader = UnixStream::connect(self.path("terok-shield-events.sock")).unwrap();
        let line = |n: usize| {
            let sandbox = format!("sandbox{}", n % sandboxes);
            let event = json!({
                "type": "pending", "container": sandbox, "id": format!("{sandbox}:{n}"),
                "dest": "203.0.113.7", "port": 443, "proto": 6,
                "domain": format!("host{n}.example"), "dossier": {}, "ts": "",
            });
            format!("{event}\n")
        };
        let lines: String = (0..questions).map(line).collect();
        reader.write_all(lines.as_bytes()).unwrap();
    }

    /// Returns the orders that `terok-shield` was given, one a line.
    pub(crate) fn ordered(&self) -> String {
        std::fs::read_to_string(self.path("said")).unwrap_or_default()
    }
}
