// SPDX-License-Identifier: Apache-2.0
//! Effects of answers, and answers that are refused.

use std::time::Duration;

use serde_json::{Value, json};
use terok_clearance::Action;
use terok_clearance_hub::HubOptions;

use crate::harness::{Answer, HubHarness, Order};

const UNKNOWN: &str = "org.terok.Clearance1.UnknownRequest";

async fn with_one_question(options: HubOptions, supports_ports: bool) -> HubHarness {
    let harness = HubHarness::with(options, supports_ports);
    let mut reader = harness.reader().await;
    harness.block(&mut reader, 1, "192.0.2.1").await;
    harness.wait_for_pending(1).await;
    harness
}

fn order(dest: &str, action: Action, port: Option<u16>) -> Order {
    Order {
        container: "c".to_owned(),
        dest: dest.to_owned(),
        action,
        port,
    }
}

#[tokio::test]
async fn a_clearance1_verdict_opens_the_whole_destination_and_reaches_every_subscriber() {
    let mut harness = with_one_question(HubOptions::default(), true).await;
    let (mut clearance1, mut clearance2) = (
        harness.subscribe_clearance1().await,
        harness.subscribe_clearance2().await,
    );
    let mut client = harness.client().await;
    let reply = client.verdict("c:1", "192.0.2.1", "allow").await;
    assert_eq!(reply, json!({"parameters": {"ok": true}}));
    assert_eq!(
        harness.next_order().await,
        order("192.0.2.1", Action::Allow, None)
    );
    clearance1.event().await;
    assert_eq!(
        clearance1.event().await,
        json!({
            "type": "verdict_applied", "container": "c", "request_id": "c:1", "dest": "",
            "port": 0, "proto": 0, "domain": "", "action": "allow", "ok": true, "reason": "",
            "dossier": {},
        })
    );
    let events = clearance2.events_until("decided").await;
    let decision = &events.last().unwrap()["decision"];
    assert_eq!(decision["ok"], true);
    let by = decision["by"].as_str().unwrap();
    let (uid, pid) = (rustix::process::getuid().as_raw(), std::process::id());
    assert!(by.starts_with(&format!("uid {uid} pid {pid} (")), "{by}");
    assert_eq!(harness.hub.pending_count(), 0);
    let again = client.verdict("c:1", "192.0.2.1", "allow").await;
    assert_eq!(
        again,
        json!({"error": UNKNOWN, "parameters": {"request_id": "c:1"}})
    );
}

#[tokio::test]
async fn clearance1_events_have_every_id_that_a_client_may_know() {
    let mut harness = with_one_question(HubOptions::default(), true).await;
    let mut reader = harness.reader().await;
    harness.block(&mut reader, 2, "192.0.2.1").await;
    let mut clearance1 = harness.subscribe_clearance1().await;
    let mut client = harness.client().await;
    while clearance1.event().await["request_id"] != "c:2" {}
    let reply = client.verdict("c:1", "192.0.2.1", "deny").await;
    assert_eq!(reply["parameters"]["ok"], true);
    for id in ["c:1", "c:2"] {
        let event = clearance1.event().await;
        assert_eq!(
            (&event["type"], &event["request_id"]),
            (&json!("verdict_applied"), &json!(id))
        );
    }
    harness.next_order().await;
}

#[tokio::test]
async fn a_clearance2_decision_has_the_scope_of_the_question() {
    let mut harness = with_one_question(HubOptions::default(), true).await;
    let mut client = harness.client().await;
    let reply = client.decide("c:1", "192.0.2.1", "deny").await;
    let decision = &reply["parameters"]["decision"];
    assert_eq!(decision["scope"]["port"], 443);
    assert_eq!(
        harness.next_order().await,
        order("192.0.2.1", Action::Deny, Some(443))
    );
    let again = client.decide("c:1", "192.0.2.1", "allow").await;
    assert_eq!(again["error"], "org.terok.Clearance2.AlreadyDecided");
    assert_eq!(&again["parameters"]["decision"], decision);
    let history = client.call("org.terok.Clearance2.History", json!({})).await;
    assert_eq!(&history["parameters"]["decisions"], &json!([decision]));
}

#[tokio::test]
async fn dismissing_writes_no_rule() {
    let mut harness = with_one_question(HubOptions::default(), true).await;
    let mut clearance2 = harness.subscribe_clearance2().await;
    let mut client = harness.client().await;
    let reply = client.decide("c:1", "192.0.2.1", "dismiss").await;
    assert_eq!(reply["parameters"]["decision"]["action"], "dismiss");
    assert_eq!(clearance2.events_until("decided").await.len(), 3);
    assert_eq!(harness.hub.pending_count(), 0);
    assert!(harness.orders.try_recv().is_err());
}

#[tokio::test]
async fn invalid_answers_are_refused_in_the_order_of_the_contract() {
    let mut harness = with_one_question(HubOptions::default(), false).await;
    let mut client = harness.client().await;
    let call = |id: &str, container: &str, dest: &str, action: &str| json!({"request_id": id, "container": container, "dest": dest, "action": action});
    for (parameters, error, names) in [
        (
            call("c:9", "x", "y", "accept"),
            "InvalidAction",
            json!({"action": "accept"}),
        ),
        (
            call("c:9", "x", "y", "deny"),
            "UnknownRequest",
            json!({"request_id": "c:9"}),
        ),
        (
            call("c:1", "x", "192.0.2.1", "deny"),
            "VerdictTupleMismatch",
            json!({"expected_container": "c", "expected_dest": "192.0.2.1",
                "got_container": "x", "got_dest": "192.0.2.1"}),
        ),
        (
            call("c:1", "c", "0.0.0.0/0", "allow"),
            "VerdictTupleMismatch",
            json!({"expected_container": "c", "expected_dest": "192.0.2.1",
                "got_container": "c", "got_dest": "0.0.0.0/0"}),
        ),
    ] {
        let reply = client
            .call("org.terok.Clearance1.Verdict", parameters)
            .await;
        assert_eq!(reply["error"], format!("org.terok.Clearance1.{error}"));
        assert_eq!(reply["parameters"], names);
    }
    for (parameters, parameter) in [
        (
            json!({"container": "c", "request_id": "c:1", "dest": "192.0.2.1"}),
            "action",
        ),
        (
            json!({"container": "c", "request_id": "c:1", "dest": "192.0.2.1", "action": "allow", "x": 1}),
            "x",
        ),
        (
            json!({"container": 1, "request_id": "c:1", "dest": "192.0.2.1", "action": "allow"}),
            "container",
        ),
    ] {
        let reply = client
            .call("org.terok.Clearance1.Verdict", parameters)
            .await;
        assert_eq!(reply["error"], "org.varlink.service.InvalidParameter");
        assert_eq!(reply["parameters"]["parameter"], parameter);
    }
    let reply = client.decide("c:1", "192.0.2.2", "allow").await;
    assert_eq!(reply["error"], "org.terok.Clearance2.NotWhatWasAsked");
    assert_eq!(reply["parameters"]["field"], "dest");
    let reply = client.decide("c:2", "192.0.2.1", "allow").await;
    assert_eq!(reply["error"], "org.terok.Clearance2.NoSuchRequest");
    assert_eq!(harness.hub.pending_count(), 1);
    assert!(
        harness.orders.try_recv().is_err(),
        "no order reached the firewall"
    );
}

#[tokio::test]
async fn a_wider_scope_is_refused() {
    let mut harness = with_one_question(HubOptions::default(), true).await;
    let mut client = harness.client().await;
    let call = |scope: Value| json!({"request": "c:1", "container": "c", "dest": "192.0.2.1", "action": "allow", "scope": scope});
    let whole = json!({"dest": "192.0.2.1", "keep": "sandbox"});
    let reply = client
        .call("org.terok.Clearance2.Decide", call(whole))
        .await;
    assert_eq!(reply["error"], "org.terok.Clearance2.NotWhatWasAsked");
    assert_eq!(reply["parameters"]["field"], "scope.port");
    assert!(harness.orders.try_recv().is_err());
    let once =
        json!({"dest": "192.0.2.1", "port": 443, "protocol": "tcp", "keep": "once", "seconds": 5});
    let reply = client.call("org.terok.Clearance2.Decide", call(once)).await;
    assert_eq!(reply["parameters"]["decision"]["scope"]["seconds"], 5);
}

#[tokio::test]
async fn a_failure_is_reported_and_the_question_stays_pending() {
    let harness = with_one_question(HubOptions::default(), false).await;
    harness.answer("192.0.2.1", Answer::Fail("no such table"));
    let (mut clearance1, mut clearance2) = (
        harness.subscribe_clearance1().await,
        harness.subscribe_clearance2().await,
    );
    let mut client = harness.client().await;
    let reply = client.verdict("c:1", "192.0.2.1", "allow").await;
    assert_eq!(reply["error"], "org.terok.Clearance1.ShieldCliFailed");
    let parameters = json!({"action": "allow", "stderr": "no such table"});
    assert_eq!(reply["parameters"], parameters);
    clearance1.event().await;
    assert_eq!(clearance1.event().await["ok"], false);
    let events = clearance2.events_until("decided").await;
    assert_eq!(
        events.last().unwrap()["decision"]["reason"],
        "no such table"
    );
    let reply = client.decide("c:1", "192.0.2.1", "allow").await;
    assert_eq!(reply["error"], "org.terok.Clearance2.EnforcementFailed");
    assert_eq!(harness.hub.pending_count(), 1);
    harness.enforcer.answers.lock().unwrap().clear();
    let reply = client.verdict("c:1", "192.0.2.1", "allow").await;
    assert_eq!(reply["parameters"]["ok"], true);
}

#[tokio::test]
async fn of_two_operators_the_first_wins() {
    let mut harness = with_one_question(HubOptions::default(), false).await;
    harness.answer("192.0.2.1", Answer::Wait);
    let (mut first, mut second) = (harness.client().await, harness.client().await);
    let allow = first.decide("c:1", "192.0.2.1", "allow");
    let meanwhile = async {
        harness.next_order().await;
        let reply = second.decide("c:1", "192.0.2.1", "deny").await;
        assert_eq!(reply["error"], "org.terok.Clearance2.AlreadyDecided");
        assert_eq!(reply["parameters"]["decision"]["action"], "allow");
        let reply = second.verdict("c:1", "192.0.2.1", "deny").await;
        assert_eq!(reply["error"], UNKNOWN);
        harness.enforcer.gate.add_permits(1);
    };
    let (reply, ()) = tokio::join!(allow, meanwhile);
    assert_eq!(reply["parameters"]["decision"]["ok"], true);
    assert!(
        harness.orders.try_recv().is_err(),
        "one order for one question"
    );
}

#[tokio::test]
async fn answers_to_different_questions_do_not_wait_for_each_other() {
    let mut harness = HubHarness::new();
    let mut reader = harness.reader().await;
    let mut clients = Vec::new();
    for n in 1..=6 {
        let dest = format!("192.0.2.{n}");
        harness.block(&mut reader, n, &dest).await;
        harness.answer(&dest, Answer::Wait);
        clients.push(harness.client().await);
    }
    harness.wait_for_pending(6).await;
    for (n, client) in (1..).zip(&mut clients) {
        let (id, dest) = (format!("c:{n}"), format!("192.0.2.{n}"));
        let parameters =
            json!({"container": "c", "request_id": id, "dest": dest, "action": "deny"});
        client
            .send(&json!({"method": "org.terok.Clearance1.Verdict", "parameters": parameters}))
            .await;
    }
    for _ in 0..6 {
        harness.next_order().await;
    }
    harness.enforcer.gate.add_permits(6);
    for client in &mut clients {
        assert_eq!(client.frame().await.unwrap()["parameters"]["ok"], true);
    }
}

#[tokio::test]
async fn an_answer_takes_effect_after_its_operator_disconnects() {
    let mut harness = with_one_question(HubOptions::default(), false).await;
    harness.answer("192.0.2.1", Answer::Wait);
    let mut clearance2 = harness.subscribe_clearance2().await;
    let mut client = harness.client().await;
    let parameters =
        json!({"container": "c", "request": "c:1", "dest": "192.0.2.1", "action": "allow"});
    client
        .send(&json!({"method": "org.terok.Clearance2.Decide", "parameters": parameters}))
        .await;
    harness.next_order().await;
    drop(client);
    harness.enforcer.gate.add_permits(1);
    let events = clearance2.events_until("decided").await;
    assert_eq!(events.last().unwrap()["decision"]["ok"], true);
    assert_eq!(harness.hub.pending_count(), 0);
}

#[tokio::test]
async fn a_hanging_enforcer_times_out() {
    let options = HubOptions {
        enforce_timeout: Duration::from_millis(50),
        ..HubOptions::default()
    };
    let harness = with_one_question(options, false).await;
    harness.answer("192.0.2.1", Answer::Wait);
    let mut client = harness.client().await;
    let reply = client.verdict("c:1", "192.0.2.1", "allow").await;
    assert_eq!(reply["error"], "org.terok.Clearance1.ShieldCliFailed");
    assert_eq!(reply["parameters"]["stderr"], "timed out after 50ms");
    harness.enforcer.gate.add_permits(1);
    let reply = client.verdict("c:1", "192.0.2.1", "allow").await;
    assert_eq!(
        reply["parameters"]["ok"], true,
        "the question can be answered again"
    );
}

#[tokio::test]
async fn a_failed_answer_does_not_restore_the_question_of_an_ended_sandbox() {
    let mut harness = with_one_question(HubOptions::default(), false).await;
    harness.answer("192.0.2.1", Answer::Wait);
    let mut client = harness.client().await;
    let answer = client.decide("c:1", "192.0.2.1", "allow");
    let meanwhile = async {
        harness.next_order().await;
        harness
            .hub
            .report(terok_clearance::SandboxEvent::ContainerExited {
                container: "c".parse().unwrap(),
                reason: "eof".into(),
                dossier: terok_clearance::Dossier::default(),
            });
        assert_eq!(harness.hub.pending_count(), 0);
        harness.enforcer.gate.close();
    };
    let (reply, ()) = tokio::join!(answer, meanwhile);
    assert_eq!(reply["error"], "org.terok.Clearance2.EnforcementFailed");
    assert_eq!(harness.hub.pending_count(), 0);
}

#[tokio::test]
async fn a_panic_of_the_enforcer_ends_the_hub_and_answers_nothing() {
    let mut harness = with_one_question(HubOptions::default(), false).await;
    harness.answer("192.0.2.1", Answer::Panic);
    let mut client = harness.client().await;
    let parameters =
        json!({"container": "c", "request": "c:1", "dest": "192.0.2.1", "action": "allow"});
    client
        .send(&json!({"method": "org.terok.Clearance2.Decide", "parameters": parameters}))
        .await;
    let ended = harness.tasks.join_next().await.unwrap().unwrap();
    assert!(ended.unwrap_err().contains("panicked"));
    assert_eq!(
        harness.hub.pending_count(),
        1,
        "the question can be answered again"
    );
}

#[tokio::test]
async fn list_returns_the_pending_questions() {
    let harness = HubHarness::new();
    let mut client = harness.client().await;
    let reply = client.call("org.terok.Clearance2.List", json!({})).await;
    assert_eq!(reply, json!({"parameters": {"requests": []}}));
    let mut reader = harness.reader().await;
    for n in 0..5_000 {
        harness
            .block(&mut reader, n, &format!("h{n}.example"))
            .await;
    }
    harness.wait_for_pending(5_000).await;
    let reply = client.call("org.terok.Clearance2.List", json!({})).await;
    let requests = reply["parameters"]["requests"].as_array().unwrap();
    let ids: Vec<_> = requests.iter().map(|r| r["id"].as_str().unwrap()).collect();
    let expected: Vec<_> = (0..5_000).map(|n| format!("c:{n}")).collect();
    assert_eq!(ids, expected);
}
