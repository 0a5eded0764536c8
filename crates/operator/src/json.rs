// SPDX-License-Identifier: Apache-2.0
//! What a script reads: one JSON object per line, `event` saying which.
//!
//! Every command that speaks to scripts takes its lines from here, so each event has one shape.
//! `docs/schema/lines.json` describes them; a test holds the two together.

use serde::Serialize;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{ContainerState, Request};
use terok_clearance::{Action, ContainerId, Decision, Dest, DisplayText, RequestId, ShieldState};

use crate::inbox::{HubId, Inbox, InboxChange, Row, RowEnd, RowNumber};
use crate::phrases;

/// One line. A `row` is a number of the process that says it, and means nothing to another one.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum ScriptEvent<'a> {
    /// A new question.
    Pending(ScriptQuestion<'a>),
    /// A question again.
    Repeated(ScriptQuestion<'a>),
    /// A question, because the list was asked for.
    Listed(ScriptQuestion<'a>),
    /// The list is complete.
    List { rows: usize },
    /// A question was answered, and this took effect.
    Decided {
        #[serde(skip_serializing_if = "Option::is_none")]
        row: Option<u64>,
        hub: String,
        /// What our own answer opened or closed, in words.
        #[serde(skip_serializing_if = "Option::is_none")]
        reach: Option<&'a str>,
        #[serde(flatten)]
        decision: &'a Decision,
    },
    /// Somebody else had answered the question, or is answering it, before our own answer.
    Already {
        hub: String,
        #[serde(flatten)]
        decision: &'a Decision,
    },
    /// No hub asks that question.
    Missing {
        request: &'a RequestId,
        reason: &'a DisplayText,
    },
    /// A hub that may ask that question could not be heard; nothing was sent.
    Unheard {
        request: &'a RequestId,
        reason: &'a DisplayText,
    },
    /// An answer took no effect; the question stays.
    Failed {
        #[serde(skip_serializing_if = "Option::is_none")]
        row: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<&'a RequestId>,
        action: Action,
        reason: &'a DisplayText,
    },
    /// Nobody said whether an answer took effect; the question stays.
    Unsure {
        #[serde(skip_serializing_if = "Option::is_none")]
        row: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<&'a RequestId>,
        action: Action,
        reason: &'a DisplayText,
    },
    /// A restarted hub forgot the question: the row waits for the next packet.
    Lapsed {
        row: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<&'a RequestId>,
    },
    /// A question is no longer asked.
    Withdrawn {
        row: u64,
        request: &'a RequestId,
        hub: String,
        reason: String,
    },
    /// An answer is on its way.
    Sent { row: u64, action: Action },
    /// An answer, or a line, was refused; nothing was sent.
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        row: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<&'a RequestId>,
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
pub(crate) struct ScriptQuestion<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<u64>,
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

impl<'a> ScriptQuestion<'a> {
    pub(crate) fn from_row(row: &'a Row) -> Self {
        Self {
            row: Some(row.number().get()),
            hub: row.hub().to_string(),
            interface: interface_name(row.protocol_version()),
            request: row.request(),
            opens: phrases::describe_allow_effect(row),
            addresses: row.addresses(),
            ports: row.ports().iter().map(|(port, _)| *port).collect(),
            blocked: row.count(),
            lapsed: row.is_forgotten_by_hub(),
        }
    }

    /// Leaves the row's number out, which dies with the process that gave it.
    pub(crate) fn without_row_number(self) -> Self {
        Self { row: None, ..self }
    }
}

/// Returns the line of a hub whose connection stands.
pub(crate) fn hub_up_event(id: &HubId, speaks: ProtocolVersion) -> ScriptEvent<'static> {
    ScriptEvent::Hub {
        hub: id.to_string(),
        state: "up",
        interface: Some(interface_name(speaks)),
        reason: None,
    }
}

/// Returns the line of a hub that is not, or no longer, connected: `state` says how.
pub(crate) fn hub_state_event<'a>(
    id: &HubId,
    state: &'static str,
    reason: Option<&'a DisplayText>,
) -> ScriptEvent<'a> {
    ScriptEvent::Hub {
        hub: id.to_string(),
        state,
        interface: None,
        reason,
    }
}

const fn interface_name(speaks: ProtocolVersion) -> &'static str {
    match speaks {
        ProtocolVersion::Clearance1 => "org.terok.Clearance1",
        ProtocolVersion::Clearance2 => "org.terok.Clearance2",
    }
}

/// Returns the line of a change; `None` where the row that it is about is no more.
pub(crate) fn change_event<'a>(
    change: &'a InboxChange,
    inbox: &'a Inbox,
) -> Option<ScriptEvent<'a>> {
    let asks = |row: &RowNumber| inbox.row(*row).map(|row| &row.request().id);
    let question = |row: &RowNumber| inbox.row(*row).map(ScriptQuestion::from_row);
    Some(match change {
        InboxChange::Added(row) => ScriptEvent::Pending(question(row)?),
        InboxChange::Updated(row) => ScriptEvent::Repeated(question(row)?),
        InboxChange::Ended(row, RowEnd::Decided(decision)) => ScriptEvent::Decided {
            row: Some(row.number().get()),
            hub: row.hub().to_string(),
            reach: None,
            decision,
        },
        InboxChange::Ended(row, end) => ScriptEvent::Withdrawn {
            row: row.number().get(),
            request: &row.request().id,
            hub: row.hub().to_string(),
            reason: phrases::describe_row_end(end),
        },
        InboxChange::Failed {
            row,
            action,
            reason,
        } => ScriptEvent::Failed {
            row: Some(row.get()),
            request: asks(row),
            action: *action,
            reason,
        },
        InboxChange::ResultUnknown {
            row,
            action,
            reason,
        } => ScriptEvent::Unsure {
            row: Some(row.get()),
            request: asks(row),
            action: *action,
            reason,
        },
        InboxChange::ForgottenByHub(row) => ScriptEvent::Lapsed {
            row: row.get(),
            request: asks(row),
        },
        InboxChange::Up(id, speaks) => hub_up_event(id, *speaks),
        InboxChange::Down(id, reason) => hub_state_event(id, "down", Some(reason)),
        InboxChange::Gone(id) => hub_state_event(id, "gone", None),
        InboxChange::Unreachable(id, reason) => hub_state_event(id, "unreachable", Some(reason)),
        InboxChange::Synced(hub) => ScriptEvent::Synced {
            hub: hub.to_string(),
        },
        InboxChange::Lost { hub, lost, reason } => ScriptEvent::Lost {
            hub: hub.to_string(),
            lost: *lost,
            reason,
        },
        InboxChange::Container {
            hub,
            container,
            state,
            reason,
        } => ScriptEvent::Container {
            hub: hub.to_string(),
            container,
            state: *state,
            reason: reason.as_ref(),
        },
        InboxChange::Shield {
            hub,
            container,
            state,
        } => ScriptEvent::Shield {
            hub: hub.to_string(),
            container,
            state: *state,
        },
    })
}

/// Returns a line as it is written.
pub(crate) fn to_json_line(line: &ScriptEvent<'_>) -> String {
    // Nothing in a line can fail to be JSON: there are no maps with odd keys, and no floats.
    serde_json::to_string(line).map_or_else(|_impossible| String::new(), |text| text + "\n")
}
