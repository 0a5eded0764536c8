// SPDX-License-Identifier: Apache-2.0
//! The texts of popups. `tests/hostile` covers misleading text of a sandbox.

use serde_json::{Value, json};
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::Event;
use terok_clearance_desktop::notifier::{
    NotificationAction, NotificationExpiry, NotificationUrgency,
};
use test_support::questions::NOON_MICROS;

use crate::harness::{PopupHarness, web_question};

#[test]
fn a_question_names_sandbox_destination_and_scope() {
    let check = |more: Value, title: &str, body: &str| {
        let mut harness = PopupHarness::connected();
        harness.receive(Event::Pending(web_question(1, "api.example.com", more)));
        let (_, _, popup) = harness.popup("");
        assert_eq!(popup.summary, title);
        assert_eq!(popup.body, body);
        let labels: Vec<_> = popup
            .actions
            .iter()
            .map(NotificationAction::label)
            .collect();
        assert_eq!(labels, ["Allow", "Deny"]);
        assert_eq!(popup.expiry, NotificationExpiry::Never);
        assert_eq!(popup.hints.urgency, Some(NotificationUrgency::Critical));
        assert!(popup.hints.resident && !popup.hints.transient);
    };
    let opens = "Allow opens tcp port 443 of api.example.com (203.0.113.7, and its later \
                 addresses) while the sandbox lives";
    check(
        json!({}),
        "Blocked: api.example.com:443",
        &format!("Task: warp/build-42 \u{b7} web\nProtocol: TCP\n{opens}"),
    );
    check(
        json!({"dossier": {"name": "builder"}, "count": 3}),
        "Blocked: api.example.com:443",
        &format!("Container: builder\nProtocol: TCP\n{opens}\nBlocked 3 times since 12:42:08"),
    );
    check(
        json!({"dossier": {}, "process": {"pid": 7, "uid": 1000, "name": "curl", "command": []}}),
        "Blocked: api.example.com:443",
        &format!("Container: web\nProtocol: TCP\nProcess: says it is curl (process 7)\n{opens}"),
    );
    check(
        json!({
            "dest": "2001:db8::7", "address": "2001:db8::7", "domain": null, "protocol": "udp",
            "scope": {"dest": "2001:db8::7", "port": 443, "protocol": "udp", "keep": "once"},
            "dossier": {"project": "warp", "task": "b"},
        }),
        "Blocked: [2001:db8::7]:443",
        "Task: warp/b\nProtocol: UDP\nAllow opens udp port 443 of 2001:db8::7 for 60 s",
    );
    let unresolved = json!({
        "dest": "xn--bcher-kva.example", "address": "xn--bcher-kva.example", "waiting": 2,
        "waiting_since": NOON_MICROS, "dossier": {},
        "scope": {"dest": "xn--bcher-kva.example", "port": 443, "protocol": "tcp", "keep": "once"},
    });
    check(
        unresolved,
        "Blocked: xn--bcher-kva.example:443",
        "Container: web\nProtocol: TCP\nName: xn--bcher-kva.example (b\u{fc}cher.example)\n\
         Process: not known\nWaiting: 2 connections wait, since 12:42:07\n\
         Allow opens tcp port 443 of xn--bcher-kva.example for 60 s",
    );
    check(
        json!({
            "dest": "10.0.0.7", "address": "10.0.0.7", "domain": null, "zone": "local-network",
            "looked_up_as": "nas.example", "gave_up_after": 15, "dossier": {},
            "scope": {"dest": "10.0.0.7", "port": 443, "protocol": "tcp", "keep": "once"},
            "process": {
                "pid": 7, "uid": 1000, "name": "curl", "command": [], "directory": "/home/u",
                "parents": [{"pid": 5, "name": "bash"}], "other_holders": 1,
            },
        }),
        "Blocked: 10.0.0.7:443",
        "Container: web\nProtocol: TCP\nDestination: on your local network\n\
         Lookup: name nas.example leads there\n\
         Process: says it is curl (process 7, /home/u); started by: bash; 2 processes share the \
         socket\nWaiting: gave up after 15 s; an answer serves the next attempt\n\
         Allow opens tcp port 443 of 10.0.0.7 for 60 s",
    );
    check(
        json!({
            "dest": "192.0.2.7", "address": "192.0.2.7", "domain": null, "protocol": "icmp",
            "port": 0, "dossier": {"project": "p"},
            "scope": {"dest": "192.0.2.7", "protocol": "icmp", "keep": "always"},
        }),
        "Blocked: 192.0.2.7",
        "Container: web\nProtocol: icmp\nAllow opens all icmp of 192.0.2.7 in every sandbox, for good",
    );
}

/// Invariant 4: a Clearance1 hub opens more than the blocked port, so the popup says so.
#[test]
fn the_scope_of_a_clearance1_hub_is_named_completely() {
    let mut harness = PopupHarness::with("all", ProtocolVersion::Clearance1);
    let whole = json!({"scope": {"dest": "a.example", "keep": "always"}});
    harness.receive(Event::Pending(web_question(1, "a.example", whole)));
    let body = harness.body("Blocked: a.example:443");
    assert!(
        body.contains("Allow opens EVERY port and protocol of a.example"),
        "{body}"
    );
}

#[test]
fn a_repeated_question_is_one_popup() {
    let mut harness = PopupHarness::connected();
    harness.receive_question(1, "a.example");
    for n in 2..100 {
        let more = json!({"id": format!("web:{n}"), "count": n, "last_seen": NOON_MICROS + n});
        harness.receive(Event::Repeated(web_question(1, "a.example", more)));
        harness.wait(10);
    }
    harness.wait(2000);
    assert_eq!(harness.titles(), ["Blocked: a.example:443"]);
    let body = harness.body("Blocked");
    assert!(body.ends_with("Blocked 99 times since 12:42:08"), "{body}");
    assert!(harness.posts <= 4, "{} posts", harness.posts);
}
