// SPDX-License-Identifier: Apache-2.0
//! Hubs that hang, that are none, and one that sends every kind of event.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use serde_json::json;
use terok_clearance::varlink::VarlinkInterface;
use terok_clearance::wire::clearance2::{ContainerState, Event};
use terok_clearance::{DisplayText, ShieldState};
use test_support::child::ChildGuard;
use test_support::fake_hub::{CLEARANCE2_ONLY, CallReply};
use test_support::hub_thread::HubThread;

use crate::harness::{ScriptHarness, pending};
use crate::schema;

/// An interface of a service that is no hub.
const OTHER_INTERFACE: &[VarlinkInterface] = &[VarlinkInterface {
    name: "com.example.Other",
    description: "interface com.example.Other\nmethod Ping() -> ()\n",
}];

#[test]
fn a_hanging_hub_is_named_and_the_others_are_listed() {
    let harness = ScriptHarness::new();
    let _helper = harness.start_verdict_helper("");
    let _hub = harness.start_hub("web");
    harness.report_to_hub("web", &["one.example"]);
    let stopped = harness.start_hub("stopped");
    stopped.signal(rustix::process::Signal::STOP);
    let mute = harness.path("terok/clearance/mute/hub.sock");
    let _hub = HubThread::start(&mute, CLEARANCE2_ONLY, |_, _| CallReply::Never);
    let (lines, status) = harness.run_json(&["list", "--timeout", "1"]);
    assert_eq!(status, 69);
    let events: Vec<_> = lines.iter().map(|line| &line["event"]).collect();
    assert_eq!(events, ["listed", "hub", "hub", "list"]);
    let output = harness.run(&["list", "--timeout", "1"]);
    assert_eq!(output.status, 69);
    assert!(output.stdout.contains("web:0"));
    for hub in ["stopped", "mute"] {
        let warning = format!("warning: the hub of {hub} did not respond: ");
        assert!(output.stderr.contains(&warning), "{}", output.stderr);
    }
    // With `--container` only the hub of that sandbox is connected.
    assert_eq!(harness.run(&["list", "--container", "web"]).status, 0);
    // Questions of other hubs can be answered. One of the silent hub is not reported missing.
    assert_eq!(harness.run(&["allow", "--timeout", "1", "web:0"]).status, 0);
    let output = harness.run(&["allow", "--timeout", "1", "mute:0"]);
    assert_eq!(output.status, 69);
    assert!(
        output
            .stderr
            .contains("the question may be pending at the hub of "),
        "{}",
        output.stderr
    );
}

#[test]
fn another_service_at_the_socket_is_no_hub() {
    let harness = ScriptHarness::new();
    let classic = harness.path("terok-clearance.sock");
    let _hub = HubThread::start(&classic, OTHER_INTERFACE, |_, _| CallReply::Never);
    let (lines, status) = harness.run_json(&["list"]);
    assert_eq!((lines.len(), status), (2, 69));
    assert_eq!(lines[0]["state"], "unreachable");
}

#[test]
fn a_hub_that_disconnects_is_unreachable() {
    let harness = ScriptHarness::new();
    let classic = harness.path("terok-clearance.sock");
    let _hub = HubThread::start(&classic, CLEARANCE2_ONLY, |_, _| CallReply::Disconnected);
    assert_eq!(harness.run_json(&["list"]).1, 69);
}

/// Returns an event of each kind.
fn all_events() -> Vec<Event> {
    let web = || "web".parse().unwrap();
    let Event::Pending(withdrawn) = pending("web:2", "two.example") else {
        panic!("the event of a pending question");
    };
    let Event::Pending(repeated) = pending("web:1", "one.example") else {
        panic!("the event of a pending question");
    };
    let mut again = (*repeated).clone();
    again.count += 1;
    let failed = json!({
        "request": "web:1", "container": "web", "dest": "one.example", "action": "allow",
        "scope": again.scope, "by": "uid 0 pid 1", "at": 5, "ok": false, "reason": "no",
    });
    vec![
        pending("web:1", "one.example"),
        pending("web:2", "two.example"),
        Event::Synced,
        Event::Repeated(again.into()),
        Event::Decided(serde_json::from_value(failed).unwrap()),
        Event::Withdrawn {
            request: withdrawn,
            reason: "exited".into(),
        },
        Event::Container {
            container: web(),
            state: ContainerState::Started,
            reason: None,
        },
        Event::Container {
            container: web(),
            state: ContainerState::Exited,
            reason: Some(DisplayText::new("poststop")),
        },
        Event::Shield {
            container: web(),
            state: ShieldState::Disengaged,
        },
        Event::Lost {
            lost: 3,
            reason: "kernel".into(),
        },
        Event::Synced,
    ]
}

fn all_events_and_an_unknown_one() -> CallReply {
    let CallReply::Frames(mut frames) = CallReply::events(&all_events()) else {
        panic!("a stream has frames");
    };
    let event = json!({"seq": 99, "kind": "rule_added", "rule": {"id": 7}});
    let unknown = CallReply::message(&json!({"continues": true, "parameters": {"event": event}}));
    let CallReply::Frames(unknown) = unknown else {
        panic!("a message has a frame");
    };
    frames.extend(unknown);
    CallReply::Frames(frames)
}

fn status_with_every_field() -> serde_json::Value {
    json!({
        "way": "dialed", "posture": "guarded", "since": 1, "rules": 3, "answerers": 1,
        "published": ["127.0.0.1:8080 -> 80/tcp"],
    })
}

/// A rule with every field.
fn rule() -> serde_json::Value {
    json!({
        "rule": "r1", "action": "allow", "dest": "a.example:443/tcp", "keep": "once",
        "seconds_left": 9, "origin": "decision", "origin_name": "web:1", "by": "uid 0", "since": 1,
        "uses": 1, "last_used": 2, "open": 0, "spent": true,
    })
}

#[test]
fn every_kind_of_line_matches_the_schema() {
    let harness = ScriptHarness::new();
    let path = |sandbox: &str| harness.path(&format!("terok/clearance/{sandbox}/hub.sock"));
    let _hub = HubThread::start(&path("web"), CLEARANCE2_ONLY, |method, call| {
        let error = |name: &str, parameters: serde_json::Value| {
            CallReply::message(&json!({
                "error": format!("org.terok.Clearance2.{name}"), "parameters": parameters,
            }))
        };
        let decision = |ok: bool| {
            json!({
                "request": call["request"], "container": "web", "dest": call["dest"],
                "action": "deny", "scope": call["scope"], "by": "uid 0 pid 1", "at": 6, "ok": ok,
            })
        };
        match (method, call["request"].as_str()) {
            ("Subscribe", _) => all_events_and_an_unknown_one(),
            ("History", _) => CallReply::parameters(&json!({"decisions": []})),
            ("Rules", _) => CallReply::parameters(&json!({"rules": [rule()]})),
            ("Revoke", _) => CallReply::parameters(&json!({"rules": [rule()], "ended": 1})),
            ("Explain", _) => CallReply::parameters(&json!({
                "verdict": "allow", "zone": "this-host", "rule": rule(), "others": [rule()],
            })),
            ("Status", _) => CallReply::parameters(&json!({"status": status_with_every_field()})),
            ("Bypass", _) => CallReply::parameters(&json!({"rule": rule()})),
            // Allow and deny of the pending question have different errors.
            (_, Some("web:1")) if call["action"] == "deny" => {
                error("AlreadyDecided", json!({"decision": decision(true)}))
            }
            (_, Some("web:1")) => error(
                "EnforcementFailed",
                json!({"request": "web:1", "reason": "no"}),
            ),
            _ => CallReply::Disconnected,
        }
    });
    let mut kinds_met = BTreeSet::new();
    let mut meet = |lines: Vec<serde_json::Value>| {
        let kinds = lines.iter().map(|line| line["event"].as_str().unwrap());
        kinds_met.extend(kinds.map(str::to_owned));
    };
    let mut watch = harness.watch(&[]);
    let first = ["hub", "pending", "synced", "ready", "repeated", "failed"];
    let then = [
        "withdrawn",
        "container",
        "shield",
        "lost",
        "synced",
        "unknown",
    ];
    for kind in first.into_iter().chain(then) {
        meet(vec![watch.next(kind)]);
    }
    meet(harness.run_json(&["list"]).0);
    meet(harness.run_json(&["rules"]).0);
    meet(harness.run_json(&["revoke", "web:r1", "web:r2"]).0);
    meet(harness.run_status_with_a_unit());
    meet(harness.run_json(&["explain", "web", "a.example"]).0);
    meet(harness.run_json(&["bypass", "web", "--for", "1h"]).0);
    meet(harness.run_json(&["deny", "web:1"]).0);
    meet(harness.run_json(&["allow", "web:1", "web:2", "web:9"]).0);
    meet(harness.run_json(&["allow", "web:1", "--expect", "x"]).0);
    meet(
        harness
            .run_json(&["allow", "web:1", "--socket", "/nonexistent"])
            .0,
    );
    meet(harness.run_kept_commands());
    // A real hub, for applied answers and a restart.
    let _helper = harness.start_verdict_helper("");
    let mut hub = harness.start_hub("db");
    harness.report_to_hub("db", &["one.example", "two.example"]);
    meet(harness.run_json(&["allow", "db:0"]).0);
    watch.next("decided");
    drop(hub);
    hub = harness.start_hub("db");
    meet(vec![watch.next("lapsed")]);
    // The prompt prints the same lines. The number of the row is unknown.
    harness.report_to_hub("db", &["one.example"]);
    let mut prompt = harness.command(&["clearance", "--json"]);
    let mut prompt = ChildGuard::spawn(prompt.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let mut input = prompt.stdin.take().unwrap();
    input.write_all(b"l\nd 1\nd 2\nd 3\na 9\n").unwrap();
    drop(input);
    let output = BufReader::new(prompt.stdout.take().unwrap());
    meet(
        output
            .lines()
            .map(|line| schema::line(&line.unwrap()))
            .collect(),
    );
    drop(hub);
    assert_eq!(kinds_met, schema::kinds());
}
