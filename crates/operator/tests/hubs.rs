// SPDX-License-Identifier: Apache-2.0
//! Hubs are found when they come and missed when they go, in directories that come and go too.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use terok_clearance::client::ProtocolVersion;
use terok_clearance::socket::{self, RuntimeDir, SocketLayout};
use terok_clearance::wire::clearance2::{self, Event};
use terok_clearance_operator::discovery::Hubs;
use terok_clearance_operator::inbox::{HubId, InboxEvent};

use test_support::fake_hub::{FakeHub as Hub, RunningHubs as Running};

/// A hub without questions.
fn empty() -> Hub {
    let mut frame = Vec::new();
    Event::Synced.append_frame(1, &mut frame);
    Hub::silent(&[clearance2::INTERFACE]).with_frames(frame)
}

async fn next(hubs: &mut Hubs) -> (PathBuf, &'static str) {
    let next = tokio::time::timeout(Duration::from_secs(10), hubs.next_event());
    let (hub, news) = next.await.expect("a hub has something to tell");
    let word = match news {
        InboxEvent::Up(ProtocolVersion::Clearance2) => "up",
        InboxEvent::Up(ProtocolVersion::Clearance1) => "up, an old one",
        InboxEvent::Received(Event::Synced) => "synced",
        InboxEvent::Received(_) => "said something",
        InboxEvent::UnknownEvent(_) => "said something unknown",
        InboxEvent::Down(_) => "down",
        InboxEvent::Restarted => "restarted",
        InboxEvent::Unreachable(_) => "unreachable",
        InboxEvent::Gone => "gone",
    };
    (hub.path().to_owned(), word)
}

async fn expect(hubs: &mut Hubs, path: &Path, words: &[&'static str]) {
    for word in words {
        assert_eq!(next(hubs).await, (path.to_owned(), *word));
    }
}

fn runtime() -> (tempfile::TempDir, RuntimeDir) {
    let directory = tempfile::tempdir().unwrap();
    // Neither it nor the directory that holds it is there yet.
    let runtime = RuntimeDir::new(directory.path().join("user/1000"));
    (directory, runtime)
}

#[tokio::test]
async fn hubs_of_every_layout_are_found_in_new_directories() {
    let (_directory, runtime) = runtime();
    let mut hubs = Hubs::discover(runtime.clone()).unwrap();
    assert!(hubs.is_synced());
    let mut running = Running::default();
    let web = "0123456789abcdef".parse().unwrap();
    for path in [
        runtime.sandbox_sockets(&web, SocketLayout::D).hub,
        runtime.sandbox_sockets(&web, SocketLayout::C).hub,
        runtime.shared_hub_sockets().hub,
    ] {
        let stop = running.start(&path, empty());
        expect(&mut hubs, &path, &["up", "synced"]).await;
        assert!(hubs.client(&HubId::new(&path)).is_some());
        stop.cancel();
        expect(&mut hubs, &path, &["down", "gone"]).await;
        assert!(hubs.client(&HubId::new(&path)).is_none());
    }
}

#[tokio::test]
async fn existing_hubs_sync_before_discovery_is_synced() {
    let (_directory, runtime) = runtime();
    let mut running = Running::default();
    let path = runtime.shared_hub_sockets().hub;
    let _stop = running.start(&path, empty());
    let mut hubs = Hubs::discover(runtime).unwrap();
    assert!(!hubs.is_synced());
    expect(&mut hubs, &path, &["up"]).await;
    assert!(!hubs.is_synced());
    expect(&mut hubs, &path, &["synced"]).await;
    assert!(hubs.is_synced());
}

#[tokio::test]
async fn hub_is_found_again_after_its_directories_were_removed() {
    let (directory, runtime) = runtime();
    let path = runtime
        .sandbox_sockets(&"web".parse().unwrap(), SocketLayout::D)
        .hub;
    let mut hubs = Hubs::discover(runtime).unwrap();
    let mut running = Running::default();
    for _ in 0..3 {
        let stop = running.start(&path, empty());
        expect(&mut hubs, &path, &["up", "synced"]).await;
        std::fs::remove_dir_all(directory.path().join("user")).unwrap();
        // The file is gone, the hub is not: it is listened to until it ends.
        stop.cancel();
        expect(&mut hubs, &path, &["down", "gone"]).await;
    }
}

#[tokio::test]
async fn stale_socket_does_not_delay_sync() {
    let (_directory, runtime) = runtime();
    let path = runtime.shared_hub_sockets().hub;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::set_permissions(
        path.parent().unwrap(),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut hubs = Hubs::discover(runtime).unwrap();
    assert!(!hubs.is_synced());
    expect(&mut hubs, &path, &["unreachable"]).await;
    assert!(hubs.is_synced());
    // Nobody tries any more; a new hub in its place is found all the same.
    let mut running = Running::default();
    let _stop = running.start(&path, empty());
    expect(&mut hubs, &path, &["up", "synced"]).await;
}

#[tokio::test]
async fn socket_path_selects_one_hub() {
    let (_directory, runtime) = runtime();
    let path = runtime.shared_hub_sockets().hub;
    let mut hubs = Hubs::at_socket(path.clone()).unwrap();
    let mut running = Running::default();
    let other = runtime
        .sandbox_sockets(&"web".parse().unwrap(), SocketLayout::D)
        .hub;
    let _other = running.start(&other, empty());
    let _stop = running.start(&path, empty());
    expect(&mut hubs, &path, &["up", "synced"]).await;
}

#[tokio::test(start_paused = true)]
async fn unresponsive_hubs_delay_sync_only_until_the_timeout() {
    let (_directory, runtime) = runtime();
    let deaf = runtime
        .sandbox_sockets(&"deaf".parse().unwrap(), SocketLayout::D)
        .hub;
    let mute = runtime
        .sandbox_sockets(&"mute".parse().unwrap(), SocketLayout::D)
        .hub;
    let mut running = Running::default();
    // It takes the call, and never says what is pending.
    let silent = Hub::silent(&[clearance2::INTERFACE]);
    let _stop = running.start(&mute, silent);
    // Stopped, say: the kernel takes connections for it, and nobody looks at them.
    let deaf = socket::bind(&deaf)
        .map(|listener| (listener, deaf))
        .unwrap();
    let start = tokio::time::Instant::now();
    let mut hubs = Hubs::discover(runtime).unwrap();
    let mut told = Vec::new();
    while !hubs.is_synced() {
        let (hub, news) = hubs.next_event().await;
        told.push((
            hub.path().to_owned(),
            matches!(news, InboxEvent::Unreachable(_)),
        ));
    }
    assert!(start.elapsed() < Duration::from_secs(7));
    told.sort();
    assert_eq!(told, [(deaf.1, true), (mute.clone(), false), (mute, true)]);
}
