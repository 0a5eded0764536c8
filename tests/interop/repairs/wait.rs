// SPDX-License-Identifier: Apache-2.0
//! A single packet is asked about at once: their reader leaves it to the kernel, which collects
//! reports for a second before it hands them over.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::Whose;
use super::ground::{RULES, reader, run, send, way_out};
use crate::harness::{Place, Running};

const PACKETS: u8 = 5;

/// Sends one packet after another, each to an address of its own when the one before was told of,
/// and returns the median of the times from packet to line.
async fn median(reader: &mut Running) -> Duration {
    let mut times = Vec::new();
    for n in 1..=PACKETS {
        let address = format!("203.0.113.{n}");
        let sent = Instant::now();
        send(&address);
        loop {
            let line: Value = reader.json().await;
            if line["dest"] == address.as_str() || line["address"] == address.as_str() {
                break;
            }
        }
        times.push(sent.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

#[tokio::test]
async fn a_single_packet_waits_a_second_there_and_not_here() {
    let place = Place::new();
    way_out(&place).await;
    let mut readers = Vec::new();
    run(&place, "nft", "-f -", RULES).await;
    for whose in Whose::BOTH {
        let mut reader = reader(&place, whose, &["--emit=json"]).await;
        assert_eq!(reader.json().await["type"], "container_started");
        readers.push(median(&mut reader).await);
        reader.signal(rustix::process::Signal::TERM);
        reader.end().await;
    }
    run(&place, "nft", "delete table inet terok_shield", "").await;
    let [theirs, ours] = readers[..] else {
        unreachable!()
    };
    // The whole way, from the packet to the person's line.
    let whole = {
        let sandbox = Running::start(&mut place.command("cat"));
        let mut guard = Running::start(&mut place.supervise(&sandbox, &["--json"]));
        let ready = guard.json().await;
        let hub = ready["hub"].as_str().expect("its socket");
        let mut prompt = place.ours(&["--json", "clearance", "--socket", hub]);
        let mut prompt = Running::start(&mut prompt);
        prompt.until(r#""event":"ready""#).await;
        prompt.line().await;
        median(&mut prompt).await
    };
    println!("packet to line: their reader {theirs:?}, ours {ours:?}; to our prompt {whole:?}");
    assert!(theirs > Duration::from_millis(500), "theirs {theirs:?}");
    assert!(ours * 3 < theirs, "ours {ours:?}, theirs {theirs:?}");
    assert!(whole * 3 < theirs, "{whole:?}, theirs {theirs:?}");
}
