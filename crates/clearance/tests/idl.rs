// SPDX-License-Identifier: Apache-2.0
//! The interface descriptions parse, and declare the same as the types.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;

use serde::Serialize;
use terok_clearance::varlink::{SERVICE_INTERFACE, StandardError, VarlinkInterface};
use terok_clearance::wire::clearance1::{self, Clearance1Dialect, ClearanceEventRef, VerdictError};
use terok_clearance::wire::clearance2::{self, DecideError, RuleCallError};
use terok_clearance::wire::request1::{self, RequestError, RequestReply, RequestState};
use terok_clearance::wire::verdict1;
use terok_clearance::{
    Action, BlockedPacket, Decision, DecisionAction, DisplayText, Dossier, NetworkZone,
    ParentProcess, PreviousAnswer, Process, Protocol, RuleLifetime, Scope, Timestamp,
};

fn parse(interface: VarlinkInterface) -> zlink_idl::Interface<'static> {
    let parsed = zlink_idl::Interface::try_from(interface.description)
        .unwrap_or_else(|error| panic!("{}: {error}", interface.name));
    assert_eq!(parsed.name(), interface.name);
    parsed
}

fn keys(value: &impl Serialize) -> BTreeSet<String> {
    match serde_json::to_value(value).unwrap() {
        serde_json::Value::Object(object) => object.into_iter().map(|(key, _)| key).collect(),
        other => panic!("{other} is not an object"),
    }
}

fn custom_type(interface: VarlinkInterface, name: &str) -> BTreeSet<String> {
    let parsed = parse(interface);
    let found = parsed
        .custom_types()
        .find(|custom| custom.name() == name)
        .unwrap_or_else(|| panic!("no type {name}"));
    let object = found.as_object().unwrap();
    object
        .fields()
        .map(|field| field.name().to_string())
        .collect()
}

fn inputs(interface: VarlinkInterface, name: &str) -> BTreeSet<String> {
    let parsed = parse(interface);
    let method = parsed
        .methods()
        .find(|method| method.name() == name)
        .unwrap();
    method
        .inputs()
        .map(|field| field.name().to_string())
        .collect()
}

fn outputs(interface: VarlinkInterface, name: &str) -> BTreeSet<String> {
    let parsed = parse(interface);
    let method = parsed
        .methods()
        .find(|method| method.name() == name)
        .unwrap();
    method
        .outputs()
        .map(|field| field.name().to_string())
        .collect()
}

/// Asserts that `errors` are all the errors of `interface`, with their parameters.
fn check_errors<E: Serialize>(interface: VarlinkInterface, errors: &[E]) {
    let declared: BTreeSet<_> = parse(interface)
        .errors()
        .map(|error| {
            let fields: BTreeSet<_> = error
                .fields()
                .map(|field| field.name().to_string())
                .collect();
            (format!("{}.{}", interface.name, error.name()), fields)
        })
        .collect();
    let sent: BTreeSet<_> = errors
        .iter()
        .map(|error| {
            let value = serde_json::to_value(error).unwrap();
            let name = value["error"].as_str().unwrap().to_owned();
            let parameters = value.get("parameters").map(keys).unwrap_or_default();
            (name, parameters)
        })
        .collect();
    assert_eq!(declared, sent);
}

fn scope() -> Scope {
    Scope {
        port: Some(1),
        protocol: Some(Protocol::TCP),
        seconds: Some(1),
        ..Scope::whole_dest("a.example".parse().unwrap())
    }
}

fn request() -> clearance2::Request {
    let blocked = BlockedPacket {
        container: "c".parse().unwrap(),
        request: "c:1".parse().unwrap(),
        address: "203.0.113.7".parse().unwrap(),
        port: 443,
        protocol: Protocol::TCP,
        domain: Some("a.example".parse().unwrap()),
        dossier: Dossier::default(),
        process: Some(std::sync::Arc::new(process())),
        zone: NetworkZone::LocalNetwork,
        looked_up_as: Some("a.example".parse().unwrap()),
        previous: Some(std::sync::Arc::new(previous())),
        reason: Some("r".into()),
    };
    clearance2::Request {
        wider: vec!["*.example".parse().unwrap()],
        lifetimes: vec![RuleLifetime::Once],
        waiting: Some(1),
        waiting_since: Some(Timestamp::from_micros(1)),
        gave_up_after: Some(1),
        approver: Some("a".into()),
        ..clearance2::Request::new(blocked, scope(), Timestamp::from_micros(1))
    }
}

fn previous() -> PreviousAnswer {
    PreviousAnswer {
        action: Action::Allow,
        by: "u".into(),
        at: Timestamp::from_micros(1),
        keep: RuleLifetime::Sandbox,
        seconds: Some(1),
        revoked: true,
    }
}

fn rule() -> clearance2::ListedRule {
    clearance2::ListedRule {
        rule: "r1".into(),
        action: Action::Allow,
        dest: "a.example:443".into(),
        keep: RuleLifetime::Once,
        seconds_left: Some(1),
        origin: "decision".into(),
        origin_name: Some("c:1".into()),
        by: "u".into(),
        since: Timestamp::from_micros(1),
        uses: Some(1),
        last_used: Some(Timestamp::from_micros(1)),
        open: 1,
        spent: true,
    }
}

fn process() -> Process {
    Process {
        pid: 1,
        uid: 1,
        name: "n".into(),
        command: Vec::new(),
        directory: Some("/d".into()),
        parents: vec![parent()],
        other_holders: 1,
    }
}

fn parent() -> ParentProcess {
    ParentProcess {
        pid: 1,
        name: "p".into(),
    }
}

fn decision() -> Decision {
    Decision {
        request: "c:1".parse().unwrap(),
        container: "c".parse().unwrap(),
        dest: "a.example".parse().unwrap(),
        action: DecisionAction::Deny,
        scope: Some(scope()),
        by: "u".into(),
        at: Timestamp::from_micros(1),
        ok: false,
        reason: Some("r".into()),
    }
}

#[test]
fn clearance1_declares_its_messages() {
    let event = |dialect| {
        let container = "c".parse().unwrap();
        let dossier = Dossier::default();
        let mut out = Vec::new();
        ClearanceEventRef::ContainerStarted {
            container: &container,
            dossier: &dossier,
        }
        .append_frame(dialect, &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out[..out.len() - 1]).unwrap();
        keys(&value["parameters"]["event"])
    };
    for dialect in [
        Clearance1Dialect::A,
        Clearance1Dialect::B,
        Clearance1Dialect::D,
    ] {
        let interface = dialect.interface();
        assert_eq!(
            custom_type(interface, "ClearanceEvent"),
            event(dialect),
            "{dialect:?}"
        );
        assert_eq!(
            outputs(interface, "Subscribe"),
            BTreeSet::from(["event".to_owned()])
        );
        let verdict = clearance1::VerdictParameters {
            container: String::new(),
            request_id: String::new(),
            dest: String::new(),
            action: String::new(),
        };
        assert_eq!(inputs(interface, "Verdict"), keys(&verdict));
        assert_eq!(
            outputs(interface, "Verdict"),
            keys(&clearance1::Clearance1VerdictReply { ok: true })
        );
        let text = String::new;
        check_errors(
            interface,
            &[
                VerdictError::UnknownRequest { request_id: text() },
                VerdictError::VerdictTupleMismatch {
                    expected_container: text(),
                    expected_dest: text(),
                    got_container: text(),
                    got_dest: text(),
                },
                VerdictError::InvalidAction { action: text() },
                VerdictError::ShieldCliFailed {
                    action: text(),
                    stderr: text(),
                },
            ],
        );
    }
}

#[test]
fn clearance2_declares_its_messages() {
    let interface = clearance2::INTERFACE;
    assert_eq!(custom_type(interface, "Process"), keys(&process()));
    assert_eq!(custom_type(interface, "Parent"), keys(&parent()));
    let subscribe = clearance2::SubscribeParameters { answers: true };
    assert_eq!(inputs(interface, "Subscribe"), keys(&subscribe));
    assert_eq!(custom_type(interface, "Scope"), keys(&scope()));
    assert_eq!(custom_type(interface, "Request"), keys(&request()));
    assert_eq!(custom_type(interface, "Decision"), keys(&decision()));
    let decide = clearance2::DecideParameters {
        request: "c:1".parse().unwrap(),
        container: "c".parse().unwrap(),
        dest: "a.example".parse().unwrap(),
        action: DecisionAction::Allow,
        scope: Some(scope()),
        replace: true,
    };
    assert_eq!(inputs(interface, "Decide"), keys(&decide));
    let decided = clearance2::DecideReply {
        decision: decision(),
    };
    assert_eq!(outputs(interface, "Decide"), keys(&decided));
    let requests = clearance2::ListReply {
        requests: Vec::new(),
    };
    assert_eq!(outputs(interface, "List"), keys(&requests));
    let decisions = clearance2::HistoryReply {
        decisions: Vec::new(),
    };
    assert_eq!(outputs(interface, "History"), keys(&decisions));
    let id = || "c:1".parse().unwrap();
    let values = |errors: &[DecideError]| {
        let errors = errors.iter();
        errors
            .map(|error| serde_json::to_value(error).unwrap())
            .collect::<Vec<_>>()
    };
    let of_rules = [
        RuleCallError::NoSuchRule { rule: "r1".into() },
        RuleCallError::refused("r"),
    ];
    let of_rules = of_rules.map(|error| serde_json::to_value(error).unwrap());
    let of_answers = values(&[
        DecideError::NoSuchRequest { request: id() },
        DecideError::AlreadyDecided {
            decision: Box::new(decision()),
        },
        DecideError::NotWhatWasAsked {
            request: id(),
            field: "f".into(),
            asked: "a".into(),
            got: "g".into(),
        },
        DecideError::EnforcementFailed {
            request: id(),
            reason: "r".into(),
        },
    ]);
    check_errors(interface, &[&of_answers[..], &of_rules].concat());
}

#[test]
fn request1_declares_its_messages() {
    let interface = request1::INTERFACE;
    let dest = request1::RequestedDest {
        dest: "a.example".to_owned(),
        port: Some(443),
        protocol: Some(Protocol::TCP),
    };
    assert_eq!(inputs(interface, "Explain"), keys(&dest));
    let reason = "r".to_owned();
    let ask = request1::AskParameters { dest, reason };
    assert_eq!(inputs(interface, "Request"), keys(&ask));
    let (id, seconds) = ("c:1".into(), 1);
    let status = request1::StatusParameters { id };
    assert_eq!(inputs(interface, "Status"), keys(&status));
    let id = status.id;
    let wait = request1::WaitParameters { id, seconds };
    assert_eq!(inputs(interface, "Wait"), keys(&wait));
    let id = wait.id;
    let reply = RequestReply::new(RequestState::Pending, "t");
    for method in ["Status", "Wait", "Explain"] {
        assert_eq!(outputs(interface, method), keys(&reply), "{method}");
    }
    let asked = request1::AskedReply {
        id: Some(id.clone()),
        reply,
    };
    assert_eq!(outputs(interface, "Request"), keys(&asked));
    check_errors(interface, &[RequestError::NoSuchRequest { id }]);
}

#[test]
fn clearance2_declares_its_messages_about_rules() {
    let interface = clearance2::INTERFACE;
    assert_eq!(custom_type(interface, "PreviousAnswer"), keys(&previous()));
    assert_eq!(custom_type(interface, "Rule"), keys(&rule()));
    let rules = vec![rule()];
    let listed = clearance2::RulesReply {
        rules: rules.clone(),
    };
    assert_eq!(outputs(interface, "Rules"), keys(&listed));
    let revoke = clearance2::RevokeParameters { rule: "r1".into() };
    assert_eq!(inputs(interface, "Revoke"), keys(&revoke));
    let revoked = clearance2::RevokeReply { rules, ended: 1 };
    assert_eq!(outputs(interface, "Revoke"), keys(&revoked));
    let explain = clearance2::ExplainParameters {
        dest: "a.example".into(),
        port: Some(443),
        protocol: Some(Protocol::TCP),
    };
    assert_eq!(inputs(interface, "Explain"), keys(&explain));
    let explained = clearance2::ExplainReply {
        verdict: clearance2::ExplainVerdict::OutsideCeiling,
        zone: NetworkZone::ThisHost,
        rule: Some(rule()),
        others: vec![rule()],
    };
    assert_eq!(outputs(interface, "Explain"), keys(&explained));
    let bypass = clearance2::BypassParameters { seconds: 1 };
    assert_eq!(inputs(interface, "Bypass"), keys(&bypass));
    let bypassed = clearance2::BypassReply {
        rule: Some(rule()),
        ended: 1,
    };
    assert_eq!(outputs(interface, "Bypass"), keys(&bypassed));
    let status = clearance2::HubStatus {
        way: Some(DisplayText::new(clearance2::HubStatus::DIALED)),
        posture: Some(DisplayText::new(clearance2::HubStatus::GUARDED)),
        since: Timestamp::default(),
        rules: Some(1),
        answerers: 1,
        published: vec![DisplayText::new("127.0.0.1:8080 -> 80/tcp")],
    };
    assert_eq!(custom_type(interface, "HubStatus"), keys(&status));
    let told = clearance2::StatusReply { status };
    assert_eq!(outputs(interface, "Status"), keys(&told));
}

#[test]
fn lifetimes_of_later_releases_are_left_out() {
    let mut json = serde_json::to_value(request()).unwrap();
    json["lifetimes"] = serde_json::json!(["once", "until_lunch", "always"]);
    let request: clearance2::Request = serde_json::from_value(json).unwrap();
    assert_eq!(
        request.lifetimes,
        [RuleLifetime::Once, RuleLifetime::Always]
    );
}

#[test]
fn the_events_of_clearance2_have_declared_fields_and_kinds() {
    use clearance2::{ContainerState, Event};
    let request = || std::sync::Arc::new(request());
    let reason = || "r".into();
    let events = [
        Event::Pending(request()),
        Event::Repeated(request()),
        Event::Decided(std::sync::Arc::new(decision())),
        Event::Withdrawn {
            request: request(),
            reason: reason(),
        },
        Event::Container {
            container: "c".parse().unwrap(),
            state: ContainerState::Exited,
            reason: Some(reason()),
        },
        Event::Shield {
            container: "c".parse().unwrap(),
            state: terok_clearance::ShieldState::Up,
        },
        Event::Lost {
            lost: 1,
            reason: reason(),
        },
        Event::Synced,
    ];
    let mut fields = BTreeSet::new();
    let mut kinds = Vec::new();
    for event in events {
        let mut out = Vec::new();
        event.append_frame(1, &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out[..out.len() - 1]).unwrap();
        let event = &value["parameters"]["event"];
        fields.append(&mut keys(event));
        kinds.push(event["kind"].as_str().unwrap().to_owned());
    }
    assert_eq!(custom_type(clearance2::INTERFACE, "Event"), fields);
    let declared = format!("kind: ({})", kinds.join(", "));
    assert!(
        clearance2::INTERFACE.description.contains(&declared),
        "{declared}"
    );
}

#[test]
fn verdict1_declares_its_messages() {
    let interface = verdict1::INTERFACE;
    let apply = verdict1::ApplyParameters {
        container: String::new(),
        dest: String::new(),
        action: String::new(),
    };
    assert_eq!(inputs(interface, "Apply"), keys(&apply));
    let applied = verdict1::ApplyReply {
        ok: false,
        stderr: String::new(),
    };
    assert_eq!(outputs(interface, "Apply"), keys(&applied));
    assert_eq!(parse(interface).errors().count(), 0);
}

#[test]
fn the_service_interface_declares_the_standard_errors() {
    let text = String::new;
    check_errors(
        SERVICE_INTERFACE,
        &[
            StandardError::InterfaceNotFound { interface: text() },
            StandardError::MethodNotFound { method: text() },
            StandardError::MethodNotImplemented { method: text() },
            StandardError::InvalidParameter { parameter: text() },
            StandardError::PermissionDenied,
            StandardError::ExpectedMore,
        ],
    );
}
