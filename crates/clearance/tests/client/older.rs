// SPDX-License-Identifier: Apache-2.0
//! A hub with Clearance1 only.

use std::sync::atomic::Ordering;
use terok_clearance::client::{AnswerError, Client, ProtocolVersion};
use terok_clearance::wire::clearance1;
use terok_clearance::wire::clearance1::ClearanceEventRef;
use terok_clearance::wire::clearance2::Event;
use terok_clearance::{Action, DecisionAction, DisplayText, Dossier, Protocol, Scope};
use test_support::captured_log::CapturedLog;
use test_support::fake_hub::{CLEARANCE1_ONLY, FakeHub, RunningHub, request};

use crate::harness::{blocked, connected, hub_path, next_event};

/// Clearance1 has whole destinations only, and a narrow answer must not open more than its scope.
#[tokio::test]
async fn a_narrow_answer_is_not_sent_to_an_older_hub() {
    let (_directory, path) = hub_path();
    let hub = FakeHub {
        interfaces: CLEARANCE1_ONLY,
        ..FakeHub::default()
    };
    let running = RunningHub::start(&path, hub);
    let (client, _events) = Client::start(&path).await.unwrap();
    let answers = || running.hub.answers.load(Ordering::Relaxed);
    let request = request(1);
    for scope in [
        Scope {
            port: Some(443),
            ..request.scope.clone()
        },
        Scope {
            protocol: Some(Protocol::TCP),
            ..request.scope.clone()
        },
        Scope {
            seconds: Some(5),
            ..request.scope.clone()
        },
        Scope {
            keep: terok_clearance::RuleLifetime::Once,
            ..request.scope.clone()
        },
        // An older hub's firewall keeps its rules when the sandbox ends.
        request.scope.clone(),
        Scope::until_removed("b.example".parse().unwrap()),
    ] {
        let answer = client
            .decide(&request, DecisionAction::Allow, Some(scope))
            .await;
        assert!(matches!(answer, Err(AnswerError::TooOld(_))), "{answer:?}");
    }
    assert!(matches!(client.list().await, Err(AnswerError::TooOld(_))));
    assert!(matches!(
        client.history(None).await,
        Err(AnswerError::TooOld(_))
    ));
    // Clearance1 has no call for a dismissal.
    client
        .decide(&request, DecisionAction::Dismiss, None)
        .await
        .unwrap();
    assert_eq!(answers(), 0);
    let whole = Scope::until_removed(request.dest.clone());
    let decision = client
        .decide(&request, DecisionAction::Allow, Some(whole.clone()))
        .await
        .unwrap();
    assert_eq!(decision.scope, Some(whole));
    assert_eq!(answers(), 1);
}

#[tokio::test]
async fn events_of_an_older_hub_are_translated() {
    let (log, _guard) = CapturedLog::start();
    let (_directory, path) = hub_path();
    let mut frames = Vec::new();
    let container = "c".parse().unwrap();
    let dossier = Dossier::default();
    let exited = DisplayText::new("poststop");
    let mut append = |event: ClearanceEventRef<'_>| {
        event.append_frame(clearance1::Clearance1Dialect::A, &mut frames);
    };
    append(ClearanceEventRef::ContainerStarted {
        container: &container,
        dossier: &dossier,
    });
    append(ClearanceEventRef::Blocked(&blocked(1)));
    append(ClearanceEventRef::Blocked(&blocked(2)));
    let applied = |ok, request| ClearanceEventRef::VerdictApplied {
        container: &container,
        request,
        action: Action::Allow,
        ok,
    };
    let (first, unknown) = ("c:1".parse().unwrap(), "c:99".parse().unwrap());
    append(applied(false, &first));
    append(applied(true, &first));
    append(applied(true, &unknown));
    append(ClearanceEventRef::Shield {
        container: &container,
        state: terok_clearance::ShieldState::Disengaged,
        dossier: &dossier,
    });
    append(ClearanceEventRef::ContainerExited {
        container: &container,
        reason: &exited,
        dossier: &dossier,
    });
    for odd in [
        r#"{"continues":true,"parameters":{"event":{"type":"connection_blocked","container":"c","request_id":"c:3","dest":"203.0.113.7","port":-1,"proto":6}}}"#,
        r#"{"continues":true,"parameters":{"event":{"type":"connection_blocked","container":"","request_id":"c:3","dest":"203.0.113.7","port":1,"proto":6}}}"#,
    ] {
        frames.extend_from_slice(odd.as_bytes());
        frames.push(0);
    }
    ClearanceEventRef::ContainerStarted {
        container: &container,
        dossier: &dossier,
    }
    .append_frame(clearance1::Clearance1Dialect::D, &mut frames);
    let hub = FakeHub {
        interfaces: CLEARANCE1_ONLY,
        frames,
        ..FakeHub::default()
    };
    let _running = RunningHub::start(&path, hub);
    let (_client, mut events) = Client::start(&path).await.unwrap();
    assert_eq!(connected(&mut events).await, ProtocolVersion::Clearance1);
    let mut seen = Vec::new();
    for _ in 0..9 {
        seen.push(match next_event(&mut events).await {
            Event::Pending(request) => {
                assert_eq!(request.scope, Scope::until_removed(request.dest.clone()));
                format!(
                    "pending {} {} {}",
                    request.id, request.dest, request.protocol
                )
            }
            Event::Decided(decision) => {
                format!(
                    "decided {} {} {}",
                    decision.request, decision.dest, decision.ok
                )
            }
            Event::Withdrawn { request, reason } => format!("withdrawn {} {reason}", request.id),
            Event::Shield { state, .. } => format!("shield {}", state.as_str()),
            Event::Container { state, .. } => format!("container {state:?}"),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(
        seen,
        [
            "container Started",
            "pending c:1 a.example tcp",
            "pending c:2 a.example tcp",
            "decided c:1 a.example false",
            "decided c:1 a.example true",
            "withdrawn c:2 shield",
            "shield disengaged",
            "container Exited",
            "container Started",
        ]
    );
    let text = log.text();
    assert!(text.contains("port: -1 is out of range"), "{text}");
    assert!(text.contains("container: the id is empty"), "{text}");
}
