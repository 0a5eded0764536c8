// SPDX-License-Identifier: Apache-2.0
//! What popups say. Titles and first lines are the Python stack's; the rest says what an answer
//! does, for nobody can click on what is not said.

use std::net::Ipv6Addr;

use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{
    Action, ContainerId, Decision, DecisionAction, DisplayText, Dossier, Protocol, ShieldState,
};

use crate::notifier::click_guard::ClickGuard;
use crate::notifier::{
    self, ContainerIdentity, Notification, NotificationExpiry, NotificationHints,
    NotificationUrgency,
};
use operator::clock::TimeZone;
use operator::inbox::Row;
use operator::phrases;

/// The sandboxes that a group names one by one.
const MAX_NAMED_SANDBOXES: usize = 4;
/// Where a group is answered.
const TERMINAL_HINT: &str = "Answer in a terminal: terok-clearance tui";

/// What an earlier answer to a question came to, if it came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PriorAnswerFailure {
    /// It took no effect.
    Failed(Action, DisplayText),
    /// Nobody knows.
    Uncertain(Action, DisplayText),
}

/// Whether a question can be answered right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerAvailability {
    /// It can.
    Available,
    /// There is no connection to its hub.
    HubAway,
    /// Its hub has forgotten it.
    ForgottenByHub,
}

/// Returns whom a popup is about, from what the orchestrator says of the sandbox.
pub(super) fn merge_identity(
    container: &ContainerId,
    dossier: &Dossier,
    known: &ContainerIdentity,
) -> ContainerIdentity {
    let said = |key: &str, otherwise: &str| {
        let value = dossier.get(&DisplayText::new(key)).map(DisplayText::as_str);
        value
            .filter(|value| !value.is_empty())
            .unwrap_or(otherwise)
            .to_owned()
    };
    let task_name = said("name", &known.task_name);
    ContainerIdentity {
        container_id: container.to_string(),
        container_name: said("container_name", &said("name", &known.container_name)),
        project: said("project", &known.project),
        task_id: said("task", &known.task_id),
        task_name,
    }
}

/// Returns the name of a sandbox: its task, else its name, else its id.
pub(super) fn sandbox_label(identity: &ContainerIdentity) -> String {
    let ContainerIdentity {
        container_id,
        container_name,
        project,
        task_id,
        task_name,
    } = identity;
    let name = if task_name.is_empty() {
        container_name
    } else {
        task_name
    };
    if project.is_empty() || task_id.is_empty() {
        let name = if name.is_empty() { container_id } else { name };
        return name.clone();
    }
    if name.is_empty() {
        return format!("{project}/{task_id}");
    }
    format!("{project}/{task_id} \u{b7} {name}")
}

fn subject_line(identity: &ContainerIdentity) -> String {
    let is_task = !(identity.project.is_empty() || identity.task_id.is_empty());
    let kind = if is_task { "Task" } else { "Container" };
    format!("{kind}: {}", sandbox_label(identity))
}

/// Returns what is asked for: `api.example.com:443`, `[2001:db8::7]:443`, `192.0.2.7` alone for a
/// protocol without ports.
fn target_text(row: &Row) -> String {
    let (dest, port) = (row.dest(), row.request().port);
    // A name is a sandbox's choice, and may have colons without being an address.
    match (port, dest.as_str().parse::<Ipv6Addr>().is_ok()) {
        (0, _) => dest.to_string(),
        (_, true) => format!("[{dest}]:{port}"),
        (_, false) => format!("{dest}:{port}"),
    }
}

fn protocol_name(protocol: Protocol) -> String {
    match protocol {
        Protocol::TCP => "TCP".to_owned(),
        Protocol::UDP => "UDP".to_owned(),
        other => other.to_string(),
    }
}

const fn verb(action: Action) -> &'static str {
    match action {
        Action::Allow => "Allow",
        Action::Deny => "Deny",
    }
}

/// Returns the choices of a question: these two, for many desktops draw no more.
pub(super) fn answer_actions() -> Vec<notifier::NotificationAction> {
    ["allow:Allow", "deny:Deny"]
        .iter()
        .filter_map(|choice| choice.parse().ok())
        .collect()
}

/// Returns the answer that a key of [`choices`] stands for.
pub(super) fn parse_answer(key: &str) -> Option<Action> {
    match key {
        "allow" => Some(Action::Allow),
        "deny" => Some(Action::Deny),
        _ => None,
    }
}

/// Returns a question's popup.
pub(super) fn question_popup(
    row: &Row,
    identity: ContainerIdentity,
    open: AnswerAvailability,
    trouble: Option<&PriorAnswerFailure>,
    zone: &TimeZone,
) -> Notification {
    let dest = row.dest();
    let summary = match trouble {
        None => format!("Blocked: {}", target_text(row)),
        Some(PriorAnswerFailure::Failed(action, _)) => format!("{} failed: {dest}", verb(*action)),
        Some(PriorAnswerFailure::Uncertain(action, _)) => {
            format!("{} unsure: {dest}", verb(*action))
        }
    };
    let mut lines = vec![
        subject_line(&identity),
        format!("Protocol: {}", protocol_name(row.request().protocol)),
    ];
    if let Some(process) = phrases::describe_process(row) {
        lines.push(format!("Process: {process}"));
    }
    match trouble {
        None => {}
        Some(PriorAnswerFailure::Failed(_, reason)) if reason.is_empty() => {
            lines.push("It took no effect; it is still asked.".to_owned());
        }
        Some(PriorAnswerFailure::Failed(_, reason)) => {
            lines.push(format!("It took no effect, it is still asked: {reason}"));
        }
        Some(PriorAnswerFailure::Uncertain(_, reason)) => {
            lines.push(format!("It may have taken effect, or not: {reason}"));
        }
    }
    lines.push(match open {
        AnswerAvailability::Available => {
            format!("Allow opens {}", phrases::describe_allow_effect(row))
        }
        AnswerAvailability::HubAway => {
            "Its hub is away; it can be answered when the hub is back.".to_owned()
        }
        AnswerAvailability::ForgottenByHub => {
            "Its hub ended and has forgotten it; the next packet asks again.".to_owned()
        }
    });
    if row.count() > 1 {
        let (count, since) = (row.count(), zone.format_time(row.first_seen()));
        lines.push(format!("Blocked {count} times since {since}"));
    }
    Notification {
        body: lines.join("\n"),
        actions: if open == AnswerAvailability::Available {
            answer_actions()
        } else {
            Vec::new()
        },
        expiry: NotificationExpiry::Never,
        hints: QUESTION_HINTS,
        identity,
        click_guard: Some(ClickGuard::MIN_READ_TIME),
        buttonless_hint: Some(TERMINAL_HINT.to_owned()),
        ..Notification::new(&summary)
    }
}

/// Returns what takes a question's place when it was answered; `None` for one that was put away.
pub(super) fn answered_popup(
    row: &Row,
    identity: ContainerIdentity,
    decision: &Decision,
) -> Option<Notification> {
    let (done, effect) = match decision.action {
        DecisionAction::Allow => ("Allowed", "Open: "),
        DecisionAction::Deny => ("Denied", "Refused: "),
        DecisionAction::Dismiss => return None,
    };
    let scope = decision.scope.as_ref().unwrap_or_else(|| row.scope());
    let mut lines = vec![
        subject_line(&identity),
        format!("{effect}{}", phrases::describe_scope(scope)),
    ];
    let ours = row.answering().map(DecisionAction::from) == Some(decision.action);
    if !ours && !decision.by.is_empty() {
        lines.push(format!("By {}", decision.by));
    }
    Some(Notification {
        body: lines.join("\n"),
        hints: CONFIRMATION_HINTS,
        identity,
        ..Notification::new(&format!("{done}: {}", row.dest()))
    })
}

/// Returns the one popup that stands for more questions than a screen has room for: each sandbox,
/// and how many it has.
pub(super) fn group_popup(mut sandboxes: Vec<(String, usize)>) -> Notification {
    let questions: usize = sandboxes.iter().map(|(_, count)| count).sum();
    sandboxes.sort_by(|(a, more), (b, count)| count.cmp(more).then_with(|| a.cmp(b)));
    let mut lines = Vec::new();
    let from = if let [(only, _)] = sandboxes.as_slice() {
        only.clone()
    } else {
        let named = sandboxes.iter().take(MAX_NAMED_SANDBOXES);
        lines.extend(named.map(|(sandbox, count)| format!("{sandbox}: {count}")));
        format!("{} sandboxes", sandboxes.len())
    };
    match sandboxes.len().saturating_sub(MAX_NAMED_SANDBOXES) {
        0 => {}
        1 => lines.push("and 1 more sandbox".to_owned()),
        more => lines.push(format!("and {more} more sandboxes")),
    }
    lines.push(TERMINAL_HINT.to_owned());
    Notification {
        body: lines.join("\n"),
        expiry: NotificationExpiry::Never,
        hints: QUESTION_HINTS,
        ..Notification::new(&format!("{questions} questions from {from}"))
    }
}

/// It stays until it is answered, and longer: the answer takes its place.
const QUESTION_HINTS: NotificationHints = NotificationHints {
    urgency: Some(NotificationUrgency::Critical),
    resident: true,
    transient: false,
    ..NotificationHints::PLAIN
};
const CONFIRMATION_HINTS: NotificationHints = NotificationHints {
    urgency: Some(NotificationUrgency::Normal),
    resident: false,
    transient: true,
    ..NotificationHints::PLAIN
};

/// Returns what is said of a firewall.
pub(super) fn shield_popup(identity: ContainerIdentity, state: ShieldState) -> Notification {
    let alert = NotificationHints {
        urgency: Some(NotificationUrgency::Critical),
        ..NotificationHints::default()
    };
    let (title, body, hints) = match state {
        ShieldState::Up => (
            "Shield up",
            "What nobody allowed is refused again.",
            CONFIRMATION_HINTS,
        ),
        ShieldState::Down => {
            let body = "Everything but the private ranges passes, and nothing is asked.";
            ("Shield down", body, alert)
        }
        ShieldState::Disengaged => (
            "Shield disengaged",
            "Everything passes, and nothing is asked.",
            alert,
        ),
    };
    let title = format!("{title}: {}", sandbox_label(&identity));
    Notification {
        body: body.to_owned(),
        hints,
        identity,
        ..Notification::new(&title)
    }
}

/// Returns what is said of a sandbox that starts or ends.
pub(super) fn container_popup(
    identity: ContainerIdentity,
    state: ContainerState,
    reason: Option<&DisplayText>,
) -> Notification {
    let title = match state {
        ContainerState::Started => "Container started",
        ContainerState::Exited => "Container stopped",
    };
    let reason = reason.filter(|reason| !reason.is_empty());
    let title = format!("{title}: {}", sandbox_label(&identity));
    Notification {
        body: reason.map_or_else(String::new, |reason| format!("Reason: {reason}")),
        hints: NotificationHints {
            urgency: Some(NotificationUrgency::Low),
            resident: false,
            transient: true,
            ..NotificationHints::PLAIN
        },
        identity,
        ..Notification::new(&title)
    }
}

/// Returns what is said of `count` of the two above that nobody was shown: so much happened at once.
pub(super) fn omitted_popup(count: usize) -> Notification {
    let title = match count {
        1 => "1 more message about sandboxes".to_owned(),
        count => format!("{count} more messages about sandboxes"),
    };
    Notification {
        body: "They came faster than popups can be read. No question is among them.".to_owned(),
        hints: CONFIRMATION_HINTS,
        ..Notification::new(&title)
    }
}
