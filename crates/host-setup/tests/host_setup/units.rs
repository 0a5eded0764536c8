// SPDX-License-Identifier: Apache-2.0
//! systemd units, with the calls of `systemctl`.

use host_setup::{NotifierChoice, PathChange, SetupEvent, SetupPart};

use super::harness::{Host, assert_no_problem, changes, skipped};

const UNITS: &str = "home/.config/systemd/user";

fn units(host: &Host) -> Vec<String> {
    let entries = std::fs::read_dir(host.path(UNITS));
    let entries = entries.into_iter().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn units_are_started_once_and_stopped_by_uninstall() {
    let host = Host::of_user();
    host.setup();
    let started = [
        "--user daemon-reload",
        "--user enable --now clearance-supervisor.socket",
        "--user enable --now clearance-notifier.service",
    ];
    assert_eq!(host.calls(), started);
    host.setup();
    assert_eq!(host.calls(), [""; 0]);
    // Someone has stopped them since.
    host.disable_units();
    host.setup();
    assert_eq!(host.calls(), started[1..]);
    host.uninstall();
    let stopped = [
        "--user disable --now clearance-notifier.service",
        "--user disable --now clearance-supervisor.socket",
        "--user daemon-reload",
    ];
    assert_eq!(host.calls(), stopped);
}

#[test]
fn the_machines_supervisors_are_system_units() {
    let host = Host::of_machine();
    host.setup();
    let mut calls = host.calls();
    calls.sort();
    let expected = [
        "--user daemon-reload",
        "--user enable --now clearance-notifier.service",
        "daemon-reload",
        "enable --now clearance-supervisor.socket",
    ];
    assert_eq!(calls, expected);
    assert!(
        host.path("etc/systemd/system/clearance-supervisor.socket")
            .exists()
    );
    assert_eq!(units(&host), ["clearance-notifier.service"]);
}

#[test]
fn without_a_manager_all_but_the_units_is_installed() {
    let host = Host::of_user();
    host.stop_managers();
    let before = host.tree();
    let events = host.setup();
    assert_no_problem(&events);
    let parts: Vec<_> = skipped(&events).into_iter().map(|(part, _)| part).collect();
    assert_eq!(parts, [SetupPart::Supervisor, SetupPart::Notifier]);
    assert!(units(&host).is_empty() && host.calls().is_empty());
    assert!(
        host.path("home/.config/containers/containers.conf")
            .exists()
    );
    host.uninstall();
    assert_eq!(host.tree(), before);
}

#[test]
fn popups_that_are_installed_stay_when_there_is_no_desktop() {
    let mut host = Host::of_user();
    let before = host.tree();
    host.setup();
    host.options.notifier = NotifierChoice::Leave {
        reason: "no desktop".to_owned(),
    };
    let events = host.setup();
    assert_eq!(changes(&events), []);
    assert!(skipped(&events).contains(&(SetupPart::Notifier, "no desktop".to_owned())));
    host.options.notifier = NotifierChoice::Remove;
    host.calls();
    let events = host.setup();
    let unit = host.path(UNITS).join("clearance-notifier.service");
    assert_eq!(changes(&events), [(unit, PathChange::Removed)]);
    let calls = host.calls();
    assert_eq!(calls[0], "--user disable --now clearance-notifier.service");
    host.uninstall();
    assert_eq!(host.tree(), before);
}

#[test]
fn the_classic_layout_replaces_the_units_of_the_python_stack() {
    let mut host = Host::of_user();
    host.options.is_classic = true;
    host.write(
        &format!("{UNITS}/terok-clearance-hub.service"),
        "# terok-clearance-hub-version: 2\n",
    );
    let legacy = host.write(&format!("{UNITS}/terok-dbus.service"), "[Service]\n");
    let events = host.setup();
    assert_no_problem(&events);
    assert!(changes(&events).contains(&(legacy, PathChange::Removed)));
    assert_eq!(
        units(&host),
        [
            "clearance-supervisor.socket",
            "clearance-supervisor@.service",
            "terok-clearance-hub.service",
            "terok-clearance-notifier.service",
            "terok-clearance-verdict.service",
        ]
    );
    let calls = host.calls();
    assert_eq!(
        calls,
        [
            "--user disable --now terok-dbus.service",
            "--user daemon-reload",
            "--user enable --now clearance-supervisor.socket",
            "--user try-restart terok-clearance-hub.service",
            "--user enable --now terok-clearance-verdict.service",
            "--user enable --now terok-clearance-notifier.service",
        ]
    );
    // Without --classic they are taken away again.
    host.options.is_classic = false;
    assert_no_problem(&host.setup());
    assert_eq!(
        units(&host),
        [
            "clearance-notifier.service",
            "clearance-supervisor.socket",
            "clearance-supervisor@.service",
        ]
    );
}

#[test]
fn a_classic_unit_of_another_program_is_a_problem() {
    let mut host = Host::of_user();
    host.options.is_classic = true;
    host.write(
        &format!("{UNITS}/terok-clearance-hub.service"),
        "[Service]\n",
    );
    let events = host.setup();
    assert!(events.iter().any(SetupEvent::is_problem));
    assert_eq!(
        host.read(&format!("{UNITS}/terok-clearance-hub.service")),
        "[Service]\n"
    );
}
