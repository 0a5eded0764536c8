// SPDX-License-Identifier: Apache-2.0
//! What popups say. Titles and first lines are the Python stack's; the rest says what an answer
//! does, for nobody can click on what is not said.

use std::net::Ipv6Addr;

use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{
    Action, ContainerId, Decision, DecisionAction, DisplayText, Dossier, Protocol, ShieldState,
};

use crate::clock::Zone;
use crate::inbox::Row;
use crate::notifier::guard::Guard;
use crate::notifier::{self, Expiry, Hints, Identity, Notification, Urgency};
use crate::words;

/// The sandboxes that a group names one by one.
const NAMED: usize = 4;
/// Where a group is answered.
const ELSEWHERE: &str = "Answer in a terminal: terok-clearance tui";

/// What an earlier answer to a question came to, if it came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It took no effect.
    Failed(Action, DisplayText),
    /// Nobody knows.
    Unsure(Action, DisplayText),
}

/// Whether a question can be answered right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Open {
    /// It can.
    Yes,
    /// There is no connection to its hub.
    HubAway,
    /// Its hub has forgotten it.
    Lapsed,
}

/// Returns whom a popup is about, from what the orchestrator says of the sandbox.
pub(super) fn identity(container: &ContainerId, dossier: &Dossier, known: &Identity) -> Identity {
    let said = |key: &str, otherwise: &str| {
        let value = dossier.get(&DisplayText::new(key)).map(DisplayText::as_str);
        value
            .filter(|value| !value.is_empty())
            .unwrap_or(otherwise)
            .to_owned()
    };
    let task_name = said("name", &known.task_name);
    Identity {
        container_id: container.to_string(),
        container_name: said("container_name", &said("name", &known.container_name)),
        project: said("project", &known.project),
        task_id: said("task", &known.task_id),
        task_name,
    }
}

/// Returns the name of a sandbox: its task, else its name, else its id.
pub(super) fn label(identity: &Identity) -> String {
    let Identity {
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

fn whose(identity: &Identity) -> String {
    let is_task = !(identity.project.is_empty() || identity.task_id.is_empty());
    let kind = if is_task { "Task" } else { "Container" };
    format!("{kind}: {}", label(identity))
}

/// Returns what is asked for: `api.example.com:443`, `[2001:db8::7]:443`, `192.0.2.7` alone for a
/// protocol without ports.
fn target(row: &Row) -> String {
    let (dest, port) = (row.dest(), row.request().port);
    // A name is a sandbox's choice, and may have colons without being an address.
    match (port, dest.as_str().parse::<Ipv6Addr>().is_ok()) {
        (0, _) => dest.to_string(),
        (_, true) => format!("[{dest}]:{port}"),
        (_, false) => format!("{dest}:{port}"),
    }
}

fn protocol(protocol: Protocol) -> String {
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
pub(super) fn choices() -> Vec<notifier::Action> {
    ["allow:Allow", "deny:Deny"]
        .iter()
        .filter_map(|choice| choice.parse().ok())
        .collect()
}

/// Returns the answer that a key of [`choices`] stands for.
pub(super) fn answer(key: &str) -> Option<Action> {
    match key {
        "allow" => Some(Action::Allow),
        "deny" => Some(Action::Deny),
        _ => None,
    }
}

/// Returns a question's popup.
pub(super) fn question(
    row: &Row,
    identity: Identity,
    open: Open,
    trouble: Option<&Trouble>,
    zone: &Zone,
) -> Notification {
    let dest = row.dest();
    let summary = match trouble {
        None => format!("Blocked: {}", target(row)),
        Some(Trouble::Failed(action, _)) => format!("{} failed: {dest}", verb(*action)),
        Some(Trouble::Unsure(action, _)) => format!("{} unsure: {dest}", verb(*action)),
    };
    let mut lines = vec![
        whose(&identity),
        format!("Protocol: {}", protocol(row.request().protocol)),
    ];
    if let Some(process) = words::process(row) {
        lines.push(format!("Process: {process}"));
    }
    match trouble {
        None => {}
        Some(Trouble::Failed(_, reason)) if reason.is_empty() => {
            lines.push("It took no effect; it is still asked.".to_owned());
        }
        Some(Trouble::Failed(_, reason)) => {
            lines.push(format!("It took no effect, it is still asked: {reason}"));
        }
        Some(Trouble::Unsure(_, reason)) => {
            lines.push(format!("It may have taken effect, or not: {reason}"));
        }
    }
    lines.push(match open {
        Open::Yes => format!("Allow opens {}", words::opens(row)),
        Open::HubAway => "Its hub is away; it can be answered when the hub is back.".to_owned(),
        Open::Lapsed => {
            "Its hub ended and has forgotten it; the next packet asks again.".to_owned()
        }
    });
    if row.count() > 1 {
        let (count, since) = (row.count(), zone.time(row.first_seen()));
        lines.push(format!("Blocked {count} times since {since}"));
    }
    Notification {
        body: lines.join("\n"),
        actions: if open == Open::Yes {
            choices()
        } else {
            Vec::new()
        },
        expiry: Expiry::Never,
        hints: PENDING,
        identity,
        guard: Some(Guard::READ),
        elsewhere: Some(ELSEWHERE.to_owned()),
        ..Notification::new(&summary)
    }
}

/// Returns what takes a question's place when it was answered; `None` for one that was put away.
pub(super) fn answered(row: &Row, identity: Identity, decision: &Decision) -> Option<Notification> {
    let (done, effect) = match decision.action {
        DecisionAction::Allow => ("Allowed", "Open: "),
        DecisionAction::Deny => ("Denied", "Refused: "),
        DecisionAction::Dismiss => return None,
    };
    let scope = decision.scope.as_ref().unwrap_or_else(|| row.scope());
    let mut lines = vec![whose(&identity), format!("{effect}{}", words::reach(scope))];
    let ours = row.answering().map(DecisionAction::from) == Some(decision.action);
    if !ours && !decision.by.is_empty() {
        lines.push(format!("By {}", decision.by));
    }
    Some(Notification {
        body: lines.join("\n"),
        hints: CONFIRMATION,
        identity,
        ..Notification::new(&format!("{done}: {}", row.dest()))
    })
}

/// Returns the one popup that stands for more questions than a screen has room for: each sandbox,
/// and how many it has.
pub(super) fn group(mut sandboxes: Vec<(String, usize)>) -> Notification {
    let questions: usize = sandboxes.iter().map(|(_, count)| count).sum();
    sandboxes.sort_by(|(a, more), (b, count)| count.cmp(more).then_with(|| a.cmp(b)));
    let mut lines = Vec::new();
    let from = if let [(only, _)] = sandboxes.as_slice() {
        only.clone()
    } else {
        let named = sandboxes.iter().take(NAMED);
        lines.extend(named.map(|(sandbox, count)| format!("{sandbox}: {count}")));
        format!("{} sandboxes", sandboxes.len())
    };
    match sandboxes.len().saturating_sub(NAMED) {
        0 => {}
        1 => lines.push("and 1 more sandbox".to_owned()),
        more => lines.push(format!("and {more} more sandboxes")),
    }
    lines.push(ELSEWHERE.to_owned());
    Notification {
        body: lines.join("\n"),
        expiry: Expiry::Never,
        hints: PENDING,
        ..Notification::new(&format!("{questions} questions from {from}"))
    }
}

/// It stays until it is answered, and longer: the answer takes its place.
const PENDING: Hints = Hints {
    urgency: Some(Urgency::Critical),
    resident: true,
    transient: false,
    ..Hints::PLAIN
};
const CONFIRMATION: Hints = Hints {
    urgency: Some(Urgency::Normal),
    resident: false,
    transient: true,
    ..Hints::PLAIN
};

/// Returns what is said of a firewall.
pub(super) fn shield(identity: Identity, state: ShieldState) -> Notification {
    let alert = Hints {
        urgency: Some(Urgency::Critical),
        ..Hints::default()
    };
    let (title, body, hints) = match state {
        ShieldState::Up => (
            "Shield up",
            "What nobody allowed is refused again.",
            CONFIRMATION,
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
    let title = format!("{title}: {}", label(&identity));
    Notification {
        body: body.to_owned(),
        hints,
        identity,
        ..Notification::new(&title)
    }
}

/// Returns what is said of a sandbox that starts or ends.
pub(super) fn container(
    identity: Identity,
    state: ContainerState,
    reason: Option<&DisplayText>,
) -> Notification {
    let title = match state {
        ContainerState::Started => "Container started",
        ContainerState::Exited => "Container stopped",
    };
    let reason = reason.filter(|reason| !reason.is_empty());
    let title = format!("{title}: {}", label(&identity));
    Notification {
        body: reason.map_or_else(String::new, |reason| format!("Reason: {reason}")),
        hints: Hints {
            urgency: Some(Urgency::Low),
            resident: false,
            transient: true,
            ..Hints::PLAIN
        },
        identity,
        ..Notification::new(&title)
    }
}

/// Returns what is said of `count` of the two above that nobody was shown: so much happened at once.
pub(super) fn left_out(count: usize) -> Notification {
    let title = match count {
        1 => "1 more message about sandboxes".to_owned(),
        count => format!("{count} more messages about sandboxes"),
    };
    Notification {
        body: "They came faster than popups can be read. No question is among them.".to_owned(),
        hints: CONFIRMATION,
        ..Notification::new(&title)
    }
}
