// SPDX-License-Identifier: Apache-2.0
//! A hub with scripted events and replies.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::de::DeserializeOwned;
use serde_json::Value;
use terok_clearance::socket::PeerCredentials;
use terok_clearance::varlink::{
    ConnectionClosed, ReplyWriter, ServiceInfo, VarlinkCall, VarlinkInterface, VarlinkService,
};
use terok_clearance::wire::clearance1::VerdictError;
use terok_clearance::wire::clearance2::{self, Clearance2Method, DecideError, Event, Request};
use terok_clearance::wire::{clearance1, clearance1::Clearance1Method};
use terok_clearance::{Decision, DecisionAction, Scope};
use tokio::sync::watch;

use crate::packets::blocked_packet;
use crate::served_socket::ServedSocket;

/// The interfaces of a current hub.
pub const BOTH_INTERFACES: &[VarlinkInterface] = &[clearance1::INTERFACE, clearance2::INTERFACE];
/// The interfaces of a hub that knows `org.terok.Clearance1` alone.
pub const CLEARANCE1_ONLY: &[VarlinkInterface] = &[clearance1::INTERFACE];
/// The interfaces of a hub that knows `org.terok.Clearance2` alone.
pub const CLEARANCE2_ONLY: &[VarlinkInterface] = &[clearance2::INTERFACE];

/// A hub with scripted events and replies. It checks neither.
pub struct FakeHub {
    /// The interfaces that the hub names. It serves calls of both.
    pub interfaces: &'static [VarlinkInterface],
    /// The frames that every subscriber gets at once.
    pub frames: Vec<u8>,
    /// `true` to disconnect after the frames. Else a stream ends with its subscriber.
    pub hang_up: bool,
    /// Decides how answers are replied to.
    pub reply: Box<AnswerReplyFn>,
    /// Lets held answers go on when it is true.
    pub gate: watch::Sender<bool>,
    /// The number of answers that came.
    pub answers: AtomicUsize,
}

/// Decides how an answer is replied to.
pub type AnswerReplyFn = dyn Fn(FakeHubAnswer<'_>) -> AnswerReply + Send + Sync;

/// An answer that came to a [`FakeHub`].
#[derive(Debug, Clone, Copy)]
pub struct FakeHubAnswer<'a> {
    /// The id of the question.
    pub request: &'a str,
    /// The destination.
    pub dest: &'a str,
}

/// How a [`FakeHub`] replies to an answer.
#[derive(Debug)]
pub enum AnswerReply {
    /// As applied.
    Applied,
    /// As refused, over either interface.
    Refused(DecideError, VerdictError),
    /// With this message.
    Json(Value),
    /// By the end of the connection.
    Disconnected,
    /// As applied, when the gate opens.
    Held,
}

impl FakeHub {
    /// Returns a hub without questions that has an empty message for every answer.
    pub fn silent(interfaces: &'static [VarlinkInterface]) -> Self {
        Self {
            interfaces,
            frames: Vec::new(),
            hang_up: false,
            reply: Box::new(|_| AnswerReply::Json(Value::Null)),
            gate: watch::Sender::new(false),
            answers: AtomicUsize::new(0),
        }
    }

    /// Gives every subscriber these frames.
    #[must_use]
    pub fn with_frames(self, frames: Vec<u8>) -> Self {
        Self { frames, ..self }
    }

    /// Replies to answers in this way.
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

    async fn stream(&self, replies: &mut ReplyWriter<'_>) -> Result<(), ConnectionClosed> {
        replies.send_frames(&self.frames).await?;
        if self.hang_up {
            return Err(ConnectionClosed::Stopping);
        }
        let (_writer, mut hang_up) = replies.split();
        Err(hang_up.wait().await)
    }

    /// Decides about an answer, and waits for the gate where the reply is held.
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

/// A hub that is served until this is dropped.
#[derive(Debug)]
pub struct RunningHub {
    /// The hub.
    pub hub: Arc<FakeHub>,
    /// Its socket.
    pub socket: ServedSocket,
}

impl RunningHub {
    /// Serves a hub at a path.
    pub fn start(path: &Path, hub: FakeHub) -> Self {
        let hub = Arc::new(hub);
        let socket = ServedSocket::start(path, Arc::clone(&hub));
        Self { hub, socket }
    }

    /// Stops the hub and waits until it has ended well.
    pub async fn end(self) {
        self.socket.end().await;
    }
}

/// Returns question `number` of sandbox `c`, about `a.example`.
pub fn request(number: u32) -> Arc<Request> {
    let blocked = blocked_packet("c", number.into(), "a.example");
    let scope = Scope::whole_dest(blocked.dest().clone());
    Arc::new(Request::new(blocked, scope, one_microsecond()))
}

/// Returns question 1 with another destination.
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
        at: one_microsecond(),
        ok: true,
        reason: None,
    }
}

/// Returns the time stamp of all questions and decisions here.
fn one_microsecond<T: DeserializeOwned>() -> T {
    serde_json::from_value(Value::from(1)).unwrap()
}

/// Returns the decision that the history of every fake hub repeats.
fn earlier_decision() -> Decision {
    applied_decision(clearance2::DecideParameters {
        request: "c:1".parse().unwrap(),
        container: "c".parse().unwrap(),
        dest: "a.example".parse().unwrap(),
        action: DecisionAction::Deny,
        scope: None,
    })
}
