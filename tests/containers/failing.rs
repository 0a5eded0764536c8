// SPDX-License-Identifier: Apache-2.0
//! Hosts on which a part is missing or fails: a container is refused, or has no wire. It is never
//! open.

use std::process::Output;

use super::guarded::{Host, Running, WAYS, guarded};
use super::machine::{Account, PROGRAM, told};
use super::podman::fetch;

const HOOKS: &str = "/home/op/.local/share/terok-clearance/hooks.d";

/// Starts a container of each way; returns what podman said.
fn start(host: &Host) -> Vec<Output> {
    let started = WAYS.map(|way| {
        host.begin(&format!(
            "--rm {} bb:latest sh -c 'echo started; {}'",
            guarded(way),
            fetch(way)
        ))
    });
    let outputs = started.map(Running::ends);
    assert_eq!(host.machine.events().len(), 0, "nothing leaves");
    outputs.into()
}

/// Asserts that containers are refused and that the log of failed hooks says why.
fn are_refused(host: &Host, because: &str) {
    for output in start(host) {
        assert!(!output.status.success());
        assert!(!told(&output).contains("started"), "{}", told(&output));
    }
    let errors = host.hook_errors();
    assert!(
        errors.contains(because),
        "{because}: {errors}\n{}",
        host.messages()
    );
}

/// Asserts that containers that start have no wire.
fn have_no_wire(host: &Host) {
    for output in start(host) {
        let told = told(&output);
        assert!(
            !told.contains("started") || told.contains("Network is unreachable"),
            "{told}"
        );
    }
}

/// CASES: podman starts a container silently without a hook whose program is missing.
#[test]
fn without_the_hooks_program_a_container_has_no_wire() {
    let host = Host::set_up(Account::Operator);
    host.machine
        .done(Account::Root, &format!("mv {PROGRAM} {PROGRAM}.away"));
    have_no_wire(&host);
}

#[test]
fn without_the_hooks_files_a_container_has_no_wire() {
    let host = Host::set_up(Account::Operator);
    for damage in [
        format!("rm {HOOKS}/terok-clearance-createRuntime.json"),
        format!("rm -r {HOOKS}"),
        "rm ~/.config/containers/containers.conf".to_owned(),
    ] {
        host.machine.done(Account::Operator, &damage);
        have_no_wire(&host);
    }
}

#[test]
fn without_the_start_socket_a_container_is_refused() {
    let host = Host::set_up(Account::Operator);
    host.systemctl("stop clearance-supervisor.socket");
    are_refused(&host, "no supervisor can be started");
}

#[test]
fn a_container_of_a_supervisor_that_fails_is_refused() {
    let host = Host::set_up(Account::Operator);
    let unit = "~/.config/systemd/user/clearance-supervisor@.service";
    for (program, because) in [
        ("/bin/false", "the supervisor ended"),
        ("/nonexistent", "the supervisor ended"),
        // It reads the request and says something else.
        (
            "/bin/sh -c 'head -n 1 >/dev/null; echo no'",
            "the supervisor ended",
        ),
    ] {
        host.machine.done(
            Account::Operator,
            &format!(
                "sed -i \"s|^ExecStart=.*|ExecStart={program}|\" {unit} && \
                 systemctl --user daemon-reload"
            ),
        );
        are_refused(&host, because);
    }
}

#[test]
fn a_container_whose_hook_is_killed_is_refused() {
    let host = Host::set_up(Account::Operator);
    // The hook waits for a supervisor that never answers.
    let unit = "~/.config/systemd/user/clearance-supervisor@.service";
    host.machine.done(
        Account::Operator,
        &format!(
            "sed -i 's|^ExecStart=.*|ExecStart=/bin/sleep 1000|; s|^Type=.*|Type=exec|' {unit} && \
             systemctl --user daemon-reload"
        ),
    );
    for way in WAYS {
        let container = host.begin(&format!("--rm {} bb:latest {}", guarded(way), fetch(way)));
        host.machine.done(
            Account::Root,
            "until pkill -9 -f 'terok-clearance hook [c]reateRuntime'; do sleep 0.01; done",
        );
        let output = container.ends();
        assert!(!output.status.success(), "{}", told(&output));
    }
    assert_eq!(host.machine.events().len(), 0, "nothing leaves");
}
