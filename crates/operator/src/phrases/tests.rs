// SPDX-License-Identifier: Apache-2.0
//! Tests of the phrases.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use terok_clearance::wire::clearance2::Event;
use test_support::questions::{NOON_MICROS, question};

use super::*;
use crate::clock::TimeZone;
use crate::inbox::{Inbox, InboxEvent};

/// Calls `check` with the row of one question about `name`, with these changes.
pub(super) fn with_row(name: &str, changes: Value, check: impl FnOnce(&Row)) {
    let hub = HubId::new(Path::new("/run/hub.sock"));
    let mut inbox = Inbox::new();
    inbox.apply_event(&hub, InboxEvent::Up(ProtocolVersion::Clearance2));
    let asked = question("web", 1, name, changes);
    inbox.apply_event(
        &hub,
        InboxEvent::Received(Event::Pending(Arc::clone(&asked))),
    );
    check(inbox.rows().next().unwrap());
}

/// The fields of a question about an address.
pub(super) fn address(address: &str, more: Value) -> Value {
    let mut changes = json!({
        "dest": address, "address": address, "domain": null,
        "scope": {"dest": address, "port": 443, "protocol": "tcp", "keep": "sandbox"},
    });
    if let Value::Object(more) = more {
        changes.as_object_mut().unwrap().extend(more);
    }
    changes
}

#[test]
fn duration_is_in_its_largest_unit() {
    for (seconds, expected) in [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (7200, "2 h"),
        (200_000, "2 d"),
    ] {
        assert_eq!(format_duration(Duration::from_secs(seconds)), expected);
    }
}

#[test]
fn scope_phrase_has_range_and_lifetime() {
    let check = |json: &str, expected: &str| {
        let scope: Scope = serde_json::from_str(json).unwrap();
        assert_eq!(
            format!("{} {}", describe_scope(&scope), describe_lifetime(&scope)),
            expected
        );
    };
    check(
        r#"{"dest":"a.example","port":443,"protocol":"tcp","keep":"sandbox"}"#,
        "tcp port 443 of a.example while the sandbox lives",
    );
    check(
        r#"{"dest":"203.0.113.7","keep":"always"}"#,
        "EVERY port and protocol of 203.0.113.7 in every sandbox, for good",
    );
    check(
        r#"{"dest":"a.example","protocol":"udp","keep":"once"}"#,
        "all udp of a.example for 60 s",
    );
    check(
        r#"{"dest":"a.example","port":53,"keep":"project","seconds":5}"#,
        "port 53 of every protocol of a.example for 5 s",
    );
}

#[test]
fn destination_phrase_has_the_unicode_form_and_the_zone() {
    let check = |name: &str, changes: Value, expected: &str, briefly: &str| {
        with_row(name, changes, |row| {
            assert_eq!(describe_dest(row), expected);
            assert_eq!(describe_dest_briefly(row), briefly);
        });
    };
    check(
        "api.example.com",
        json!({}),
        "api.example.com port 443/tcp",
        "api.example.com 443/tcp",
    );
    check(
        "xn--bcher-kva.example",
        json!({}),
        "xn--bcher-kva.example (b\u{fc}cher.example) port 443/tcp",
        "xn--bcher-kva.example 443/tcp",
    );
    check(
        "",
        address("192.168.1.20", json!({"zone": "local-network"})),
        "192.168.1.20 port 443/tcp, on your local network",
        "192.168.1.20 443/tcp (local)",
    );
    check(
        "host.internal",
        json!({"zone": "this-host"}),
        "host.internal port 443/tcp, a service on this machine",
        "host.internal 443/tcp (this machine)",
    );
}

#[test]
fn unresolved_name_is_shown_once_and_not_as_an_address() {
    with_row("a.example", json!({"address": "a.example"}), |row| {
        assert_eq!(describe_dest(row), "a.example port 443/tcp");
        assert_eq!(
            describe_allow_effect(row),
            "tcp port 443 of a.example while the sandbox lives"
        );
        assert!(row.addresses().is_empty());
    });
    with_row("", address("192.0.2.7", json!({})), |row| {
        assert_eq!(row.addresses(), [row.dest()]);
    });
}

#[test]
fn lookup_phrase_has_the_name_that_led_to_an_address() {
    let check = |changes: Value, expected: Option<&str>| {
        with_row("a.example", changes, |row| {
            assert_eq!(describe_lookup(row).as_deref(), expected);
        });
    };
    check(json!({}), None);
    check(json!({"waiting": 1}), None);
    check(address("192.0.2.7", json!({})), None);
    check(
        address("192.0.2.7", json!({"waiting": 1})),
        Some("no name was looked up for it"),
    );
    check(
        address(
            "10.0.0.7",
            json!({"waiting": 1, "looked_up_as": "nas.example"}),
        ),
        Some("name nas.example leads there"),
    );
    check(
        address("10.0.0.7", json!({"looked_up_as": "xn--bcher-kva.example"})),
        Some("name xn--bcher-kva.example (b\u{fc}cher.example) leads there"),
    );
}

#[test]
fn process_phrase_has_what_is_known() {
    let check = |changes: Value, expected: Option<&str>| {
        with_row("a.example", changes, |row| {
            assert_eq!(describe_process(row).as_deref(), expected);
        });
    };
    let process = |more: Value| {
        let mut process = json!({"pid": 812, "uid": 1000, "name": "curl", "command": []});
        if let Value::Object(more) = more {
            process.as_object_mut().unwrap().extend(more);
        }
        json!({"process": process})
    };
    check(json!({}), None);
    check(json!({"waiting": 1}), Some("not known"));
    check(process(json!({})), Some("says it is curl (process 812)"));
    check(
        process(json!({"other_holders": 1})),
        Some("says it is curl (process 812); 2 processes share the socket"),
    );
    let parents = |names: &[&str]| -> Vec<_> {
        let parent = |name: &&str| json!({"pid": 1, "name": name});
        names.iter().map(parent).collect()
    };
    check(
        process(json!({
            "command": ["curl", "-v"], "directory": "/home/u/project",
            "parents": parents(&["bash", "node"]), "other_holders": 3,
        })),
        Some(
            "says it is curl (process 812, /home/u/project): curl -v; started by: bash, node; \
             4 processes share the socket",
        ),
    );
    check(
        process(json!({"parents": parents(&["a", "b", "c", "d", "e", "f"])})),
        Some("says it is curl (process 812); started by: a, b, c, d, 2 more"),
    );
    check(
        process(json!({"command": ["x".repeat(70)]})),
        Some(&format!(
            "says it is curl (process 812): {}...",
            "x".repeat(60)
        )),
    );
}

#[test]
fn waiting_phrase_has_count_start_and_end() {
    let since = NOON_MICROS;
    let now = Timestamp::from_micros(since + 4_500_000);
    let check = |changes: Value, expected: [Option<&str>; 4]| {
        with_row("a.example", changes, |row| {
            let zone = TimeZone::default();
            let shown = [
                describe_waiting(row, Some(&zone), Some(now)),
                describe_waiting(row, Some(&zone), None),
                describe_waiting(row, None, Some(now)),
                describe_waiting(row, None, None),
            ];
            assert_eq!(shown.each_ref().map(Option::as_deref), expected);
        });
    };
    check(json!({}), [None; 4]);
    check(
        json!({"waiting": 2, "waiting_since": since}),
        [
            Some("2 connections wait, since 12:42:07 (4 s)"),
            Some("2 connections wait, since 12:42:07"),
            Some("2 connections wait, for 4 s"),
            Some("2 connections wait"),
        ],
    );
    check(json!({"waiting": 1}), [Some("1 connection waits"); 4]);
    check(
        json!({"gave_up_after": 15}),
        [Some("gave up after 15 s; an answer serves the next attempt"); 4],
    );
    check(
        json!({"waiting": 1, "gave_up_after": 5}),
        [Some("1 connection waits; an earlier one gave up after 5 s"); 4],
    );
}
