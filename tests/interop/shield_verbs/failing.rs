// SPDX-License-Identifier: Apache-2.0
//! Verbs that fail or are killed: nothing is more open than before.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::sleep;

use super::{By, ID, ShieldHost};
use crate::harness::Running;

/// Waits for the nth call of nft, and fails it.
const BROKEN_NFT: &str = r#"#!/bin/sh
here=${0%/*}
echo "$*" >>"$here/nft.calls"
calls=$(wc -l <"$here/nft.calls")
[ "$calls" -ne "$(cat "$here/nft.broken")" ] || { echo 'Error: out of order' >&2; exit 1; }
exec /usr/sbin/nft "$@"
"#;

#[tokio::test]
async fn whichever_step_fails_an_allow_opens_nothing() {
    let host = ShieldHost::new();
    let container = host.start("box").await;
    host.done(By::Ours, &["up", "box", "--container-id", ID])
        .await;
    let (rules, files) = (host.rules(&container).await, host.files("box"));
    host.program("nft", BROKEN_NFT);
    for broken in 1..=3 {
        fs::write(host.path().join("nft.calls"), "").unwrap();
        fs::write(host.path().join("nft.broken"), broken.to_string()).unwrap();
        let ended = host.verb(By::Ours, &["allow", "box", "203.0.113.20"]).await;
        assert_eq!(ended.status.code(), Some(1), "{broken}: {ended:?}");
        assert!(ended.errors.starts_with("Error: "), "{broken}: {ended:?}");
        assert_eq!(host.rules(&container).await, rules, "{broken}");
        assert_eq!(host.files("box"), files, "{broken}");
    }
    fs::write(host.path().join("nft.broken"), "0").unwrap();
    // A policy file that cannot be written.
    let live = host.state("box").join("policy/live");
    fs::create_dir(&live).unwrap();
    let ended = host.verb(By::Ours, &["allow", "box", "203.0.113.20"]).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert_eq!(host.rules(&container).await, rules);
    fs::remove_dir(&live).unwrap();
    fs::write(&live, "broken\n").unwrap();
    for verb in ["allow", "deny"] {
        let ended = host.verb(By::Ours, &[verb, "box", "203.0.113.20"]).await;
        assert!(ended.errors.contains("line 1"), "{ended:?}");
        assert_eq!(host.rules(&container).await, rules);
        assert_eq!(fs::read_to_string(&live).unwrap(), "broken\n");
    }
}

#[tokio::test]
async fn whichever_step_fails_a_posture_is_the_old_or_the_new_one() {
    let host = ShieldHost::new();
    let container = host.start("box").await;
    host.done(By::Ours, &["up", "box", "--container-id", ID])
        .await;
    let up = host.rules(&container).await;
    host.done(By::Ours, &["down", "box", "--container-id", ID])
        .await;
    let down = host.rules(&container).await;
    host.done(By::Ours, &["up", "box", "--container-id", ID])
        .await;
    host.program("nft", BROKEN_NFT);
    for broken in 1..=3 {
        fs::write(host.path().join("nft.calls"), "").unwrap();
        fs::write(host.path().join("nft.broken"), broken.to_string()).unwrap();
        let ended = host
            .verb(By::Ours, &["down", "box", "--container-id", ID])
            .await;
        assert_eq!(ended.status.code(), Some(1), "{broken}: {ended:?}");
        let rules = host.rules(&container).await;
        // The third call only reads: the posture was changed, and could not be confirmed.
        let expected = if broken < 3 { &up } else { &down };
        assert_eq!(&rules, expected, "{broken}");
        assert!(
            !host.files("box").contains("shield_down\"}\n\n"),
            "{broken}"
        );
    }
}

#[tokio::test]
async fn a_deny_is_kept_even_if_the_container_does_not_run() {
    let host = ShieldHost::new();
    let container = host.start("box").await;
    host.done(By::Ours, &["up", "box", "--container-id", ID])
        .await;
    let pid = host.path().join("box.pid");
    let number = fs::read_to_string(&pid).unwrap();
    fs::write(&pid, "0").unwrap();
    let theirs = host
        .done(By::Theirs, &["deny", "box", "203.0.113.11"])
        .await;
    assert!(theirs.starts_with("Denied "), "{theirs}");
    let ended = host.verb(By::Ours, &["deny", "box", "203.0.113.11"]).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(
        ended.errors.contains("from the next `up` or start on"),
        "{ended:?}"
    );
    let ended = host.verb(By::Ours, &["allow", "box", "203.0.113.12"]).await;
    assert!(ended.errors.contains("does not run"), "{ended:?}");
    fs::write(&pid, number).unwrap();
    host.done(By::Ours, &["up", "box", "--container-id", ID])
        .await;
    let rules = host.rules(&container).await;
    assert!(rules.contains("203.0.113.11"), "{rules}");
    let live = fs::read_to_string(host.state("box").join("policy/live")).unwrap();
    assert_eq!(live, "-203.0.113.11\n");
    assert!(!rules.contains("203.0.113.12"), "{rules}");
}

/// Applies what it is given and does not end.
const STUCK_NFT: &str = r#"#!/bin/sh
/usr/sbin/nft "$@"
case $1 in -f) ! grep -q stuck "${0%/*}/stuck" || { : >"${0%/*}/stuck"; exec sleep 60; } ;; esac
"#;

#[tokio::test]
async fn a_change_whose_end_is_unknown_is_undone_or_confirmed() {
    let host = ShieldHost::new();
    let container = host.start("box").await;
    host.done(By::Ours, &["up", "box", "--container-id", ID])
        .await;
    let (rules, files) = (host.rules(&container).await, host.files("box"));
    host.program("nft", STUCK_NFT);
    fs::write(host.path().join("stuck"), "stuck").unwrap();
    let ended = host.verb(By::Ours, &["allow", "box", "203.0.113.20"]).await;
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.errors.contains("took longer than 5 s"), "{ended:?}");
    assert_eq!(host.rules(&container).await, rules);
    assert_eq!(host.files("box"), files);
    // A posture is what the rules say.
    fs::write(host.path().join("stuck"), "stuck").unwrap();
    host.done(By::Ours, &["down", "box", "--container-id", ID])
        .await;
    assert_eq!(host.done(By::Theirs, &["status", "box"]).await, "down\n");
    assert!(host.files("box").contains("shield_down"));
}

/// Kills a verb at many moments. What is seen afterwards is the old or the new state.
#[tokio::test]
async fn a_killed_verb_leaves_the_old_or_the_new_state() {
    let host = ShieldHost::new();
    let container = host.start("box").await;
    host.done(By::Ours, &["up", "box", "--container-id", ID])
        .await;
    let up = host.rules(&container).await;
    host.done(By::Ours, &["down", "box", "--container-id", ID])
        .await;
    let down = host.rules(&container).await;
    let live = || fs::read_to_string(host.state("box").join("policy/live")).unwrap_or_default();
    for milliseconds in 0..40 {
        let verb = if milliseconds % 2 == 0 { "up" } else { "down" };
        let mut command = host.command(By::Ours, &[verb, "box", "--container-id", ID]);
        let mut running = Running::start(&mut command);
        // The moment is what is tested.
        sleep(Duration::from_millis(milliseconds)).await;
        running.signal(Signal::KILL);
        running.wait().await;
        let rules = host.rules(&container).await;
        assert!(
            rules == up || rules == down,
            "{verb} after {milliseconds} ms: {rules}"
        );
    }
    host.done(By::Ours, &["up", "box", "--container-id", ID])
        .await;
    for milliseconds in 0..40 {
        let address = format!("203.0.113.{}", 100 + milliseconds);
        let mut command = host.command(By::Ours, &["allow", "box", &address]);
        let mut running = Running::start(&mut command);
        sleep(Duration::from_millis(milliseconds)).await;
        running.signal(Signal::KILL);
        running.wait().await;
        // Later starts allow nothing that is not allowed now.
        let is_open = host.rules(&container).await.contains(&address);
        let is_kept = live().contains(&format!("+{address}\n"));
        assert!(is_open || !is_kept, "{address} after {milliseconds} ms");
    }
    // No file was torn, and no lock is left.
    host.done(By::Ours, &["deny", "box", "203.0.113.100"]).await;
    host.done(By::Theirs, &["up", "box", "--container-id", ID])
        .await;
}
