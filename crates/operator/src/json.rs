// SPDX-License-Identifier: Apache-2.0
//! Output for scripts: one JSON object per line; the field `event` names the kind of event.
//!
//! Every command with JSON output uses these types, so that an event has the same fields
//! everywhere. A test compares the types with their schema, `docs/schema/lines.json`.

use serde::Serialize;
use serde_json::Value;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{ContainerState, ExplainReply, ListedRule, Request};
use terok_clearance::{
    Action, ContainerId, Decision, Dest, DisplayText, RequestId, Scope, ShieldState, Timestamp,
};

use crate::inbox::{HubId, Inbox, InboxChange, Row, RowEnd, RowNumber};
use crate::phrases;

/// One line of output. Row numbers are valid only within the process that printed the line.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum ScriptEvent<'a> {
    /// A new question.
    Pending(ScriptQuestion<'a>),
    /// A repeated or updated question.
    Repeated(ScriptQuestion<'a>),
    /// A question in a list.
    Listed(ScriptQuestion<'a>),
    /// The end of a list.
    List {
        rows: usize,
        /// The name of a selected sandbox that does not exist.
        #[serde(skip_serializing_if = "Option::is_none")]
        unmatched: Option<String>,
    },
    /// An answer took effect.
    Decided {
        #[serde(skip_serializing_if = "Option::is_none")]
        row: Option<u64>,
        hub: String,
        /// The effect of this process's answer, in words.
        #[serde(skip_serializing_if = "Option::is_none")]
        reach: Option<&'a str>,
        /// The earlier answer that this one replaced.
        #[serde(skip_serializing_if = "Option::is_none")]
        changed: Option<&'a Decision>,
        #[serde(flatten)]
        decision: &'a Decision,
    },
    /// Another answer came first. If `ok` is false, the other answer is still being applied.
    Already {
        hub: String,
        #[serde(flatten)]
        decision: &'a Decision,
    },
    /// No hub has the question.
    Missing {
        request: &'a RequestId,
        reason: &'a DisplayText,
    },
    /// A hub that may have the question is unreachable; nothing was sent.
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
    /// The result of an answer is unknown; the question stays.
    Unsure {
        #[serde(skip_serializing_if = "Option::is_none")]
        row: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<&'a RequestId>,
        action: Action,
        reason: &'a DisplayText,
    },
    /// The hub was restarted and forgot the question; the row stays until the next packet asks
    /// again.
    Lapsed {
        row: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<&'a RequestId>,
    },
    /// A rule in force.
    Rule {
        /// The name out of its sandbox: `web:r12`.
        name: String,
        hub: String,
        sandbox: &'a DisplayText,
        #[serde(flatten)]
        rule: &'a ListedRule,
    },
    /// The end of a list of rules.
    Rules { rules: usize },
    /// Rules were revoked.
    Revoked {
        hub: String,
        sandbox: &'a DisplayText,
        rules: &'a [ListedRule],
        /// The number of connections that were ended.
        ended: u64,
    },
    /// No sandbox has such a rule.
    #[serde(rename = "missing_rule")]
    MissingRule {
        name: DisplayText,
        reason: &'a DisplayText,
    },
    /// What the rules do with a destination.
    Explained {
        hub: String,
        sandbox: &'a DisplayText,
        dest: &'a DisplayText,
        #[serde(flatten)]
        reply: &'a ExplainReply,
        /// What happens and why, in words.
        because: String,
        /// What would change it, in words, with the commands.
        change: Vec<String>,
    },
    /// The bypass of a sandbox started or ended.
    Bypass {
        hub: String,
        sandbox: &'a DisplayText,
        #[serde(skip_serializing_if = "Option::is_none")]
        rule: Option<&'a ListedRule>,
        /// The number of connections that were ended.
        ended: u64,
    },
    /// A question ended without an answer.
    Withdrawn {
        row: u64,
        request: &'a RequestId,
        hub: String,
        reason: String,
    },
    /// An answer was sent.
    Sent {
        row: u64,
        action: Action,
        /// The scope of the answer.
        scope: Scope,
        /// What the answer opens or closes, in words.
        reach: String,
    },
    /// An answer or an input line was refused; nothing was sent.
    Refused {
        #[serde(skip_serializing_if = "Option::is_none")]
        row: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<&'a RequestId>,
        reason: DisplayText,
    },
    /// The connection of a hub: up, down, gone or unreachable.
    Hub {
        hub: String,
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        interface: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a DisplayText>,
    },
    /// A hub has sent all pending questions.
    Synced { hub: String },
    /// The session is synced; input lines are read from now on.
    Ready {
        hubs: usize,
        rows: usize,
        /// The name of a selected sandbox that does not exist.
        #[serde(skip_serializing_if = "Option::is_none")]
        unmatched: Option<String>,
    },
    /// A hub or a reader skipped events.
    Lost {
        hub: String,
        lost: u64,
        reason: &'a DisplayText,
    },
    /// A hub sent an event of a type unknown to this release.
    Unknown {
        hub: String,
        interface: &'static str,
        kind: &'a DisplayText,
        /// The hub's JSON object, with all texts made harmless for terminals.
        data: Value,
    },
    /// What a hub serves.
    Status(ScriptStatus<'a>),
    /// The state of a unit of the service manager.
    Unit {
        unit: &'a DisplayText,
        state: &'a DisplayText,
    },
    /// The end of a list of hubs.
    Statuses { hubs: usize },
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

/// What a hub serves. An absent value is unknown.
#[derive(Serialize)]
pub(crate) struct ScriptStatus<'a> {
    pub(crate) hub: String,
    /// The id in the path of a sandbox's own hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sandbox: Option<DisplayText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'a DisplayText>,
    /// Whether the hub answered within the time limit.
    pub(crate) answers: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<&'static str>,
    /// The reason why it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'a DisplayText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) supervisor: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) way: Option<&'a DisplayText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) posture: Option<&'a DisplayText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pending: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) held: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rules: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answerers: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) published: Option<&'a [DisplayText]>,
}

/// A row of the inbox: the newest question, and a summary of all questions.
#[derive(Serialize)]
pub(crate) struct ScriptQuestion<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<u64>,
    hub: String,
    /// The interface of the hub; limits the scope of answers.
    interface: &'static str,
    #[serde(flatten)]
    request: &'a Request,
    /// The effect of `allow`, in words; `scope` has the parts.
    opens: String,
    addresses: Vec<&'a Dest>,
    ports: Vec<u16>,
    blocked: u64,
    /// Present and true if the hub was restarted and forgot the question.
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
            opens: phrases::describe_own_effect(row),
            addresses: row.addresses(),
            ports: row.ports().iter().map(|(port, _)| *port).collect(),
            blocked: row.count(),
            lapsed: row.is_forgotten_by_hub(),
        }
    }

    /// Removes the row number, for commands that print once and end.
    pub(crate) fn without_row_number(self) -> Self {
        Self { row: None, ..self }
    }
}

/// Returns the event of a connected hub.
pub(crate) fn hub_up_event(id: &HubId, version: ProtocolVersion) -> ScriptEvent<'static> {
    ScriptEvent::Hub {
        hub: id.to_string(),
        state: "up",
        interface: Some(interface_name(version)),
        reason: None,
    }
}

/// Returns the event of a hub that is not connected.
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

pub(crate) const fn interface_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::Clearance1 => "org.terok.Clearance1",
        ProtocolVersion::Clearance2 => "org.terok.Clearance2",
    }
}

/// Returns the event of a change; `None` if the row of the change has ended.
pub(crate) fn change_event<'a>(
    change: &'a InboxChange,
    inbox: &'a Inbox,
) -> Option<ScriptEvent<'a>> {
    let asks = |row: &RowNumber| inbox.row(*row).map(|row| &row.request().id);
    let question = |row: &RowNumber| inbox.row(*row).map(ScriptQuestion::from_row);
    Some(match change {
        InboxChange::Added(row) => ScriptEvent::Pending(question(row)?),
        InboxChange::Updated(row) => ScriptEvent::Repeated(question(row)?),
        // The repeated question contains the process and the number of connections.
        InboxChange::ProcessFound(_) | InboxChange::WaitingGrew(_) => return None,
        InboxChange::Ended(row, RowEnd::Decided(decision)) => ScriptEvent::Decided {
            row: Some(row.number().get()),
            hub: row.hub().to_string(),
            reach: None,
            changed: None,
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
        InboxChange::Up(id, version) => hub_up_event(id, *version),
        InboxChange::Down(id, reason) => hub_state_event(id, "down", Some(reason)),
        InboxChange::Gone(id) => hub_state_event(id, "gone", None),
        InboxChange::Unreachable(id, reason) => hub_state_event(id, "unreachable", Some(reason)),
        InboxChange::Synced(hub) => ScriptEvent::Synced {
            hub: hub.to_string(),
        },
        InboxChange::UnknownEvent(hub, event) => ScriptEvent::Unknown {
            hub: hub.to_string(),
            interface: interface_name(event.interface()),
            kind: event.kind(),
            data: display_json(serde_json::from_str(event.json()).ok()?),
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

/// Returns an event as a line.
pub(crate) fn to_json_line(event: &ScriptEvent<'_>) -> String {
    // Serialization cannot fail: all map keys are strings, and no value is a float.
    serde_json::to_string(event).map_or_else(|_impossible| String::new(), |text| text + "\n")
}
/// Makes every text and key of a JSON value harmless for terminals and logs.
///
/// The recursion is bounded: `serde_json` rejects more than 128 levels.
fn display_json(value: Value) -> Value {
    let display = |text: &str| DisplayText::new(text).to_string();
    match value {
        Value::String(text) => Value::String(display(&text)),
        Value::Array(values) => values.into_iter().map(display_json).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (display(&key), display_json(value)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}
