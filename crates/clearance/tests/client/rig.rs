// SPDX-License-Identifier: Apache-2.0
//! A hub that says what it is told to, and a place for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use terok_clearance::client::{Events, Speaks, Update};
use terok_clearance::socket::{Peer, bind};
use terok_clearance::varlink::{Call, Closed, Info, Interface, Replies, Service, serve};
use terok_clearance::wire::clearance1::VerdictError;
use terok_clearance::wire::clearance2::{DecideError, Event, Request};
use terok_clearance::wire::{clearance1, clearance2};
use terok_clearance::{Blocked, Decision, Dossier, Protocol, Resolution, Scope};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub(crate) const OLD: &[Interface] = &[clearance1::INTERFACE];
pub(crate) const BOTH: &[Interface] = &[clearance1::INTERFACE, clearance2::INTERFACE];

/// A hub that says what it is told to.
pub(crate) struct FakeHub {
    pub(crate) interfaces: &'static [Interface],
    /// What every subscriber gets at once.
    pub(crate) frames: Vec<u8>,
    /// Hang up after those frames.
    pub(crate) short: bool,
    /// What becomes of answers to a destination.
    pub(crate) answer: fn(&str) -> Fate,
    pub(crate) gate: watch::Sender<bool>,
    pub(crate) answers: AtomicUsize,
}

/// What becomes of an answer.
pub(crate) enum Fate {
    Applied,
    Refused(DecideError, VerdictError),
    /// The hub closes the connection instead.
    Dropped,
    /// The hub answers when the gate opens.
    Held,
}

impl Default for FakeHub {
    fn default() -> Self {
        let mut frames = Vec::new();
        Event::Pending(request(1)).frame_into(1, &mut frames);
        Event::Synced.frame_into(2, &mut frames);
        Self {
            interfaces: BOTH,
            frames,
            short: false,
            answer: |_| Fate::Applied,
            gate: watch::Sender::new(false),
            answers: AtomicUsize::new(0),
        }
    }
}

impl FakeHub {
    async fn stream(&self, replies: &mut Replies<'_>) -> Result<(), Closed> {
        let (writer, mut hang_up) = replies.split();
        writer.write(&self.frames).await?;
        if self.short {
            return Err(Closed::Stopping);
        }
        Err(hang_up.wait().await)
    }

    async fn fate(&self, dest: &str) -> Fate {
        self.answers.fetch_add(1, Ordering::Relaxed);
        match (self.answer)(dest) {
            Fate::Held => {
                let mut gate = self.gate.subscribe();
                gate.wait_for(|open| *open).await.unwrap();
                Fate::Applied
            }
            fate => fate,
        }
    }
}

impl Service for FakeHub {
    fn info(&self) -> Info {
        Info {
            vendor: "test",
            product: "test-hub",
            version: "1",
            url: "https://example.org",
            interfaces: self.interfaces,
        }
    }

    async fn call(
        &self,
        call: Call<'_>,
        _peer: Peer,
        replies: &mut Replies<'_>,
    ) -> Result<(), Closed> {
        if call.interface() == clearance2::INTERFACE.name {
            match clearance2::Method::parse(&call).unwrap() {
                clearance2::Method::Subscribe => self.stream(replies).await,
                clearance2::Method::Decide(answer) => match self.fate(answer.dest.as_str()).await {
                    Fate::Refused(error, _) => replies.error(&error).await,
                    Fate::Dropped => Err(Closed::Stopping),
                    Fate::Applied | Fate::Held => {
                        let decision = decision(answer);
                        replies.send(&clearance2::Decided { decision }).await
                    }
                },
                clearance2::Method::List => {
                    let requests = vec![request(1), request(2)];
                    replies.send(&clearance2::Requests { requests }).await
                }
                clearance2::Method::History { limit } => {
                    let answer = clearance2::Decide {
                        request: "c:1".parse().unwrap(),
                        container: "c".parse().unwrap(),
                        dest: "a.example".parse().unwrap(),
                        action: Resolution::Deny,
                        scope: None,
                    };
                    let newest = Arc::new(decision(answer));
                    let decisions = std::iter::repeat_n(newest, limit.min(3)).collect();
                    replies.send(&clearance2::Decisions { decisions }).await
                }
            }
        } else {
            match clearance1::Method::parse(&call).unwrap() {
                clearance1::Method::Subscribe => self.stream(replies).await,
                clearance1::Method::Verdict(verdict) => match self.fate(&verdict.dest).await {
                    Fate::Refused(_, error) => replies.error(&error).await,
                    Fate::Dropped => Err(Closed::Stopping),
                    Fate::Applied | Fate::Held => {
                        replies.send(&clearance1::Applied { ok: true }).await
                    }
                },
            }
        }
    }
}

pub(crate) fn blocked(number: u32) -> Blocked {
    Blocked {
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
    let scope = Scope::whole(blocked.dest().clone());
    Arc::new(Request::new(blocked, scope, 1))
}

pub(crate) fn request_for(dest: &str) -> Request {
    Request {
        dest: dest.parse().unwrap(),
        ..Arc::unwrap_or_clone(request(1))
    }
}

pub(crate) fn decision(answer: clearance2::Decide) -> Decision {
    Decision {
        request: answer.request,
        container: answer.container,
        dest: answer.dest,
        action: answer.action,
        scope: answer.scope,
        by: "test".into(),
        at: 1,
        ok: true,
        reason: None,
    }
}

/// A hub at a path; it is gone once this is dropped.
pub(crate) struct Running {
    pub(crate) hub: Arc<FakeHub>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: JoinSet<()>,
}

impl Running {
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

pub(crate) fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run/hub.sock");
    (directory, path)
}

pub(crate) async fn next_event(events: &mut Events) -> Event {
    match events.next().await {
        Update::Event(event) => event,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn connected(events: &mut Events) -> Speaks {
    match events.next().await {
        Update::Connected(speaks) => speaks,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn disconnected(events: &mut Events) -> Duration {
    match events.next().await {
        Update::Disconnected { retry, .. } => retry,
        other => panic!("{other:?}"),
    }
}

/// Serves a hub that says what it is only after `delay`, on each connection anew.
pub(crate) async fn serve_slowly(path: &Path, delay: Duration) {
    let listener = bind(path).unwrap();
    let mut connections = JoinSet::new();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            tokio::time::sleep(delay).await;
            let info = "{\"parameters\":{\"vendor\":\"\",\"product\":\"\",\"version\":\"\",\"url\":\"\",\
                        \"interfaces\":[\"org.terok.Clearance2\"]}}\0";
            // A client that has given up is no concern of a hub's.
            if stream.write_all(info.as_bytes()).await.is_ok() {
                let mut calls = Vec::new();
                stream.read_to_end(&mut calls).await.unwrap();
            }
        });
    }
}
