// SPDX-License-Identifier: Apache-2.0
//! What was recorded of the Python stack, said again to our hub and our verdict helper.
//!
//! Each file of `tests/interop/recordings` is a whole session of one release: its hub, its helper,
//! its client, and frames that no client sends. What went in then goes in now, over real sockets
//! and in the same order; what comes out is compared field by field. `known.txt` lists what differs
//! on purpose; an entry that is no longer needed fails the test. 0.6.6, 0.6.12 and 0.6.14a7 are on
//! no registry, so these recordings are all that stands for them; those of 0.7.0 and newer are made
//! again by `./check interop`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

mod compare;
mod known;
mod recording;
mod relay;
mod rig;

use compare::{Difference, compare};
use known::Known;
use recording::Recording;
use rig::Rig;

/// The recordings of whole sessions, and the era to be asked for.
const SESSIONS: [(&str, &str); 5] = [
    ("0.6.6", "a"),
    ("0.6.12", "b"),
    ("0.6.14a7", "d"),
    ("0.7.0", "d"),
    ("0.8.1", "d"),
];

async fn replay(name: &str, era: &str) -> Vec<Difference> {
    let recording = Recording::read(name);
    let mut rig = Rig::start(era).await;
    let mut found = Vec::new();
    for step in &recording.steps {
        let ours = rig.perform(step).await;
        found.extend(compare(step, ours));
    }
    found
}

/// Replays a session and fails unless it differs in what is known to differ, and in all of that.
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
        "{release}: {} differences are not known:\n{}\nand {} are known but are none:\n{}",
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
async fn a_session_of_0_6_14a7_the_last_with_one_hub_for_all() {
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

/// These clients talked with our hub when they were recorded, and delivered every event of it: they
/// refuse one with a field too many. So our hub must still say exactly what it said to them.
#[tokio::test]
async fn what_clients_of_each_era_took_from_our_hub() {
    for (release, era) in [("0.6.6", "a"), ("0.6.12", "b"), ("0.6.14a7", "d")] {
        let found = replay(&format!("ours-{release}"), era).await;
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{release}:\n{}", found.join("\n"));
    }
}

/// A client of 0.6.6 takes no event with a dossier: a hub of another era would be found out here.
#[tokio::test]
async fn a_hub_of_another_era_is_found_out() {
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
