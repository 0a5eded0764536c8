// SPDX-License-Identifier: Apache-2.0
//! Every answer has an outcome, is sent once, and does not wait for another answer.

use std::sync::atomic::Ordering;
use std::time::Duration;
use terok_clearance::client::{AnswerError, Client, HubError};
use terok_clearance::socket::SocketConnectError;
use terok_clearance::wire::clearance1;
use terok_clearance::wire::clearance1::VerdictError;
use terok_clearance::wire::clearance2::DecideError;
use terok_clearance::{Action, DecisionAction, Scope};
use test_support::fake_hub::{
    AnswerReply, BOTH_INTERFACES, CLEARANCE1_ONLY, FakeHub, RunningHub, request, request_for,
};
use tokio::time::Instant;

use crate::harness::hub_path;

#[tokio::test]
async fn answers_lists_and_histories_are_returned() {
    let (_directory, path) = hub_path();
    let _running = RunningHub::start(&path, FakeHub::default());
    let (client, _events) = Client::start(&path).await.unwrap();
    let scope = Scope {
        port: Some(443),
        ..Scope::whole_dest("a.example".parse().unwrap())
    };
    let decision = client
        .decide(&request(1), DecisionAction::Allow, Some(scope.clone()))
        .await
        .unwrap();
    assert_eq!(
        (decision.action, decision.scope),
        (DecisionAction::Allow, Some(scope))
    );
    let verdict = clearance1::VerdictParameters {
        container: "c".to_owned(),
        request_id: "c:1".to_owned(),
        dest: "a.example".to_owned(),
        action: Action::Deny.to_string(),
    };
    client.verdict(&verdict).await.unwrap();
    assert_eq!(client.list().await.unwrap(), [request(1), request(2)]);
    assert_eq!(client.history(None).await.unwrap().len(), 3);
    assert_eq!(client.history(Some(2)).await.unwrap().len(), 2);
}

fn refusals(dest: &str) -> AnswerReply {
    let text = str::to_owned;
    let request = || "c:1".parse().unwrap();
    let (two, one) = match dest {
        "unknown" => (
            DecideError::NoSuchRequest { request: request() },
            VerdictError::UnknownRequest {
                request_id: text("c:1"),
            },
        ),
        "other" => (
            DecideError::NotWhatWasAsked {
                request: request(),
                field: "dest".into(),
                asked: "a.example".into(),
                got: "other".into(),
            },
            VerdictError::VerdictTupleMismatch {
                expected_container: text("c"),
                expected_dest: text("a.example"),
                got_container: text("c"),
                got_dest: text("other"),
            },
        ),
        _ => (
            DecideError::EnforcementFailed {
                request: request(),
                reason: "no".into(),
            },
            VerdictError::ShieldCliFailed {
                action: text("allow"),
                stderr: text("no"),
            },
        ),
    };
    AnswerReply::Refused(two, one)
}

#[tokio::test]
async fn a_refusal_is_the_same_error_from_both_interfaces() {
    for interfaces in [BOTH_INTERFACES, CLEARANCE1_ONLY] {
        let (_directory, path) = hub_path();
        let hub = FakeHub {
            interfaces,
            ..FakeHub::default()
        };
        let hub = hub.with_reply(|answer| refusals(answer.dest));
        let _running = RunningHub::start(&path, hub);
        let (client, _events) = Client::start(&path).await.unwrap();
        for dest in ["unknown", "other", "failing"] {
            let request = request_for(dest);
            let Err(AnswerError::Refused(refusal)) =
                client.decide(&request, DecisionAction::Allow, None).await
            else {
                panic!("{dest} was not refused");
            };
            let AnswerReply::Refused(expected, _) = refusals(dest) else {
                unreachable!()
            };
            assert_eq!(refusal, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_a_restarting_hub_and_fails_without_one() {
    let (_directory, path) = hub_path();
    let running = RunningHub::start(&path, FakeHub::default());
    let (client, _events) = Client::start(&path).await.unwrap();
    client
        .decide(&request(1), DecisionAction::Deny, None)
        .await
        .unwrap();
    running.end().await;
    let returning = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        RunningHub::start(&path, FakeHub::default())
    };
    let request = request(1);
    let answer = client.decide(&request, DecisionAction::Deny, None);
    let (answer, running) = tokio::join!(answer, returning);
    answer.unwrap();
    assert_eq!(running.hub.answers.load(Ordering::Relaxed), 1, "sent once");
    running.end().await;
    let start = Instant::now();
    match client.decide(&request, DecisionAction::Deny, None).await {
        Err(AnswerError::NoHub(HubError::Connect(SocketConnectError::NoListener { .. }))) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(
        start.elapsed().as_secs(),
        AnswerError::HUB_WAIT_TIMEOUT.as_secs()
    );
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_answer_is_an_error_and_is_not_sent_again() {
    let (_directory, path) = hub_path();
    let hub = FakeHub::default().with_reply(|answer| match answer.dest {
        "held" => AnswerReply::Held,
        _ => AnswerReply::Disconnected,
    });
    let running = RunningHub::start(&path, hub);
    let (client, _events) = Client::start(&path).await.unwrap();
    let dropped = client
        .decide(&request_for("dropped"), DecisionAction::Allow, None)
        .await;
    assert!(
        matches!(dropped, Err(AnswerError::Unanswered(_))),
        "{dropped:?}"
    );
    assert_eq!(running.hub.answers.load(Ordering::Relaxed), 1, "sent once");
    let start = Instant::now();
    let held = client
        .decide(&request_for("held"), DecisionAction::Allow, None)
        .await;
    assert!(matches!(held, Err(AnswerError::TimedOut(_))), "{held:?}");
    assert_eq!(
        start.elapsed().as_secs(),
        AnswerError::REPLY_TIMEOUT.as_secs()
    );
}

#[tokio::test]
async fn a_slow_firewall_delays_no_other_answer() {
    let (_directory, path) = hub_path();
    let hub = FakeHub::default().with_reply(|answer| match answer.dest {
        "held" => AnswerReply::Held,
        _ => AnswerReply::Applied,
    });
    let running = RunningHub::start(&path, hub);
    let (client, _events) = Client::start(&path).await.unwrap();
    let (slow, quick) = (request_for("held"), request_for("quick"));
    let held = client.decide(&slow, DecisionAction::Allow, None);
    let others = async {
        for _ in 0..20 {
            client
                .decide(&quick, DecisionAction::Allow, None)
                .await
                .unwrap();
        }
        running.hub.gate.send_replace(true);
    };
    let (held, ()) = tokio::join!(held, others);
    held.unwrap();
}
