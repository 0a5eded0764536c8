// SPDX-License-Identifier: Apache-2.0
//! What happened, as frames of the two interfaces.

use std::sync::Arc;

use terok_clearance::wire::clearance1::{Clearance1Dialect, ClearanceEventRef};
use terok_clearance::wire::clearance2::{ContainerState, Event as Event2};
use terok_clearance::{
    Action, BlockedPacket, ContainerId, DecisionAction, DisplayText, Dossier, ShieldState,
};

use crate::ledger::{AnsweredQuestion, LedgerQuestion};

/// Which interface a subscriber speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClearanceInterface {
    /// `org.terok.Clearance1`, as the clients of a certain release know it.
    Clearance1(Clearance1Dialect),
    /// `org.terok.Clearance2`.
    Clearance2,
}

/// One thing that happened, for every subscriber.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HubEvent<'a> {
    Pending(LedgerQuestion<'a>),
    Repeated(LedgerQuestion<'a>),
    /// A question was answered; the ids are those that clients of Clearance1 may know it by.
    Decided(&'a AnsweredQuestion),
    /// A question is void, for this reason.
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
    /// Packets that the kernel dropped before the reader saw them.
    LostPackets(u64),
}

impl ClearanceInterface {
    /// Appends the frame for `news`; nothing if the interface has no word for it.
    pub(crate) fn write_event(self, out: &mut Vec<u8>, seq: u64, news: &HubEvent<'_>) {
        match self {
            Self::Clearance1(dialect) => write_clearance1(out, dialect, news),
            Self::Clearance2 => to_clearance2(news).append_frame(seq, out),
        }
    }

    /// Appends the frame that ends a snapshot.
    pub(crate) fn write_synced(self, out: &mut Vec<u8>, seq: u64) {
        if self == Self::Clearance2 {
            Event2::Synced.append_frame(seq, out);
        }
    }

    /// Appends the frame that says how many events a slow subscriber did not get.
    pub(crate) fn write_skipped(self, out: &mut Vec<u8>, seq: u64, skipped: u64) {
        if self == Self::Clearance2 {
            lost_event(skipped, "slow").append_frame(seq, out);
        }
    }

    /// Says whether a subscriber that missed something is told everything pending anew.
    ///
    /// Clearance1 has no word for a new start: its clients would count each question as one more
    /// packet, so they are told only what they never were.
    pub(crate) const fn replays_all_pending(self) -> bool {
        matches!(self, Self::Clearance2)
    }
}

fn write_clearance1(out: &mut Vec<u8>, dialect: Clearance1Dialect, news: &HubEvent<'_>) {
    let notice = match *news {
        HubEvent::Pending(question) | HubEvent::Repeated(question) => {
            let (blocked, newest) = (question.blocked(), question.newest_id());
            if blocked.request == *newest {
                ClearanceEventRef::Blocked(blocked)
            } else {
                // These clients know a question by the reader's id.
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
        HubEvent::Withdrawn(..) | HubEvent::LostPackets(_) => return,
    };
    notice.append_frame(dialect, out);
}

fn to_clearance2(news: &HubEvent<'_>) -> Event2 {
    match *news {
        HubEvent::Pending(question) => Event2::Pending(Arc::new(question.to_request())),
        HubEvent::Repeated(question) => Event2::Repeated(Arc::new(question.to_request())),
        HubEvent::Decided(answered) => Event2::Decided(Arc::new(answered.decision.clone())),
        HubEvent::Withdrawn(question, reason) => Event2::Withdrawn {
            request: Arc::new(question.to_request()),
            reason: DisplayText::new(reason),
        },
        HubEvent::Started { container, .. } => Event2::Container {
            container: container.clone(),
            state: ContainerState::Started,
            reason: None,
        },
        HubEvent::Exited {
            container, reason, ..
        } => Event2::Container {
            container: container.clone(),
            state: ContainerState::Exited,
            reason: Some(reason.clone()),
        },
        HubEvent::Shield {
            container, state, ..
        } => Event2::Shield {
            container: container.clone(),
            state,
        },
        HubEvent::LostPackets(packets) => lost_event(packets, "kernel"),
    }
}

fn lost_event(lost: u64, reason: &str) -> Event2 {
    Event2::Lost {
        lost,
        reason: DisplayText::new(reason),
    }
}
