// SPDX-License-Identifier: Apache-2.0
//! What is guarded now: each hub with its sandbox, its questions and its health.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use terok_clearance::client::{AnswerError, Client, ProtocolVersion};
use terok_clearance::socket::listener_process;
use terok_clearance::wire::clearance2::HubStatus;
use terok_clearance::{DisplayText, Timestamp, error_chain};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::PendingSnapshot;
use super::selector::hub_sandbox_name;
use crate::inbox::HubId;
use crate::join_result;
use crate::json::{ScriptEvent, ScriptStatus, interface_name, to_json_line};
use crate::phrases::format_age;
use crate::text_wrap::{display_width, pad_cell, wrap_lines};

/// Indentation of the lines below a sandbox.
const INDENT_COLUMNS: usize = 4;
/// What is shown for a value that a hub does not tell.
const UNKNOWN: &str = "unknown";

/// A hub, and what it serves. A value is `None` if the hub does not tell it.
#[derive(Debug, Clone)]
pub struct GuardedSandbox {
    /// The hub.
    pub hub: HubId,
    /// The name of the sandbox; `None` for the hub of several sandboxes.
    pub name: Option<DisplayText>,
    /// The process that listens on the hub's socket.
    pub supervisor: Option<u32>,
    /// The interface with which the hub answered, or the reason why it did not.
    pub health: Result<ProtocolVersion, DisplayText>,
    /// The time of the hub's start.
    pub since: Option<Timestamp>,
    /// The way out: dialed or filtered.
    pub way: Option<DisplayText>,
    /// Whether the sandbox is guarded.
    pub posture: Option<DisplayText>,
    /// The number of pending questions.
    pub pending: Option<usize>,
    /// The number of connections that wait for an answer.
    pub held: Option<u64>,
    /// The number of rules in force.
    pub rules: Option<u64>,
    /// The number of connected clients that can answer.
    pub answerers: Option<u64>,
    /// The published ports.
    pub published: Option<Vec<DisplayText>>,
}

/// The hubs at one moment.
#[derive(Debug)]
pub struct StatusSurvey {
    /// The hubs, ordered by their paths.
    pub hubs: Vec<GuardedSandbox>,
    taken_at: Timestamp,
}

/// The state of a unit of the service manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitStatus {
    /// The name of the unit.
    pub unit: DisplayText,
    /// Its state, such as `active (listening)`.
    pub state: DisplayText,
}

impl PendingSnapshot {
    /// Asks each hub that responded what it serves, each for at most `limit`.
    pub async fn read_status(&self, limit: Duration) -> StatusSurvey {
        // Before the calls: a hub that answers one of them has accepted this connection, too, and
        // need not log that its process ended early.
        let unheard = self.unresponsive_hubs.iter().map(|(hub, _)| hub);
        let found = self.responding_hubs.keys().chain(unheard);
        let listeners: BTreeMap<_, _> = found
            .map(|hub| (hub, listener_process(hub.path())))
            .collect();
        let mut asking = JoinSet::new();
        for hub in self.responding_hubs.keys() {
            if let Some(client) = self.session.client(hub)
                && self.responding_hubs.get(hub) == Some(&ProtocolVersion::Clearance2)
            {
                let hub = hub.clone();
                asking.spawn(async move { (hub, ask_status(&client, limit).await) });
            }
        }
        let mut told = BTreeMap::new();
        while let Some(asked) = asking.join_next().await {
            told.extend(join_result(asked));
        }
        let unheard = self.unresponsive_hubs.iter();
        let unheard = unheard.map(|(hub, reason)| (hub, Err(reason.clone())));
        let heard = self.responding_hubs.iter();
        let heard = heard.map(|(hub, version)| (hub, Ok(*version)));
        let hubs = heard.chain(unheard);
        let mut hubs: Vec<_> = hubs
            .map(|(hub, health)| {
                let mut status = self.describe_hub(hub, health, told.remove(hub));
                status.supervisor = listeners.get(hub).copied().flatten();
                status
            })
            .collect();
        hubs.sort_by(|a, b| a.hub.cmp(&b.hub));
        let taken_at = Timestamp::now();
        StatusSurvey { hubs, taken_at }
    }

    fn describe_hub(
        &self,
        hub: &HubId,
        health: Result<ProtocolVersion, DisplayText>,
        told: Option<Result<HubStatus, AnswerError>>,
    ) -> GuardedSandbox {
        let lists_questions = health == Ok(ProtocolVersion::Clearance2);
        let rows = self.session.inbox().rows().filter(|row| row.hub() == hub);
        let waiting = |held: u64, count: u32| held.saturating_add(count.into());
        let (pending, held) = rows.fold((0_usize, 0), |(pending, held), row| {
            let count = row.request().waiting().count;
            (pending.saturating_add(1), waiting(held, count))
        });
        let (status, health) = match told {
            Some(Ok(status)) => (Some(status), health),
            // A hub of an earlier release tells its questions, and not what it serves.
            None | Some(Err(AnswerError::TooOld(_) | AnswerError::Other(_))) => (None, health),
            Some(Err(error)) => (None, Err(error_chain(&error))),
        };
        GuardedSandbox {
            hub: hub.clone(),
            name: hub_sandbox_name(hub),
            supervisor: None,
            since: status
                .as_ref()
                .map(|status| status.since)
                .or_else(|| socket_time(hub)),
            pending: lists_questions.then_some(pending),
            held: lists_questions.then_some(held),
            rules: status.as_ref().and_then(|status| status.rules),
            answerers: status.as_ref().map(|status| status.answerers),
            way: status.as_ref().and_then(|status| status.way.clone()),
            posture: status.as_ref().and_then(|status| status.posture.clone()),
            published: status.map(|status| status.published),
            health,
        }
    }
}

async fn ask_status(client: &Client, limit: Duration) -> Result<HubStatus, AnswerError> {
    let asked = timeout(limit, client.status()).await;
    asked.unwrap_or(Err(AnswerError::TimedOut(limit)))
}

/// Returns the time at which the socket of a hub was bound, which is that of its start.
fn socket_time(hub: &HubId) -> Option<Timestamp> {
    let bound = fs::symlink_metadata(hub.path()).ok()?.modified().ok()?;
    let since = bound.duration_since(std::time::UNIX_EPOCH).ok()?;
    let micros = u64::try_from(since.as_micros()).ok()?;
    Some(Timestamp::from_micros(micros))
}

impl StatusSurvey {
    /// Returns `true` if every hub answered.
    pub fn is_complete(&self) -> bool {
        self.hubs.iter().all(|hub| hub.health.is_ok())
    }

    /// Returns the hubs as a table, with further lines for what has no column; empty without hubs.
    /// Lines are broken for a terminal of `width` columns, and stay whole without one.
    pub fn to_table(&self, width: Option<usize>, color: bool) -> String {
        if self.hubs.is_empty() {
            return String::new();
        }
        let head = [
            "SANDBOX",
            "ID",
            "WAY",
            "POSTURE",
            "SUPERVISOR",
            "SINCE",
            "PENDING",
            "HELD",
            "RULES",
            "OPERATORS",
        ]
        .map(str::to_owned);
        let rows: Vec<_> = self
            .hubs
            .iter()
            .map(|hub| hub.cells(self.taken_at))
            .collect();
        let widths: [usize; 10] = std::array::from_fn(|column| {
            let cells = rows.iter().chain([&head]).filter_map(|row| row.get(column));
            cells.map(|cell| display_width(cell)).max().unwrap_or(0)
        });
        let line = |cells: &[String; 10]| {
            let padded = cells.iter().zip(widths);
            let padded: Vec<_> = padded.map(|(text, width)| pad_cell(text, width)).collect();
            padded.join("  ").trim_end().to_owned() + "\n"
        };
        let wrap = |text: String| match width {
            Some(width) => wrap_lines(&text, width, INDENT_COLUMNS),
            None => text,
        };
        let head = line(&head);
        let mut table = wrap(if color {
            format!("\x1b[1m{}\x1b[0m\n", head.trim_end())
        } else {
            head
        });
        for (hub, cells) in self.hubs.iter().zip(&rows) {
            table.push_str(&wrap(line(cells)));
            for note in hub.notes() {
                let indent = " ".repeat(INDENT_COLUMNS);
                table.push_str(&wrap(format!("{indent}{note}\n")));
            }
        }
        table
    }

    /// Returns the hubs as JSON lines: `status` for each, `unit` for each unit, and `statuses` at
    /// the end.
    pub fn to_json(&self, units: &[UnitStatus]) -> String {
        let hubs = self.hubs.iter().map(GuardedSandbox::to_event);
        let units = units.iter().map(|unit| ScriptEvent::Unit {
            unit: &unit.unit,
            state: &unit.state,
        });
        let end = [ScriptEvent::Statuses {
            hubs: self.hubs.len(),
        }];
        let lines = hubs.chain(units).chain(end);
        lines.map(|line| to_json_line(&line)).collect()
    }
}

impl GuardedSandbox {
    fn cells(&self, now: Timestamp) -> [String; 10] {
        fn number<T: ToString>(value: Option<T>) -> String {
            value.map_or_else(|| UNKNOWN.to_owned(), |value| value.to_string())
        }
        let id = self.hub.sandbox().map(DisplayText::new);
        let process = number(self.supervisor);
        let supervisor = match &self.health {
            Ok(_) => process,
            Err(_) => format!("{process}, silent"),
        };
        let since = self
            .since
            .map(|since| format_age(now.saturating_since(since)));
        [
            self.name
                .as_ref()
                .map_or_else(|| "(several)".to_owned(), ToString::to_string),
            id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            number(self.way.clone()),
            number(self.posture.clone()),
            supervisor,
            number(since),
            number(self.pending),
            number(self.held),
            number(self.rules),
            number(self.answerers),
        ]
    }

    /// Returns what has no column.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        match &self.health {
            Err(reason) => notes.push(format!("does not answer: {reason}")),
            Ok(ProtocolVersion::Clearance1) => notes.push(
                "a hub of the Python stack: it tells only new questions (`terok-clearance watch`)"
                    .to_owned(),
            ),
            Ok(ProtocolVersion::Clearance2) => {}
        }
        if self.pending.is_some_and(|pending| pending > 0) && self.answerers == Some(0) {
            notes.push("nobody can answer: start `terok-clearance tui` or `notifier`".to_owned());
        }
        for port in self.published.iter().flatten() {
            notes.push(format!("published: {port}"));
        }
        notes
    }

    fn to_event(&self) -> ScriptEvent<'_> {
        ScriptEvent::Status(ScriptStatus {
            hub: self.hub.to_string(),
            sandbox: self.hub.sandbox().map(DisplayText::new),
            name: self.name.as_ref(),
            answers: self.health.is_ok(),
            interface: self
                .health
                .as_ref()
                .ok()
                .map(|version| interface_name(*version)),
            reason: self.health.as_ref().err(),
            supervisor: self.supervisor,
            since: self.since,
            way: self.way.as_ref(),
            posture: self.posture.as_ref(),
            pending: self.pending,
            held: self.held,
            rules: self.rules,
            answerers: self.answerers,
            published: self.published.as_deref(),
        })
    }
}
