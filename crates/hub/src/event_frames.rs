// SPDX-License-Identifier: Apache-2.0
//! Encoding of hub events as frames of the two interfaces.

use std::sync::Arc;

use terok_clearance::wire::clearance1::{Clearance1Dialect, ClearanceEventRef};
use terok_clearance::wire::clearance2::{ContainerState, Event};
use terok_clearance::{
    Action, BlockedPacket, ContainerId, DecisionAction, DisplayText, Dossier, ShieldState,
};

use crate::ledger::{AnsweredQuestion, LedgerQuestion};

/// The interface of a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClearanceInterface {
    /// `org.terok.Clearance1` in the format of a range of releases.
    Clearance1(Clearance1Dialect),
    /// `org.terok.Clearance2`.
    Clearance2,
}

/// An event for every subscriber.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HubEvent<'a> {
    Pending(LedgerQuestion<'a>),
    Repeated(LedgerQuestion<'a>),
    /// The process of a question, or the connections that are held for it, changed; there was no
    /// packet.
    DetailsChanged(LedgerQuestion<'a>),
    /// A question was answered. The ids are those that Clearance1 clients may have seen.
    Decided(&'a AnsweredQuestion),
    /// A question was withdrawn, with the reason.
    Withdrawn(LedgerQuestion<'a>, &'static str),
    Started {
        container: &'a ContainerId,
        dossier: &'a Dossier,
    },
    Exited {
        container: &'a ContainerId,
        dossier: &'a Dossier,
        reason: &'a DisplayText,
    },
    Shield {
        container: &'a ContainerId,
        dossier: &'a Dossier,
        state: ShieldState,
    },
    /// Count of packet reports that the kernel lost.
    LostPackets(u64),
}

impl ClearanceInterface {
    /// Appends the frame of an event, or nothing if the interface has no such event.
    pub(crate) fn write_event(self, out: &mut Vec<u8>, seq: u64, event: &HubEvent<'_>) {
        match self {
            Self::Clearance1(dialect) => write_clearance1(out, dialect, event),
            Self::Clearance2 => to_clearance2(event).append_frame(seq, out),
        }
    }

    /// Appends the frame that ends a snapshot.
    pub(crate) fn write_synced(self, out: &mut Vec<u8>, seq: u64) {
        if self == Self::Clearance2 {
            Event::Synced.append_frame(seq, out);
        }
    }

    /// Appends the frame with the number of events that a slow subscriber skipped.
    pub(crate) fn write_skipped(self, out: &mut Vec<u8>, seq: u64, skipped: u64) {
        if self == Self::Clearance2 {
            lost_event(skipped, "slow").append_frame(seq, out);
        }
    }

    /// Returns `true` if a resync repeats every pending question.
    ///
    /// Clearance1 has no event for a resync, and clients would count a repeated question as one
    /// more packet. These subscribers receive only questions that they have not seen.
    pub(crate) const fn replays_all_pending(self) -> bool {
        matches!(self, Self::Clearance2)
    }
}

fn write_clearance1(out: &mut Vec<u8>, dialect: Clearance1Dialect, event: &HubEvent<'_>) {
    let encoded = match *event {
        HubEvent::Pending(question) | HubEvent::Repeated(question) => {
            let (blocked, newest) = (question.blocked(), question.newest_id());
            if blocked.request == *newest {
                ClearanceEventRef::Blocked(blocked)
            } else {
                // Clearance1 clients identify a question by the reader's newest id.
                let blocked = BlockedPacket {
                    request: newest.clone(),
                    ..blocked.clone()
                };
                return ClearanceEventRef::Blocked(&blocked).append_frame(dialect, out);
            }
        }
        HubEvent::Decided(AnsweredQuestion { decision, ids }) => {
            let action = match decision.action {
                DecisionAction::Allow => Action::Allow,
                DecisionAction::Deny => Action::Deny,
                DecisionAction::Dismiss => return,
            };
            for request in ids {
                ClearanceEventRef::VerdictApplied {
                    container: &decision.container,
                    request,
                    action,
                    ok: decision.ok,
                }
                .append_frame(dialect, out);
            }
            return;
        }
        HubEvent::Started { container, dossier } => {
            ClearanceEventRef::ContainerStarted { container, dossier }
        }
        HubEvent::Exited {
            container,
            dossier,
            reason,
        } => ClearanceEventRef::ContainerExited {
            container,
            reason,
            dossier,
        },
        HubEvent::Shield {
            container,
            dossier,
            state,
        } => ClearanceEventRef::Shield {
            container,
            state,
            dossier,
        },
        // Clearance1 clients count every event of a question as one more packet.
        HubEvent::DetailsChanged(_) | HubEvent::Withdrawn(..) | HubEvent::LostPackets(_) => return,
    };
    encoded.append_frame(dialect, out);
}

fn to_clearance2(event: &HubEvent<'_>) -> Event {
    match *event {
        HubEvent::Pending(question) => Event::Pending(Arc::new(question.to_request())),
        HubEvent::Repeated(question) | HubEvent::DetailsChanged(question) => {
            Event::Repeated(Arc::new(question.to_request()))
        }
        HubEvent::Decided(answered) => Event::Decided(Arc::new(answered.decision.clone())),
        HubEvent::Withdrawn(question, reason) => Event::Withdrawn {
            request: Arc::new(question.to_request()),
            reason: DisplayText::new(reason),
        },
        HubEvent::Started { container, .. } => Event::Container {
            container: container.clone(),
            state: ContainerState::Started,
            reason: None,
        },
        HubEvent::Exited {
            container, reason, ..
        } => Event::Container {
            container: container.clone(),
            state: ContainerState::Exited,
            reason: Some(reason.clone()),
        },
        HubEvent::Shield {
            container, state, ..
        } => Event::Shield {
            container: container.clone(),
            state,
        },
        HubEvent::LostPackets(packets) => lost_event(packets, "kernel"),
    }
}

fn lost_event(lost: u64, reason: &str) -> Event {
    Event::Lost {
        lost,
        reason: DisplayText::new(reason),
    }
}
