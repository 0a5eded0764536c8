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
    let private = PermissionsExt::from_mode(0o700);
    let place = tempfile::Builder::new()
        .permissions(private)
        .tempdir()
        .unwrap();
    let (status, said) = ends(notifier(place.path(), None, ""));
    assert_eq!(status, Some(69), "{said}");
    assert!(
        said.contains("there is no session bus to show popups on"),
        "{said}"
    );
    assert!(said.contains("terok-clearance clearance"), "{said}");

    let nobody = format!("unix:path={}/nobody", place.path().display());
    let (status, said) = ends(notifier(place.path(), Some(&nobody), ""));
    assert_eq!(status, Some(69), "{said}");

    let mut bus = Command::new("dbus-daemon")
        .args(["--session", "--nofork", "--print-address"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    let mut lines = BufReader::new(bus.stdout.take().unwrap());
    lines.read_line(&mut address).unwrap();
    let address = address.trim();

    let mut first = notifier(place.path(), Some(address), "blocked,nonsense");
    let mut log = BufReader::new(first.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let warned = log
        .find(|line| line.contains("there is no such kind of popups"))
        .unwrap();
    assert!(warned.contains("nonsense"), "{warned}");
    log.find(|line| line.contains("asking by popups")).unwrap();

    let (status, said) = ends(notifier(place.path(), Some(address), ""));
    assert_eq!(status, Some(75), "{said}");
    let owner = format!("runs already, as process {}", first.id());
    assert!(said.contains(&owner), "{said}");

    let pid = Pid::from_raw(first.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(143));
    bus.kill().unwrap();
    bus.wait().unwrap();
}
