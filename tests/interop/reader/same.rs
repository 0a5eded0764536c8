// SPDX-License-Identifier: Apache-2.0
//! The same packets, one reader after the other: the same lines, but for times and ids, and for
//! what is mended.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::namespaces::add_dead_end_uplink;

use super::network::{self, connect, send};
use super::{start, stop};
use crate::harness::{CONTAINER, Place, Running, Side, Stack};

/// What one reader said of all that [`packets`] sends.
#[derive(Debug, PartialEq)]
struct Said {
    lines: Vec<Value>,
    audit: Vec<Value>,
}

#[tokio::test]
async fn both_readers_say_the_same() {
    add_dead_end_uplink();
    for stack in Stack::ALL {
        let theirs = said(stack, Side::Theirs(stack)).await;
        let ours = said(stack, Side::Ours).await;
        assert_eq!(theirs.lines.len(), 7, "{theirs:?}");
        assert_eq!(theirs.audit.len(), 5, "{theirs:?}");
        assert_eq!(theirs.lines[2]["domain"], "api.example.com");
        assert_eq!(theirs.lines[2]["dossier"]["name"], "second");
        assert_eq!(ours, theirs);
    }
}

async fn said(stack: Stack, side: Side) -> Said {
    let place = Place::new();
    network::shield(&place, stack).await;
    let state = place.state_dir();
    let log = "Nov 22 02:53:43 dnsmasq[7]: query[A] API.example.com from 127.0.0.1\n\
        Nov 22 02:53:43 dnsmasq[7]: reply API.example.com is 198.51.100.9\n\
        Nov 22 02:53:43 dnsmasq[7]: reply API.example.com is 198.51.100.10\n\
        Nov 22 02:53:43 dnsmasq[7]: reply www.example.com is <CNAME>\n";
    fs::write(state.join("dnsmasq.log"), log).unwrap();
    let meta = place.path().join("dossier.json");
    fs::write(&meta, r#"{"name":"first","task":""}"#).unwrap();
    let annotations = json!({"meta_path": meta, "task": "t1"});
    let annotations = format!("--annotations={annotations}");
    let mut reader = start(&mut place.reader(side, &["--emit=json", &annotations])).await;
    let mut lines = vec![reader.json().await];

    connect("203.0.113.7:443");
    lines.push(reader.json().await);
    fs::write(&meta, r#"{"name":"second","count":2}"#).unwrap();
    // The other address of the same name, and the same address again, are no news.
    connect("198.51.100.9:8443");
    connect("198.51.100.10:8443");
    connect("203.0.113.7:80");
    // What is private was not asked about, nor is it asked.
    connect("10.0.0.1:443");
    send("203.0.113.8:5353");
    lines.push(reader.json().await);
    lines.push(reader.json().await);
    fs::remove_file(&meta).unwrap();
    // A name that was looked up since.
    let more = "Nov 22 02:53:44 dnsmasq[7]: cached Late.Example.com is 198.51.100.11\n";
    fs::write(state.join("dnsmasq.log"), format!("{log}{more}")).unwrap();
    connect("[2001:db8:1::7]:443");
    connect("198.51.100.11:443");
    lines.push(reader.json().await);
    lines.push(reader.json().await);
    for line in stop(reader).await.lines() {
        lines.push(serde_json::from_str(line).unwrap());
    }
    let audit = fs::read_to_string(state.join("audit.jsonl")).unwrap();
    Said {
        lines: lines.into_iter().map(without_times_and_ids).collect(),
        audit: audit.lines().map(in_order).collect(),
    }
}

/// Takes out of a line what is another each time, and checks what it is.
fn without_times_and_ids(mut line: Value) -> Value {
    if line["type"] == "pending" {
        let fields = line.as_object_mut().unwrap();
        let id = fields.remove("id").unwrap();
        let number = id.as_str().unwrap().strip_prefix(&format!("{CONTAINER}:"));
        number.unwrap().parse::<u64>().unwrap();
        let ts = fields.remove("ts").unwrap();
        assert!(ts.as_str().unwrap().ends_with("+00:00"), "{ts}");
    }
    line
}

/// The fields of a line of the audit log, in its order, without the time.
fn in_order(line: &str) -> Value {
    let (ts, rest) = line.split_once(',').unwrap();
    assert_eq!(ts.len(), "{\"ts\":\"2026-01-01T00:00:00+00:00\"".len());
    let value: Value = serde_json::from_str(&format!("{{{rest}")).unwrap();
    let fields = value.as_object().unwrap();
    let mut at = Vec::new();
    for key in fields.keys() {
        at.push((rest.find(&format!("\"{key}\":")).unwrap(), key));
    }
    at.sort_unstable();
    let order: Vec<&String> = at.into_iter().map(|(_, key)| key).collect();
    json!([order, value])
}

/// The kernel keeps a packet back for a second unless it is told not to, which they do not.
#[tokio::test]
async fn a_single_block_waits_a_second_with_theirs_and_for_nothing_with_ours() {
    add_dead_end_uplink();
    let place = Place::new();
    let second = Duration::from_millis(900);
    for stack in Stack::ALL {
        network::shield(&place, stack).await;
        let mut theirs = start(&mut place.reader(Side::Theirs(stack), &["--emit=json"])).await;
        let waited = until_told(&mut theirs, 2).await;
        assert!(waited.iter().all(|wait| *wait >= second), "{waited:?}");
        stop(theirs).await;
    }
    let mut ours = start(&mut place.reader(Side::Ours, &["--emit=json"])).await;
    // A busy machine may hold up some of them, but not each.
    let waited = until_told(&mut ours, 8).await;
    assert!(waited.iter().any(|wait| *wait < second), "{waited:?}");
    stop(ours).await;
}

/// Returns the time from each of `count` packets to its line.
#[expect(clippy::disallowed_methods, reason = "the time is what this is about")]
async fn until_told(reader: &mut Running, count: u8) -> Vec<Duration> {
    reader.line().await;
    let mut waited = Vec::new();
    for host in 1..=count {
        let sent = Instant::now();
        connect(&format!("203.0.113.{host}:443"));
        let line = reader.json().await;
        assert_eq!(line["dest"], format!("203.0.113.{host}"));
        waited.push(sent.elapsed());
    }
    waited
}

/// A sandbox chooses the names that it looks up, and dnsmasq's log has them.
#[tokio::test]
async fn a_name_made_to_look_like_an_answer_names_nothing_with_ours() {
    add_dead_end_uplink();
    let place = Place::new();
    network::shield(&place, Stack::V0_8_1).await;
    let forged =
        "Nov 22 02:53:43 dnsmasq[7]: query[A] reply bank.example is 203.0.113.7 x from 127.0.0.1\n";
    fs::write(place.state_dir().join("dnsmasq.log"), forged).unwrap();
    for (side, domain) in [
        (Side::Theirs(Stack::V0_8_1), "bank.example"),
        (Side::Ours, ""),
    ] {
        let mut reader = start(&mut place.reader(side, &["--emit=json"])).await;
        reader.line().await;
        connect("203.0.113.7:443");
        assert_eq!(reader.json().await["domain"], domain, "{side:?}");
        stop(reader).await;
    }
}
