// SPDX-License-Identifier: Apache-2.0
//! A small service on a socket of its own.

use std::path::PathBuf;
use std::sync::Arc;

use terok_clearance::socket::PeerCredentials;
use terok_clearance::varlink::{
    ConnectionClosed, NoParameters, ReplyWriter, ServiceInfo, ServiceLimits, VarlinkCall,
    VarlinkInterface, VarlinkService, append_reply,
};
use test_support::served_socket::ServedSocket;
use tokio::sync::watch;

/// The interfaces of the service under test.
pub(crate) const INTERFACES: &[VarlinkInterface] = &[VarlinkInterface {
    name: "org.example.Test1",
    description: "interface org.example.Test1\nmethod Echo(text: string) -> (text: string)\n",
}];

/// A service that echoes, streams, hangs and panics on request.
#[derive(Debug)]
pub(crate) struct TestService {
    /// Number of active streams.
    pub(crate) streams: watch::Sender<usize>,
    /// Number of calls of `Note` and `Wait`.
    pub(crate) notes: watch::Sender<usize>,
    /// Calls of `Wait` wait until the gate is `true`.
    pub(crate) gate: watch::Sender<bool>,
}

impl Default for TestService {
    fn default() -> Self {
        Self {
            streams: watch::Sender::new(0),
            notes: watch::Sender::new(0),
            gate: watch::Sender::new(false),
        }
    }
}

/// Counts an active stream.
struct Counted<'a>(&'a watch::Sender<usize>);

impl<'a> Counted<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl VarlinkService for TestService {
    fn info(&self) -> ServiceInfo {
        ServiceInfo {
            vendor: "test",
            product: "test",
            version: "1",
            url: "https://example.org",
            interfaces: INTERFACES,
        }
    }

    async fn call(
        &self,
        call: VarlinkCall<'_>,
        _peer: PeerCredentials,
        replies: &mut ReplyWriter<'_>,
    ) -> Result<(), ConnectionClosed> {
        match call.method() {
            "Echo" => {
                let echo = call.parameters().and_then(|mut parameters| {
                    let text: String = parameters.take("text")?;
                    parameters.expect_empty()?;
                    Ok(serde_json::json!({ "text": text }))
                });
                match echo {
                    Ok(echo) => replies.send(&echo).await,
                    Err(error) => replies.send_error(&error).await,
                }
            }
            "Note" => {
                self.notes.send_modify(|notes| *notes += 1);
                replies.send(&NoParameters {}).await
            }
            // Replies once, then waits for the end.
            "Stream" => {
                let _counted = Counted::new(&self.streams);
                let (writer, mut hang_up) = replies.split();
                let mut frame = Vec::new();
                append_reply(&mut frame, &NoParameters {}, true);
                writer.write(&frame).await?;
                Err(hang_up.wait().await)
            }
            // Writes until the client disconnects.
            "Pour" => {
                let mut frame = Vec::new();
                append_reply(&mut frame, &"x".repeat(60_000), true);
                loop {
                    replies.send_frames(&frame).await?;
                }
            }
            "Wait" => {
                let mut gate = self.gate.subscribe();
                self.notes.send_modify(|notes| *notes += 1);
                let opened = gate.wait_for(|open| *open).await.is_ok();
                replies.send(&serde_json::json!({ "opened": opened })).await
            }
            #[expect(clippy::panic, reason = "to be caught")]
            "Panic" => panic!("asked to\u{1b}[2J"),
            _ => replies.send_error(&call.method_not_found()).await,
        }
    }
}

/// A service that is served until this is dropped.
pub(crate) struct TestServer {
    pub(crate) path: PathBuf,
    pub(crate) service: Arc<TestService>,
    pub(crate) socket: ServedSocket,
    _directory: tempfile::TempDir,
}

impl TestServer {
    pub(crate) fn start(limits: ServiceLimits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/test.sock");
        let service = Arc::new(TestService::default());
        let socket = ServedSocket::start_with_limits(&path, Arc::clone(&service), limits);
        Self {
            path,
            service,
            socket,
            _directory: directory,
        }
    }
}
