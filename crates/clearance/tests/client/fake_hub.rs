// SPDX-License-Identifier: Apache-2.0
//! A hub with prepared events and replies.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use terok_clearance::client::{EventStream, ProtocolVersion, StreamUpdate};
use terok_clearance::socket::{PeerCredentials, bind};
use terok_clearance::varlink::{
    ConnectionClosed, ReplyWriter, ServiceInfo, VarlinkCall, VarlinkInterface, VarlinkService,
    serve,
};
use terok_clearance::wire::clearance1::VerdictError;
use terok_clearance::wire::clearance2::{DecideError, Event, Request};
use terok_clearance::wire::{clearance1, clearance2};
use terok_clearance::{
    BlockedPacket, Decision, DecisionAction, Dossier, Protocol, Scope, Timestamp,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const OLD: &[VarlinkInterface] = &[clearance1::INTERFACE];
pub(crate) const BOTH: &[VarlinkInterface] = &[clearance1::INTERFACE, clearance2::INTERFACE];

/// A hub with prepared events and replies.
pub(crate) struct FakeHub {
    pub(crate) interfaces: &'static [VarlinkInterface],
    /// The frames for every subscriber.
    pub(crate) frames: Vec<u8>,
    /// `true` to disconnect after the frames.
    pub(crate) hang_up: bool,
    /// The reply to an answer, by its destination.
    pub(crate) reply: fn(&str) -> AnswerReply,
    pub(crate) gate: watch::Sender<bool>,
    pub(crate) answers: AtomicUsize,
}

/// The reply to an answer.
pub(crate) enum AnswerReply {
    Applied,
    Refused(DecideError, VerdictError),
    /// The hub closes the connection.
    Disconnected,
    /// The hub replies when the gate opens.
    Held,
}

impl Default for FakeHub {
    fn default() -> Self {
        let mut frames = Vec::new();
        Event::Pending(request(1)).append_frame(1, &mut frames);
        Event::Synced.append_frame(2, &mut frames);
        Self {
            interfaces: BOTH,
            frames,
            hang_up: false,
            reply: |_| AnswerReply::Applied,
            gate: watch::Sender::new(false),
            answers: AtomicUsize::new(0),
        }
    }
}

impl FakeHub {
    async fn stream(&self, replies: &mut ReplyWriter<'_>) -> Result<(), ConnectionClosed> {
        let (writer, mut hang_up) = replies.split();
        writer.write(&self.frames).await?;
        if self.hang_up {
            return Err(ConnectionClosed::Stopping);
        }
        Err(hang_up.wait().await)
    }

    async fn reply_for(&self, dest: &str) -> AnswerReply {
        self.answers.fetch_add(1, Ordering::Relaxed);
        match (self.reply)(dest) {
            AnswerReply::Held => {
                let mut gate = self.gate.subscribe();
                gate.wait_for(|open| *open).await.unwrap();
                AnswerReply::Applied
            }
            reply => reply,
        }
    }
}

impl VarlinkService for FakeHub {
    fn info(&self) -> ServiceInfo {
        ServiceInfo {
            vendor: "test",
            product: "test-hub",
            version: "1",
            url: "https://example.org",
            interfaces: self.interfaces,
        }
    }

    async fn call(
        &self,
        call: VarlinkCall<'_>,
        _peer: PeerCredentials,
        replies: &mut ReplyWriter<'_>,
    ) -> Result<(), ConnectionClosed> {
        if call.interface() == clearance2::INTERFACE.name {
            match clearance2::Clearance2Method::parse(&call).unwrap() {
                clearance2::Clearance2Method::Subscribe => self.stream(replies).await,
                clearance2::Clearance2Method::Decide(answer) => {
                    match self.reply_for(answer.dest.as_str()).await {
                        AnswerReply::Refused(error, _) => replies.send_error(&error).await,
                        AnswerReply::Disconnected => Err(ConnectionClosed::Stopping),
                        AnswerReply::Applied | AnswerReply::Held => {
                            let decision = decision(answer);
                            replies.send(&clearance2::DecideReply { decision }).await
                        }
                    }
                }
                clearance2::Clearance2Method::List => {
                    let requests = vec![request(1), request(2)];
                    replies.send(&clearance2::ListReply { requests }).await
                }
                clearance2::Clearance2Method::History { limit } => {
                    let answer = clearance2::DecideParameters {
                        request: "c:1".parse().unwrap(),
                        container: "c".parse().unwrap(),
                        dest: "a.example".parse().unwrap(),
                        action: DecisionAction::Deny,
                        scope: None,
                    };
                    let newest = Arc::new(decision(answer));
                    let decisions = std::iter::repeat_n(newest, limit.min(3)).collect();
                    replies.send(&clearance2::HistoryReply { decisions }).await
                }
            }
        } else {
            match clearance1::Clearance1Method::parse(&call).unwrap() {
                clearance1::Clearance1Method::Subscribe => self.stream(replies).await,
                clearance1::Clearance1Method::Verdict(verdict) => {
                    match self.reply_for(&verdict.dest).await {
                        AnswerReply::Refused(_, error) => replies.send_error(&error).await,
                        AnswerReply::Disconnected => Err(ConnectionClosed::Stopping),
                        AnswerReply::Applied | AnswerReply::Held => {
                            replies
                                .send(&clearance1::Clearance1VerdictReply { ok: true })
                                .await
                        }
                    }
                }
            }
        }
    }
}

pub(crate) fn blocked(number: u32) -> BlockedPacket {
    BlockedPacket {
        container: "c".parse().unwrap(),
        request: format!("c:{number}").parse().unwrap(),
        address: "203.0.113.7".parse().unwrap(),
        port: 443,
        protocol: Protocol::TCP,
        domain: Some("a.example".parse().unwrap()),
        dossier: Dossier::default(),
        process: None,
    }
}

pub(crate) fn request(number: u32) -> Arc<Request> {
    let blocked = blocked(number);
    let scope = Scope::whole_dest(blocked.dest().clone());
    Arc::new(Request::new(blocked, scope, Timestamp::from_micros(1)))
}

pub(crate) fn request_for(dest: &str) -> Request {
    Request {
        dest: dest.parse().unwrap(),
        ..Arc::unwrap_or_clone(request(1))
    }
}

pub(crate) fn decision(answer: clearance2::DecideParameters) -> Decision {
    Decision {
        request: answer.request,
        container: answer.container,
        dest: answer.dest,
        action: answer.action,
        scope: answer.scope,
        by: "test".into(),
        at: Timestamp::from_micros(1),
        ok: true,
        reason: None,
    }
}

/// A hub that is served at a path until the drop.
pub(crate) struct RunningHub {
    pub(crate) hub: Arc<FakeHub>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: JoinSet<()>,
}

impl RunningHub {
    pub(crate) fn start(path: &Path, hub: FakeHub) -> Self {
        let hub = Arc::new(hub);
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let serving = serve(bind(path).unwrap(), Arc::clone(&hub), stop.clone());
        tasks.spawn(async { serving.await.unwrap() });
        Self { hub, stop, tasks }
    }

    pub(crate) async fn end(mut self) {
        self.stop.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
    }
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
