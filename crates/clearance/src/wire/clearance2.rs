// SPDX-License-Identifier: Apache-2.0
//! `org.terok.Clearance2`: what is pending, what was decided, and by whom.
//!
//! Interface and types may grow: a client ignores fields and kinds of events it does not know. A
//! server refuses parameters it does not know, because one of them may have been meant to narrow.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::display_text::deserialize_program_output;
use crate::varlink::{StandardError, VarlinkCall, VarlinkInterface, append_reply, is_json_object};
use crate::{
    BlockedPacket, ContainerId, Decision, DecisionAction, Dest, DisplayText, Dossier, Process,
    Protocol, RequestId, Scope, ShieldState,
};

/// The interface.
pub const INTERFACE: VarlinkInterface = VarlinkInterface {
    name: "org.terok.Clearance2",
    description: include_str!("org.terok.Clearance2.varlink"),
};

/// The full name of [`Method::Subscribe`].
pub const SUBSCRIBE: &str = "org.terok.Clearance2.Subscribe";
/// The full name of [`Method::Decide`].
pub const DECIDE: &str = "org.terok.Clearance2.Decide";
/// The full name of [`Method::List`].
pub const LIST: &str = "org.terok.Clearance2.List";
/// The full name of [`Method::History`].
pub const HISTORY: &str = "org.terok.Clearance2.History";

/// A question, with everything that is known about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// The sandbox that asks.
    pub container: ContainerId,
    /// What a decision is about: `domain` where there is one, else `address`.
    pub dest: Dest,
    /// The address the packet was sent to.
    pub address: Dest,
    /// The port it was sent to; 0 for a protocol without ports.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The name the sandbox had looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Dest>,
    /// What a decision without a scope of its own opens or closes.
    pub scope: Scope,
    /// The process that sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Arc<Process>>,
    /// What is known about the sandbox.
    #[serde(default)]
    pub dossier: Dossier,
    /// When it was first blocked, in microseconds since the epoch.
    pub first_seen: u64,
    /// When it was last blocked, in microseconds since the epoch.
    pub last_seen: u64,
    /// How often it was blocked.
    pub count: u64,
}

impl Request {
    /// Makes a request of a packet that was blocked for the first time, `now` in microseconds.
    pub fn new(blocked: BlockedPacket, scope: Scope, now: u64) -> Self {
        Self {
            dest: blocked.dest().clone(),
            id: blocked.request,
            container: blocked.container,
            address: blocked.address,
            port: blocked.port,
            protocol: blocked.protocol,
            domain: blocked.domain,
            scope,
            process: blocked.process,
            dossier: blocked.dossier,
            first_seen: now,
            last_seen: now,
            count: 1,
        }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A new question.
    Pending(Arc<Request>),
    /// A pending question was blocked again, or more is known of it.
    Repeated(Arc<Request>),
    /// A question was answered.
    Decided(Arc<Decision>),
    /// A question is void.
    Withdrawn {
        /// The question.
        request: Arc<Request>,
        /// Why: `exited`, `shield`, `evicted`.
        reason: DisplayText,
    },
    /// A sandbox started or ended.
    Container {
        /// The sandbox.
        container: ContainerId,
        /// Which of the two.
        state: ContainerState,
        /// How it is known that it ended.
        reason: Option<DisplayText>,
    },
    /// A sandbox's firewall changed.
    Shield {
        /// The sandbox.
        container: ContainerId,
        /// What it is now.
        state: ShieldState,
    },
    /// Something was skipped, or lost by the kernel.
    Lost {
        /// How many events or packets.
        lost: u64,
        /// Why: `slow`, `kernel`.
        reason: DisplayText,
    },
    /// All that is pending has been said; what follows is live.
    Synced,
}

/// Whether a sandbox runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// It started.
    Started,
    /// It ended.
    Exited,
}

/// A call of the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clearance2Method {
    /// Streams events, each in an [`Event`]'s frame.
    Subscribe,
    /// Answers a question; answered with [`Decided`] or a [`DecideError`].
    Decide(DecideParameters),
    /// Returns what is pending; answered with [`Requests`].
    List,
    /// Returns the newest decisions, at most so many; answered with [`Decisions`].
    History {
        /// The most decisions to return, 1 to 1000.
        limit: usize,
    },
}

/// The parameters of `Decide`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecideParameters {
    /// The question.
    pub request: RequestId,
    /// The question's sandbox.
    pub container: ContainerId,
    /// The question's destination.
    pub dest: Dest,
    /// The answer.
    pub action: DecisionAction,
    /// How far it reaches; absent, as far as the request's own scope says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
}

/// The reply to `Decide`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecideReply {
    /// The record of the answer.
    pub decision: Decision,
}

/// The reply to `List`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListReply {
    /// What is pending, oldest first.
    pub requests: Vec<Arc<Request>>,
}

/// The reply to `History`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryReply {
    /// The newest decisions, newest first.
    pub decisions: Vec<Arc<Decision>>,
}

/// Why an answer was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", content = "parameters")]
pub enum DecideError {
    /// No such question is pending.
    #[error("no question {request} is pending")]
    #[serde(rename = "org.terok.Clearance2.NoSuchRequest")]
    NoSuchRequest {
        /// The question that the call named.
        request: RequestId,
    },
    /// Another operator was first.
    #[error("{} was answered already, by {}", .decision.request, .decision.by)]
    #[serde(rename = "org.terok.Clearance2.AlreadyDecided")]
    AlreadyDecided {
        /// The answer that counts.
        decision: Box<Decision>,
    },
    /// The container, the destination or the scope is not the request's.
    #[error("the {field} of {request} is {asked:?}, not {got:?}")]
    #[serde(rename = "org.terok.Clearance2.NotWhatWasAsked")]
    NotWhatWasAsked {
        /// The question.
        request: RequestId,
        /// Which field differs: `container`, `dest`, `scope.dest`, `scope.port`, …
        field: DisplayText,
        /// What the request has.
        asked: DisplayText,
        /// What the call has.
        got: DisplayText,
    },
    /// The firewall did not take the order; the question stays.
    #[error("the firewall did not take the answer to {request}: {reason}")]
    #[serde(rename = "org.terok.Clearance2.EnforcementFailed")]
    EnforcementFailed {
        /// The question.
        request: RequestId,
        /// Why.
        #[serde(deserialize_with = "deserialize_program_output")]
        reason: DisplayText,
    },
}

impl Clearance2Method {
    const HISTORY_DEFAULT_LIMIT: usize = 100;
    const HISTORY_MAX_LIMIT: usize = 1000;

    /// Parses a call of this interface.
    pub fn parse(call: &VarlinkCall<'_>) -> Result<Self, StandardError> {
        let mut parameters = call.parameters()?;
        let method = match call.method() {
            "Subscribe" => {
                call.expect_more()?;
                Self::Subscribe
            }
            "Decide" => Self::Decide(DecideParameters {
                request: parameters.take("request")?,
                container: parameters.take("container")?,
                dest: parse_exact_dest("dest", &parameters.take::<String>("dest")?)?,
                action: parameters.take("action")?,
                scope: match parameters.take_optional("scope")? {
                    Some(scope) => Some(StrictScope::parse(scope)?),
                    None => None,
                },
            }),
            "List" => Self::List,
            "History" => Self::History {
                limit: match parameters.take_optional::<usize>("limit")? {
                    None => Self::HISTORY_DEFAULT_LIMIT,
                    Some(0) => return Err(StandardError::invalid_parameter("limit")),
                    Some(limit) => limit.min(Self::HISTORY_MAX_LIMIT),
                },
            },
            _ => return Err(call.method_not_found()),
        };
        parameters.expect_empty()?;
        Ok(method)
    }
}

/// A scope as a caller sends it: a field that is not known could have been meant to narrow.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictScope {
    dest: String,
    port: Option<u16>,
    protocol: Option<Protocol>,
    keep: crate::RuleLifetime,
    seconds: Option<u32>,
}

impl StrictScope {
    fn parse(raw: &RawValue) -> Result<Scope, StandardError> {
        let wrong = || StandardError::invalid_parameter("scope");
        if !is_json_object(raw.get().as_bytes()) {
            return Err(wrong());
        }
        let scope: Self = serde_json::from_str(raw.get()).map_err(|_unsaid| wrong())?;
        Ok(Scope {
            dest: parse_exact_dest("scope", &scope.dest)?,
            port: scope.port,
            protocol: scope.protocol,
            keep: scope.keep,
            seconds: scope.seconds,
        })
    }
}

/// Makes a destination of a text that needs no change to be one.
fn parse_exact_dest(parameter: &'static str, text: &str) -> Result<Dest, StandardError> {
    match Dest::new(text) {
        Ok(dest) if dest.as_str() == text => Ok(dest),
        _ => Err(StandardError::invalid_parameter(parameter)),
    }
}

impl Event {
    /// Appends the event to `out` as a frame of a `Subscribe` stream, its NUL included.
    pub fn append_frame(&self, seq: u64, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct SubscribeReplyFrame<'a> {
            event: FlatEvent<'a>,
        }
        let event = self.to_flat(seq);
        append_reply(out, &SubscribeReplyFrame { event }, true);
    }

    fn to_flat(&self, seq: u64) -> FlatEvent<'_> {
        let flat = |kind| FlatEvent {
            seq,
            kind,
            request: None,
            decision: None,
            container: None,
            state: None,
            reason: None,
            lost: None,
        };
        match self {
            Self::Pending(request) => FlatEvent {
                request: Some(request),
                ..flat("pending")
            },
            Self::Repeated(request) => FlatEvent {
                request: Some(request),
                ..flat("repeated")
            },
            Self::Decided(decision) => FlatEvent {
                decision: Some(decision),
                ..flat("decided")
            },
            Self::Withdrawn { request, reason } => FlatEvent {
                request: Some(request),
                reason: Some(reason),
                ..flat("withdrawn")
            },
            Self::Container {
                container,
                state,
                reason,
            } => FlatEvent {
                container: Some(container),
                state: Some(match state {
                    ContainerState::Started => "started",
                    ContainerState::Exited => "exited",
                }),
                reason: reason.as_ref(),
                ..flat("container")
            },
            Self::Shield { container, state } => FlatEvent {
                container: Some(container),
                state: Some(state.as_str()),
                ..flat("shield")
            },
            Self::Lost { lost, reason } => FlatEvent {
                lost: Some(*lost),
                reason: Some(reason),
                ..flat("lost")
            },
            Self::Synced => flat("synced"),
        }
    }
}

/// An event as it stands on the wire.
#[derive(Debug, Serialize)]
struct FlatEvent<'a> {
    seq: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<&'a Request>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a ContainerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a DisplayText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
}

/// One reply of a `Subscribe` stream, as a client receives it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Clearance2SubscribeReply {
    /// What happened.
    pub event: NumberedEvent,
}

/// An event with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedEvent {
    /// Its number, which rises during a hub's life.
    pub seq: u64,
    /// The event; `None` for one of a kind that this release does not know.
    pub event: Option<Event>,
}

impl<'de> Deserialize<'de> for NumberedEvent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;

        #[derive(Deserialize)]
        struct UncheckedEvent {
            seq: u64,
            kind: String,
            request: Option<Arc<Request>>,
            decision: Option<Arc<Decision>>,
            container: Option<ContainerId>,
            state: Option<DisplayText>,
            reason: Option<DisplayText>,
            lost: Option<u64>,
        }
        let loose = UncheckedEvent::deserialize(deserializer)?;
        let request = || {
            loose
                .request
                .ok_or_else(|| D::Error::missing_field("request"))
        };
        let container = || {
            loose
                .container
                .ok_or_else(|| D::Error::missing_field("container"))
        };
        let state = loose.state.as_ref().map(DisplayText::as_str);
        let event = match loose.kind.as_str() {
            "pending" => Event::Pending(request()?),
            "repeated" => Event::Repeated(request()?),
            "decided" => Event::Decided(
                loose
                    .decision
                    .ok_or_else(|| D::Error::missing_field("decision"))?,
            ),
            "withdrawn" => Event::Withdrawn {
                request: request()?,
                reason: loose.reason.unwrap_or_default(),
            },
            "container" => Event::Container {
                container: container()?,
                state: match state {
                    Some("started") => ContainerState::Started,
                    Some("exited") => ContainerState::Exited,
                    _ => return Err(D::Error::custom("no state that a container has")),
                },
                reason: loose.reason,
            },
            "shield" => Event::Shield {
                container: container()?,
                state: match state {
                    Some("up") => ShieldState::Up,
                    Some("down") => ShieldState::Down,
                    Some("disengaged") => ShieldState::Disengaged,
                    _ => return Err(D::Error::custom("no state that a firewall has")),
                },
            },
            "lost" => Event::Lost {
                lost: loose.lost.unwrap_or_default(),
                reason: loose.reason.unwrap_or_default(),
            },
            "synced" => Event::Synced,
            _ => {
                return Ok(Self {
                    seq: loose.seq,
                    event: None,
                });
            }
        };
        Ok(Self {
            seq: loose.seq,
            event: Some(event),
        })
    }
}
