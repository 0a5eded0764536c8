// SPDX-License-Identifier: Apache-2.0
//! Hubs are found when they come and missed when they go, in directories that come and go too.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use terok_clearance::client::ProtocolVersion;
use terok_clearance::socket::{self, RuntimeDir, SandboxRecord, SocketLayout};
use terok_clearance::wire::clearance2::{self, Event};
use terok_clearance_operator::Session;
use terok_clearance_operator::inbox::{HubId, InboxChange};

use test_support::fake_hub::{FakeHub as Hub, RunningHubs as Running};

/// A hub without questions.
fn empty() -> Hub {
    let mut frame = Vec::new();
    Event::Synced.append_frame(1, &mut frame);
    Hub::silent(&[clearance2::INTERFACE]).with_frames(frame)
}

/// Returns the hub and the kind of a change of the connection to a hub.
fn describe(change: &InboxChange) -> (PathBuf, &'static str) {
    let (hub, kind) = match change {
        InboxChange::Up(hub, ProtocolVersion::Clearance2) => (hub, "up"),
        InboxChange::Up(hub, ProtocolVersion::Clearance1) => (hub, "up, an old one"),
        InboxChange::Synced(hub) => (hub, "synced"),
        InboxChange::Down(hub, _) => (hub, "down"),
        InboxChange::Unreachable(hub, _) => (hub, "unreachable"),
        InboxChange::Gone(hub) => (hub, "gone"),
        other => panic!("not about a connection: {other:?}"),
    };
    (hub.path().to_owned(), kind)
}

/// Waits for the next change; an event that changes nothing, such as a restart, has none.
async fn next(session: &mut Session) -> (PathBuf, &'static str) {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(10), session.next());
        let changes = next.await.expect("a change within the time limit");
        if let [change] = changes.as_slice() {
            return describe(change);
        }
        assert!(changes.is_empty(), "{changes:?}");
    }
}

async fn expect(session: &mut Session, path: &Path, words: &[&'static str]) {
    for word in words {
        assert_eq!(next(session).await, (path.to_owned(), *word));
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
    let mut session = Session::discover(runtime.clone()).unwrap();
    assert!(session.is_synced());
    let mut running = Running::default();
    let web = "0123456789abcdef".parse().unwrap();
    for path in [
        runtime.sandbox_sockets(&web, SocketLayout::D).hub,
        runtime.sandbox_sockets(&web, SocketLayout::C).hub,
        runtime.shared_hub_sockets().hub,
    ] {
        let stop = running.start(&path, empty());
        expect(&mut session, &path, &["up", "synced"]).await;
        assert!(session.inbox().is_connected(&HubId::new(&path)));
        stop.cancel();
        expect(&mut session, &path, &["down", "gone"]).await;
        assert!(!session.inbox().is_connected(&HubId::new(&path)));
        assert_eq!(session.inbox().hubs().len(), 0);
    }
}

#[tokio::test]
async fn existing_hubs_sync_before_discovery_is_synced() {
    let (_directory, runtime) = runtime();
    let mut running = Running::default();
    let path = runtime.shared_hub_sockets().hub;
    let _stop = running.start(&path, empty());
    let mut session = Session::discover(runtime).unwrap();
    assert!(!session.is_synced());
    expect(&mut session, &path, &["up"]).await;
    assert!(!session.is_synced());
    expect(&mut session, &path, &["synced"]).await;
    assert!(session.is_synced());
}

#[tokio::test]
async fn hub_is_found_again_after_its_directories_were_removed() {
    let (directory, runtime) = runtime();
    let path = runtime
        .sandbox_sockets(&"web".parse().unwrap(), SocketLayout::D)
        .hub;
    let mut session = Session::discover(runtime).unwrap();
    let mut running = Running::default();
    for _ in 0..3 {
        let stop = running.start(&path, empty());
        expect(&mut session, &path, &["up", "synced"]).await;
        std::fs::remove_dir_all(directory.path().join("user")).unwrap();
        // The file is gone, the hub is not: it is listened to until it ends.
        stop.cancel();
        expect(&mut session, &path, &["down", "gone"]).await;
    }
}

/// Leaves a socket without a listener, as a killed hub does.
fn leave_socket(path: &Path) {
    make_private(path.parent().unwrap());
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
}

/// Creates a directory with the mode that `bind` requires.
fn make_private(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(directory, private).unwrap();
}

fn running_process() -> std::process::Child {
    let mut command = std::process::Command::new("cat");
    command.stdin(std::process::Stdio::piped());
    command.spawn().unwrap()
}

/// Time passes only while nothing can happen: a wait for a dead socket would show.
#[tokio::test(start_paused = true)]
async fn sockets_of_killed_hubs_delay_nothing_and_are_not_reported() {
    let (_directory, runtime) = runtime();
    let classic = runtime.shared_hub_sockets().hub;
    leave_socket(&classic);
    for name in ["killed", "ended"] {
        let id = name.parse().unwrap();
        leave_socket(&runtime.sandbox_sockets(&id, SocketLayout::D).hub);
        leave_socket(&runtime.sandbox_sockets(&id, SocketLayout::C).hub);
    }
    let mut ended = running_process();
    let hub = runtime
        .sandbox_sockets(&"ended".parse().unwrap(), SocketLayout::D)
        .hub;
    let _record = SandboxRecord::new(None, ended.id()).write(&hub).unwrap();
    ended.kill().unwrap();
    ended.wait().unwrap();

    let start = tokio::time::Instant::now();
    let mut session = Session::discover(runtime).unwrap();
    while !session.is_synced() {
        assert_eq!(session.next().await.len(), 0);
    }
    assert!(
        start.elapsed() < Duration::from_millis(100),
        "{:?}",
        start.elapsed()
    );
    tokio::time::resume();
    // A new hub in the place of either is found.
    let mut running = Running::default();
    for path in [hub, classic] {
        std::fs::remove_file(&path).unwrap();
        let _stop = running.start(&path, empty());
        expect(&mut session, &path, &["up", "synced"]).await;
    }
}

#[tokio::test]
async fn the_socket_that_was_named_is_reported_without_a_listener() {
    let (_directory, runtime) = runtime();
    let path = runtime.shared_hub_sockets().hub;
    leave_socket(&path);
    let mut session = Session::at_socket(path.clone()).unwrap();
    expect(&mut session, &path, &["unreachable"]).await;
}

/// A killed hub may come back while its sandbox runs, and never once it has ended.
#[tokio::test]
async fn questions_of_a_killed_hub_wait_until_its_sandbox_ends() {
    let (_directory, runtime) = runtime();
    let path = runtime
        .sandbox_sockets(&"web".parse().unwrap(), SocketLayout::D)
        .hub;
    let mut session = Session::discover(runtime).unwrap();
    let mut running = Running::default();
    let mut sandbox = running_process();
    for kills_hub in [true, false] {
        let stop = running.start(&path, empty());
        let _record = SandboxRecord::new(None, sandbox.id()).write(&path).unwrap();
        expect(&mut session, &path, &["up", "synced"]).await;
        // The file of a killed hub stays; a hard link keeps it as it is.
        let kept = path.with_file_name("kept");
        std::fs::hard_link(&path, &kept).unwrap();
        stop.cancel();
        assert_eq!(next(&mut session).await, (path.clone(), "down"));
        std::fs::rename(&kept, &path).unwrap();
        if kills_hub {
            // A new supervisor takes the place of the killed one.
            std::fs::remove_file(&path).unwrap();
        } else {
            sandbox.kill().unwrap();
            expect(&mut session, &path, &["gone"]).await;
            assert_eq!(session.inbox().hubs().len(), 0);
        }
    }
    sandbox.wait().unwrap();
}

#[tokio::test]
async fn socket_path_selects_one_hub() {
    let (_directory, runtime) = runtime();
    let path = runtime.shared_hub_sockets().hub;
    let mut session = Session::at_socket(path.clone()).unwrap();
    let mut running = Running::default();
    let other = runtime
        .sandbox_sockets(&"web".parse().unwrap(), SocketLayout::D)
        .hub;
    let _other = running.start(&other, empty());
    let _stop = running.start(&path, empty());
    expect(&mut session, &path, &["up", "synced"]).await;
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
    let mut session = Session::discover(runtime).unwrap();
    let mut told = Vec::new();
    while !session.is_synced() {
        for change in session.next().await {
            let (hub, kind) = describe(&change);
            told.push((hub, kind == "unreachable"));
        }
    }
    assert!(start.elapsed() < Duration::from_secs(7));
    told.sort();
    // The mute hub is connected; it only sends no snapshot.
    assert_eq!(told, [(deaf.1, true), (mute, false)]);
}
