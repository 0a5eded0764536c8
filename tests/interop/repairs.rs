// SPDX-License-Identifier: Apache-2.0
//! What is mended: for each known fault of the Python stack, what it does and what ours does.

mod aliases;
mod by_name;
mod gap;
mod ground;
mod late;
mod load;
mod restart;
mod rows;
mod titles;
mod users;
mod wait;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use terok_clearance::socket::SocketLayout;
use terok_clearance::varlink::{CallError, VarlinkConnection};
use terok_clearance::wire::clearance1::{
    self, Clearance1VerdictReply, VerdictError, VerdictParameters,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::time::interval;

use crate::harness::{Place, Running, Stack};

/// The release whose faults these are.
const STACK: Stack = Stack::V0_8_1;
const CONTAINER: &str = "0123456789ab";

/// Whose hub it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Theirs,
    Ours,
}

impl Whose {
    const BOTH: [Self; 2] = [Self::Theirs, Self::Ours];

    /// Starts such a hub on the classic sockets.
    async fn hub(self, place: &Place) -> Running {
        match self {
            Self::Theirs => place.their_hub(STACK).await,
            Self::Ours => place.our_hub(&[]).await,
        }
    }
}

/// Starts their terminal tool, which looks for hubs in per-container directories alone: there it
/// finds the classic one.
fn terminal(place: &Place) -> Running {
    let runtime = place.runtime();
    let socket = runtime
        .sandbox_sockets(&CONTAINER.parse().unwrap(), SocketLayout::D)
        .hub;
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    symlink(runtime.shared_hub_sockets().hub, socket).unwrap();
    Running::start(&mut place.theirs(STACK, "terok-clearance-hub", &["clearance"]))
}

/// Waits for a question of their terminal tool, and returns its number: every popup counts.
async fn asked(terminal: &mut Running) -> String {
    let shown = terminal.until("] BLOCKED").await;
    terminal.until("Protocol: TCP").await;
    let shown = shown.strip_suffix("] BLOCKED").unwrap();
    shown.rsplit_once('[').unwrap().1.to_owned()
}

/// Returns how many rows their terminal tool lists.
async fn listed(terminal: &mut Running) -> usize {
    terminal.say("l").await;
    terminal.say("mark").await;
    let shown = terminal.until("Unknown command: 'mark'").await;
    let rows = shown.lines().filter(|line| line.starts_with("  ["));
    rows.count()
}

/// Reports that the shield is up until `listener` prints `word`: their clients say that they have
/// started before they are subscribed, and their hub tells late ones nothing.
async fn heard(place: &Place, listener: &mut Running, word: &str) {
    let up = json!({"type": "shield_up", "container": CONTAINER});
    let mut again = interval(Duration::from_millis(50));
    let heard = async {
        listener.until(word).await;
        listener.line().await
    };
    tokio::pin!(heard);
    loop {
        tokio::select! {
            _ = &mut heard => return,
            _ = again.tick() => place.report(std::slice::from_ref(&up)).await,
        }
    }
}

/// Starts our prompt in JSON, and returns it once it is ready and the hub hears it.
async fn prompt(place: &Place) -> Running {
    let hub = place.runtime().shared_hub_sockets().hub;
    let mut command = place.ours(&["--json", "clearance", "--socket", hub.to_str().unwrap()]);
    let mut prompt = Running::start(&mut command);
    event(&mut prompt, "ready").await;
    heard(place, &mut prompt, r#""event":"shield""#).await;
    prompt
}

/// Returns the next line of our prompt that is of this kind.
async fn event(prompt: &mut Running, kind: &str) -> Value {
    loop {
        let line = prompt.json().await;
        if line["event"] == kind {
            return line;
        }
    }
}

/// Returns these as lines.
fn text(lines: &[Value]) -> String {
    let mut lines: Vec<_> = lines.iter().map(Value::to_string).collect();
    lines.push(String::new());
    lines.join("\n")
}

/// Writes these lines to an ingester at once.
async fn write(ingester: &Path, lines: &[Value]) {
    let mut stream = UnixStream::connect(ingester).await.unwrap();
    stream.write_all(text(lines).as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
}

/// Answers `allow` the way the older interface does, and returns the hub's refusal, if it is one.
async fn verdict(hub: &Path, request: &str, dest: &str) -> Result<(), VerdictError> {
    let mut connection = VarlinkConnection::connect(hub).await.unwrap();
    let (container, _) = request.split_once(':').unwrap();
    let verdict = VerdictParameters {
        container: container.to_owned(),
        request_id: request.to_owned(),
        dest: dest.to_owned(),
        action: "allow".to_owned(),
    };
    match connection.call(clearance1::VERDICT, &verdict).await {
        Ok(Clearance1VerdictReply { ok }) => {
            assert!(ok);
            Ok(())
        }
        Err(CallError::Refused(refusal)) => Err(refusal.decode().expect("a refusal of it")),
        Err(error) => panic!("{error}"),
    }
}

fn unknown(request: &str) -> Result<(), VerdictError> {
    Err(VerdictError::UnknownRequest {
        request_id: request.to_owned(),
    })
}

/// The classic hub's sockets: where people connect, and where readers do.
fn classic(place: &Place) -> (PathBuf, PathBuf) {
    let classic = place.runtime().shared_hub_sockets();
    (classic.hub, classic.ingester)
}
