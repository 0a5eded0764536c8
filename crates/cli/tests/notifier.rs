// SPDX-License-Identifier: Apache-2.0
//! `notifier` as its users start it: with a real session bus, without one, and twice.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

fn notifier(runtime: &Path, bus: Option<&str>, events: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_terok-clearance"));
    command
        .arg("notifier")
        .env_clear()
        .env("XDG_RUNTIME_DIR", runtime)
        .env("HOME", runtime)
        .env("TEROK_CLEARANCE_NOTIFY_EVENTS", events)
        .envs(bus.map(|bus| ("DBUS_SESSION_BUS_ADDRESS", bus)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Has `notify` show something; returns its status, and what it said on standard error.
fn notify(runtime: &Path, bus: &Bus) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_terok-clearance"));
    let output = command
        .args(["notify", "Title"])
        .env_clear()
        .env("XDG_RUNTIME_DIR", runtime)
        .env("DBUS_SESSION_BUS_ADDRESS", &bus.address)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

fn private() -> TempDir {
    let private = PermissionsExt::from_mode(0o700);
    let mut builder = tempfile::Builder::new();
    builder.permissions(private).tempdir().unwrap()
}

/// A session bus of its own, on which nobody shows notifications.
struct Bus {
    daemon: Child,
    address: String,
    _place: TempDir,
}

impl Bus {
    /// Starts it. `exec` is what it starts where somebody wants to show a notification.
    fn new(exec: Option<&str>) -> Self {
        let place = private();
        let at = place.path().display();
        if let Some(exec) = exec {
            let service =
                format!("[D-BUS Service]\nName=org.freedesktop.Notifications\nExec={exec}\n");
            let file = place.path().join("org.freedesktop.Notifications.service");
            std::fs::write(file, service).unwrap();
        }
        let config = format!(
            r#"<busconfig>
  <type>session</type>
  <listen>unix:path={at}/bus</listen>
  <auth>EXTERNAL</auth>
  <servicedir>{at}</servicedir>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"#
        );
        let file = place.path().join("config");
        std::fs::write(&file, config).unwrap();
        let mut daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", file.display()))
            .args(["--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let mut lines = BufReader::new(daemon.stdout.take().unwrap());
        lines.read_line(&mut address).unwrap();
        Self {
            daemon,
            address: address.trim().to_owned(),
            _place: place,
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

/// Returns the status of one that ends by itself, and what it said.
fn ends(mut child: Child) -> (Option<i32>, String) {
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    (child.wait().unwrap().code(), said)
}

#[test]
fn one_notifier_of_a_person_asks_and_says_what_it_needs() {
    let place = private();
    let (status, said) = ends(notifier(place.path(), None, ""));
    assert_eq!(status, Some(69), "{said}");
    assert!(
        said.contains("there is no session bus for popups"),
        "{said}"
    );
    assert!(said.contains("terok-clearance clearance"), "{said}");

    let nobody = format!("unix:path={}/nobody", place.path().display());
    let (status, said) = ends(notifier(place.path(), Some(&nobody), ""));
    assert_eq!(status, Some(69), "{said}");

    let bus = Bus::new(None);
    let address = bus.address.as_str();
    let mut first = notifier(place.path(), Some(address), "blocked,nonsense");
    let mut log = BufReader::new(first.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let warned = log
        .find(|line| line.contains("there is no such kind of popups"))
        .unwrap();
    assert!(warned.contains("nonsense"), "{warned}");
    log.find(|line| line.contains("popups started")).unwrap();

    let (status, said) = ends(notifier(place.path(), Some(address), ""));
    assert_eq!(status, Some(75), "{said}");
    let owner = format!("runs already, as process {}", first.id());
    assert!(said.contains(&owner), "{said}");

    let pid = Pid::from_raw(first.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(143));
}

#[test]
fn where_nothing_shows_popups_it_says_so_and_stays() {
    let place = private();
    let bus = Bus::new(None);
    let mut notifier = notifier(place.path(), Some(&bus.address), "blocked");
    let mut log = BufReader::new(notifier.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    log.find(|line| line.contains("no notification service is on the session bus"))
        .unwrap();
    log.find(|line| line.contains("popups started")).unwrap();
    notifier.kill().unwrap();
    notifier.wait().unwrap();
    let (status, said) = notify(place.path(), &bus);
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("no service for notifications is on the session bus"),
        "{said}"
    );
}

#[test]
fn a_service_that_the_bus_cannot_start_is_said() {
    let place = private();
    let bus = Bus::new(Some("/bin/false"));
    let (status, said) = notify(place.path(), &bus);
    assert_eq!(status, Some(69), "{said}");
    assert!(
        said.contains("cannot show the notification: there is no notification service"),
        "{said}"
    );
}
