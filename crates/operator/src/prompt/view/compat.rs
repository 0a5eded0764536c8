// SPDX-License-Identifier: Apache-2.0
//! Formats prompt messages like the Python stack's terminal tool, for scripts that parse its
//! output.
//!
//! Additional lines of the same form contain information that the Python tool omits: the effect of
//! `allow`, the number of blocked packets, ended questions and disconnected hubs.
//! docs/decisions/0013 has the reasons.

use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{DecisionAction, DisplayText, Protocol, ShieldState, Timestamp};

use super::PromptMessage;
use super::text::format_rules;
use crate::inbox::{Inbox, InboxChange, Row, RowEnd};
use crate::phrases;
use crate::prompt::command::PromptCommandError;

const GREETING: &str = "Shield clearance \u{2014} listening on per-container sockets
Commands: a <N> allow, d <N> deny, l list, q quit

";

const HELP_TEXT: &str = "Commands:
  a <N>   allow request N
  d <N>   deny request N
  l       list pending
  q       quit
";

/// The colours of the Python tool.
#[derive(Debug, Clone, Copy)]
enum CompatColor {
    Green,
    Red,
    Yellow,
}

pub(super) fn render(
    message: &PromptMessage<'_>,
    inbox: &Inbox,
    color: bool,
    now: Timestamp,
) -> String {
    let paint = |paint: CompatColor, text: String| {
        if color {
            format!("\x1b[{}m{text}\x1b[0m\n", ansi_code(paint))
        } else {
            text + "\n"
        }
    };
    let blocked = |row: &Row| {
        let number = row.number();
        let text = format!(
            "[{number}] BLOCKED  {}  {}",
            format_title(row),
            format_body(row, now)
        );
        paint(CompatColor::Yellow, text)
    };
    let listed = |row: &Row| {
        format!(
            "  [{}] {}  {}\n",
            row.number(),
            format_title(row),
            format_body(row, now)
        )
    };
    match message {
        PromptMessage::Greeting(_) => GREETING.to_owned(),
        PromptMessage::Ready => inbox.rows().map(blocked).collect(),
        PromptMessage::Change(InboxChange::Added(number)) => {
            inbox.row(*number).map_or_else(String::new, blocked)
        }
        PromptMessage::Change(InboxChange::Ended(row, RowEnd::Decided(decision))) => {
            let (color, word) = match decision.action {
                DecisionAction::Allow => (CompatColor::Green, "Allowed"),
                DecisionAction::Deny => (CompatColor::Red, "Denied"),
                DecisionAction::Dismiss => (CompatColor::Red, "Dismissed"),
            };
            paint(
                color,
                format!("{word}: {}  {}", row.dest(), format_sandbox(row)),
            )
        }
        PromptMessage::Change(InboxChange::Ended(row, end)) => {
            let why = phrases::describe_row_end(end);
            let text = format!(
                "No longer pending: {}  {} ({why})",
                row.dest(),
                format_sandbox(row)
            );
            paint(CompatColor::Red, text)
        }
        PromptMessage::Change(InboxChange::Failed {
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
            let mut text = format!("{word} failed: {}  {}", row.dest(), format_sandbox(row));
            if !reason.is_empty() {
                text = format!("{text}\n{reason}");
            }
            paint(CompatColor::Red, text)
        }
        PromptMessage::Change(change) => format_notice(change),
        PromptMessage::Suppressed(rows) => format!("... and {rows} more; l lists them\n"),
        PromptMessage::List if inbox.rows().len() == 0 => "  (no pending requests)\n".to_owned(),
        PromptMessage::List => inbox.rows().map(listed).collect(),
        PromptMessage::Help => HELP_TEXT.to_owned(),
        PromptMessage::Sent(..) | PromptMessage::WaitingForReplies(_) => String::new(),
        PromptMessage::Rules(reply) => format_rules(reply, now, color),
        PromptMessage::Refused(_, reason) => format!("{reason}\n"),
        PromptMessage::NotSent(row, _) if inbox.row(*row).is_none() => {
            format!("No pending request [{row}]\n")
        }
        PromptMessage::NotSent(_, refusal) => {
            format!("{}\n", DisplayText::new(&refusal.to_string()))
        }
        PromptMessage::InvalidCommand(line, error) => format_command_error(line, error),
    }
}

const fn ansi_code(paint: CompatColor) -> u8 {
    match paint {
        CompatColor::Green => 32,
        CompatColor::Red => 31,
        CompatColor::Yellow => 33,
    }
}

/// Returns `Blocked: TARGET:PORT` for the last packet.
fn format_title(row: &Row) -> String {
    format!("Blocked: {}:{}", row.dest(), row.request().port)
}

/// Returns sandbox, protocol and the additional lines.
fn format_body(row: &Row, now: Timestamp) -> String {
    let protocol = match row.request().protocol {
        Protocol::TCP => "TCP".to_owned(),
        Protocol::UDP => "UDP".to_owned(),
        other => other.to_string(),
    };
    let mut lines = format!("{}\nProtocol: {protocol}", format_sandbox(row));
    if row.count() > 1 {
        lines = format!(
            "{lines}\nBlocked {}",
            phrases::describe_occurrences(row, now)
        );
    }
    format!(
        "{lines}\nAllow opens: {}",
        phrases::describe_allow_effect(row)
    )
}

/// Returns `Task: project/task · name` if known, otherwise `Container: name-or-id`.
fn format_sandbox(row: &Row) -> String {
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

/// Returns the notice of a change that is not about a question: title and body.
fn format_notice(change: &InboxChange) -> String {
    match change {
        InboxChange::Container {
            container,
            state: ContainerState::Started,
            ..
        } => format!("Container started: {container}  \n"),
        InboxChange::Container {
            container,
            state: ContainerState::Exited,
            reason,
            ..
        } => {
            let reason = reason.as_ref().filter(|reason| !reason.is_empty());
            let reason = reason.map_or_else(String::new, |reason| format!("Reason: {reason}"));
            format!("Container stopped: {container}  {reason}\n")
        }
        InboxChange::Shield {
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
        InboxChange::Down(hub, reason) => {
            format!("Hub away: {}  {reason}\n", phrases::describe_hub(hub))
        }
        InboxChange::Unreachable(hub, reason) => {
            format!(
                "Hub unreachable: {}  {reason}\n",
                phrases::describe_hub(hub)
            )
        }
        InboxChange::ResultUnknown {
            row,
            action,
            reason,
        } => format!("[{row}] Unsure: {action} may have taken effect, or not  {reason}\n"),
        InboxChange::ForgottenByHub(row) => {
            format!("[{row}] Stale: the hub restarted; the next packet will ask again\n")
        }
        InboxChange::Lost { hub, lost, .. } => {
            format!("Events lost: {}  {lost}\n", phrases::describe_hub(hub))
        }
        InboxChange::UnknownEvent(hub, event) => {
            format!(
                "Unknown event: {}  {}\n",
                phrases::describe_hub(hub),
                event.kind()
            )
        }
        // The Python tool prints no lines about hubs; the ends of a removed hub's rows are printed.
        InboxChange::Added(_)
        | InboxChange::Updated(_)
        | InboxChange::ProcessFound(_)
        | InboxChange::WaitingGrew(_)
        | InboxChange::Ended(..)
        | InboxChange::Failed { .. }
        | InboxChange::Up(..)
        | InboxChange::Gone(_)
        | InboxChange::Synced(_) => String::new(),
    }
}

fn format_command_error(line: &str, error: &PromptCommandError) -> String {
    let mut words = line.split_whitespace();
    let verb = DisplayText::new(&words.next().unwrap_or_default().to_ascii_lowercase());
    let rest: Vec<_> = words.collect();
    let rest = DisplayText::new(&rest.join(" "));
    match error {
        PromptCommandError::Unknown(_)
        | PromptCommandError::OtherScript(_)
        | PromptCommandError::ControlCharacters => {
            format!("Unknown command: '{verb}' (try 'h' for help)\n")
        }
        PromptCommandError::MissingRow(_) => format!("Usage: {verb} <N>\n"),
        PromptCommandError::InvalidRow { .. } | PromptCommandError::InvalidScope(_) => {
            format!("Invalid request number: '{rest}'\n")
        }
        PromptCommandError::InvalidJson(reason) => format!("{reason}\n"),
        PromptCommandError::MissingRule => format!("{error}\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use terok_clearance::client::ProtocolVersion;
    use terok_clearance::wire::clearance2::{Event, Request};
    use terok_clearance::{Action, BlockedPacket, Dossier, NetworkZone, Scope};

    use super::*;
    use crate::inbox::{HubId, InboxEvent, OperatorReply};

    /// The output for an inbox with one hub, without colours.
    struct CompatScreen {
        inbox: Inbox,
        hub: HubId,
    }

    impl CompatScreen {
        fn new() -> Self {
            let hub = HubId::new(Path::new("/run/terok/clearance/web/hub.sock"));
            let mut inbox = Inbox::new();
            inbox.apply_event(&hub, InboxEvent::Up(ProtocolVersion::Clearance1));
            Self { inbox, hub }
        }

        fn apply_event(&mut self, event: Event) -> String {
            let changes = self
                .inbox
                .apply_event(&self.hub, InboxEvent::Received(event));
            self.render_changes(&changes)
        }

        fn render_changes(&self, changes: &[InboxChange]) -> String {
            let messages = changes.iter().map(PromptMessage::Change);
            messages
                .map(|message| render(&message, &self.inbox, false, Timestamp::from_micros(1)))
                .collect()
        }
    }

    fn question(id: &str) -> Event {
        let blocked = BlockedPacket {
            container: "web".parse().unwrap(),
            request: id.parse().unwrap(),
            address: "203.0.113.7".parse().unwrap(),
            port: 53,
            protocol: Protocol::UDP,
            domain: None,
            dossier: Dossier::default(),
            process: None,
            zone: NetworkZone::Public,
            looked_up_as: None,
            previous: None,
            reason: None,
        };
        let scope = Scope::until_removed(blocked.dest().clone());
        Event::Pending(Arc::new(Request::new(
            blocked,
            scope,
            Timestamp::from_micros(1),
        )))
    }

    fn shield(state: ShieldState) -> Event {
        let container = "web".parse().unwrap();
        Event::Shield { container, state }
    }

    const BODY: &str = "Container: web\nProtocol: UDP\n";
    const OPENS: &str = "Allow opens: EVERY port and protocol of 203.0.113.7 until it is removed \
                         from the firewall\n";

    #[test]
    fn failed_or_repeated_questions_stay_and_withdrawn_ones_are_announced() {
        let mut shown = CompatScreen::new();
        assert_eq!(
            shown.apply_event(question("web:1")),
            format!("[1] BLOCKED  Blocked: 203.0.113.7:53  {BODY}{OPENS}")
        );
        assert_eq!(shown.apply_event(question("web:2")), "");
        let number = shown.inbox.rows().next().unwrap().number();
        let answers = shown.inbox.answer(number, Action::Allow).unwrap();
        let failed = OperatorReply::Failed(DisplayText::new("no such container"));
        let changes = shown.inbox.apply_reply(&answers[0], failed);
        assert_eq!(
            shown.render_changes(&changes),
            "Allow failed: 203.0.113.7  Container: web\nno such container\n"
        );
        assert_eq!(
            render(
                &PromptMessage::List,
                &shown.inbox,
                false,
                Timestamp::from_micros(1)
            ),
            format!(
                "  [1] Blocked: 203.0.113.7:53  {BODY}Blocked 2 times since 0 s ago, last 0 s \
                 ago\n{OPENS}"
            )
        );
        assert_eq!(
            shown.apply_event(shield(ShieldState::Down)),
            "No longer pending: 203.0.113.7  Container: web (the sandbox's firewall is no longer \
             up)\nShield down: web  Outbound firewall bypassed \u{2014} allowlist is not \
             enforced.\n"
        );
        assert_eq!(
            render(
                &PromptMessage::List,
                &shown.inbox,
                false,
                Timestamp::from_micros(1)
            ),
            "  (no pending requests)\n"
        );
    }

    #[test]
    fn notices_match_the_python_tool() {
        let mut shown = CompatScreen::new();
        for (event, expected) in [
            (
                shield(ShieldState::Up),
                "Shield up: web  Outbound firewall restored.\n",
            ),
            (
                shield(ShieldState::Disengaged),
                "Shield disengaged: web  Outbound firewall disengaged \u{2014} every destination \
                 is reachable.\n",
            ),
            (
                Event::Container {
                    container: "web".parse().unwrap(),
                    state: ContainerState::Started,
                    reason: None,
                },
                "Container started: web  \n",
            ),
            (
                Event::Container {
                    container: "web".parse().unwrap(),
                    state: ContainerState::Exited,
                    reason: Some(DisplayText::new("poststop")),
                },
                "Container stopped: web  Reason: poststop\n",
            ),
        ] {
            assert_eq!(shown.apply_event(event), expected);
        }
    }
}
