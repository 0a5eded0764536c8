// SPDX-License-Identifier: Apache-2.0
//! Hostile clients and readers are refused or disconnected, and affect no other connection.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::harness::{Answer, Client, HubHarness, pending};

/// Asserts that an event reaches a subscriber and an answer takes effect.
async fn check_service(harness: &HubHarness, clearance1: &mut Client, n: u64) {
    let mut reader = harness.reader().await;
    let dest = format!("well{n}.example");
    harness.block(&mut reader, n, &dest).await;
    let id = format!("c:{n}");
    while clearance1.event().await["request_id"] != *id {}
    let mut client = harness.client().await;
    assert_eq!(
        client.verdict(&id, &dest, "deny").await["parameters"]["ok"],
        true
    );
}

#[tokio::test]
async fn subscribers_that_never_read_delay_no_other_client() {
    let harness = HubHarness::new();
    let mut stuck = Vec::new();
    for _ in 0..10 {
        stuck.push(harness.subscribe_clearance1().await);
        stuck.push(harness.subscribe_clearance2().await);
    }
    let mut clearance1 = harness.subscribe_clearance1().await;
    let mut reader = harness.reader().await;
    for n in 0..12_000 {
        harness
            .block(&mut reader, n, &format!("h{n}.example"))
            .await;
        assert_eq!(clearance1.event().await["request_id"], format!("c:{n}"));
    }
    check_service(&harness, &mut clearance1, 99_999).await;
    // A stuck subscriber that reads again receives everything.
    let mut received = std::collections::BTreeSet::new();
    while received.len() < 12_000 {
        let event = stuck[0].event().await;
        received.insert(event["request_id"].as_str().unwrap().to_owned());
    }
    let mut pending = std::collections::BTreeSet::new();
    stuck[1].events_until("synced").await;
    while pending.len() < 12_000 {
        let event = stuck[1].event().await;
        if event["kind"] == "pending" {
            pending.insert(event["request"]["id"].as_str().unwrap().to_owned());
        }
    }
}

#[tokio::test]
async fn a_stuck_subscriber_receives_the_number_of_skipped_events_and_the_pending_questions() {
    let options = terok_clearance_hub::HubOptions {
        max_backlog_bytes: 1 << 20,
        ..terok_clearance_hub::HubOptions::default()
    };
    let harness = HubHarness::with(options, false);
    let (mut old, mut new) = (
        harness.subscribe_clearance1().await,
        harness.subscribe_clearance2().await,
    );
    new.events_until("synced").await;
    let mut reader = harness.reader().await;
    let mut client = harness.client().await;
    for n in 0..8_000 {
        harness
            .block(&mut reader, n, &format!("h{n}.example"))
            .await;
    }
    harness.wait_for_pending(8_000).await;
    for n in 0..500 {
        let reply = client
            .decide(&format!("c:{n}"), &format!("h{n}.example"), "dismiss")
            .await;
        assert_eq!(reply["error"], json!(null));
    }
    let mut known_pending = std::collections::BTreeSet::new();
    let mut lost = 0;
    loop {
        let event = new.event().await;
        let id = || event["request"]["id"].as_str().unwrap().to_owned();
        match event["kind"].as_str().unwrap() {
            "pending" => assert!(known_pending.insert(id()), "{event}"),
            "decided" => {
                known_pending.remove(event["decision"]["request"].as_str().unwrap());
            }
            "lost" => {
                assert_eq!(event["reason"], "slow");
                lost += event["lost"].as_u64().unwrap();
                known_pending.clear();
            }
            "synced" => break,
            other => panic!("{other}"),
        }
    }
    assert!(lost > 0);
    let expected: std::collections::BTreeSet<_> = (500..8_000).map(|n| format!("c:{n}")).collect();
    assert_eq!(known_pending, expected);
    let mut received = std::collections::BTreeSet::new();
    while !expected.is_subset(&received) {
        let id = old.event().await["request_id"].as_str().unwrap().to_owned();
        assert!(received.insert(id), "no question is sent twice");
    }
}

#[tokio::test]
async fn malformed_lines_are_dropped_and_the_reader_continues() {
    let harness = HubHarness::new();
    let mut clearance1 = harness.subscribe_clearance1().await;
    let mut reader = harness.reader().await;
    let mut garbage =
        b"garbage\n[1,2]\n\"x\"\n{}\n\xff\xfe\n{\"type\":\"pending\"}\n\0\0\0\n".to_vec();
    garbage.extend(b"{\"type\":\"pending\",\"container\":\"../../etc\",\"id\":\"x\",\"dest\":\"y\",\"port\":1,\"proto\":6}\n");
    garbage.extend([b"[".repeat(60_000), b"\n".to_vec()].concat());
    garbage.extend([b"x".repeat(1 << 20), b"\n".to_vec()].concat());
    reader.write_all(&garbage).await.unwrap();
    harness.block(&mut reader, 1, "192.0.2.1").await;
    assert_eq!(clearance1.event().await["request_id"], "c:1");
    assert_eq!(harness.hub.pending_count(), 1);
}

#[tokio::test]
async fn an_endless_line_uses_bounded_memory() {
    let harness = HubHarness::new();
    let mut clearance1 = harness.subscribe_clearance1().await;
    let mut reader = harness.reader().await;
    let before = resident();
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..100 {
        reader.write_all(&piece).await.unwrap();
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes for a line of 100 MiB");
    reader.write_all(b"\n").await.unwrap();
    harness.block(&mut reader, 1, "192.0.2.1").await;
    assert_eq!(clearance1.event().await["request_id"], "c:1");
}

#[tokio::test]
async fn an_endless_frame_closes_the_connection() {
    let harness = HubHarness::new();
    let mut clearance1 = harness.subscribe_clearance1().await;
    let mut client = harness.client().await;
    let before = resident();
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < 100 && client.stream().write_all(&piece).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 100, "a frame of 100 MiB was accepted");
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
    check_service(&harness, &mut clearance1, 1).await;
}

#[tokio::test]
async fn malformed_calls_close_the_connection() {
    let harness = HubHarness::new();
    let mut clearance1 = harness.subscribe_clearance1().await;
    let deep = [
        b"{\"method\":\"a.b.C\",\"parameters\":{\"x\":".as_slice(),
        &b"[".repeat(10_000),
    ]
    .concat();
    for frame in [
        b"garbage".as_slice(),
        b"[]",
        b"{}",
        b"\xff\xff",
        b"{\"method\":1}",
        &deep,
    ] {
        let mut client = harness.client().await;
        let stream = client.stream();
        stream.write_all(frame).await.unwrap();
        stream.write_all(b"\0").await.unwrap();
        assert_eq!(client.frame().await, None, "{frame:?}");
    }
    check_service(&harness, &mut clearance1, 1).await;
}

#[tokio::test]
async fn a_flood_of_connections_delays_no_other_client() {
    let harness = HubHarness::new();
    let mut clearance1 = harness.subscribe_clearance1().await;
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(UnixStream::connect(harness.hub_path()).await.unwrap());
        idle.push(UnixStream::connect(harness.ingester_path()).await.unwrap());
    }
    check_service(&harness, &mut clearance1, 1).await;
    for _ in 0..2_000 {
        drop(UnixStream::connect(harness.hub_path()).await.unwrap());
    }
    check_service(&harness, &mut clearance1, 2).await;
}

#[tokio::test]
async fn replayed_and_forged_answers_open_nothing() {
    let mut harness = HubHarness::new();
    harness.answer("192.0.2.1", Answer::Wait);
    let mut reader = harness.reader().await;
    for n in 1..=2 {
        harness.block(&mut reader, n, &format!("192.0.2.{n}")).await;
    }
    harness.wait_for_pending(2).await;
    // The same verdict repeatedly and concurrently, with forged ones in between.
    let call = |id: &str, dest: &str| {
        let parameters =
            json!({"container": "c", "request_id": id, "dest": dest, "action": "allow"});
        json!({"method": "org.terok.Clearance1.Verdict", "parameters": parameters})
    };
    let mut clients = Vec::new();
    for n in 0..100 {
        let mut client = harness.client().await;
        match n % 4 {
            0 => client.send(&call("c:1", "192.0.2.2")).await,
            1 => client.send(&call("c:2", "192.0.2.1")).await,
            2 => client.send(&call("c:3", "192.0.2.1")).await,
            _ => client.send(&call("c:1", "192.0.2.1")).await,
        }
        clients.push(client);
    }
    harness.next_order().await;
    harness.enforcer.gate.add_permits(100);
    let mut applied = 0;
    for client in &mut clients {
        let reply = client.frame().await.unwrap();
        applied += usize::from(reply["parameters"]["ok"] == true);
    }
    assert_eq!(applied, 1);
    assert!(harness.orders.try_recv().is_err(), "one order");
    assert_eq!(harness.hub.pending_count(), 1);
}

#[tokio::test]
async fn a_flooding_reader_does_not_starve_the_others() {
    let harness = HubHarness::new();
    let mut clearance1 = harness.subscribe_clearance1().await;
    let mut flood = harness.reader().await;
    let burst: String = (0..2_000)
        .map(|n| pending("loud", n, "192.0.2.9"))
        .collect();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        // The task ends when the hub disconnects.
        while flood.write_all(burst.as_bytes()).await.is_ok() {}
    });
    let well = async {
        for n in 1..=5 {
            check_service(&harness, &mut clearance1, n).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), well)
        .await
        .expect("the other connections are served");
    tasks.abort_all();
}

#[tokio::test]
async fn a_call_during_a_subscription_closes_the_connection() {
    let harness = HubHarness::new();
    let mut clearance1 = harness.subscribe_clearance1().await;
    clearance1
        .send(&json!({"method": "org.varlink.service.GetInfo"}))
        .await;
    let mut rest = Vec::new();
    clearance1.stream().read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

/// Returns this process's resident memory in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kib.parse::<usize>().unwrap() << 10
}
