// SPDX-License-Identifier: Apache-2.0
//! A question that is asked again and again is answered once, and costs no memory.

use serde_json::{Value, json};
use terok_clearance::varlink::{NoParameters, ReplyStream, VarlinkConnection};
use terok_clearance::wire::clearance1;

use super::{CONTAINER, Whose, classic, unknown, verdict, write};
use crate::harness::{Place, Running, Shield, pending};

const DEST: &str = "api.example.com";

fn block(n: usize) -> Value {
    pending(&format!("{CONTAINER}:{n}"), DEST)
}

#[tokio::test]
async fn three_blocks_are_three_answers_there_and_one_here() {
    for whose in Whose::BOTH {
        let place = Place::new();
        let _hub = whose.hub(&place).await;
        let shield = Shield::within(&place.path().join("bin"));
        let _helper = place.our_helper(&shield).await;
        let (hub, ingester) = classic(&place);
        write(&ingester, &[block(1), block(2), block(3)]).await;
        let id = |n: usize| format!("{CONTAINER}:{n}");
        while verdict(&hub, &id(3), "mark").await == unknown(&id(3)) {
            tokio::task::yield_now().await;
        }
        let mut said = Vec::new();
        for n in 1..=3 {
            said.push(verdict(&hub, &id(n), DEST).await);
        }
        let orders = shield.asked().len();
        match whose {
            Whose::Theirs => assert_eq!((said, orders), (vec![Ok(()), Ok(()), Ok(())], 3)),
            // Any of the three names the question, and there is one question.
            Whose::Ours => {
                let expected = vec![Ok(()), unknown(&id(2)), unknown(&id(3))];
                assert_eq!((said, orders), (expected, 1));
            }
        }
    }
}

/// Returns the anonymous memory of a process, in KiB: what is shared with another program's
/// processes, and so depends on what else runs, is left out.
fn memory(process: &Running) -> i64 {
    let rollup = format!("/proc/{}/smaps_rollup", process.pid().as_raw_nonzero());
    let rollup = std::fs::read_to_string(rollup).unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Pss_Anon:"));
    let kib = line.expect("a line of it").split_whitespace().nth(1);
    kib.unwrap().parse().unwrap()
}

/// Reports the blocks of these numbers, and returns when the hub has told of the last.
async fn blocked(
    place: &Place,
    stream: &mut ReplyStream,
    numbers: std::ops::RangeInclusive<usize>,
) {
    let (_, ingester) = classic(place);
    let last = format!("{CONTAINER}:{}", numbers.end());
    let lines: Vec<_> = numbers.map(block).collect();
    write(&ingester, &lines).await;
    loop {
        let told: Value = stream.next().await.unwrap().expect("it goes on");
        if told["event"]["request_id"] == last.as_str() {
            return;
        }
    }
}

#[tokio::test]
async fn ten_thousand_blocks_of_one_destination_grow_their_hub_alone() {
    const BLOCKS: usize = 10_000;
    let mut grown = Vec::new();
    for whose in Whose::BOTH {
        let place = Place::new();
        let process = whose.hub(&place).await;
        let (hub, ingester) = classic(&place);
        let connection = VarlinkConnection::connect(&hub).await.unwrap();
        let subscribed = connection.call_more(clearance1::SUBSCRIBE, &NoParameters {});
        let mut stream = subscribed.await.unwrap();
        // Their hub tells only those whose subscription it has read.
        let up = json!({"type": "shield_up", "container": CONTAINER});
        let mut again = tokio::time::interval(std::time::Duration::from_millis(50));
        loop {
            tokio::select! {
                _ = again.tick() => write(&ingester, std::slice::from_ref(&up)).await,
                told = stream.next::<Value>() => break drop(told.unwrap()),
            }
        }
        // What it takes for buffers at first is no growth.
        blocked(&place, &mut stream, 1..=1_000).await;
        let before = memory(&process);
        // Read as they come: what waits for a slow reader is no growth either.
        for first in (1_001..=1_000 + BLOCKS).step_by(100) {
            blocked(&place, &mut stream, first..=first + 99).await;
        }
        grown.push(memory(&process) - before);
    }
    let [theirs, ours] = grown[..] else {
        unreachable!()
    };
    println!("{BLOCKS} blocks of one destination: theirs {theirs} KiB, ours {ours} KiB more");
    assert!(theirs > 1_000, "theirs grew by {theirs} KiB");
    assert!(ours < 300, "ours grew by {ours} KiB");
}
