// SPDX-License-Identifier: Apache-2.0
//! Events that subscribers receive.

use serde_json::json;
use terok_clearance::wire::clearance1::Clearance1Dialect;
use terok_clearance::{Dossier, GaveUp, SandboxEvent, ShieldState, Timestamp, WaitingConnections};
use terok_clearance_hub::HubOptions;
use test_support::packets::blocked_packet;
use tokio::io::AsyncWriteExt as _;

use crate::harness::{HubHarness, pending};

#[tokio::test]
async fn an_event_reaches_both_interfaces() {
    let harness = HubHarness::new();
    let (mut clearance1, mut clearance2) = (
        harness.subscribe_clearance1().await,
        harness.subscribe_clearance2().await,
    );
    assert_eq!(clearance2.event().await["kind"], "synced");
    let mut reader = harness.reader().await;
    harness.block(&mut reader, 1, "192.0.2.1").await;
    assert_eq!(
        clearance1.event().await,
        json!({
            "type": "connection_blocked", "container": "c", "request_id": "c:1",
            "dest": "192.0.2.1", "port": 443, "proto": 6, "domain": "", "action": "",
            "ok": false, "reason": "", "dossier": {"task": "t"},
        })
    );
    let event = clearance2.event().await;
    assert_eq!(
        (&event["kind"], &event["seq"]),
        (&json!("pending"), &json!(1))
    );
    let request = &event["request"];
    assert_eq!(
        request["scope"],
        json!({"dest": "192.0.2.1", "keep": "until_removed"})
    );
    assert_eq!(
        (&request["count"], &request["protocol"]),
        (&json!(1), &json!("tcp"))
    );
}

#[tokio::test]
async fn a_line_in_any_number_of_pieces_is_one_event() {
    let harness = HubHarness::new();
    let mut clearance1 = harness.subscribe_clearance1().await;
    let mut reader = harness.reader().await;
    for byte in pending("c", 1, "192.0.2.1").bytes() {
        reader.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    // The newline of the last line is optional.
    reader
        .write_all(pending("c", 2, "192.0.2.2").trim_end().as_bytes())
        .await
        .unwrap();
    drop(reader);
    assert_eq!(clearance1.event().await["request_id"], "c:1");
    assert_eq!(clearance1.event().await["request_id"], "c:2");
}

#[tokio::test]
async fn a_late_subscriber_first_receives_the_pending_questions() {
    let harness = HubHarness::new();
    let mut reader = harness.reader().await;
    for n in 1..=300 {
        harness
            .block(&mut reader, n, &format!("192.0.2.{n}.example"))
            .await;
    }
    harness.wait_for_pending(300).await;
    let (mut clearance1, mut clearance2) = (
        harness.subscribe_clearance1().await,
        harness.subscribe_clearance2().await,
    );
    let events = clearance2.events_until("synced").await;
    assert_eq!(events.len(), 301);
    for n in 1..=300 {
        assert_eq!(clearance1.event().await["request_id"], format!("c:{n}"));
    }
    harness.block(&mut reader, 301, "192.0.2.1").await;
    assert_eq!(clearance1.event().await["request_id"], "c:301");
    assert_eq!(clearance2.event().await["kind"], "pending");
}

#[tokio::test]
async fn lifecycle_events_withdraw_questions_and_are_published() {
    let harness = HubHarness::new();
    let mut reader = harness.reader().await;
    for (line, kind, reason) in [
        (
            r#"{"type":"shield_down","container":"c"}"#,
            "shield_down",
            "shield",
        ),
        (
            r#"{"type":"shield_disengaged","container":"c"}"#,
            "shield_disengaged",
            "shield",
        ),
        (
            r#"{"type":"container_exited","container":"c","reason":"eof"}"#,
            "container_exited",
            "exited",
        ),
    ] {
        harness.block(&mut reader, 1, "192.0.2.1").await;
        harness.wait_for_pending(1).await;
        let (mut clearance1, mut clearance2) = (
            harness.subscribe_clearance1().await,
            harness.subscribe_clearance2().await,
        );
        clearance2.events_until("synced").await;
        reader
            .write_all(format!("{line}\n").as_bytes())
            .await
            .unwrap();
        let withdrawn = clearance2.event().await;
        assert_eq!(
            (&withdrawn["kind"], &withdrawn["reason"]),
            (&json!("withdrawn"), &json!(reason))
        );
        assert_eq!(clearance1.event().await["type"], "connection_blocked");
        let event = clearance1.event().await;
        assert_eq!(event["type"], kind);
        assert_eq!(event.as_object().unwrap().len(), 11);
        assert_eq!(harness.hub.pending_count(), 0);
    }
    harness.block(&mut reader, 1, "192.0.2.1").await;
    reader
        .write_all(b"{\"type\":\"shield_up\",\"container\":\"c\"}\n{\"type\":\"shield_down\",\"container\":\"d\"}\n")
        .await
        .unwrap();
    let mut clearance1 = harness.subscribe_clearance1().await;
    assert_eq!(clearance1.event().await["type"], "connection_blocked");
    harness.wait_for_pending(1).await;
}

#[tokio::test]
async fn the_hub_of_one_sandbox_applies_every_shield_event() {
    let single = HubOptions {
        single_sandbox: true,
        ..HubOptions::default()
    };
    for (options, left) in [(single, 0), (HubOptions::default(), 1)] {
        let harness = HubHarness::with(options, false);
        let mut reader = harness.reader().await;
        harness.block(&mut reader, 1, "192.0.2.1").await;
        harness.wait_for_pending(1).await;
        harness.hub.report(SandboxEvent::Shield {
            container: "podman-name".parse().unwrap(),
            state: ShieldState::Down,
            dossier: Dossier::default(),
        });
        assert_eq!(harness.hub.pending_count(), left);
    }
}

#[tokio::test]
async fn clients_of_era_a_receive_ten_fields() {
    let harness = HubHarness::with(
        HubOptions {
            dialect: Clearance1Dialect::A,
            ..HubOptions::default()
        },
        false,
    );
    let mut clearance1 = harness.subscribe_clearance1().await;
    let mut reader = harness.reader().await;
    harness.block(&mut reader, 1, "192.0.2.1").await;
    reader
        .write_all(b"{\"type\":\"shield_down_all\",\"container\":\"c\"}\n")
        .await
        .unwrap();
    for kind in ["connection_blocked", "shield_down_all"] {
        let event = clearance1.event().await;
        assert_eq!(event["type"], kind);
        assert_eq!(event.as_object().unwrap().len(), 10);
    }
    let parameters = json!({"interface": "org.terok.Clearance1"});
    let mut client = harness.client().await;
    let reply = client
        .call("org.varlink.service.GetInterfaceDescription", parameters)
        .await;
    let description = reply["parameters"]["description"].as_str().unwrap();
    assert!(!description.contains("dossier"));
}

#[tokio::test]
async fn lost_packets_are_published() {
    let harness = HubHarness::new();
    let mut clearance2 = harness.subscribe_clearance2().await;
    clearance2.events_until("synced").await;
    harness.hub.report_lost_packets(7);
    let event = clearance2.event().await;
    let found = (&event["kind"], &event["lost"], &event["reason"]);
    assert_eq!(found, (&json!("lost"), &json!(7), &json!("kernel")));
}

#[tokio::test]
async fn a_disconnected_subscriber_is_removed_at_once() {
    let harness = HubHarness::new();
    let clearance1 = harness.subscribe_clearance1().await;
    let clearance2 = harness.subscribe_clearance2().await;
    assert_eq!(harness.hub.subscriber_count(), 2);
    drop((clearance1, clearance2));
    while harness.hub.subscriber_count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_hub_counts_the_subscribers_that_answer() {
    let harness = HubHarness::new();
    let mut answerers = harness.hub.answerers();
    assert_eq!(*answerers.borrow_and_update(), 0);
    let _observer = harness.subscribe_clearance2().await;
    assert!(!answerers.has_changed().unwrap(), "an observer");
    let older = harness.subscribe_clearance1().await;
    assert_eq!(*answerers.borrow_and_update(), 1);
    let mut person = harness.client().await;
    let subscribe = json!({
        "method": "org.terok.Clearance2.Subscribe", "parameters": {"answers": true}, "more": true,
    });
    person.send(&subscribe).await;
    answerers.wait_for(|count| *count == 2).await.unwrap();
    drop((older, person));
    answerers.wait_for(|count| *count == 0).await.unwrap();
    assert_eq!(harness.hub.subscriber_count(), 1);
}

#[tokio::test]
async fn held_connections_reach_clearance2_subscribers_without_a_packet() {
    let harness = HubHarness::new();
    let question = |number| SandboxEvent::Blocked(blocked_packet("c", number, "a.example"));
    harness.hub.report_all([question(1), question(2)]);
    let mut clearance1 = harness.subscribe_clearance1().await;
    let mut clearance2 = harness.subscribe_clearance2().await;
    clearance1.event().await;
    clearance2.events_until("synced").await;
    let waiting = |count, gave_up: Option<u32>| WaitingConnections {
        count,
        since: (count > 0).then_some(Timestamp::from_micros(7)),
        gave_up: gave_up.map(|after_seconds| GaveUp { after_seconds }),
    };
    let set = |id: &str, value| harness.hub.set_waiting(&id.parse().unwrap(), value);
    set("c:1", waiting(2, None));
    // Without an event: the value is known, and so is the question.
    set("c:2", waiting(2, None));
    set("c:99", waiting(5, None));
    set("c:2", waiting(0, Some(15)));
    set("c:1", WaitingConnections::default());
    for expected in [
        json!([2, 7, null]),
        json!([null, null, 15]),
        json!([null, null, null]),
    ] {
        let event = clearance2.event().await;
        assert_eq!(event["kind"], "repeated");
        let request = &event["request"];
        let found = ["waiting", "waiting_since", "gave_up_after"].map(|name| &request[name]);
        assert_eq!(json!(found), expected);
        assert_eq!(
            (&request["id"], &request["count"]),
            (&json!("c:1"), &json!(2))
        );
    }
    // A late subscriber receives the value in the snapshot, and an answer ends it.
    set("c:1", waiting(1, None));
    let mut late = harness.subscribe_clearance2().await;
    assert_eq!(late.event().await["request"]["waiting"], 1);
    let mut answering = harness.client().await;
    answering.decide("c:1", "a.example", "allow").await;
    set("c:1", waiting(3, None));
    harness.hub.report(question(3));
    let events = late.events_until("pending").await;
    let kinds: Vec<_> = events.iter().map(|event| &event["kind"]).collect();
    assert_eq!(json!(kinds), json!(["synced", "decided", "pending"]));
    assert_eq!(events[2]["request"]["waiting"], json!(null));
    // A client of Clearance1 would count each event as one more packet.
    assert_eq!(clearance1.event().await["type"], "verdict_applied");
}

#[tokio::test]
async fn a_subscription_requires_more() {
    let harness = HubHarness::new();
    let mut client = harness.client().await;
    for method in [
        "org.terok.Clearance1.Subscribe",
        "org.terok.Clearance2.Subscribe",
    ] {
        let reply = client.call(method, json!({})).await;
        assert_eq!(reply["error"], "org.varlink.service.ExpectedMore");
    }
}

#[tokio::test]
async fn the_service_describes_itself() {
    let harness = HubHarness::new();
    let mut client = harness.client().await;
    let info = client.call("org.varlink.service.GetInfo", json!({})).await;
    let info = &info["parameters"];
    assert_eq!(info["vendor"], "terok");
    assert_eq!(info["product"], "terok-clearance");
    assert_eq!(info["url"], "https://github.com/terok-ai/terok-clearance");
    let interfaces = json!([
        "org.terok.Clearance1",
        "org.terok.Clearance2",
        "org.varlink.service"
    ]);
    assert_eq!(info["interfaces"], interfaces);
}

#[tokio::test]
async fn the_hub_stops_in_time_despite_stuck_subscribers() {
    let mut harness = HubHarness::new();
    let _stuck = (
        harness.subscribe_clearance1().await,
        harness.subscribe_clearance2().await,
    );
    let mut reader = harness.reader().await;
    for n in 0..20_000 {
        harness
            .block(&mut reader, n, &format!("h{n}.example"))
            .await;
    }
    harness.wait_for_pending(20_000).await;
    let clock = tokio::time::Instant::now();
    harness.stop.cancel();
    while let Some(ended) = harness.tasks.join_next().await {
        ended.unwrap().unwrap();
    }
    assert!(clock.elapsed() < std::time::Duration::from_secs(2));
    assert!(!harness.hub_path().exists() && !harness.ingester_path().exists());
}
