// SPDX-License-Identifier: Apache-2.0
//! What happened, as frames of the two interfaces, written without a copy on the way.

use serde::ser::{SerializeMap as _, SerializeStruct as _};
use serde::{Serialize, Serializer};
use terok_clearance::varlink::reply_into;
use terok_clearance::{ContainerId, Decision, Dossier, Resolution, ShieldState};

use crate::ledger::Question;

/// Which release of the Python stack the clients of `org.terok.Clearance1` belong to.
///
/// Those clients reject an event that has one field more or less than they know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Era {
    /// Releases up to 0.6.6: no `dossier`, and a disengaged shield is `shield_down_all`.
    A,
    /// Release 0.6.13 and everything newer: eleven fields, `shield_disengaged`.
    #[default]
    D,
}

/// Which interface a subscriber speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// `org.terok.Clearance1`.
    One(Era),
    /// `org.terok.Clearance2`.
    Two,
}

/// One thing that happened, for every subscriber.
#[derive(Debug, Clone, Copy)]
pub(crate) enum News<'a> {
    Pending(Question<'a>),
    Repeated(Question<'a>),
    Decided(&'a Decision),
    Withdrawn(Question<'a>, &'static str),
    Started {
        container: &'a ContainerId,
        dossier: &'a Dossier,
    },
    Exited {
        container: &'a ContainerId,
        dossier: &'a Dossier,
        reason: &'a str,
    },
    Shield {
        container: &'a ContainerId,
        dossier: &'a Dossier,
        state: ShieldState,
    },
    /// Packets that the kernel dropped before the reader saw them.
    LostPackets(u64),
}

impl Dialect {
    /// Appends the frame for `news`; nothing if the interface has no word for it.
    pub(crate) fn write(self, out: &mut Vec<u8>, seq: u64, news: &News<'_>) {
        match self {
            Self::One(era) => {
                if let Some(event) = One::of(news) {
                    reply_into(out, &OneReply { event: (era, event) }, true);
                }
            }
            Self::Two => write_two(out, Two::of(seq, news)),
        }
    }

    /// Appends the frame that ends a snapshot.
    pub(crate) fn write_synced(self, out: &mut Vec<u8>, seq: u64) {
        if self == Self::Two {
            write_two(out, Two::new(seq, "synced"));
        }
    }

    /// Appends the frame that says how many events a slow subscriber did not get.
    pub(crate) fn write_skipped(self, out: &mut Vec<u8>, seq: u64, skipped: u64) {
        if self == Self::Two {
            write_two(
                out,
                Two {
                    lost: Some(skipped),
                    reason: Some("slow"),
                    ..Two::new(seq, "lost")
                },
            );
        }
    }

    /// Says whether a subscriber that missed something is told everything pending anew.
    ///
    /// Clearance1 has no word for a new start: its clients would count each question as one more
    /// packet, so they are told only what they never were.
    pub(crate) const fn starts_over(self) -> bool {
        matches!(self, Self::Two)
    }
}

fn write_two(out: &mut Vec<u8>, event: Two<'_>) {
    reply_into(out, &TwoReply { event }, true);
}

#[derive(Serialize)]
struct OneReply<'a> {
    #[serde(serialize_with = "one_of_era")]
    event: (Era, One<'a>),
}

/// `ClearanceEvent`: flat, every field present.
struct One<'a> {
    kind: &'static str,
    container: &'a str,
    request_id: &'a str,
    dest: &'a str,
    port: u16,
    proto: u8,
    domain: &'a str,
    action: &'static str,
    ok: bool,
    reason: &'a str,
    dossier: Option<&'a Dossier>,
}

impl<'a> One<'a> {
    fn of(news: &News<'a>) -> Option<Self> {
        let plain = |kind, container: &'a ContainerId, dossier| Self {
            kind,
            container: container.as_str(),
            request_id: "",
            dest: "",
            port: 0,
            proto: 0,
            domain: "",
            action: "",
            ok: false,
            reason: "",
            dossier,
        };
        Some(match *news {
            News::Pending(question) | News::Repeated(question) => Self {
                request_id: question.newest_id().as_str(),
                dest: question.address().as_str(),
                port: question.port(),
                proto: question.protocol().0,
                domain: question.domain().map_or("", |domain| domain.as_str()),
                ..plain(
                    "connection_blocked",
                    question.container(),
                    Some(question.dossier()),
                )
            },
            News::Decided(decision) => Self {
                request_id: decision.request.as_str(),
                action: match decision.action {
                    Resolution::Allow => "allow",
                    Resolution::Deny => "deny",
                    Resolution::Dismiss => return None,
                },
                ok: decision.ok,
                ..plain("verdict_applied", &decision.container, None)
            },
            News::Started { container, dossier } => {
                plain("container_started", container, Some(dossier))
            }
            News::Exited {
                container,
                dossier,
                reason,
            } => Self {
                reason,
                ..plain("container_exited", container, Some(dossier))
            },
            News::Shield {
                container,
                dossier,
                state,
            } => {
                let kind = match state {
                    ShieldState::Up => "shield_up",
                    ShieldState::Down => "shield_down",
                    ShieldState::Disengaged => "shield_disengaged",
                };
                plain(kind, container, Some(dossier))
            }
            News::Withdrawn(..) | News::LostPackets(_) => return None,
        })
    }
}

fn one_of_era<S: Serializer>(
    (era, event): &(Era, One<'_>),
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let kind = match (era, event.kind) {
        (Era::A, "shield_disengaged") => "shield_down_all",
        (_, kind) => kind,
    };
    let mut fields = serializer.serialize_struct("ClearanceEvent", 11)?;
    fields.serialize_field("type", kind)?;
    fields.serialize_field("container", event.container)?;
    fields.serialize_field("request_id", event.request_id)?;
    fields.serialize_field("dest", event.dest)?;
    fields.serialize_field("port", &event.port)?;
    fields.serialize_field("proto", &event.proto)?;
    fields.serialize_field("domain", event.domain)?;
    fields.serialize_field("action", event.action)?;
    fields.serialize_field("ok", &event.ok)?;
    fields.serialize_field("reason", event.reason)?;
    if *era == Era::D {
        match event.dossier {
            Some(dossier) => fields.serialize_field("dossier", &**dossier)?,
            None => fields.serialize_field("dossier", &Empty)?,
        }
    }
    fields.end()
}

struct Empty;

impl Serialize for Empty {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_map(Some(0))?.end()
    }
}

#[derive(Serialize)]
struct TwoReply<'a> {
    event: Two<'a>,
}

/// `Event` of Clearance2; an absent field is left out.
#[derive(Serialize)]
struct Two<'a> {
    seq: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<Question<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a ContainerId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
}

impl<'a> Two<'a> {
    const fn new(seq: u64, kind: &'static str) -> Self {
        Self {
            seq,
            kind,
            request: None,
            decision: None,
            container: None,
            state: None,
            reason: None,
            lost: None,
        }
    }

    fn of(seq: u64, news: &News<'a>) -> Self {
        let new = |kind| Self::new(seq, kind);
        match *news {
            News::Pending(question) => Self {
                request: Some(question),
                ..new("pending")
            },
            News::Repeated(question) => Self {
                request: Some(question),
                ..new("repeated")
            },
            News::Decided(decision) => Self {
                decision: Some(decision),
                ..new("decided")
            },
            News::Withdrawn(question, reason) => Self {
                request: Some(question),
                reason: Some(reason),
                ..new("withdrawn")
            },
            News::Started { container, .. } => Self {
                container: Some(container),
                state: Some("started"),
                ..new("container")
            },
            News::Exited {
                container, reason, ..
            } => Self {
                container: Some(container),
                state: Some("exited"),
                reason: Some(reason),
                ..new("container")
            },
            News::Shield {
                container, state, ..
            } => Self {
                container: Some(container),
                state: Some(state.as_str()),
                ..new("shield")
            },
            News::LostPackets(lost) => Self {
                lost: Some(lost),
                reason: Some("kernel"),
                ..new("lost")
            },
        }
    }
}

/// `Request` of Clearance2.
impl Serialize for Question<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Request", 13)?;
        fields.serialize_field("id", self.id())?;
        fields.serialize_field("container", self.container())?;
        fields.serialize_field("dest", self.dest())?;
        fields.serialize_field("address", self.address())?;
        fields.serialize_field("port", &self.port())?;
        fields.serialize_field("protocol", &self.protocol())?;
        if let Some(domain) = self.domain() {
            fields.serialize_field("domain", domain)?;
        }
        fields.serialize_field("scope", &self.scope())?;
        if let Some(process) = self.process() {
            fields.serialize_field("process", process)?;
        }
        fields.serialize_field("dossier", &**self.dossier())?;
        fields.serialize_field("first_seen", &self.first_seen())?;
        fields.serialize_field("last_seen", &self.last_seen())?;
        fields.serialize_field("count", &self.count())?;
        fields.end()
    }
}
