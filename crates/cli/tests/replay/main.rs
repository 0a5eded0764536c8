// SPDX-License-Identifier: Apache-2.0
//! Replays recordings of the Python stack with our hub and our verdict helper.
//!
//! Each file of `tests/interop/recordings` is a session of one release: its hub, its helper, its
//! client, and frames that no client sends. The test sends the recorded input over real sockets in
//! the same order, and compares the output field by field. `known.txt` lists the intended
//! differences; an entry without a difference fails the test. 0.6.6, 0.6.12 and 0.6.14a7 are in no
//! registry, so the recordings are the only evidence of them; `./check interop` repeats those of
//! 0.7.0 and newer.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod compare;
mod harness;
mod known;
mod recording;
mod relay;

use compare::{Difference, compare};
use harness::ReplayHarness;
use known::Known;
use recording::Recording;

/// The recordings of sessions, each with the era of our hub.
const SESSIONS: [(&str, &str); 5] = [
    ("0.6.6", "a"),
    ("0.6.12", "b"),
    ("0.6.14a7", "d"),
    ("0.7.0", "d"),
    ("0.8.1", "d"),
];

async fn replay(name: &str, era: &str) -> Vec<Difference> {
    let recording = Recording::read(name);
    let mut harness = ReplayHarness::start(era).await;
    let mut found = Vec::new();
    for step in &recording.steps {
        let ours = harness.perform(step).await;
        found.extend(compare(step, ours));
    }
    found
}

/// Replays a session. The differences have to be exactly the known ones.
async fn check(release: &str) {
    let (_, era) = SESSIONS.iter().find(|(name, _)| *name == release).unwrap();
    let known = Known::of(release);
    let found = replay(release, era).await;
    let new: Vec<_> = found
        .iter()
        .filter(|difference| !known.iter().any(|known| known.covers(difference)))
        .map(ToString::to_string)
        .collect();
    let gone: Vec<_> = known
        .iter()
        .filter(|known| !found.iter().any(|difference| known.covers(difference)))
        .map(|known| format!("{known:?}"))
        .collect();
    assert!(
        new.is_empty() && gone.is_empty(),
        "{release}: {} unknown differences:\n{}\nand {} known differences that did not occur:\n{}",
        new.len(),
        new.join("\n"),
        gone.len(),
        gone.join("\n"),
    );
}

#[tokio::test]
async fn a_session_of_0_6_6_of_era_a() {
    check("0.6.6").await;
}

#[tokio::test]
async fn a_session_of_0_6_12_of_era_b() {
    check("0.6.12").await;
}

#[tokio::test]
async fn a_session_of_0_6_14a7_the_last_with_one_shared_hub() {
    check("0.6.14a7").await;
}

#[tokio::test]
async fn a_session_of_0_7_0_of_era_c() {
    check("0.7.0").await;
}

#[tokio::test]
async fn a_session_of_0_8_1_of_era_d() {
    check("0.8.1").await;
}

/// The clients of these recordings, which reject unknown fields, delivered every event of our hub.
/// Our hub has to send exactly the same messages today.
#[tokio::test]
async fn messages_for_clients_of_each_era_are_unchanged() {
    for (release, era) in [("0.6.6", "a"), ("0.6.12", "b"), ("0.6.14a7", "d")] {
        let found = replay(&format!("ours-{release}"), era).await;
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{release}:\n{}", found.join("\n"));
    }
}

/// A client of 0.6.6 rejects an event with a dossier: the replay detects a hub of another era.
#[tokio::test]
async fn a_hub_of_another_era_is_detected() {
    let found = replay("ours-0.6.6", "d").await;
    let dossiers = found
        .iter()
        .filter(|difference| difference.at == "/parameters/event/dossier");
    assert!(dossiers.count() > 20, "{found:?}");
    assert!(
        found
            .iter()
            .any(|difference| difference.ours == r#""shield_disengaged""#)
    );
}
