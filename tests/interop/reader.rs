// SPDX-License-Identifier: Apache-2.0
//! Readers with hubs, both ways, on packets that the Python stack's own firewall drops.

mod away;
mod hook;
mod inside;
mod network;
mod same;

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};
use terok_clearance::socket::HubSocketPaths;
use test_support::namespaces::add_dead_end_uplink;
use tokio::process::Command;

use crate::harness::{
    CONTAINER, Place, Running, Shield, Side, Stack, Subscriber, report, while_repeating,
};
use network::connect;

/// The full id of the container.
const FULL: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// Says that a reader is inside the network namespace already.
const INSIDE: &str = "_TEROK_SHIELD_NFLOG_NSENTER";
/// What is known of the container.
const KNOWN: &str = r#"{"project":"warp","task":"t1"}"#;

impl Stack {
    /// Returns the folder of the files that its `terok-shield setup` installs.
    fn resources(self) -> PathBuf {
        let lib = self.prefix().join("lib");
        let versions = std::fs::read_dir(lib).unwrap().flatten();
        let mut packages = versions.map(|entry| entry.path().join("site-packages"));
        packages
            .find_map(|path| {
                let resources = path.join("terok_shield/resources");
                resources.is_dir().then_some(resources)
            })
            .expect("terok_shield is installed")
    }
}

impl Place {
    /// Returns the directory of a sandbox's shield.
    fn state_dir(&self) -> PathBuf {
        let path = self.path().join("state");
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    /// Returns a reader, ours or theirs, that is inside already.
    fn reader(&self, side: Side, args: &[&str]) -> Command {
        let state_dir = self.state_dir();
        let first = [state_dir.to_str().unwrap(), CONTAINER];
        let mut command = match side {
            Side::Ours => self.ours(&["reader"]),
            Side::Theirs(stack) => {
                let mut python = self.command(stack.program("python"));
                python.arg("-I");
                python.arg(stack.resources().join("nflog_reader.py"));
                python
            }
        };
        command.args(first).args(args).env(INSIDE, "1");
        command
    }
}

/// Waits until somebody listens to the packet log.
async fn listening(reader: &mut Running) {
    while ::reader::find_nflog_owner(100, None).unwrap().is_none() {
        reader.alive();
        tokio::task::yield_now().await;
    }
}

/// Starts a reader and waits until it reads.
async fn start(command: &mut Command) -> Running {
    let mut reader = Running::start(command);
    listening(&mut reader).await;
    reader
}

/// Ends a reader as the hook does, and returns what it printed since.
async fn stop(reader: Running) -> String {
    reader.signal(Signal::TERM);
    let ended = reader.end().await;
    assert!(ended.status.success(), "{ended:?}");
    ended.output
}

/// Returns the next event that is of `kind`.
async fn next(subscriber: &mut Subscriber, kind: &str) -> Value {
    loop {
        let event = subscriber.next().await;
        if event["type"] == kind {
            return event;
        }
    }
}

fn is_the_question(event: &Value) {
    assert_eq!(event["container"], CONTAINER, "{event}");
    assert_eq!(event["dest"], "203.0.113.7", "{event}");
    assert_eq!((&event["port"], &event["proto"]), (&json!(443), &json!(6)));
    assert_eq!(event["dossier"], json!({"project": "warp", "task": "t1"}));
}

fn annotations() -> String {
    format!("--annotations={KNOWN}")
}

#[tokio::test]
async fn their_reader_tells_our_hub() {
    add_dead_end_uplink();
    for stack in Stack::ALL {
        let place = Place::new();
        network::shield(&place, stack).await;
        let container = CONTAINER.parse().unwrap();
        let sockets: HubSocketPaths = place.runtime().sandbox_sockets(&container, stack.layout());
        let _hub = place.our_hub_at(&sockets).await;
        let mut subscriber = Subscriber::at(&sockets).await;
        let id = format!("--container-id={FULL}");
        let theirs = Side::Theirs(stack);

        let args = ["--emit=socket", &annotations(), &id];
        let reader = start(&mut place.reader(theirs, &args)).await;
        connect("203.0.113.7:443");
        is_the_question(&next(&mut subscriber, "connection_blocked").await);
        stop(reader).await;
        let exited = next(&mut subscriber, "container_exited").await;
        assert_eq!(exited["reason"], "poststop");

        // Its lines on standard output are the ones that the ingester takes.
        let args = ["--emit=json", &annotations()];
        let mut reader = start(&mut place.reader(theirs, &args)).await;
        connect("203.0.113.7:443");
        let lines = [reader.json().await, reader.json().await];
        report(&sockets.ingester, &lines).await;
        is_the_question(&next(&mut subscriber, "connection_blocked").await);
        stop(reader).await;
    }
}

#[tokio::test]
async fn our_reader_tells_their_hub_and_the_answer_reaches_the_shield() {
    add_dead_end_uplink();
    for stack in Stack::ALL {
        let place = Place::new();
        network::shield(&place, stack).await;
        let shield = Shield::within(&place.path().join("recording"));
        let _helper = place.their_helper(stack, &shield).await;
        let _hub = place.their_hub(stack).await;
        let sockets = place.runtime().shared_hub_sockets();
        let hub = sockets.hub.to_str().unwrap();
        let mut client = Running::start(&mut place.script(stack, "client.py", &[hub]));
        assert_eq!(client.json().await, json!({"started": true}));
        let up = json!({"type": "shield_up", "container": CONTAINER});
        while_repeating(&sockets.ingester, &up, client.json()).await;

        let ingester = format!("--hub-socket={}", sockets.ingester.display());
        let args = [
            "--emit=socket",
            &annotations(),
            "--container-id=",
            &ingester,
        ];
        let reader = start(&mut place.reader(Side::Ours, &args)).await;
        connect("203.0.113.7:443");
        let event = hear(&mut client, "connection_blocked").await;
        is_the_question(&event);
        let request = event["request_id"].as_str().unwrap();
        let order = json!([CONTAINER, request, "203.0.113.7", "allow"]);
        client.say(&order.to_string()).await;
        hear(&mut client, "verdict_applied").await;
        assert_eq!(shield.asked(), [format!("allow {CONTAINER} 203.0.113.7")]);
        stop(reader).await;
        hear(&mut client, "container_exited").await;
    }
}

/// Returns the next event of `kind` that a Python client tells of.
async fn hear(client: &mut Running, kind: &str) -> Value {
    loop {
        let event = &mut client.json().await["event"];
        if event["type"] == kind {
            return event.take();
        }
    }
}

#[tokio::test]
async fn the_second_listener_is_told_who_is_the_first() {
    add_dead_end_uplink();
    let place = Place::new();
    for stack in Stack::ALL {
        network::shield(&place, stack).await;
        let theirs = start(&mut place.reader(Side::Theirs(stack), &["--emit=json"])).await;
        let pid = theirs.pid().as_raw_nonzero();
        let refused = Running::start(&mut place.reader(Side::Ours, &["--emit=json"]));
        let refused = refused.end().await;
        assert_eq!(refused.status.code(), Some(75), "{refused:?}");
        assert_eq!(refused.output, "", "nothing was read");
        let hint = format!("it is process {pid} (");
        assert!(refused.errors.contains(&hint), "{refused:?}");
        assert!(refused.errors.contains("nflog_reader.py"), "{refused:?}");
        stop(theirs).await;

        // Theirs says that it cannot, and not why; and that all went well.
        let ours = start(&mut place.reader(Side::Ours, &["--emit=json"])).await;
        let refused = Running::start(&mut place.reader(Side::Theirs(stack), &["--emit=json"]));
        let refused = refused.end().await;
        assert!(refused.status.success(), "{refused:?}");
        assert!(
            refused.errors.contains("could not open NFLOG socket"),
            "{refused:?}"
        );
        stop(ours).await;
    }
}
