// SPDX-License-Identifier: Apache-2.0
//! A socket path for a hub, and the expected updates of an event stream.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use terok_clearance::BlockedPacket;
use terok_clearance::client::{EventStream, ProtocolVersion, StreamUpdate};
use terok_clearance::socket::bind;
use terok_clearance::wire::clearance2::Event;
use test_support::packets::blocked_packet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

/// Returns the packet that question `number` of every fake hub is about.
pub(crate) fn blocked(number: u64) -> BlockedPacket {
    blocked_packet("c", number, "a.example")
}

pub(crate) fn hub_path() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/hub.sock");
    (directory, path)
}

pub(crate) async fn next_event(events: &mut EventStream) -> Event {
    match events.next().await {
        StreamUpdate::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn connected(events: &mut EventStream) -> ProtocolVersion {
    match events.next().await {
        StreamUpdate::Connected(version) => version,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn disconnected(events: &mut EventStream) -> Duration {
    match events.next().await {
        StreamUpdate::Disconnected { retry, .. } => retry,
        other => panic!("{other:?}"),
    }
}

/// Serves a hub that delays the reply to `GetInfo` on every connection.
pub(crate) async fn serve_slowly(path: &Path, delay: Duration) {
    let listener = bind(path).unwrap();
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            tokio::time::sleep(delay).await;
            let info = "{\"parameters\":{\"vendor\":\"\",\"product\":\"\",\"version\":\"\",\"url\":\"\",\
                        \"interfaces\":[\"org.terok.Clearance2\"]}}\0";
            // The client may have disconnected.
            if stream.write_all(info.as_bytes()).await.is_ok() {
                let mut calls = Vec::new();
                stream.read_to_end(&mut calls).await.unwrap();
            }
        });
    }
}
