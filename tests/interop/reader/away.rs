// SPDX-License-Identifier: Apache-2.0
//! What our reader does when something is away: a hub, room on the disk, whoever reads its lines.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;
use serde_json::{Value, json};
use terok_clearance::socket::HubSocketPaths;
use test_support::namespaces::add_dead_end_uplink;

use super::network::{self, connect};
use super::{start, stop};
use crate::harness::{CONTAINER, Place, Running, Side, Stack, Wire, while_repeating};

/// A subscriber that may hear at once what was told before it came.
struct Late {
    wire: Wire,
    first: Option<Value>,
}

impl Late {
    async fn at(sockets: &HubSocketPaths) -> Self {
        let mut wire = Wire::connect(&sockets.hub).await;
        let subscribe = json!({"method": "org.terok.Clearance1.Subscribe", "more": true});
        wire.send(&subscribe).await;
        let up = json!({"type": "shield_up", "container": CONTAINER});
        let first = while_repeating(&sockets.ingester, &up, wire.receive()).await;
        let first = Some(first);
        Self { wire, first }
    }

    /// Waits for an event whose `field` is `value`; returns the destinations heard of before.
    async fn hears(&mut self, field: &str, value: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let reply = match self.first.take() {
                Some(first) => first,
                None => self.wire.receive().await,
            };
            let event = &reply["parameters"]["event"];
            if event[field] == value {
                return before;
            }
            before.extend(event["dest"].as_str().map(str::to_owned));
        }
    }
}

/// Theirs drops what it has while no hub listens; ours keeps it, and tells a new hub again.
#[tokio::test]
async fn a_hub_that_comes_late_or_anew_is_told_what_it_missed() {
    add_dead_end_uplink();
    for side in [Side::Ours, Side::Theirs(Stack::V0_8_1)] {
        let place = Place::new();
        network::shield(&place, Stack::V0_8_1).await;
        let sockets = place.runtime().shared_hub_sockets();
        let socket = format!("--hub-socket={}", sockets.ingester.display());
        let mut reader = start(&mut place.reader(Side::Ours, &[&socket])).await;
        connect("203.0.113.1:443");
        reader.until_error("the hub cannot be reached").await;

        let hub = place.hub(side).await;
        let mut subscriber = Late::at(&sockets).await;
        if side == Side::Ours {
            // It tells a late subscriber what is pending.
            subscriber.hears("dest", "203.0.113.1").await;
        }
        connect("203.0.113.2:443");
        subscriber.hears("dest", "203.0.113.2").await;

        hub.signal(Signal::KILL);
        hub.end().await;
        reader
            .until_error("the hub has closed the connection")
            .await;
        // Within half a minute of the first time: but that hub knew of it, and this one does not.
        connect("203.0.113.2:443");
        let _hub = place.hub(side).await;
        let mut subscriber = Late::at(&sockets).await;
        if side == Side::Ours {
            subscriber.hears("dest", "203.0.113.2").await;
        }
        stop(reader).await;
        subscriber.hears("type", "container_exited").await;
    }
}

#[tokio::test]
async fn their_reader_loses_what_it_has_while_no_hub_is_there() {
    add_dead_end_uplink();
    let place = Place::new();
    let stack = Stack::V0_8_1;
    network::shield(&place, stack).await;
    let sockets = place.runtime().shared_hub_sockets();
    let socket = format!("--hub-socket={}", sockets.ingester.display());
    let mut reader = start(&mut place.reader(Side::Theirs(stack), &[&socket])).await;
    reader.until_error("hub event socket unreachable").await;
    // It tells one after the other: with the second written down, it is done with the first.
    let audit = place.state_dir().join("audit.jsonl");
    for dest in ["203.0.113.1", "203.0.113.9"] {
        connect(&format!("{dest}:443"));
        while !fs::read_to_string(&audit).is_ok_and(|lines| lines.contains(dest)) {
            reader.alive();
            tokio::task::yield_now().await;
        }
    }
    let _hub = place.our_hub(&[]).await;
    let mut subscriber = Late::at(&sockets).await;
    connect("203.0.113.2:443");
    let before = subscriber.hears("dest", "203.0.113.2").await;
    assert!(!before.contains(&"203.0.113.1".to_owned()), "{before:?}");
    stop(reader).await;
}

#[tokio::test]
async fn an_audit_log_that_cannot_be_written_keeps_no_question_back() {
    add_dead_end_uplink();
    let place = Place::new();
    network::shield(&place, Stack::V0_8_1).await;
    let audit = place.state_dir().join("audit.jsonl");
    // A full disk, then something that is no file, then no directory at all.
    symlink("/dev/full", &audit).unwrap();
    let mut reader = start(&mut place.reader(Side::Ours, &["--emit=json"])).await;
    reader.line().await;
    connect("203.0.113.1:443");
    assert_eq!(reader.json().await["dest"], "203.0.113.1");
    reader.until_error("could not write to the audit log").await;
    fs::remove_file(&audit).unwrap();
    // There is room again: the destination was not written down, so it still is to be. It is no
    // question a second time.
    connect("203.0.113.1:443");
    connect("203.0.113.2:443");
    assert_eq!(reader.json().await["dest"], "203.0.113.2");
    assert_eq!(fs::read_to_string(&audit).unwrap().lines().count(), 2);
    fs::remove_file(&audit).unwrap();
    fs::create_dir(&audit).unwrap();
    connect("203.0.113.3:443");
    assert_eq!(reader.json().await["dest"], "203.0.113.3");
    fs::remove_dir_all(place.state_dir()).unwrap();
    connect("203.0.113.4:443");
    assert_eq!(reader.json().await["dest"], "203.0.113.4");
    stop(reader).await;
}

#[tokio::test]
async fn it_ends_well_when_nobody_reads_its_lines() {
    add_dead_end_uplink();
    let place = Place::new();
    network::shield(&place, Stack::V0_8_1).await;
    let mut reader = place.reader(Side::Ours, &["--emit=json"]);
    let reader = reader.stdout(std::process::Stdio::piped()).spawn();
    let mut reader = reader.unwrap();
    drop(reader.stdout.take());
    // Whether at its first line or at a later one: what is sent until it ends is no matter.
    let ended = loop {
        connect("203.0.113.1:443");
        if let Some(ended) = reader.try_wait().unwrap() {
            break ended;
        }
        tokio::task::yield_now().await;
    };
    assert!(ended.success(), "{ended:?}");
}

#[tokio::test]
async fn it_asks_podman_where_the_container_is_and_says_when_it_cannot() {
    add_dead_end_uplink();
    let place = Place::new();
    network::shield(&place, Stack::V0_8_1).await;
    for (podman, said) in [
        ("exit 125", "exit status: 125"),
        ("echo 0", "the container is not running"),
        ("echo nonsense", "expected a process id"),
    ] {
        let mut command = place.reader(Side::Ours, &["--emit=json"]);
        super::hook::podman(&place, podman);
        super::hook::outside(&place, &mut command);
        let ended = Running::start(&mut command).end().await;
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        assert!(ended.errors.contains(said), "{ended:?}");
    }
    super::hook::podman(&place, &format!("echo {}", std::process::id()));
    let mut command = place.reader(Side::Ours, &["--emit=json"]);
    super::hook::outside(&place, &mut command);
    let mut reader = start(&mut command).await;
    reader.line().await;
    connect("203.0.113.1:443");
    assert_eq!(reader.json().await["dest"], "203.0.113.1");
    stop(reader).await;
}
