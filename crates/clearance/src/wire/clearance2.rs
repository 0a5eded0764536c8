// SPDX-License-Identifier: Apache-2.0
//! `org.terok.Clearance2`: pending requests, decisions, and answers with a scope.
//!
//! Interface and types may grow: a client ignores unknown fields and passes on unknown events. A
//! server refuses unknown parameters, because such a parameter could be a limit.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::display_text::{deserialize_names, deserialize_program_output};
use crate::varlink::{StandardError, VarlinkCall, VarlinkInterface, is_json_object};
use crate::{
    BlockedPacket, ContainerId, Decision, DecisionAction, Dest, DisplayText, Dossier, GaveUp,
    NetworkZone, PreviousAnswer, Process, Protocol, RequestId, RuleLifetime, Scope, ShieldState,
    Timestamp, WaitingConnections,
};

mod event_frame;
mod rules;
mod status;

pub use event_frame::{Clearance2SubscribeReply, NumberedEvent};
pub use rules::{
    BypassParameters, BypassReply, ExplainParameters, ExplainReply, ExplainVerdict, ListedRule,
    RevokeParameters, RevokeReply, RuleCallError, RulesReply,
};
pub use status::{HubStatus, StatusReply};

/// The interface description.
pub const INTERFACE: VarlinkInterface = VarlinkInterface {
    name: "org.terok.Clearance2",
    description: include_str!("org.terok.Clearance2.varlink"),
};

/// The full name of [`Clearance2Method::Subscribe`].
pub const SUBSCRIBE: &str = "org.terok.Clearance2.Subscribe";
/// The full name of [`Clearance2Method::Decide`].
pub const DECIDE: &str = "org.terok.Clearance2.Decide";
/// The full name of [`Clearance2Method::List`].
pub const LIST: &str = "org.terok.Clearance2.List";
/// The full name of [`Clearance2Method::History`].
pub const HISTORY: &str = "org.terok.Clearance2.History";
/// The full name of [`Clearance2Method::Rules`].
pub const RULES: &str = "org.terok.Clearance2.Rules";
/// The full name of [`Clearance2Method::Revoke`].
pub const REVOKE: &str = "org.terok.Clearance2.Revoke";
/// The full name of [`Clearance2Method::Explain`].
pub const EXPLAIN: &str = "org.terok.Clearance2.Explain";
/// The full name of [`Clearance2Method::Bypass`].
pub const BYPASS: &str = "org.terok.Clearance2.Bypass";
/// The full name of [`Clearance2Method::Status`].
pub const STATUS: &str = "org.terok.Clearance2.Status";

/// A request with its history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The request's id.
    pub id: RequestId,
    /// The sandbox that sent the packet.
    pub container: ContainerId,
    /// The destination of a decision: `domain` if there is one, else `address`.
    pub dest: Dest,
    /// The packet's destination address; the name itself if it has not been resolved yet.
    pub address: Dest,
    /// The packet's destination port; 0 for a protocol without ports.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The name that the sandbox looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Dest>,
    /// The part of the network that the destination belongs to; absent for the internet.
    #[serde(
        default,
        skip_serializing_if = "NetworkZone::is_public",
        deserialize_with = "NetworkZone::deserialize_lenient"
    )]
    pub zone: NetworkZone,
    /// The name that led to the address, for a question about the address itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_up_as: Option<Dest>,
    /// The scope of a decision that names no other.
    pub scope: Scope,
    /// The process that sent the packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Arc<Process>>,
    /// The sandbox's dossier.
    #[serde(default, deserialize_with = "deserialize_names")]
    pub dossier: Dossier,
    /// The time of the first blocked packet.
    pub first_seen: Timestamp,
    /// The time of the newest blocked packet.
    pub last_seen: Timestamp,
    /// Number of blocked packets.
    pub count: u64,
    /// Number of connections that are held until an answer; absent if none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u32>,
    /// Start of the longest wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<Timestamp>,
    /// Length in seconds of the last wait that ended without an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gave_up_after: Option<u32>,
    /// The wider names that a scope may have as destination, the narrowest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wider: Vec<Dest>,
    /// The lifetimes that a scope may have, the shortest first. Absent if the hub does not tell:
    /// then only the lifetime of `scope` is certain.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "rules::deserialize_known_lifetimes"
    )]
    pub lifetimes: Vec<RuleLifetime>,
    /// The last answer about this destination, if its rule has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Arc<PreviousAnswer>>,
    /// The reason that a program in the sandbox gave: its own words, which may be untrue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DisplayText>,
    /// The reason with which the operator's approver left the question to a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approver: Option<DisplayText>,
}

impl Request {
    /// Returns the connections that are held for the request.
    pub fn waiting(&self) -> WaitingConnections {
        WaitingConnections {
            count: self.waiting.unwrap_or_default(),
            since: self.waiting_since,
            gave_up: self
                .gave_up_after
                .map(|after_seconds| GaveUp { after_seconds }),
        }
    }

    /// Sets the connections that are held for the request.
    pub fn set_waiting(&mut self, waiting: WaitingConnections) {
        self.waiting = (waiting.count > 0).then_some(waiting.count);
        self.waiting_since = waiting.since;
        self.gave_up_after = waiting.gave_up.map(|gave_up| gave_up.after_seconds);
    }

    /// Creates the request for a packet that was blocked for the first time.
    pub fn new(blocked: BlockedPacket, scope: Scope, now: Timestamp) -> Self {
        Self {
            dest: blocked.dest().clone(),
            id: blocked.request,
            container: blocked.container,
            address: blocked.address,
            port: blocked.port,
            protocol: blocked.protocol,
            domain: blocked.domain,
            zone: blocked.zone,
            looked_up_as: blocked.looked_up_as.as_ref().map(Dest::from),
            scope,
            process: blocked.process,
            dossier: blocked.dossier,
            first_seen: now,
            last_seen: now,
            count: 1,
            waiting: None,
            waiting_since: None,
            gave_up_after: None,
            wider: Vec::new(),
            lifetimes: Vec::new(),
            previous: blocked.previous,
            reason: blocked.reason,
            approver: None,
        }
    }
}

/// An event of a hub.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A new question.
    Pending(Arc<Request>),
    /// A pending question was blocked again, or has new details.
    Repeated(Arc<Request>),
    /// A question was answered.
    Decided(Arc<Decision>),
    /// A question was withdrawn.
    Withdrawn {
        /// The request.
        request: Arc<Request>,
        /// The reason: `exited`, `shield`, `evicted`.
        reason: DisplayText,
    },
    /// A sandbox started or ended.
    Container {
        /// The sandbox.
        container: ContainerId,
        /// The new state.
        state: ContainerState,
        /// The source of the report that the sandbox ended.
        reason: Option<DisplayText>,
    },
    /// A sandbox's firewall changed.
    Shield {
        /// The sandbox.
        container: ContainerId,
        /// The new state.
        state: ShieldState,
    },
    /// Events were skipped for this subscriber, or the kernel lost packet reports.
    Lost {
        /// Number of events or packets.
        lost: u64,
        /// The reason: `slow`, `kernel`.
        reason: DisplayText,
    },
    /// The snapshot is complete; live events follow.
    Synced,
}

/// The state of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// The sandbox started.
    Started,
    /// The sandbox ended.
    Exited,
}

/// A call of the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clearance2Method {
    /// Streams events in frames of [`Event`].
    Subscribe(SubscribeParameters),
    /// Answers a question; the reply is [`DecideReply`] or [`DecideError`].
    Decide(DecideParameters),
    /// Lists the pending requests; the reply is [`ListReply`].
    List,
    /// Lists the newest decisions; the reply is [`HistoryReply`].
    History {
        /// Maximum number of decisions, 1 to 1000.
        limit: usize,
    },
    /// Lists the rules of the sandbox; the reply is [`RulesReply`].
    Rules,
    /// Ends a rule and its connections; the reply is [`RevokeReply`] or [`RuleCallError`].
    Revoke(RevokeParameters),
    /// Tells what the rules do with a destination; the reply is [`ExplainReply`] or
    /// [`RuleCallError`].
    Explain(ExplainParameters),
    /// Opens the internet for a time; the reply is [`BypassReply`] or [`RuleCallError`].
    Bypass(BypassParameters),
    /// Tells what the hub serves; the reply is [`StatusReply`].
    Status,
}

/// The parameters of `Subscribe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct SubscribeParameters {
    /// Whether an operator is there to answer questions. Not sent if `false`: hubs of earlier
    /// releases know no parameter.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub answers: bool,
}

/// The parameters of `Decide`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DecideParameters {
    /// The request's id.
    pub request: RequestId,
    /// The request's sandbox.
    pub container: ContainerId,
    /// The request's destination.
    pub dest: Dest,
    /// The action.
    pub action: DecisionAction,
    /// The scope; absent for the request's own scope.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Whether the answer may replace an earlier one. Not sent if `false`: hubs of earlier releases
    /// do not know it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
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
    /// The pending requests, oldest first.
    pub requests: Vec<Arc<Request>>,
}

/// The reply to `History`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryReply {
    /// The newest decisions, newest first.
    pub decisions: Vec<Arc<Decision>>,
}

/// An error reply to `Decide`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
#[serde(tag = "error", content = "parameters")]
pub enum DecideError {
    /// The request is not pending.
    #[error("request {request} is not pending")]
    #[serde(rename = "org.terok.Clearance2.NoSuchRequest")]
    NoSuchRequest {
        /// The call's request id.
        request: RequestId,
    },
    /// Another operator has answered the question.
    #[error("request {} has been answered by {}", .decision.request, .decision.by)]
    #[serde(rename = "org.terok.Clearance2.AlreadyDecided")]
    AlreadyDecided {
        /// The other operator's answer.
        decision: Box<Decision>,
    },
    /// The container, the destination or the scope is not the request's.
    #[error("the {field} of request {request} is {asked:?}, not {got:?}")]
    #[serde(rename = "org.terok.Clearance2.NotWhatWasAsked")]
    NotWhatWasAsked {
        /// The request's id.
        request: RequestId,
        /// The differing field: `container`, `dest`, `scope.dest`, `scope.port`, …
        field: DisplayText,
        /// The request's value.
        asked: DisplayText,
        /// The call's value.
        got: DisplayText,
    },
    /// The firewall did not apply the answer; the question stays.
    #[error("the firewall did not apply the answer to request {request}: {reason}")]
    #[serde(rename = "org.terok.Clearance2.EnforcementFailed")]
    EnforcementFailed {
        /// The request's id.
        request: RequestId,
        /// The reason.
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
                Self::Subscribe(SubscribeParameters {
                    answers: parameters.take_optional("answers")?.unwrap_or_default(),
                })
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
                replace: parameters.take_optional("replace")?.unwrap_or_default(),
            }),
            "List" => Self::List,
            "History" => Self::History {
                limit: match parameters.take_optional::<usize>("limit")? {
                    None => Self::HISTORY_DEFAULT_LIMIT,
                    Some(0) => return Err(StandardError::invalid_parameter("limit")),
                    Some(limit) => limit.min(Self::HISTORY_MAX_LIMIT),
                },
            },
            "Rules" => Self::Rules,
            "Revoke" => Self::Revoke(RevokeParameters {
                rule: parameters.take("rule")?,
            }),
            "Explain" => Self::Explain(ExplainParameters {
                dest: parameters.take("dest")?,
                port: parameters.take_optional("port")?,
                protocol: parameters.take_optional("protocol")?,
            }),
            "Bypass" => Self::Bypass(BypassParameters {
                seconds: parameters.take("seconds")?,
            }),
            "Status" => Self::Status,
            _ => return Err(call.method_not_found()),
        };
        parameters.expect_empty()?;
        Ok(method)
    }
}

/// A caller's scope. Unknown fields are refused: such a field could be a limit.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StrictScope {
    dest: String,
    port: Option<u16>,
    protocol: Option<Protocol>,
    keep: RuleLifetime,
    seconds: Option<u32>,
}

impl StrictScope {
    fn parse(raw: &RawValue) -> Result<Scope, StandardError> {
        let wrong = || StandardError::invalid_parameter("scope");
        if !is_json_object(raw.get().as_bytes()) {
            return Err(wrong());
        }
        let scope: Self = serde_json::from_str(raw.get()).map_err(|_detail| wrong())?;
        Ok(Scope {
            dest: parse_exact_dest("scope", &scope.dest)?,
            port: scope.port,
            protocol: scope.protocol,
            keep: scope.keep,
            seconds: scope.seconds,
        })
    }
}

/// Parses a destination that sanitising leaves unchanged.
fn parse_exact_dest(parameter: &'static str, text: &str) -> Result<Dest, StandardError> {
    match Dest::new(text) {
        Ok(dest) if dest.as_str() == text => Ok(dest),
        _ => Err(StandardError::invalid_parameter(parameter)),
    }
}
