// SPDX-License-Identifier: Apache-2.0
//! Supervisors that are killed while questions are pending.

use super::guarded::{Host, WAYS};
use super::machine::{Account, told, until};
use super::podman::SERVER;

fn survives(host: &Host) {
    let _operator = host.operator();
    for (count, way) in WAYS.into_iter().enumerate() {
        let mut container = host.begin_fetch(way, way);
        let asked = host.wait_for_questions(1);
        let pid = host.supervisor_pid().unwrap();
        host.machine.done(Account::Root, &format!("kill -9 {pid}"));
        let mut restarted = None;
        until(
            || {
                restarted = host.supervisor_pid().filter(|other| *other != pid);
                restarted.is_some()
            },
            || host.messages(),
        );
        let again = host.wait_for_questions(1);
        for field in ["id", "dest", "port", "protocol", "container"] {
            assert_eq!(again[0][field], asked[0][field], "{way}: {again:#?}");
        }
        assert!(container.runs());
        assert_eq!(host.pages().len(), count, "nothing leaves unasked");
        let id = asked[0]["id"].as_str().unwrap();
        host.clearance(&format!("allow {id} --expect {SERVER}"));
        let output = container.ends();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("hello from {SERVER}\n"),
            "{way}: {}\n{}",
            told(&output),
            host.messages()
        );
        assert_eq!(host.pages().len(), count + 1);
        until(
            || host.supervisor_units().is_empty(),
            || host.supervisor_units(),
        );
    }
    assert_eq!(host.machine.events_of("tcp").len(), WAYS.len());
}

#[test]
fn a_killed_supervisor_comes_back_with_the_same_questions() {
    survives(&Host::set_up(Account::Operator));
}

#[test]
fn roots_killed_supervisor_comes_back_with_the_same_questions() {
    survives(&Host::set_up(Account::Root));
}
