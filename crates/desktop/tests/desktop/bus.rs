// SPDX-License-Identifier: Apache-2.0
//! A session bus for one test: the real `dbus-daemon`, which can start nothing but what the test
//! says.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use terok_clearance_desktop::notifier::DesktopSession;
use zbus::connection::{Builder, Connection};

/// The bus. It ends with its test.
pub(crate) struct Bus {
    daemon: Child,
    directory: TempDir,
}

impl Bus {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("services")).unwrap();
        let config = format!(
            r#"<busconfig>
  <type>session</type>
  <listen>unix:path={at}/bus</listen>
  <auth>EXTERNAL</auth>
  <servicedir>{at}/services</servicedir>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#,
            at = directory.path().display()
        );
        std::fs::write(directory.path().join("config"), config).unwrap();
        Self {
            daemon: start(directory.path()),
            directory,
        }
    }

    /// A bus that starts `program`, an absolute path and arguments, when somebody calls the
    /// notification service and there is none.
    pub(crate) fn starting(program: &str) -> Self {
        let mut bus = Self::new();
        let service =
            format!("[D-BUS Service]\nName=org.freedesktop.Notifications\nExec={program}\n");
        let file = "services/org.freedesktop.Notifications.service";
        std::fs::write(bus.directory.path().join(file), service).unwrap();
        bus.kill();
        bus.start();
        bus
    }

    /// Ends the bus. Nobody is there until [`Bus::start`].
    pub(crate) fn kill(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
        // As a new one wants to find it.
        drop(std::fs::remove_file(self.directory.path().join("bus")));
    }

    pub(crate) fn start(&mut self) {
        self.daemon = start(self.directory.path());
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:path={}/bus", self.directory.path().display())
    }

    pub(crate) fn session(&self) -> DesktopSession {
        DesktopSession::new(&self.address(), "the-app")
    }

    /// Another program of the same session.
    pub(crate) async fn somebody(&self) -> Connection {
        let address = self.address();
        Builder::address(address.as_str()).build().await.unwrap()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

fn start(directory: &Path) -> Child {
    let mut daemon = Command::new("dbus-daemon")
        .arg(format!("--config-file={}/config", directory.display()))
        .args(["--nofork", "--print-address"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("dbus-daemon runs (package dbus)");
    let said = daemon.stdout.take().unwrap();
    // It says its address when it takes connections.
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line).unwrap();
    assert!(line.starts_with("unix:path="), "it said {line:?}");
    daemon
}
