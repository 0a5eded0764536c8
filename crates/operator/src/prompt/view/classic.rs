// SPDX-License-Identifier: Apache-2.0
//! What the Python stack's terminal tool shows, line by line, for eyes and scripts that know it.
//!
//! What its lines leave out and a person must know is said in lines of its form: what an `allow`
//! opens, how often it was blocked, that a question is gone, that a hub is away.
//! docs/decisions/0013 has the reasons.

use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{DisplayText, Protocol, Resolution, ShieldState};

use super::Say;
use crate::inbox::{Change, End, Inbox, Row};
use crate::prompt::command::CommandError;
use crate::words;

const HELLO: &str = "Shield clearance \u{2014} listening on per-container sockets
Commands: a <N> allow, d <N> deny, l list, q quit

";

const HELP: &str = "Commands:
  a <N>   allow request N
  d <N>   deny request N
  l       list pending
  q       quit
";

/// Its colours, where they are wanted.
#[derive(Debug, Clone, Copy)]
enum Paint {
    Green,
    Red,
    Yellow,
}

pub(super) fn show(say: &Say<'_>, inbox: &Inbox, color: bool, now: u64) -> String {
    let paint = |paint: Paint, text: String| {
        if color {
            format!("\x1b[{}m{text}\x1b[0m\n", code(paint))
        } else {
            text + "\n"
        }
    };
    let blocked = |row: &Row| {
        let number = row.number();
        let text = format!("[{number}] BLOCKED  {}  {}", title(row), body(row, now));
        paint(Paint::Yellow, text)
    };
    let listed = |row: &Row| format!("  [{}] {}  {}\n", row.number(), title(row), body(row, now));
    match say {
        Say::Hello(_) => HELLO.to_owned(),
        Say::Settled => inbox.rows().map(blocked).collect(),
        Say::Change(Change::Asked(number)) => inbox.row(*number).map_or_else(String::new, blocked),
        Say::Change(Change::Ended(row, End::Decided(decision))) => {
            let (color, word) = match decision.action {
                Resolution::Allow => (Paint::Green, "Allowed"),
                Resolution::Deny => (Paint::Red, "Denied"),
                Resolution::Dismiss => (Paint::Red, "Put away"),
            };
            paint(color, format!("{word}: {}  {}", row.dest(), who(row)))
        }
        Say::Change(Change::Ended(row, end)) => {
            let why = words::why(end);
            let text = format!("No longer asked: {}  {} ({why})", row.dest(), who(row));
            paint(Paint::Red, text)
        }
        Say::Change(Change::Failed {
            row,
            action,
            reason,
        }) => {
            let Some(row) = inbox.row(*row) else {
                return String::new();
            };
            let word = match action {
                terok_clearance::Action::Allow => "Allow",
                terok_clearance::Action::Deny => "Deny",
            };
            let mut text = format!("{word} failed: {}  {}", row.dest(), who(row));
            if !reason.is_empty() {
                text = format!("{text}\n{reason}");
            }
            paint(Paint::Red, text)
        }
        Say::Change(change) => told(change),
        Say::Hushed(rows) => format!("{rows} more are blocked; l lists them\n"),
        Say::List if inbox.rows().len() == 0 => "  (no pending requests)\n".to_owned(),
        Say::List => inbox.rows().map(listed).collect(),
        Say::Help => HELP.to_owned(),
        Say::Sent(..) | Say::Ending(_) => String::new(),
        Say::Refused(_, reason) => format!("{reason}\n"),
        Say::NotSent(row, _) if inbox.row(*row).is_none() => {
            format!("No pending request [{row}]\n")
        }
        Say::NotSent(_, refusal) => format!("{}\n", DisplayText::new(&refusal.to_string())),
        Say::Misunderstood(line, error) => misunderstood(line, error),
    }
}

const fn code(paint: Paint) -> u8 {
    match paint {
        Paint::Green => 32,
        Paint::Red => 31,
        Paint::Yellow => 33,
    }
}

/// Returns `Blocked: TARGET:PORT`, of the packet that came last.
fn title(row: &Row) -> String {
    format!("Blocked: {}:{}", row.dest(), row.request().port)
}

/// Returns who asks and by what protocol, and what the original does not say.
fn body(row: &Row, now: u64) -> String {
    let protocol = match row.request().protocol {
        Protocol::TCP => "TCP".to_owned(),
        Protocol::UDP => "UDP".to_owned(),
        other => other.to_string(),
    };
    let mut lines = format!("{}\nProtocol: {protocol}", who(row));
    if row.count() > 1 {
        lines = format!("{lines}\nBlocked {}", words::how_often(row, now));
    }
    format!("{lines}\nAllow opens: {}", words::opens(row))
}

/// Returns `Task: project/task · name` where that is known, else `Container: name-or-id`.
fn who(row: &Row) -> String {
    let known = |key: &str| {
        let value = row.dossier().get(&DisplayText::new(key));
        value.filter(|value| !value.is_empty())
    };
    match (known("project"), known("task"), known("name")) {
        (Some(project), Some(task), Some(name)) => {
            format!("Task: {project}/{task} \u{b7} {name}")
        }
        (Some(project), Some(task), None) => format!("Task: {project}/{task}"),
        (_, _, Some(name)) => format!("Container: {name}"),
        (_, _, None) => format!("Container: {}", row.container()),
    }
}

/// Returns what is no question, as the original has it: a title and its body.
fn told(change: &Change) -> String {
    match change {
        Change::Container {
            container,
            state: ContainerState::Started,
            ..
        } => format!("Container started: {container}  \n"),
        Change::Container {
            container,
            state: ContainerState::Exited,
            reason,
            ..
        } => {
            let reason = reason.as_ref().filter(|reason| !reason.is_empty());
            let reason = reason.map_or_else(String::new, |reason| format!("Reason: {reason}"));
            format!("Container stopped: {container}  {reason}\n")
        }
        Change::Shield {
            container, state, ..
        } => {
            let (word, body) = match state {
                ShieldState::Up => ("up", "Outbound firewall restored."),
                ShieldState::Down => (
                    "down",
                    "Outbound firewall bypassed \u{2014} allowlist is not enforced.",
                ),
                ShieldState::Disengaged => (
                    "disengaged",
                    "Outbound firewall disengaged \u{2014} every destination is reachable.",
                ),
            };
            format!("Shield {word}: {container}  {body}\n")
        }
        Change::Down(hub, reason) => format!("Hub away: {}  {reason}\n", words::hub(hub)),
        Change::Unreachable(hub, reason) => {
            format!("Hub unreachable: {}  {reason}\n", words::hub(hub))
        }
        Change::Unsure {
            row,
            action,
            reason,
        } => format!("[{row}] Unsure: {action} may have taken effect, or not  {reason}\n"),
        Change::Lapsed(row) => format!(
            "[{row}] Forgotten by its hub, which ended: it is asked again at the next packet\n"
        ),
        Change::Lost { hub, lost, .. } => {
            format!("Events lost: {}  {lost}\n", words::hub(hub))
        }
        // The original is silent about hubs, and a row of a hub that is gone has ended.
        Change::Asked(_)
        | Change::Again(_)
        | Change::Ended(..)
        | Change::Failed { .. }
        | Change::Up(..)
        | Change::Gone(_)
        | Change::Synced(_) => String::new(),
    }
}

fn misunderstood(line: &str, error: &CommandError) -> String {
    let mut words = line.split_whitespace();
    let verb = DisplayText::new(&words.next().unwrap_or_default().to_ascii_lowercase());
    let rest: Vec<_> = words.collect();
    let rest = DisplayText::new(&rest.join(" "));
    match error {
        CommandError::Unknown(_) => format!("Unknown command: '{verb}' (try 'h' for help)\n"),
        CommandError::NoRow(_) => format!("Usage: {verb} <N>\n"),
        CommandError::NotARow { .. } => format!("Invalid request number: '{rest}'\n"),
        CommandError::Json(reason) => format!("{reason}\n"),
    }
}
