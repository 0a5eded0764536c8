// SPDX-License-Identifier: Apache-2.0
//! Hubs that hang, lie and say everything that there is to say.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use serde_json::json;
use terok_clearance::wire::clearance2::{ContainerState, Event};
use terok_clearance::{DisplayText, ShieldState};

use crate::rig::{Act, Process, Session, framed, pretend, reply, request, stream};
use crate::schema;

#[test]
fn a_hub_that_hangs_is_named_and_the_others_are_heard() {
    let session = Session::new();
    let _helper = session.helper("");
    let _hub = session.hub_of("web");
    session.report_of("web", &["one.example"]);
    let stopped = session.hub_of("stopped");
    stopped.signal(rustix::process::Signal::STOP);
    let mute = session.path("terok/clearance/mute/hub.sock");
    let _calls = pretend(&mute, "org.terok.Clearance2", |_, _| Act::Hang);
    let (lines, status) = session.json(&["list", "--timeout", "1"]);
    assert_eq!(status, 69);
    let events: Vec<_> = lines.iter().map(|line| &line["event"]).collect();
    assert_eq!(events, ["listed", "hub", "hub", "list"]);
    let said = session.run(&["list", "--timeout", "1"]);
    assert_eq!(said.status, 69);
    assert!(said.text.contains("web:0"));
    for hub in ["stopped", "mute"] {
        let warning = format!("warning: the hub of {hub} did not respond: ");
        assert!(said.error.contains(&warning), "{}", said.error);
    }
    // Of one sandbox, it is not even asked.
    assert_eq!(session.run(&["list", "--container", "web"]).status, 0);
    // What is asked elsewhere can be answered; what may be asked there is not called missing.
    assert_eq!(session.run(&["allow", "--timeout", "1", "web:0"]).status, 0);
    let said = session.run(&["allow", "--timeout", "1", "mute:0"]);
    assert_eq!(said.status, 69);
    assert!(
        said.error
            .contains("the question may be pending at the hub of "),
        "{}",
        said.error
    );
}

#[test]
fn something_else_at_the_socket_is_no_hub() {
    let session = Session::new();
    let classic = session.path("terok-clearance.sock");
    let _calls = pretend(&classic, "com.example.Other", |_, _| Act::Hang);
    let (lines, status) = session.json(&["list"]);
    assert_eq!((lines.len(), status), (2, 69));
    assert_eq!(lines[0]["state"], "unreachable");
}

#[test]
fn a_hub_that_hangs_up_in_the_middle_is_unheard() {
    let session = Session::new();
    let classic = session.path("terok-clearance.sock");
    let _calls = pretend(&classic, "org.terok.Clearance2", |_, _| Act::HangUp);
    assert_eq!(session.json(&["list"]).1, 69);
}

/// What a hub may say, from the first to the last.
fn everything() -> Vec<Event> {
    let web = || "web".parse().unwrap();
    let Event::Pending(withdrawn) = request("web:2", "two.example") else {
        panic!("a question is pending");
    };
    let Event::Pending(repeated) = request("web:1", "one.example") else {
        panic!("a question is pending");
    };
    let mut again = (*repeated).clone();
    again.count += 1;
    let failed = json!({
        "request": "web:1", "container": "web", "dest": "one.example", "action": "allow",
        "scope": again.scope, "by": "uid 0 pid 1", "at": 5, "ok": false, "reason": "no",
    });
    vec![
        request("web:1", "one.example"),
        request("web:2", "two.example"),
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

fn everything_and_an_unknown_event() -> Act {
    let Act::Say(mut frames) = stream(&everything()) else {
        panic!("a stream has frames");
    };
    let event = json!({"seq": 99, "kind": "rule_added", "rule": {"id": 7}});
    let unknown = framed(&json!({"continues": true, "parameters": {"event": event}}));
    let Act::Say(unknown) = unknown else {
        panic!("a message has a frame");
    };
    frames.extend(unknown);
    Act::Say(frames)
}

#[test]
fn every_kind_of_line_is_as_the_schema_has_it() {
    let session = Session::new();
    let path = |sandbox: &str| session.path(&format!("terok/clearance/{sandbox}/hub.sock"));
    let _calls = pretend(&path("web"), "org.terok.Clearance2", |method, call| {
        let error = |name: &str, parameters: serde_json::Value| {
            framed(&json!({
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
            ("Subscribe", _) => everything_and_an_unknown_event(),
            ("History", _) => reply(&json!({"decisions": []})),
            // The one that is pending is answered differently each way.
            (_, Some("web:1")) if call["action"] == "deny" => {
                error("AlreadyDecided", json!({"decision": decision(true)}))
            }
            (_, Some("web:1")) => error(
                "EnforcementFailed",
                json!({"request": "web:1", "reason": "no"}),
            ),
            _ => Act::HangUp,
        }
    });
    let mut kinds_met = BTreeSet::new();
    let mut meet = |lines: Vec<serde_json::Value>| {
        let kinds = lines.iter().map(|line| line["event"].as_str().unwrap());
        kinds_met.extend(kinds.map(str::to_owned));
    };
    let mut watch = session.watch(&[]);
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
    meet(session.json(&["list"]).0);
    meet(session.json(&["deny", "web:1"]).0);
    meet(session.json(&["allow", "web:1", "web:2", "web:9"]).0);
    meet(session.json(&["allow", "web:1", "--expect", "x"]).0);
    meet(
        session
            .json(&["allow", "web:1", "--socket", "/nonexistent"])
            .0,
    );
    // A hub of ours, for what only that does: it carries out, and it is killed.
    let _helper = session.helper("");
    let mut hub = session.hub_of("db");
    session.report_of("db", &["one.example", "two.example"]);
    meet(session.json(&["allow", "db:0"]).0);
    watch.next("decided");
    drop(hub);
    hub = session.hub_of("db");
    meet(vec![watch.next("lapsed")]);
    // The prompt says the same lines. This question stays, whatever number it has.
    session.report_of("db", &["one.example"]);
    let mut prompt = session.command(&["clearance", "--json"]);
    let mut prompt = Process(
        prompt
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut input = prompt.0.stdin.take().unwrap();
    input.write_all(b"l\nd 1\nd 2\nd 3\na 9\n").unwrap();
    drop(input);
    let output = BufReader::new(prompt.0.stdout.take().unwrap());
    meet(
        output
            .lines()
            .map(|line| schema::line(&line.unwrap()))
            .collect(),
    );
    drop(hub);
    assert_eq!(kinds_met, schema::kinds());
}
