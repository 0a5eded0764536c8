// SPDX-License-Identifier: Apache-2.0
//! Golden messages: those that the Python stack has too are captured from there.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use terok_clearance::varlink::{StandardError, VarlinkCall, encode_error};
use terok_clearance::wire::clearance1::{self, Clearance1Dialect, ClearanceEventRef};
use terok_clearance::wire::{clearance2, verdict1};
use terok_clearance::{
    Action, BlockedPacket, Decision, DecisionAction, Dossier, GaveUp, NetworkZone, ParentProcess,
    Process, Protocol, RuleLifetime, SandboxEvent, Scope, ShieldState, Timestamp,
    WaitingConnections,
};

fn dossier(pairs: &[(&str, &str)]) -> Dossier {
    let pairs = pairs
        .iter()
        .map(|(key, value)| ((*key).into(), (*value).into()));
    Arc::new(pairs.collect())
}

fn blocked() -> BlockedPacket {
    BlockedPacket {
        container: "0123456789ab".parse().unwrap(),
        request: "0123456789ab:1".parse().unwrap(),
        address: "203.0.113.7".parse().unwrap(),
        port: 443,
        protocol: Protocol::TCP,
        domain: Some("api.example.com".parse().unwrap()),
        dossier: dossier(&[("name", "n"), ("project", "p")]),
        process: None,
        zone: NetworkZone::Public,
        looked_up_as: None,
        previous: None,
        reason: None,
    }
}

fn frame(notice: ClearanceEventRef<'_>, dialect: Clearance1Dialect) -> String {
    let mut out = Vec::new();
    notice.append_frame(dialect, &mut out);
    assert_eq!(out.pop(), Some(0));
    String::from_utf8(out).unwrap()
}

/// Captured from the Python hub 0.8.1 for the same events on the ingester.
#[test]
fn clearance1_events_are_those_of_the_python_hub_byte_for_byte() {
    let container = "0123456789ab".parse().unwrap();
    let check = |notice: ClearanceEventRef<'_>, expected: &str| {
        assert_eq!(frame(notice, Clearance1Dialect::D), expected);
    };
    check(
        ClearanceEventRef::ContainerStarted {
            container: &container,
            dossier: &dossier(&[("project", "p"), ("task", "t")]),
        },
        r#"{"continues":true,"parameters":{"event":{"type":"container_started","container":"0123456789ab","request_id":"","dest":"","port":0,"proto":0,"domain":"","action":"","ok":false,"reason":"","dossier":{"project":"p","task":"t"}}}}"#,
    );
    check(
        ClearanceEventRef::Blocked(&BlockedPacket {
            dossier: dossier(&[("project", "p")]),
            ..blocked()
        }),
        r#"{"continues":true,"parameters":{"event":{"type":"connection_blocked","container":"0123456789ab","request_id":"0123456789ab:1","dest":"203.0.113.7","port":443,"proto":6,"domain":"api.example.com","action":"","ok":false,"reason":"","dossier":{"project":"p"}}}}"#,
    );
    check(
        ClearanceEventRef::Blocked(&BlockedPacket {
            request: "0123456789ab:2".parse().unwrap(),
            address: "2001:db8::7".parse().unwrap(),
            port: 53,
            protocol: Protocol::UDP,
            domain: None,
            dossier: dossier(&[("k\"", "a\"b\\c\u{20ac}")]),
            ..blocked()
        }),
        r#"{"continues":true,"parameters":{"event":{"type":"connection_blocked","container":"0123456789ab","request_id":"0123456789ab:2","dest":"2001:db8::7","port":53,"proto":17,"domain":"","action":"","ok":false,"reason":"","dossier":{"k\"":"a\"b\\c "}}}}"#,
    );
    check(
        ClearanceEventRef::VerdictApplied {
            container: &container,
            request: &"0123456789ab:1".parse().unwrap(),
            action: Action::Allow,
            ok: false,
        },
        r#"{"continues":true,"parameters":{"event":{"type":"verdict_applied","container":"0123456789ab","request_id":"0123456789ab:1","dest":"","port":0,"proto":0,"domain":"","action":"allow","ok":false,"reason":"","dossier":{}}}}"#,
    );
    let shield = |state, dossier| {
        let event = SandboxEvent::Shield {
            container: "0123456789ab".parse().unwrap(),
            state,
            dossier,
        };
        frame(ClearanceEventRef::from(&event), Clearance1Dialect::D)
    };
    assert_eq!(
        shield(ShieldState::Up, Dossier::default()),
        r#"{"continues":true,"parameters":{"event":{"type":"shield_up","container":"0123456789ab","request_id":"","dest":"","port":0,"proto":0,"domain":"","action":"","ok":false,"reason":"","dossier":{}}}}"#,
    );
    assert_eq!(
        shield(ShieldState::Down, dossier(&[("a", "b")])),
        r#"{"continues":true,"parameters":{"event":{"type":"shield_down","container":"0123456789ab","request_id":"","dest":"","port":0,"proto":0,"domain":"","action":"","ok":false,"reason":"","dossier":{"a":"b"}}}}"#,
    );
    assert_eq!(
        shield(ShieldState::Disengaged, Dossier::default()),
        r#"{"continues":true,"parameters":{"event":{"type":"shield_disengaged","container":"0123456789ab","request_id":"","dest":"","port":0,"proto":0,"domain":"","action":"","ok":false,"reason":"","dossier":{}}}}"#,
    );
    let exited = SandboxEvent::ContainerExited {
        container,
        reason: "poststop".into(),
        dossier: Dossier::default(),
    };
    check(
        ClearanceEventRef::from(&exited),
        r#"{"continues":true,"parameters":{"event":{"type":"container_exited","container":"0123456789ab","request_id":"","dest":"","port":0,"proto":0,"domain":"","action":"","ok":false,"reason":"poststop","dossier":{}}}}"#,
    );
}

/// Older clients reject an event with an additional field or an unknown type.
#[test]
fn older_dialects_have_their_own_fields_and_types() {
    let fields = |dialect| {
        let event: serde_json::Value =
            serde_json::from_str(&frame(ClearanceEventRef::Blocked(&blocked()), dialect)).unwrap();
        event["parameters"]["event"].as_object().unwrap().len()
    };
    assert_eq!(
        [
            Clearance1Dialect::A,
            Clearance1Dialect::B,
            Clearance1Dialect::D
        ]
        .map(fields),
        [10, 11, 11]
    );
    let word = |dialect| {
        let event = SandboxEvent::Shield {
            container: "c".parse().unwrap(),
            state: ShieldState::Disengaged,
            dossier: Dossier::default(),
        };
        frame(ClearanceEventRef::from(&event), dialect).contains("\"shield_down_all\"")
    };
    assert_eq!(
        [
            Clearance1Dialect::A,
            Clearance1Dialect::B,
            Clearance1Dialect::D
        ]
        .map(word),
        [true, true, false]
    );
}

/// Captured from the Python hub 0.8.1, except for the last two, which the Python hub never sends.
#[test]
fn errors_are_those_of_the_python_hub_byte_for_byte() {
    let check = |frame: bytes::Bytes, expected: &str| {
        let text = std::str::from_utf8(&frame).unwrap();
        assert_eq!(text.strip_suffix('\0'), Some(expected));
    };
    let text = str::to_owned;
    check(
        encode_error(&StandardError::ExpectedMore),
        r#"{"error":"org.varlink.service.ExpectedMore"}"#,
    );
    check(
        encode_error(&StandardError::invalid_parameter("extra")),
        r#"{"error":"org.varlink.service.InvalidParameter","parameters":{"parameter":"extra"}}"#,
    );
    check(
        encode_error(&StandardError::MethodNotFound {
            method: text("Nope"),
        }),
        r#"{"error":"org.varlink.service.MethodNotFound","parameters":{"method":"Nope"}}"#,
    );
    check(
        encode_error(&StandardError::InterfaceNotFound {
            interface: text("org.nope.X"),
        }),
        r#"{"error":"org.varlink.service.InterfaceNotFound","parameters":{"interface":"org.nope.X"}}"#,
    );
    check(
        encode_error(&clearance1::VerdictError::InvalidAction {
            action: text("accept"),
        }),
        r#"{"error":"org.terok.Clearance1.InvalidAction","parameters":{"action":"accept"}}"#,
    );
    check(
        encode_error(&clearance1::VerdictError::UnknownRequest {
            request_id: text("x:9"),
        }),
        r#"{"error":"org.terok.Clearance1.UnknownRequest","parameters":{"request_id":"x:9"}}"#,
    );
    check(
        encode_error(&clearance1::VerdictError::VerdictTupleMismatch {
            expected_container: text("0123456789ab"),
            expected_dest: text("api.example.com"),
            got_container: text("0123456789ab"),
            got_dest: text("other"),
        }),
        r#"{"error":"org.terok.Clearance1.VerdictTupleMismatch","parameters":{"expected_container":"0123456789ab","expected_dest":"api.example.com","got_container":"0123456789ab","got_dest":"other"}}"#,
    );
    check(
        encode_error(&clearance1::VerdictError::ShieldCliFailed {
            action: text("allow"),
            stderr: text("no"),
        }),
        r#"{"error":"org.terok.Clearance1.ShieldCliFailed","parameters":{"action":"allow","stderr":"no"}}"#,
    );
    check(
        encode_error(&StandardError::PermissionDenied),
        r#"{"error":"org.varlink.service.PermissionDenied"}"#,
    );
    check(
        encode_error(&clearance2::DecideError::NoSuchRequest {
            request: "x:9".parse().unwrap(),
        }),
        r#"{"error":"org.terok.Clearance2.NoSuchRequest","parameters":{"request":"x:9"}}"#,
    );
}

/// Of several wrong parameters the error names the same one as the Python stack.
#[test]
fn wrong_parameters_are_refused_like_in_the_python_hub() {
    let refusal = |parameters: &str| {
        let frame =
            format!(r#"{{"method":"org.terok.Clearance1.Verdict","parameters":{parameters}}}"#);
        let call = VarlinkCall::parse(frame.as_bytes()).unwrap();
        match clearance1::Clearance1Method::parse(&call) {
            Err(StandardError::InvalidParameter { parameter }) => Some(parameter),
            Ok(_) => None,
            other => Some(format!("{other:?}")),
        }
    };
    let check = |parameters, expected: Option<&str>| {
        assert_eq!(refusal(parameters).as_deref(), expected, "of {parameters}");
    };
    check(
        r#"{"container":"c","request_id":"r","dest":"d","action":"allow"}"#,
        None,
    );
    check(
        r#"{"action":"?","dest":"\u001b","request_id":"r","container":""}"#,
        None,
    );
    check("{}", Some("container"));
    check(r#"{"container":"x"}"#, Some("request_id"));
    check(
        r#"{"container":"c","request_id":"r","dest":"d","action":"allow","extra":1}"#,
        Some("extra"),
    );
    check(
        r#"{"container":"c","request_id":"r","dest":"d","action":4,"port":3}"#,
        Some("action"),
    );
    check(
        r#"{"container":null,"request_id":"r","dest":"d","action":"allow"}"#,
        Some("container"),
    );
    // The Python stack takes the last duplicate; two parsers could take different values.
    check(
        r#"{"container":"c","request_id":"r","dest":"d","action":"deny","action":"allow"}"#,
        Some("action"),
    );
    check(
        r#"{"container":"c","request_id":"r","dest":"d","action":"deny","\u0061ction":"allow"}"#,
        Some("action"),
    );
}

fn decide(parameters: &str) -> Result<clearance2::Clearance2Method, StandardError> {
    let frame = format!(r#"{{"method":"org.terok.Clearance2.Decide","parameters":{parameters}}}"#);
    clearance2::Clearance2Method::parse(&VarlinkCall::parse(frame.as_bytes()).unwrap())
}

/// An unknown parameter could be a limit: without it, the answer would open more than intended.
#[test]
fn an_answer_with_an_unknown_parameter_is_refused() {
    let parameters = |scope: &str| {
        format!(r#"{{"request":"c:1","container":"c","dest":"a.example","action":"allow"{scope}}}"#)
    };
    assert!(decide(&parameters("")).is_ok());
    assert!(decide(&parameters(r#","scope":null"#)).is_ok());
    let scope = r#","scope":{"dest":"a.example","port":443,"protocol":"tcp","keep":"once"}"#;
    let Ok(clearance2::Clearance2Method::Decide(decided)) = decide(&parameters(scope)) else {
        unreachable!("a whole scope")
    };
    assert_eq!(decided.scope.unwrap().port, Some(443));
    for (wrong, named) in [
        (
            r#","scope":{"dest":"a.example","keep":"once","cidr":8}"#,
            "scope",
        ),
        (r#","scope":{"dest":"a.example","keep":"forever"}"#, "scope"),
        (r#","scope":{"dest":"a.example"}"#, "scope"),
        (
            r#","scope":{"dest":"a.example","keep":"once","port":65536}"#,
            "scope",
        ),
        (
            r#","scope":{"dest":"a.example","keep":"once","port":-1}"#,
            "scope",
        ),
        (
            r#","scope":{"dest":"a.example","keep":"once","protocol":"TCP"}"#,
            "scope",
        ),
        (r#","scope":{"dest":"a\u001b","keep":"once"}"#, "scope"),
        (r#","scope":{"dest":"a","dest":"b","keep":"once"}"#, "scope"),
        (r#","scope":[]"#, "scope"),
        (r#","scope":["a.example",443,"tcp","once",null]"#, "scope"),
        (r#","seconds":5"#, "seconds"),
    ] {
        let expected = StandardError::invalid_parameter(named);
        assert_eq!(decide(&parameters(wrong)), Err(expected), "of {wrong}");
    }
    for (wrong, named) in [
        (
            r#"{"request":"c 1","container":"c","dest":"a","action":"allow"}"#,
            "request",
        ),
        (
            r#"{"request":"c:1","container":"-c","dest":"a","action":"allow"}"#,
            "container",
        ),
        (
            r#"{"request":"c:1","container":"c","dest":"","action":"allow"}"#,
            "dest",
        ),
        (
            r#"{"request":"c:1","container":"c","dest":"a\u00e9","action":"allow"}"#,
            "dest",
        ),
        (
            r#"{"request":"c:1","container":"c","dest":"a","action":"accept"}"#,
            "action",
        ),
        (
            r#"{"request":"c:1","container":"c","dest":"a","action":"Allow"}"#,
            "action",
        ),
    ] {
        let expected = StandardError::invalid_parameter(named);
        assert_eq!(decide(wrong), Err(expected), "of {wrong}");
    }
}

#[test]
fn streams_need_more_and_history_has_a_limit() {
    let parse = |frame: &str| {
        clearance2::Clearance2Method::parse(&VarlinkCall::parse(frame.as_bytes()).unwrap())
    };
    let history = |limit: &str| {
        parse(&format!(
            r#"{{"method":"org.terok.Clearance2.History","parameters":{{"limit":{limit}}}}}"#
        ))
    };
    let limit = |limit| Ok(clearance2::Clearance2Method::History { limit });
    assert_eq!(
        parse(r#"{"method":"org.terok.Clearance2.Subscribe"}"#),
        Err(StandardError::ExpectedMore)
    );
    let subscribe = |parameters: &str| {
        let parsed = parse(&format!(
            r#"{{"method":"org.terok.Clearance2.Subscribe","more":true{parameters}}}"#
        ));
        match parsed {
            Ok(clearance2::Clearance2Method::Subscribe(parameters)) => Ok(parameters.answers),
            other => Err(other),
        }
    };
    for (parameters, answers) in [
        ("", false),
        (r#","parameters":{}"#, false),
        (r#","parameters":{"answers":null}"#, false),
        (r#","parameters":{"answers":false}"#, false),
        (r#","parameters":{"answers":true}"#, true),
    ] {
        assert_eq!(subscribe(parameters), Ok(answers), "{parameters}");
    }
    for (parameters, named) in [
        (r#","parameters":{"answers":1}"#, "answers"),
        (r#","parameters":{"answers":true,"since":1}"#, "since"),
    ] {
        let refusal = Err(StandardError::invalid_parameter(named));
        assert_eq!(subscribe(parameters), Err(refusal), "{parameters}");
    }
    // Not sent by an observer, because a hub of an earlier release refuses the parameter.
    let sent = |answers| serde_json::to_string(&clearance2::SubscribeParameters { answers });
    assert_eq!(sent(false).unwrap(), "{}");
    assert_eq!(sent(true).unwrap(), r#"{"answers":true}"#);
    assert_eq!(
        parse(r#"{"method":"org.terok.Clearance2.History"}"#),
        limit(100)
    );
    assert_eq!(history("null"), limit(100));
    assert_eq!(history("7"), limit(7));
    assert_eq!(history("1000000"), limit(1000));
    for wrong in ["0", "-1", "1.5", "\"7\"", "1e30"] {
        assert_eq!(
            history(wrong),
            Err(StandardError::invalid_parameter("limit")),
            "{wrong}"
        );
    }
    let call = VarlinkCall::parse(br#"{"method":"org.terok.ClearanceVerdict1.Apply"}"#).unwrap();
    assert_eq!(
        verdict1::ClearanceVerdict1Method::parse(&call),
        Err(StandardError::invalid_parameter("container"))
    );
}

fn request() -> Arc<clearance2::Request> {
    let blocked = BlockedPacket {
        process: Some(Arc::new(Process {
            pid: 7,
            uid: 1000,
            name: "curl".into(),
            command: vec!["curl".into(), "https://api.example.com".into()],
            directory: None,
            parents: Vec::new(),
            other_holders: 0,
        })),
        ..blocked()
    };
    let scope = Scope {
        port: Some(443),
        protocol: Some(Protocol::TCP),
        ..Scope::whole_dest(blocked.dest().clone())
    };
    Arc::new(clearance2::Request::new(
        blocked,
        scope,
        Timestamp::from_micros(1_700_000_000_000_000),
    ))
}

/// Returns a question with everything that a hub may know.
fn full_request() -> Arc<clearance2::Request> {
    let mut request = clearance2::Request::clone(&request());
    request.dest = "192.168.1.20".parse().unwrap();
    request.address = request.dest.clone();
    request.domain = None;
    request.scope.dest = request.dest.clone();
    request.zone = NetworkZone::LocalNetwork;
    request.looked_up_as = Some("nas.example".parse().unwrap());
    let parent = |pid, name: &str| ParentProcess {
        pid,
        name: name.into(),
    };
    request.process = Some(Arc::new(Process {
        directory: Some("/home/u/project".into()),
        parents: vec![parent(5, "bash"), parent(1, "node")],
        other_holders: 1,
        ..Process::clone(request.process.as_ref().unwrap())
    }));
    request.set_waiting(WaitingConnections {
        count: 2,
        since: Some(Timestamp::from_micros(1_700_000_000_000_001)),
        gave_up: Some(GaveUp { after_seconds: 15 }),
    });
    Arc::new(request)
}

fn decision() -> Arc<Decision> {
    Arc::new(Decision {
        request: "0123456789ab:1".parse().unwrap(),
        container: "0123456789ab".parse().unwrap(),
        dest: "api.example.com".parse().unwrap(),
        action: DecisionAction::Allow,
        scope: Some(Scope {
            port: Some(443),
            keep: RuleLifetime::Once,
            ..Scope::whole_dest("api.example.com".parse().unwrap())
        }),
        by: "user 1000, process 4242".into(),
        at: Timestamp::from_micros(1_700_000_000_000_001),
        ok: false,
        reason: Some("the kernel refused".into()),
    })
}

fn every_event() -> Vec<clearance2::Event> {
    use clearance2::{ContainerState, Event};
    let container = || "0123456789ab".parse().unwrap();
    vec![
        Event::Pending(request()),
        Event::Repeated(full_request()),
        Event::Decided(decision()),
        Event::Withdrawn {
            request: request(),
            reason: "exited".into(),
        },
        Event::Container {
            container: container(),
            state: ContainerState::Started,
            reason: None,
        },
        Event::Container {
            container: container(),
            state: ContainerState::Exited,
            reason: Some("poststop".into()),
        },
        Event::Shield {
            container: container(),
            state: ShieldState::Disengaged,
        },
        Event::Lost {
            lost: 12,
            reason: "slow".into(),
        },
        Event::Synced,
    ]
}

#[test]
fn clearance2_events_have_their_golden_form() {
    let mut out = Vec::new();
    for (seq, event) in (1..).zip(every_event()) {
        event.append_frame(seq, &mut out);
    }
    let text = String::from_utf8(out).unwrap().replace('\0', "\n");
    insta::assert_snapshot!("clearance2_events", text);
}

#[test]
fn clearance2_events_survive_a_round_trip() {
    for event in every_event() {
        let mut out = Vec::new();
        event.append_frame(u64::MAX, &mut out);
        let frame: serde_json::Value = serde_json::from_slice(&out[..out.len() - 1]).unwrap();
        let received: clearance2::Clearance2SubscribeReply =
            serde_json::from_value(frame["parameters"].clone()).unwrap();
        assert_eq!(received.event.seq, u64::MAX);
        assert_eq!(received.event.event, Some(event));
    }
}

/// The interface may grow: clients must accept the events of newer hubs.
#[test]
fn clients_ignore_unknown_fields_and_recognise_unknown_kinds() {
    let parse = serde_json::from_str::<clearance2::Clearance2SubscribeReply>;
    let unknown = parse(r#"{"event":{"seq":3,"kind":"moonrise","phase":0.5}}"#).unwrap();
    assert_eq!((unknown.event.seq, unknown.event.event), (3, None));
    let more = parse(r#"{"event":{"seq":4,"kind":"synced","colour":[1,{}]},"x":1}"#).unwrap();
    assert_eq!(more.event.event, Some(clearance2::Event::Synced));
    let mut value = serde_json::to_value(&*request()).unwrap();
    value["risk"] = "high".into();
    value["scope"]["cidr"] = 24.into();
    value["process"]["exe"] = "/usr/bin/curl".into();
    assert_eq!(
        serde_json::from_value::<clearance2::Request>(value).unwrap(),
        *request()
    );
    // An optional field may be null, and a new zone loses no question.
    let mut value = serde_json::to_value(&*request()).unwrap();
    for name in [
        "zone",
        "looked_up_as",
        "waiting",
        "waiting_since",
        "gave_up_after",
    ] {
        value[name] = serde_json::Value::Null;
    }
    for name in ["directory", "parents", "other_holders"] {
        value["process"][name] = serde_json::Value::Null;
    }
    let parsed = serde_json::from_value::<clearance2::Request>(value.clone()).unwrap();
    assert_eq!(parsed, *request());
    assert_eq!(parsed.waiting(), WaitingConnections::default());
    value["zone"] = "vpn".into();
    let parsed = serde_json::from_value::<clearance2::Request>(value).unwrap();
    assert_ne!(parsed.zone, NetworkZone::Public);
    let mut value = serde_json::to_value(&*decision()).unwrap();
    value["weight"] = 1.into();
    assert_eq!(
        serde_json::from_value::<Decision>(value).unwrap(),
        *decision()
    );
    // A known kind needs its fields.
    for wrong in [
        r#"{"event":{"seq":1,"kind":"pending"}}"#,
        r#"{"event":{"seq":1,"kind":"container","container":"c","state":"odd"}}"#,
        r#"{"event":{"kind":"synced"}}"#,
    ] {
        assert!(parse(wrong).is_err(), "{wrong}");
    }
}
