// SPDX-License-Identifier: Apache-2.0
//! `terok-shield down` names a container by its podman name, a reader by its id: on a socket of
//! one container both mean that one.

use std::path::{Path, PathBuf};

use serde_json::json;
use terok_clearance::wire::clearance1::VerdictError;

use super::{CONTAINER, Whose, classic, unknown, verdict, write};
use crate::harness::{Place, Running, pending};

const DEST: &str = "api.example.com";

/// Asks, lets the shield of `named` down, and returns what a verdict then gets.
async fn after_down(hub: &Path, ingester: &Path, named: &str) -> Result<(), VerdictError> {
    let request = format!("{CONTAINER}:1");
    let down = json!({"type": "shield_down", "container": named});
    write(ingester, &[pending(&request, DEST), down]).await;
    // The hub has read it when it knows what was said after it.
    let last = format!("{CONTAINER}:2");
    write(ingester, &[pending(&last, "other.example.com")]).await;
    while verdict(hub, &last, DEST).await == unknown(&last) {
        tokio::task::yield_now().await;
    }
    verdict(hub, &request, DEST).await
}

/// Starts our supervisor of a network namespace of its own, and returns the two, and its sockets.
async fn supervise(place: &Place) -> ([Running; 2], PathBuf, PathBuf) {
    let mut sandbox = place.command("unshare");
    sandbox.args(["--net", "sh", "-c", "echo ready; exec cat"]);
    let mut sandbox = Running::start(&mut sandbox);
    sandbox.until("ready").await;
    let mut ours = Running::start(&mut place.supervise(&sandbox, &["--json"]));
    let ready = ours.json().await;
    let path = |key: &str| PathBuf::from(ready[key].as_str().expect("a path"));
    let (hub, ingester) = (path("hub"), path("ingester"));
    ([sandbox, ours], hub, ingester)
}

#[tokio::test]
async fn their_hub_keeps_what_a_podman_name_should_clear() {
    let place = Place::new();
    let _hub = Whose::Theirs.hub(&place).await;
    let (hub, ingester) = classic(&place);
    let kept = after_down(&hub, &ingester, "podman-name").await;
    // There is no helper: that it is asked at all shows that the question still stands.
    assert!(
        matches!(kept, Err(VerdictError::ShieldCliFailed { .. })),
        "{kept:?}"
    );
}

#[tokio::test]
async fn ours_clears_it_on_the_socket_of_one_container() {
    let place = Place::new();
    let (_running, hub, ingester) = supervise(&place).await;
    let cleared = after_down(&hub, &ingester, "podman-name").await;
    assert_eq!(cleared, unknown(&format!("{CONTAINER}:1")));
}

#[tokio::test]
async fn on_the_socket_of_all_a_name_clears_nobody_elses() {
    let place = Place::new();
    let _hub = Whose::Ours.hub(&place).await;
    let (hub, ingester) = classic(&place);
    let kept = after_down(&hub, &ingester, "podman-name").await;
    assert!(
        matches!(kept, Err(VerdictError::ShieldCliFailed { .. })),
        "{kept:?}"
    );
    let cleared = after_down(&hub, &ingester, CONTAINER).await;
    assert_eq!(cleared, unknown(&format!("{CONTAINER}:1")));
}
