// SPDX-License-Identifier: Apache-2.0
//! A hub with scripted events and replies.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value, json};
use terok_clearance::socket::PeerCredentials;
use terok_clearance::varlink::{
    ConnectionClosed, ReplyWriter, ServiceInfo, VarlinkCall, VarlinkInterface, VarlinkService,
};
use terok_clearance::wire::clearance1::VerdictError;
use terok_clearance::wire::clearance2::{self, Clearance2Method, DecideError, Event, Request};
use terok_clearance::wire::{clearance1, clearance1::Clearance1Method};
use terok_clearance::{Decision, DecisionAction, Scope, Timestamp};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::packets::blocked_packet;
use crate::served_socket::ServedSocket;

/// The interfaces of a current hub.
pub const BOTH_INTERFACES: &[VarlinkInterface] = &[clearance1::INTERFACE, clearance2::INTERFACE];
/// The interfaces of a hub that supports only `org.terok.Clearance1`.
pub const CLEARANCE1_ONLY: &[VarlinkInterface] = &[clearance1::INTERFACE];
/// The interfaces of a hub that supports only `org.terok.Clearance2`.
pub const CLEARANCE2_ONLY: &[VarlinkInterface] = &[clearance2::INTERFACE];

/// A hub with scripted events and replies. Neither is checked.
pub struct FakeHub {
    /// The interfaces that the hub announces. Calls of both interfaces are served in any case.
    pub interfaces: &'static [VarlinkInterface],
    /// The frames that every subscriber receives first.
    pub frames: Vec<u8>,
    /// Whether the hub disconnects after the frames. Otherwise only the subscriber ends a stream.
    pub hang_up: bool,
    /// Chooses the reply to an answer.
    pub reply: Box<AnswerReplyFn>,
    /// Replies to every call, `Subscribe` too, in place of all that is above.
    pub script: Option<Box<CallScriptFn>>,
    /// Lets held answers go on when it is true.
    pub gate: watch::Sender<bool>,
    /// The number of received answers.
    pub answers: AtomicUsize,
}

/// A function that chooses the reply to an answer.
pub type AnswerReplyFn = dyn Fn(FakeHubAnswer<'_>) -> AnswerReply + Send + Sync;

/// Decides how a call is replied to: the last part of the method's name, and the parameters.
pub type CallScriptFn = dyn Fn(&str, &Value) -> CallReply + Send + Sync;

/// How a [`FakeHub`] with a script replies to a call.
#[derive(Debug)]
pub enum CallReply {
    /// With these frames. The connection stays open.
    Frames(Vec<u8>),
    /// By the end of the connection.
    Disconnected,
    /// Not at all, until the caller disconnects.
    Never,
}

impl CallReply {
    /// Returns one message.
    pub fn message(message: &Value) -> Self {
        Self::Frames(format!("{message}\0").into_bytes())
    }

    /// Returns a reply with these parameters.
    pub fn parameters(parameters: &Value) -> Self {
        Self::message(&json!({ "parameters": parameters }))
    }

    /// Returns the messages of an `org.terok.Clearance2` stream.
    pub fn events(events: &[Event]) -> Self {
        let mut frames = Vec::new();
        for (seq, event) in (1..).zip(events) {
            event.append_frame(seq, &mut frames);
        }
        Self::Frames(frames)
    }
}

/// An answer that came to a [`FakeHub`].
#[derive(Debug, Clone, Copy)]
pub struct FakeHubAnswer<'a> {
    /// The id of the question.
    pub request: &'a str,
    /// The destination.
    pub dest: &'a str,
}

/// The reply of a [`FakeHub`] to an answer.
#[derive(Debug)]
pub enum AnswerReply {
    /// The answer was applied.
    Applied,
    /// The answer was refused. The errors are for the two interfaces.
    Refused(DecideError, VerdictError),
    /// This message.
    Json(Value),
    /// No reply: the hub closes the connection.
    Disconnected,
    /// The answer was applied, sent when [`FakeHub::gate`] opens.
    Held,
}

impl FakeHub {
    /// Returns a hub without questions that replies to every answer with an empty message.
    pub fn silent(interfaces: &'static [VarlinkInterface]) -> Self {
        Self {
            interfaces,
            frames: Vec::new(),
            hang_up: false,
            reply: Box::new(|_| AnswerReply::Json(Value::Null)),
            script: None,
            gate: watch::Sender::new(false),
            answers: AtomicUsize::new(0),
        }
    }

    /// Sets the frames for every subscriber.
    #[must_use]
    pub fn with_frames(self, frames: Vec<u8>) -> Self {
        Self { frames, ..self }
    }

    /// Sets the function that chooses replies.
    #[must_use]
    pub fn with_reply(
        self,
        reply: impl Fn(FakeHubAnswer<'_>) -> AnswerReply + Send + Sync + 'static,
    ) -> Self {
        Self {
            reply: Box::new(reply),
            ..self
        }
    }

    /// Replies to every call in this way.
    #[must_use]
    pub fn with_script(
        self,
        script: impl Fn(&str, &Value) -> CallReply + Send + Sync + 'static,
    ) -> Self {
        Self {
            script: Some(Box::new(script)),
            ..self
        }
    }

    async fn stream(&self, replies: &mut ReplyWriter<'_>) -> Result<(), ConnectionClosed> {
        replies.send_frames(&self.frames).await?;
        if self.hang_up {
            return Err(ConnectionClosed::Stopping);
        }
        let (_writer, mut hang_up) = replies.split();
        Err(hang_up.wait().await)
    }

    /// Chooses the reply to an answer. Waits for the gate if the reply is held.
    async fn reply_to(&self, call: &VarlinkCall<'_>) -> AnswerReply {
        self.answers.fetch_add(1, Ordering::Relaxed);
        let request = match call.method() {
            "Verdict" => "request_id",
            _ => "request",
        };
        let mut parameters = call.parameters().unwrap();
        let (request, dest): (String, String) = (
            parameters.take(request).unwrap(),
            parameters.take("dest").unwrap(),
        );
        let answer = FakeHubAnswer {
            request: &request,
            dest: &dest,
        };
        match (self.reply)(answer) {
            AnswerReply::Held => {
                let mut gate = self.gate.subscribe();
                gate.wait_for(|open| *open).await.unwrap();
                AnswerReply::Applied
            }
            reply => reply,
        }
    }
}

/// A hub with one question, [`request`] number 1, that applies every answer.
impl Default for FakeHub {
    fn default() -> Self {
        let mut frames = Vec::new();
        Event::Pending(request(1)).append_frame(1, &mut frames);
        Event::Synced.append_frame(2, &mut frames);
        Self::silent(BOTH_INTERFACES)
            .with_frames(frames)
            .with_reply(|_| AnswerReply::Applied)
    }
}

impl fmt::Debug for FakeHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeHub").finish_non_exhaustive()
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
        if let Some(script) = &self.script {
            return follow_script(script, &call, replies).await;
        }
        match call.method() {
            "Subscribe" => return self.stream(replies).await,
            "List" => {
                let requests = vec![request(1), request(2)];
                return replies.send(&clearance2::ListReply { requests }).await;
            }
            "History" => {
                let Ok(Clearance2Method::History { limit }) = Clearance2Method::parse(&call) else {
                    unreachable!("the client's call is well-formed");
                };
                let decisions = std::iter::repeat_n(Arc::new(earlier_decision()), limit.min(3));
                let decisions = decisions.collect();
                return replies.send(&clearance2::HistoryReply { decisions }).await;
            }
            _ => {}
        }
        match self.reply_to(&call).await {
            AnswerReply::Disconnected => Err(ConnectionClosed::Stopping),
            AnswerReply::Json(message) => {
                replies.send_frames(format!("{message}\0").as_bytes()).await
            }
            AnswerReply::Refused(_, error) if call.method() == "Verdict" => {
                replies.send_error(&error).await
            }
            AnswerReply::Refused(error, _) => replies.send_error(&error).await,
            AnswerReply::Applied | AnswerReply::Held if call.method() == "Verdict" => {
                assert!(matches!(
                    Clearance1Method::parse(&call),
                    Ok(Clearance1Method::Verdict(_))
                ));
                let reply = clearance1::Clearance1VerdictReply { ok: true };
                replies.send(&reply).await
            }
            AnswerReply::Applied | AnswerReply::Held => {
                let Ok(Clearance2Method::Decide(answer)) = Clearance2Method::parse(&call) else {
                    unreachable!("the client's call is well-formed");
                };
                let decision = applied_decision(answer);
                replies.send(&clearance2::DecideReply { decision }).await
            }
        }
    }
}

async fn follow_script(
    script: &CallScriptFn,
    call: &VarlinkCall<'_>,
    replies: &mut ReplyWriter<'_>,
) -> Result<(), ConnectionClosed> {
    match script(call.method(), &parameters_json(call)) {
        CallReply::Frames(frames) => {
            replies.send_frames(&frames).await?;
            if call.method() != "Subscribe" {
                return Ok(());
            }
        }
        CallReply::Disconnected => return Err(ConnectionClosed::Stopping),
        CallReply::Never => {}
    }
    let (_writer, mut hang_up) = replies.split();
    Err(hang_up.wait().await)
}

/// Returns the parameters of a call of either interface.
fn parameters_json(call: &VarlinkCall<'_>) -> Value {
    const NAMES: [&str; 13] = [
        "answers",
        "container",
        "request",
        "request_id",
        "dest",
        "action",
        "scope",
        "replace",
        "limit",
        "rule",
        "port",
        "protocol",
        "seconds",
    ];
    let mut parameters = call.parameters().unwrap();
    let mut json = Map::new();
    for name in NAMES {
        if let Some(value) = parameters.take_optional(name).unwrap() {
            json.insert(name.to_owned(), value);
        }
    }
    parameters.expect_empty().unwrap();
    json.into()
}

/// A hub that is served until this is dropped.
#[derive(Debug)]
pub struct RunningHub {
    /// The hub.
    pub hub: Arc<FakeHub>,
    /// The hub's socket.
    pub socket: ServedSocket,
}

impl RunningHub {
    /// Starts a hub at `path`.
    pub fn start(path: &Path, hub: FakeHub) -> Self {
        let hub = Arc::new(hub);
        let socket = ServedSocket::start(path, Arc::clone(&hub));
        Self { hub, socket }
    }

    /// Stops the hub and waits for the end. Panics if the hub failed.
    pub async fn end(self) {
        self.socket.end().await;
    }
}

/// Hubs that are served until this is dropped, or until each is stopped.
#[derive(Debug, Default)]
pub struct RunningHubs(Vec<RunningHub>);

impl RunningHubs {
    /// Serves a hub at a path. The token stops it.
    pub fn start(&mut self, path: &Path, hub: FakeHub) -> CancellationToken {
        let hub = RunningHub::start(path, hub);
        let stop = hub.socket.stop.clone();
        self.0.push(hub);
        stop
    }
}

/// Returns question `number` of sandbox `c`, about `a.example`.
pub fn request(number: u32) -> Arc<Request> {
    let blocked = blocked_packet("c", number.into(), "a.example");
    let scope = Scope::whole_dest(blocked.dest().clone());
    Arc::new(Request::new(blocked, scope, Timestamp::from_micros(1)))
}

/// Returns question 1 with the destination `dest`.
pub fn request_for(dest: &str) -> Request {
    Request {
        dest: dest.parse().unwrap(),
        ..Arc::unwrap_or_clone(request(1))
    }
}

/// Returns the record of an answer that took effect.
pub fn applied_decision(answer: clearance2::DecideParameters) -> Decision {
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

/// Returns the decision that the history of every fake hub repeats.
fn earlier_decision() -> Decision {
    applied_decision(clearance2::DecideParameters {
        request: "c:1".parse().unwrap(),
        container: "c".parse().unwrap(),
        dest: "a.example".parse().unwrap(),
        action: DecisionAction::Deny,
        scope: None,
        replace: false,
    })
}
