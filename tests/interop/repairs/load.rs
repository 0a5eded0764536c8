// SPDX-License-Identifier: Apache-2.0
//! Under load: nothing is lost to a subscriber that keeps up, nobody can stop the hub, and who
//! leaves is noticed.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use terok_clearance::varlink::{NoParameters, VarlinkConnection};
use terok_clearance::wire::clearance1;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::{CONTAINER, Whose, classic, text, write};
use crate::harness::{Place, Running};

async fn greet(hub: &Path) -> VarlinkConnection {
    let mut connection = VarlinkConnection::connect(hub).await.unwrap();
    let info = connection.call("org.varlink.service.GetInfo", &NoParameters {});
    drop::<Value>(info.await.unwrap());
    connection
}

/// Subscribes, and returns how many of `lines`, written at once, arrive.
async fn arriving(hub: &Path, ingester: &Path, lines: &[Value]) -> usize {
    let subscribed = greet(hub)
        .await
        .call_more(clearance1::SUBSCRIBE, &NoParameters {});
    let mut stream = subscribed.await.unwrap();
    let mark = |named: &str| json!({"type": "shield_up", "container": named});
    let mut again = tokio::time::interval(Duration::from_millis(50));
    loop {
        tokio::select! {
            _ = again.tick() => write(ingester, &[mark("first")]).await,
            told = stream.next::<Value>() => break drop(told.unwrap()),
        }
    }
    let mut reader = UnixStream::connect(ingester).await.unwrap();
    reader.write_all(text(lines).as_bytes()).await.unwrap();
    let mut arrived = 0;
    let mut marked = false;
    loop {
        let told: Value = stream.next().await.unwrap().expect("it goes on");
        let event = &told["event"];
        if event["type"] == "connection_blocked" {
            arrived += 1;
            // The hub has begun with the lines, and this is one more of the same reader.
            if !std::mem::replace(&mut marked, true) {
                let last = format!("{}\n", mark("last"));
                reader.write_all(last.as_bytes()).await.unwrap();
            }
        } else if event["container"] == "last" {
            return arrived;
        }
    }
}

#[tokio::test]
async fn a_burst_reaches_who_keeps_up_whole_here_and_half_there() {
    let block = |n: usize| {
        json!({"type": "pending", "container": CONTAINER, "id": format!("{CONTAINER}:{n}"),
            "dest": format!("203.0.113.{n}"), "port": 443, "proto": 6, "domain": ""})
    };
    let lines: Vec<_> = (0..256).map(block).collect();
    for whose in Whose::BOTH {
        let place = Place::new();
        let _hub = whose.hub(&place).await;
        let (hub, ingester) = classic(&place);
        let arrived = arriving(&hub, &ingester, &lines).await;
        println!("of 256 events in one write: {arrived} by {whose:?}");
        match whose {
            Whose::Theirs => assert!(arrived < 200, "{arrived}"),
            Whose::Ours => assert_eq!(arrived, 256),
        }
    }
}

/// Returns the time that a process has computed for, in milliseconds.
fn computed(process: &Running) -> u64 {
    let stat = format!("/proc/{}/stat", process.pid().as_raw_nonzero());
    let stat = std::fs::read_to_string(stat).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum()
}

#[tokio::test]
async fn a_call_that_never_ends_costs_their_hub_a_second_and_ours_nothing() {
    let mut times = Vec::new();
    for whose in Whose::BOTH {
        let place = Place::new();
        let process = whose.hub(&place).await;
        let (hub, _) = classic(&place);
        drop(greet(&hub).await);
        let before = computed(&process);
        let mut endless = UnixStream::connect(&hub).await.unwrap();
        let sent = endless.write_all(&vec![b'x'; 4 << 20]).await;
        drop(greet(&hub).await);
        times.push(computed(&process) - before);
        // Theirs takes it all; ours ends the connection that has said too much.
        assert_eq!(sent.is_ok(), whose == Whose::Theirs, "{sent:?}");
    }
    let [theirs, ours] = times[..] else {
        unreachable!()
    };
    println!("4 MiB without an end: theirs computes {theirs} ms, ours {ours} ms");
    assert!(theirs >= 200, "theirs {theirs} ms");
    assert!(ours <= 100, "ours {ours} ms");
}

fn descriptors(process: &Running) -> usize {
    let descriptors = format!("/proc/{}/fd", process.pid().as_raw_nonzero());
    std::fs::read_dir(descriptors).unwrap().count()
}

#[tokio::test]
async fn who_leaves_is_noticed_at_once_here_and_at_the_next_event_there() {
    const GUESTS: usize = 50;
    for whose in Whose::BOTH {
        let place = Place::new();
        let process = whose.hub(&place).await;
        let (hub, _) = classic(&place);
        let _first = greet(&hub).await;
        let before = descriptors(&process);
        let mut guests = Vec::new();
        for _ in 0..GUESTS {
            let connection = greet(&hub).await;
            let subscribed = connection.call_more(clearance1::SUBSCRIBE, &NoParameters {});
            guests.push(subscribed.await.unwrap());
        }
        // What the hub reads after the calls, it answers after them.
        drop(greet(&hub).await);
        drop(greet(&hub).await);
        drop(guests);
        match whose {
            Whose::Theirs => {
                for _ in 0..20 {
                    drop(greet(&hub).await);
                }
                assert!(descriptors(&process) >= before + GUESTS);
            }
            Whose::Ours => {
                while descriptors(&process) > before {
                    tokio::task::yield_now().await;
                }
            }
        }
    }
}
