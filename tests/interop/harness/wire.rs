// SPDX-License-Identifier: Apache-2.0
//! Varlink without a library: the bytes that went over a socket, as JSON.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use terok_clearance::socket::HubSocketPaths;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::place::{report, while_repeating};

/// The container that all tests are about.
pub(crate) const CONTAINER: &str = "0123456789ab";

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire(BufReader<UnixStream>);

impl Wire {
    pub(crate) async fn connect(socket: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(socket).await.unwrap()))
    }

    /// Sends a frame.
    pub(crate) async fn send(&mut self, frame: &Value) {
        let frame = format!("{frame}\0");
        self.0.write_all(frame.as_bytes()).await.unwrap();
    }

    /// Returns the next frame.
    pub(crate) async fn receive(&mut self) -> Value {
        let mut frame = Vec::new();
        let read = timeout(
            Duration::from_secs(30),
            self.0.read_until(b'\0', &mut frame),
        );
        read.await.expect("nothing comes").unwrap();
        assert_eq!(frame.pop(), Some(b'\0'), "the connection was closed");
        serde_json::from_slice(&frame).unwrap()
    }

    /// Calls a method and returns the reply, whole.
    pub(crate) async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.send(&json!({"method": method, "parameters": parameters}))
            .await;
        self.receive().await
    }
}

/// A subscriber of `org.terok.Clearance1`, which is certain to be heard.
#[derive(Debug)]
pub(crate) struct Subscriber(Wire);

impl Subscriber {
    /// Subscribes to the hub at `sockets`.
    ///
    /// The Python hub says nothing to a new subscriber, so only an event tells that it is one.
    pub(crate) async fn at(sockets: &HubSocketPaths) -> Self {
        let mut wire = Wire::connect(&sockets.hub).await;
        wire.send(&json!({"method": "org.terok.Clearance1.Subscribe", "more": true}))
            .await;
        let up = json!({"type": "shield_up", "container": CONTAINER});
        let first = while_repeating(&sockets.ingester, &up, wire.receive()).await;
        assert_eq!(first["parameters"]["event"]["type"], "shield_up", "{first}");
        Self(wire)
    }

    /// Returns the next event that is not one of those by which it made sure.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let reply = self.0.receive().await;
            assert_eq!(reply["continues"], true, "{reply}");
            let event = &reply["parameters"]["event"];
            if event["type"] != "shield_up" {
                return event.clone();
            }
        }
    }

    /// Tells the hub at `sockets` of a blocked packet, and returns the event.
    pub(crate) async fn blocked(&mut self, sockets: &HubSocketPaths, line: &Value) -> Value {
        report(&sockets.ingester, std::slice::from_ref(line)).await;
        let event = self.next().await;
        assert_eq!(event["type"], "connection_blocked", "{event}");
        event
    }
}
