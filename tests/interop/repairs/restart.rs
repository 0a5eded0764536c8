// SPDX-License-Identifier: Apache-2.0
//! After a hub was killed, the sandbox's next packet asks again: their reader, which has told the
//! old hub, hides it from the new one for 30 seconds.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::interval;

use super::ground::{RULES, reader, run, send, way_out};
use super::{Whose, event};
use crate::harness::{Place, Running};

const DEST: &str = "203.0.113.1";
const OTHER: &str = "203.0.113.2";

/// Sends packets to each of these, as a program does that tries again, until the prompt is asked
/// about one of them, and returns the question.
async fn asked(prompt: &mut Running, addresses: &[&str]) -> Value {
    let mut again = interval(Duration::from_millis(100));
    let asked = event(prompt, "pending");
    tokio::pin!(asked);
    loop {
        tokio::select! {
            asked = &mut asked => return asked,
            _ = again.tick() => addresses.iter().copied().for_each(send),
        }
    }
}

async fn kill(hub: Running) {
    hub.signal(Signal::KILL);
    hub.end().await;
}

#[tokio::test]
async fn their_reader_hides_the_question_from_the_new_hub_and_ours_asks_it() {
    for whose in Whose::BOTH {
        let place = Place::new();
        if whose == Whose::Theirs {
            way_out(&place).await;
            run(&place, "nft", "-f -", RULES).await;
        }
        let hub = place.our_hub(&[]).await;
        let ingester = place.runtime().shared_hub_sockets().ingester;
        let told = format!("--hub-socket={}", ingester.display());
        let _reader = reader(&place, whose, &["--emit=socket", &told]).await;
        let mut prompt = Running::start(&mut place.ours(&["--json", "clearance"]));
        assert_eq!(asked(&mut prompt, &[DEST]).await["row"], 1);
        kill(hub).await;
        let _hub = place.our_hub(&[]).await;
        event(&mut prompt, "lapsed").await;
        match whose {
            // Of what is tried again, only what it has not told the old hub comes through.
            Whose::Theirs => {
                let new = asked(&mut prompt, &[DEST, OTHER]).await;
                assert_eq!((&new["row"], &new["dest"]), (&json!(2), &json!(OTHER)));
                prompt.say("l").await;
                let first = event(&mut prompt, "listed").await;
                assert_eq!((&first["row"], &first["lapsed"]), (&json!(1), &json!(true)));
            }
            Whose::Ours => {
                let again = asked(&mut prompt, &[DEST]).await;
                assert_eq!((&again["row"], &again["dest"]), (&json!(1), &json!(DEST)));
            }
        }
    }
}

#[tokio::test]
async fn our_supervisor_that_was_killed_asks_again_under_the_same_number() {
    let place = Place::new();
    way_out(&place).await;
    let sandbox = Running::start(&mut place.command("cat"));
    let mut guard = Running::start(&mut place.supervise(&sandbox, &["--json"]));
    let ready = guard.json().await;
    let mut prompt = Running::start(&mut place.ours(&["--json", "clearance"]));
    event(&mut prompt, "ready").await;
    assert_eq!(asked(&mut prompt, &[DEST]).await["row"], 1);
    kill(guard).await;
    let mut guard = Running::start(&mut place.supervise(&sandbox, &["--json"]));
    assert_eq!(guard.json().await["hub"], ready["hub"]);
    event(&mut prompt, "lapsed").await;
    let again = asked(&mut prompt, &[DEST]).await;
    assert_eq!((&again["row"], &again["dest"]), (&json!(1), &json!(DEST)));
}
