// SPDX-License-Identifier: Apache-2.0
//! The JSON form of an event.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ContainerState, Event, Request};
use crate::varlink::append_reply;
use crate::{ContainerId, Decision, DisplayText, ShieldState};

impl Event {
    /// Returns `true` for a kind of event that this release knows.
    #[cfg(feature = "client")]
    pub(crate) fn is_known_kind(kind: &str) -> bool {
        matches!(
            kind,
            "pending"
                | "repeated"
                | "decided"
                | "withdrawn"
                | "container"
                | "shield"
                | "lost"
                | "synced"
        )
    }

    /// Appends the event to `out` as a frame of a `Subscribe` stream, the NUL included.
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

/// An event in its wire form.
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
    /// The event.
    pub event: NumberedEvent,
}

/// An event with its sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedEvent {
    /// The sequence number, which rises during a hub's life.
    pub seq: u64,
    /// The event; `None` for an unknown kind.
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
        let raw = UncheckedEvent::deserialize(deserializer)?;
        let request = || {
            raw.request
                .ok_or_else(|| D::Error::missing_field("request"))
        };
        let container = || {
            raw.container
                .ok_or_else(|| D::Error::missing_field("container"))
        };
        let state = raw.state.as_ref().map(DisplayText::as_str);
        let event = match raw.kind.as_str() {
            "pending" => Event::Pending(request()?),
            "repeated" => Event::Repeated(request()?),
            "decided" => Event::Decided(
                raw.decision
                    .ok_or_else(|| D::Error::missing_field("decision"))?,
            ),
            "withdrawn" => Event::Withdrawn {
                request: request()?,
                reason: raw.reason.unwrap_or_default(),
            },
            "container" => Event::Container {
                container: container()?,
                state: match state {
                    Some("started") => ContainerState::Started,
                    Some("exited") => ContainerState::Exited,
                    _ => return Err(D::Error::custom("unknown state of a container")),
                },
                reason: raw.reason,
            },
            "shield" => Event::Shield {
                container: container()?,
                state: match state {
                    Some("up") => ShieldState::Up,
                    Some("down") => ShieldState::Down,
                    Some("disengaged") => ShieldState::Disengaged,
                    _ => return Err(D::Error::custom("unknown state of a firewall")),
                },
            },
            "lost" => Event::Lost {
                lost: raw.lost.unwrap_or_default(),
                reason: raw.reason.unwrap_or_default(),
            },
            "synced" => Event::Synced,
            _ => {
                return Ok(Self {
                    seq: raw.seq,
                    event: None,
                });
            }
        };
        Ok(Self {
            seq: raw.seq,
            event: Some(event),
        })
    }
}
