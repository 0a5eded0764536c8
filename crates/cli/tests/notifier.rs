// SPDX-License-Identifier: Apache-2.0
//! Tests of `notifier` with a real session bus, without a bus, and started twice.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use test_support::directory::private_directory;
use test_support::test_bus::TestBus;

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

/// Runs `notify`; returns the exit status and the standard error.
fn notify(runtime: &Path, bus: &TestBus) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_terok-clearance"));
    let output = command
        .args(["notify", "Title"])
        .env_clear()
        .env("XDG_RUNTIME_DIR", runtime)
        .env("DBUS_SESSION_BUS_ADDRESS", bus.address())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said)
}

/// Without a desktop a script's notification is not shown, and nothing is said about it.
#[test]
fn without_a_session_bus_notify_is_silent() {
    let place = private_directory();
    let missing = format!("unix:path={}/nobody", place.path().display());
    let program = place.path().join("terok-clearance-hub");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_terok-clearance"), &program).unwrap();
    let bare_bus = TestBus::start();
    let bare_bus = bare_bus.address();
    for (program, bus) in [
        (env!("CARGO_BIN_EXE_terok-clearance"), None),
        (
            env!("CARGO_BIN_EXE_terok-clearance"),
            Some(missing.as_str()),
        ),
        (program.to_str().unwrap(), None),
        (program.to_str().unwrap(), Some(missing.as_str())),
        // As the Python program, which says nothing if no notification service runs either.
        (program.to_str().unwrap(), Some(bare_bus.as_str())),
    ] {
        let mut command = Command::new(program);
        let output = command
            .args(["notify", "Title"])
            .env_clear()
            .env("XDG_RUNTIME_DIR", place.path())
            .envs(bus.map(|bus| ("DBUS_SESSION_BUS_ADDRESS", bus)))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let said = (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        );
        assert_eq!(
            said,
            (Some(0), "0\n".to_owned(), String::new()),
            "{program} {bus:?}"
        );
    }
}

/// The name of releases up to 0.6.
#[test]
fn the_name_of_the_notifier_runs_it() {
    let place = private_directory();
    let program = place.path().join("terok-clearance-notifier");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_terok-clearance"), &program).unwrap();
    let mut command = Command::new(&program);
    command.env_clear().env("XDG_RUNTIME_DIR", place.path());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(
        said.contains("there is no session bus for popups"),
        "{said}"
    );
    let output = command.arg("serve").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// Waits for a notifier that ends; returns the exit status and the output.
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
fn a_second_notifier_is_refused_and_a_missing_bus_is_reported() {
    let place = private_directory();
    let (status, said) = ends(notifier(place.path(), None, ""));
    assert_eq!(status, Some(69), "{said}");
    assert!(
        said.contains("there is no session bus for popups"),
        "{said}"
    );
    assert!(said.contains("terok-clearance clearance"), "{said}");

    let missing = format!("unix:path={}/nobody", place.path().display());
    let (status, said) = ends(notifier(place.path(), Some(&missing), ""));
    assert_eq!(status, Some(69), "{said}");

    let bus = TestBus::start();
    let address = bus.address();
    let mut first = notifier(place.path(), Some(&address), "blocked,nonsense");
    let mut log = BufReader::new(first.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let warned = log
        .find(|line| line.contains("unknown kind of popups"))
        .unwrap();
    assert!(warned.contains("nonsense"), "{warned}");
    log.find(|line| line.contains("popups started")).unwrap();

    let (status, said) = ends(notifier(place.path(), Some(&address), ""));
    assert_eq!(status, Some(75), "{said}");
    let owner = format!("runs already, as process {}", first.id());
    assert!(said.contains(&owner), "{said}");

    let pid = Pid::from_raw(first.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(143));
}

#[test]
fn without_a_notification_service_the_notifier_warns_and_waits() {
    let place = private_directory();
    let bus = TestBus::start();
    let mut notifier = notifier(place.path(), Some(&bus.address()), "blocked");
    let mut log = BufReader::new(notifier.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    log.find(|line| line.contains("no notification service runs on the session bus"))
        .unwrap();
    log.find(|line| line.contains("popups started")).unwrap();
    notifier.kill().unwrap();
    notifier.wait().unwrap();
    let (status, said) = notify(place.path(), &bus);
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("no notification service runs on the session bus"),
        "{said}"
    );
}

#[test]
fn a_service_that_the_bus_cannot_start_is_reported() {
    let place = private_directory();
    let bus = TestBus::activating("/bin/false");
    let (status, said) = notify(place.path(), &bus);
    assert_eq!(status, Some(69), "{said}");
    assert!(
        said.contains("cannot show the notification: no notification service runs"),
        "{said}"
    );
}
