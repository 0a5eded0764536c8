// SPDX-License-Identifier: Apache-2.0
//! A hub on a socket that says what a test gives it, unchecked.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use terok_clearance::socket::{self, PeerCredentials};
use terok_clearance::varlink::{
    self, ConnectionClosed, ReplyWriter, ServiceInfo, VarlinkCall, VarlinkInterface, VarlinkService,
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What a hub replies to an answer to the question with this id.
type Reply = dyn Fn(&str) -> Value + Send + Sync;

/// A hub. It never ends a stream.
pub(crate) struct Hub {
    interfaces: &'static [VarlinkInterface],
    frames: Vec<u8>,
    reply: Box<Reply>,
}

impl Hub {
    /// Says nothing to whoever subscribes, and takes no answer.
    pub(crate) fn silent(interfaces: &'static [VarlinkInterface]) -> Self {
        Self {
            interfaces,
            frames: Vec::new(),
            reply: Box::new(|_| Value::Null),
        }
    }

    /// Says these frames to whoever subscribes.
    pub(crate) fn saying(self, frames: Vec<u8>) -> Self {
        Self { frames, ..self }
    }

    /// Replies so to answers.
    pub(crate) fn replying(self, reply: impl Fn(&str) -> Value + Send + Sync + 'static) -> Self {
        Self {
            reply: Box::new(reply),
            ..self
        }
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl VarlinkService for Hub {
    fn info(&self) -> ServiceInfo {
        ServiceInfo {
            vendor: "terok",
            product: "test",
            version: "1",
            url: "https://example.com",
            interfaces: self.interfaces,
        }
    }

    async fn call(
        &self,
        call: VarlinkCall<'_>,
        _peer: PeerCredentials,
        replies: &mut ReplyWriter<'_>,
    ) -> Result<(), ConnectionClosed> {
        let id = match call.method() {
            "Subscribe" => {
                replies.send_frames(&self.frames).await?;
                let (_writer, mut hang_up) = replies.split();
                return Err(hang_up.wait().await);
            }
            "Verdict" => "request_id",
            _ => "request",
        };
        let id: String = call.parameters().unwrap().take(id).unwrap();
        let reply = format!("{}\0", (self.reply)(&id));
        replies.send_frames(reply.as_bytes()).await
    }
}

/// Hubs that run until they are stopped.
#[derive(Debug, Default)]
pub(crate) struct Running {
    tasks: JoinSet<()>,
}

impl Running {
    pub(crate) fn start(&mut self, path: &Path, hub: Hub) -> CancellationToken {
        let stop = CancellationToken::new();
        let listener = socket::bind(path).unwrap();
        let served = varlink::serve(listener, Arc::new(hub), stop.clone());
        self.tasks.spawn(async move { served.await.unwrap() });
        stop
    }
}
