// SPDX-License-Identifier: Apache-2.0
//! What a script reads: one JSON object per line, `event` saying which.

use serde::Serialize;
use terok_clearance::client::Speaks;
use terok_clearance::wire::clearance2::{ContainerState, Request};
use terok_clearance::{Action, ContainerId, Decision, Dest, DisplayText, ShieldState};

use super::Say;
use crate::inbox::{Change, End, HubId, Inbox, Row, RowNumber};
use crate::words;

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Line<'a> {
    /// A new question.
    Pending(Question<'a>),
    /// A question again.
    Repeated(Question<'a>),
    /// A question, because the list was asked for.
    Listed(Question<'a>),
    /// The list is complete.
    List { rows: usize },
    /// A question was answered, and this took effect.
    Decided {
        row: u64,
        hub: String,
        #[serde(flatten)]
        decision: &'a Decision,
    },
    /// An answer took no effect; the question stays.
    Failed {
        row: u64,
        action: Action,
        reason: &'a DisplayText,
    },
    /// Nobody said whether an answer took effect; the question stays.
    Unsure {
        row: u64,
        action: Action,
        reason: &'a DisplayText,
    },
    /// A restarted hub forgot the question: the row waits for the next packet.
    Lapsed { row: u64 },
    /// A question is no longer asked.
    Withdrawn {
        row: u64,
        hub: String,
        reason: String,
    },
    /// An answer is on its way.
    Sent { row: u64, action: Action },
    /// An answer, or a line, was refused; nothing was sent.
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        row: Option<u64>,
        reason: DisplayText,
    },
    /// A hub's connection: up, down, gone or unreachable.
    Hub {
        hub: String,
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        interface: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a DisplayText>,
    },
    /// A hub has said all that is pending.
    Synced { hub: String },
    /// Every hub that was there has been heard: from now on lines are read.
    Ready { hubs: usize, rows: usize },
    /// A hub skipped something.
    Lost {
        hub: String,
        lost: u64,
        reason: &'a DisplayText,
    },
    /// A sandbox started or ended.
    Container {
        hub: String,
        container: &'a ContainerId,
        state: ContainerState,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a DisplayText>,
    },
    /// The firewall of a sandbox changed.
    Shield {
        hub: String,
        container: &'a ContainerId,
        state: ShieldState,
    },
}

/// A row: its newest question, and what all of its questions come to.
#[derive(Serialize)]
struct Question<'a> {
    row: u64,
    hub: String,
    /// Whether an answer can be narrower than a whole destination.
    interface: &'static str,
    #[serde(flatten)]
    request: &'a Request,
    /// What an `allow` opens, in words; `scope` has it in parts.
    opens: String,
    addresses: Vec<&'a Dest>,
    ports: Vec<u16>,
    blocked: u64,
    /// Present, and true, where a restarted hub has forgotten the question.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lapsed: bool,
}

impl<'a> Question<'a> {
    fn of(row: &'a Row) -> Self {
        Self {
            row: row.number().get(),
            hub: row.hub().to_string(),
            interface: interface(row.speaks()),
            request: row.request(),
            opens: words::opens(row),
            addresses: row.addresses(),
            ports: row.ports().iter().map(|(port, _)| *port).collect(),
            blocked: row.count(),
            lapsed: row.is_lapsed(),
        }
    }
}

const fn interface(speaks: Speaks) -> &'static str {
    match speaks {
        Speaks::Clearance1 => "org.terok.Clearance1",
        Speaks::Clearance2 => "org.terok.Clearance2",
    }
}

pub(super) fn show(say: &Say<'_>, inbox: &Inbox) -> String {
    let line = match say {
        Say::Hello(_) | Say::Help | Say::Hushed(_) | Say::Ending(_) => None,
        Say::Settled => Some(Line::Ready {
            hubs: inbox.hubs().len(),
            rows: inbox.rows().len(),
        }),
        Say::List => {
            let rows = inbox.rows().len();
            let listed = inbox.rows().map(|row| Line::Listed(Question::of(row)));
            let lines = listed.chain([Line::List { rows }]);
            return lines.map(|line| text(&line)).collect();
        }
        Say::Sent(row, action) => Some(Line::Sent {
            row: row.get(),
            action: *action,
        }),
        Say::Refused(row, reason) => Some(Line::Refused {
            row: Some(row.get()),
            reason: reason.clone(),
        }),
        Say::NotSent(row, refusal) => Some(Line::Refused {
            row: Some(row.get()),
            reason: DisplayText::new(&refusal.to_string()),
        }),
        Say::Misunderstood(_, error) => Some(Line::Refused {
            row: None,
            reason: DisplayText::new(&error.to_string()),
        }),
        Say::Change(change) => changed(change, inbox),
    };
    line.map_or_else(String::new, |line| text(&line))
}

fn changed<'a>(change: &'a Change, inbox: &'a Inbox) -> Option<Line<'a>> {
    let question = |row: &RowNumber| inbox.row(*row).map(Question::of);
    let hub = |hub: &HubId, state, reason| Line::Hub {
        hub: hub.to_string(),
        state,
        interface: None,
        reason,
    };
    Some(match change {
        Change::Asked(row) => Line::Pending(question(row)?),
        Change::Again(row) => Line::Repeated(question(row)?),
        Change::Ended(row, End::Decided(decision)) => Line::Decided {
            row: row.number().get(),
            hub: row.hub().to_string(),
            decision,
        },
        Change::Ended(row, end) => Line::Withdrawn {
            row: row.number().get(),
            hub: row.hub().to_string(),
            reason: words::why(end),
        },
        Change::Failed {
            row,
            action,
            reason,
        } => Line::Failed {
            row: row.get(),
            action: *action,
            reason,
        },
        Change::Unsure {
            row,
            action,
            reason,
        } => Line::Unsure {
            row: row.get(),
            action: *action,
            reason,
        },
        Change::Lapsed(row) => Line::Lapsed { row: row.get() },
        Change::Up(id, speaks) => Line::Hub {
            hub: id.to_string(),
            state: "up",
            interface: Some(interface(*speaks)),
            reason: None,
        },
        Change::Down(id, reason) => hub(id, "down", Some(reason)),
        Change::Gone(id) => hub(id, "gone", None),
        Change::Unreachable(id, reason) => hub(id, "unreachable", Some(reason)),
        Change::Synced(hub) => Line::Synced {
            hub: hub.to_string(),
        },
        Change::Lost { hub, lost, reason } => Line::Lost {
            hub: hub.to_string(),
            lost: *lost,
            reason,
        },
        Change::Container {
            hub,
            container,
            state,
            reason,
        } => Line::Container {
            hub: hub.to_string(),
            container,
            state: *state,
            reason: reason.as_ref(),
        },
        Change::Shield {
            hub,
            container,
            state,
        } => Line::Shield {
            hub: hub.to_string(),
            container,
            state: *state,
        },
    })
}

fn text(line: &Line<'_>) -> String {
    // Nothing in a line can fail to be JSON: there are no maps with odd keys, and no floats.
    serde_json::to_string(line).map_or_else(|_impossible| String::new(), |text| text + "\n")
}
