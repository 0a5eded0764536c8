// SPDX-License-Identifier: Apache-2.0
//! Bursts of events: no pending question is lost.

use std::collections::BTreeSet;

use tokio::io::AsyncWriteExt as _;

use crate::harness::{Client, HubHarness, pending};

/// Returns the ids of Clearance1 events until `expected` distinct ids have arrived.
async fn read_all(clearance1: &mut Client, expected: usize) -> Vec<String> {
    let mut ids = Vec::new();
    let mut known = BTreeSet::new();
    while known.len() < expected {
        let event = clearance1.event().await;
        assert_eq!(event["type"], "connection_blocked");
        let id = event["request_id"].as_str().unwrap().to_owned();
        known.insert(id.clone());
        ids.push(id);
    }
    ids
}

async fn check_burst(events: u64) {
    let harness = HubHarness::new();
    let mut clearance1 = harness.subscribe_clearance1().await;
    let mut clearance2 = harness.subscribe_clearance2().await;
    let burst: String = (0..events)
        .map(|n| pending("c", n, &format!("h{n}.example")))
        .collect();
    let mut reader = harness.reader().await;
    let many = usize::try_from(events).unwrap();
    let (written, ids, decided) = tokio::join!(
        reader.write_all(burst.as_bytes()),
        read_all(&mut clearance1, many),
        async {
            clearance2.events_until("synced").await;
            let mut known = BTreeSet::new();
            while known.len() < many {
                let event = clearance2.event().await;
                if event["kind"] == "pending" {
                    known.insert(event["request"]["id"].as_str().unwrap().to_owned());
                }
            }
        }
    );
    written.unwrap();
    let () = decided;
    assert_eq!(ids.len(), many, "each id once");
    assert!(
        ids.iter().eq((0..events)
            .map(|n| format!("c:{n}"))
            .collect::<Vec<_>>()
            .iter())
    );
}

#[tokio::test]
async fn four_thousand_events_in_one_write_reach_every_subscriber() {
    check_burst(4_096).await;
}

#[tokio::test]
async fn fifty_thousand_events_reach_every_subscriber() {
    check_burst(50_000).await;
}

#[tokio::test]
async fn a_burst_to_one_destination_is_one_question() {
    let harness = HubHarness::new();
    let mut clearance1 = harness.subscribe_clearance1().await;
    let burst: String = (0..50_000).map(|n| pending("c", n, "192.0.2.1")).collect();
    let mut reader = harness.reader().await;
    let (written, ids) = tokio::join!(
        reader.write_all(burst.as_bytes()),
        read_all(&mut clearance1, 50_000)
    );
    written.unwrap();
    assert_eq!(ids.len(), 50_000);
    let mut clearance2 = harness.subscribe_clearance2().await;
    let events = clearance2.events_until("synced").await;
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["request"]["count"], 50_000);
    assert_eq!(events[0]["request"]["id"], "c:0");
}

#[tokio::test]
async fn a_flooding_sandbox_does_not_evict_the_questions_of_a_quiet_one() {
    let harness = HubHarness::with(
        terok_clearance_hub::HubOptions {
            max_pending: 1_000,
            ..terok_clearance_hub::HubOptions::default()
        },
        false,
    );
    let mut loud = harness.reader().await;
    let mut quiet = harness.reader().await;
    for n in 0..10 {
        let line = pending("quiet", n, &format!("q{n}.example"));
        quiet.write_all(line.as_bytes()).await.unwrap();
    }
    harness.wait_for_pending(10).await;
    let burst: String = (0..20_000)
        .map(|n| pending("loud", n, &format!("l{n}.example")))
        .collect();
    loud.write_all(burst.as_bytes()).await.unwrap();
    loud.write_all(pending("last", 1, "last.example").as_bytes())
        .await
        .unwrap();
    drop(loud);
    let mut client = harness.client().await;
    loop {
        let reply = client
            .call("org.terok.Clearance2.List", serde_json::json!({}))
            .await;
        let requests = reply["parameters"]["requests"].as_array().unwrap().clone();
        let of = |container: &str| {
            requests
                .iter()
                .filter(|r| r["container"] == container)
                .count()
        };
        assert_eq!(of("quiet"), 10);
        assert!(requests.len() <= 1_000);
        if of("last") == 1 {
            break;
        }
    }
}
