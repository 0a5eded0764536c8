// SPDX-License-Identifier: Apache-2.0
//! The texts of popups. What Allow opens comes first, because services clip the end; title and the
//! lines about sandbox, protocol and count are the same as in the Python stack.

use std::net::Ipv6Addr;

use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{
    Action, ContainerId, Decision, DecisionAction, DisplayText, Dossier, Protocol, ShieldState,
};

use crate::notifier::text_limits::cut_middle;
use crate::notifier::{
    self, ContainerIdentity, Notification, NotificationExpiry, NotificationHints,
    NotificationUrgency, TextLimits,
};
use crate::popups::scope_actions::{self, ScopeAction};
use operator::clock::TimeZone;
use operator::inbox::Row;
use operator::{ScopeChoice, phrases};

/// Maximum sandboxes that a group popup names.
const MAX_NAMED_SANDBOXES: usize = 4;
/// Where to answer if a question has no id that can be typed.
const TERMINAL_HINT: &str = "Answer in a terminal: terok-clearance tui";
/// Maximum characters of an id or a destination that a person is asked to type.
const MAX_TYPED_CHARS: usize = 48;

/// Maximum columns of a sandbox's name in the list of a group popup.
const MAX_LISTED_SANDBOX_COLUMNS: usize = 16;

/// The line of a popup after a click or a close that came too soon.
const TOO_SOON_TEXT: &str = "The click came too soon after this appeared, so it was not taken. \
Choose again.";

/// Puts the line about a click that came too soon above `body`.
pub(super) fn with_too_soon_line(body: &str) -> String {
    if body.is_empty() {
        return TOO_SOON_TEXT.to_owned();
    }
    format!("{TOO_SOON_TEXT}\n{body}")
}

/// The failure of an earlier answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PriorAnswerFailure {
    /// The answer took no effect.
    Failed(Action, DisplayText),
    /// The answer may or may not have taken effect.
    Uncertain(Action, DisplayText),
}

/// Whether a question can be answered at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerAvailability {
    /// The question can be answered.
    Available,
    /// The question's hub is disconnected.
    HubAway,
    /// The hub was restarted and has forgotten the question.
    ForgottenByHub,
}

/// Returns the identity of a sandbox from the dossier of an event; `known` fills the gaps.
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

/// Returns the label of a sandbox: the task, else the container's name, else the container's id.
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

/// Returns the destination: `api.example.com:443`, `[2001:db8::7]:443`; `192.0.2.7` alone for a
/// protocol without ports.
fn target_text(row: &Row) -> String {
    let (dest, port) = (row.dest(), row.request().port);
    // The sandbox chooses the name; a name with colons need not be an IPv6 address.
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

fn parse_actions(choices: &[&str]) -> Vec<notifier::NotificationAction> {
    let choices = choices.iter();
    choices.filter_map(|choice| choice.parse().ok()).collect()
}

/// Returns the action that opens the screen, if it can be opened.
fn open_action(can_open: bool) -> Vec<notifier::NotificationAction> {
    parse_actions(if can_open { &["open:Open"] } else { &[] })
}

/// The meaning of a click on an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PopupAction {
    /// Answers the question of the popup, with the scope that the question proposes.
    Answer(Action),
    /// Allows the question of the popup for another time.
    AllowFor(ScopeChoice),
    /// Denies the questions that the popup lists.
    DenyListed,
    /// Opens the screen with all questions.
    OpenScreen,
}

/// Converts the key of an action. The label of `deny` varies.
pub(super) fn parse_choice(key: &str) -> Option<PopupAction> {
    match key {
        "allow" => Some(PopupAction::Answer(Action::Allow)),
        "deny" => Some(PopupAction::Answer(Action::Deny)),
        "deny-listed" => Some(PopupAction::DenyListed),
        "open" => Some(PopupAction::OpenScreen),
        key => scope_actions::choice_of_key(key).map(PopupAction::AllowFor),
    }
}

/// Returns the line that says how to answer the question without buttons.
///
/// The line has the id only if a shell reads it as one plain word: a reader chooses the id.
fn answer_hint(row: &Row) -> String {
    let is_plain = |word: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
        word.len() <= MAX_TYPED_CHARS && !word.starts_with('-') && word.chars().all(plain)
    };
    let (id, dest) = (row.request().id.as_str(), row.dest().as_str());
    match row.protocol_version() {
        ProtocolVersion::Clearance2 if is_plain(id) => {
            format!("To answer, type: terok-clearance allow {id} (or deny)")
        }
        // Such a hub does not list its questions, so that the command needs the destination.
        ProtocolVersion::Clearance1 if is_plain(id) && is_plain(dest) => {
            format!("To answer, type: terok-clearance allow {id} --expect {dest} (or deny)")
        }
        _ => TERMINAL_HINT.to_owned(),
    }
}

/// What the popup of a question has besides the question.
#[derive(Debug)]
pub(super) struct QuestionContext<'a> {
    pub(super) availability: AnswerAvailability,
    pub(super) failure: Option<&'a PriorAnswerFailure>,
    /// Whether the last click came too soon.
    pub(super) too_soon: bool,
    /// Whether the screen can be opened.
    pub(super) can_open: bool,
    pub(super) zone: &'a TimeZone,
    /// The text and the actions that are shown.
    pub(super) limits: &'a TextLimits,
}

/// Returns the popup of a question.
pub(super) fn question_popup(
    row: &Row,
    identity: ContainerIdentity,
    context: &QuestionContext<'_>,
) -> Notification {
    let QuestionContext {
        availability,
        failure,
        too_soon,
        can_open,
        zone,
        limits,
    } = *context;
    let dest = row.dest();
    let mut scope_actions = Vec::new();
    let summary = match failure {
        None => format!("Blocked: {}", target_text(row)),
        Some(PriorAnswerFailure::Failed(action, _)) => format!("{} failed: {dest}", verb(*action)),
        Some(PriorAnswerFailure::Uncertain(action, _)) => {
            format!("{} unsure: {dest}", verb(*action))
        }
    };
    let mut lines = vec![match availability {
        AnswerAvailability::Available => {
            let allows = scope_actions::allow_line(row);
            scope_actions = scope_actions::shown_actions(row, &allows, limits);
            allows
        }
        AnswerAvailability::HubAway => {
            "The hub is disconnected; the question can be answered once it is back.".to_owned()
        }
        AnswerAvailability::ForgottenByHub => {
            "The hub was restarted; the next packet asks again.".to_owned()
        }
    }];
    lines.extend(scope_actions.iter().map(|action| action.effect_line(row)));
    let essential_lines = lines.len();
    if too_soon {
        lines.push(TOO_SOON_TEXT.to_owned());
    }
    match failure {
        None => {}
        Some(PriorAnswerFailure::Failed(_, reason)) if reason.is_empty() => {
            lines.push("The answer took no effect; the question is still open.".to_owned());
        }
        Some(PriorAnswerFailure::Failed(_, reason)) => {
            lines.push(format!(
                "The answer took no effect, the question is still open: {reason}"
            ));
        }
        Some(PriorAnswerFailure::Uncertain(_, reason)) => {
            lines.push(format!(
                "The answer may or may not have taken effect: {reason}"
            ));
        }
    }
    lines.push(subject_line(&identity));
    lines.extend(detail_lines(row, zone));
    let mut notification = Notification {
        body: lines.join("\n"),
        expiry: NotificationExpiry::Never,
        hints: QUESTION_HINTS,
        identity,
        ..Notification::new(&summary)
    };
    if availability == AnswerAvailability::Available {
        notification.actions = parse_actions(&["allow:Allow", "deny:Deny"]);
        let others = scope_actions.into_iter();
        let others = others.filter_map(ScopeAction::notification_action);
        notification.actions.extend(others);
        notification.fallback_actions = open_action(can_open);
        notification.buttonless_hint = Some(answer_hint(row));
        notification.essential_lines = essential_lines;
        notification.long_name = Some(dest.to_string());
    }
    notification
}

/// Returns what is known about a question, a line each, the certain first.
fn detail_lines(row: &Row, zone: &TimeZone) -> Vec<String> {
    let dest = row.dest();
    let mut lines = vec![format!(
        "Protocol: {}",
        protocol_name(row.request().protocol)
    )];
    if let Some(zone) = phrases::describe_zone(row) {
        lines.push(format!("Destination: {zone}"));
    }
    if let Some(name) = phrases::unicode_name(dest) {
        lines.push(format!("Name: {dest} ({name})"));
    }
    if let Some(lookup) = phrases::describe_lookup(row) {
        lines.push(format!("Lookup: {lookup}"));
    }
    if let Some(process) = phrases::describe_process(row) {
        lines.push(format!("Process: {process}"));
    }
    // Without the length of the wait: a popup is not updated as time passes.
    if let Some(waiting) = phrases::describe_waiting(row, Some(zone), None) {
        lines.push(format!("Waiting: {waiting}"));
    }
    if let Some(before) = phrases::describe_previous_with_time(row, zone) {
        lines.push(format!("Before: {before}"));
    }
    if row.count() > 1 {
        let (count, since) = (row.count(), zone.format_time(row.first_seen()));
        lines.push(format!("Blocked {count} times since {since}"));
    }
    // The reason is last, so that what follows is certainly the program's.
    let words = [
        phrases::describe_approver_note(row),
        phrases::describe_reason(row),
    ];
    lines.extend(
        words
            .into_iter()
            .flatten()
            .map(|words| format!("Note: {words}")),
    );
    lines
}

/// Returns the popup that replaces an answered question; `None` for a dismissed one.
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
        format!("{effect}{}", phrases::describe_answered_scope(scope)),
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

/// The questions of a group popup that a click denies.
#[derive(Debug)]
pub(super) struct ListedQuestions {
    /// One line for each question that is shown whole.
    pub(super) lines: Vec<String>,
    /// The number of open questions that are not listed.
    pub(super) unlisted: usize,
}

/// Returns the line of a question in a group popup. Several sandboxes are named.
pub(super) fn group_line(row: &Row, sandbox: Option<&str>) -> String {
    let dest = phrases::describe_dest_briefly(row);
    match sandbox {
        Some(sandbox) => format!(
            "{dest} ({})",
            cut_middle(sandbox, MAX_LISTED_SANDBOX_COLUMNS)
        ),
        None => dest,
    }
}

/// Returns the popup that stands for many questions: it lists the oldest ones, which a click
/// denies, and the number of questions per sandbox.
pub(super) fn group_popup(
    mut sandboxes: Vec<(String, usize)>,
    listed: ListedQuestions,
    too_soon: bool,
    can_open: bool,
) -> Notification {
    let ListedQuestions {
        mut lines,
        unlisted,
    } = listed;
    let essential_lines = lines.len();
    let deny = match (essential_lines, unlisted) {
        (0, _) => String::new(),
        (_, 0) => "deny-listed:Deny all".to_owned(),
        (1, _) => "deny-listed:Deny this one".to_owned(),
        (count, _) => format!("deny-listed:Deny these {count}"),
    };
    match (essential_lines, unlisted) {
        (_, 0) | (0, _) => {}
        (_, count) => lines.push(format!("and {count} more")),
    }
    if too_soon {
        lines.push(TOO_SOON_TEXT.to_owned());
    }
    let questions: usize = sandboxes.iter().map(|(_, count)| count).sum();
    sandboxes.sort_by(|(a, more), (b, count)| count.cmp(more).then_with(|| a.cmp(b)));
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
    let open = open_action(can_open);
    let mut actions = parse_actions(&[&deny]);
    actions.extend(open.iter().cloned());
    // Without a button that opens the screen, the popup says where to allow.
    if open.is_empty() {
        lines.push(TERMINAL_HINT.to_owned());
    }
    Notification {
        body: lines.join("\n"),
        expiry: NotificationExpiry::Never,
        hints: QUESTION_HINTS,
        buttonless_hint: (!open.is_empty()).then(|| TERMINAL_HINT.to_owned()),
        essential_lines,
        fallback_actions: open,
        actions,
        ..Notification::new(&format!("{questions} questions from {from}"))
    }
}

/// The popup of a question stays until answered; the result replaces the question.
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

/// Returns the popup about the state of a firewall.
pub(super) fn shield_popup(identity: ContainerIdentity, state: ShieldState) -> Notification {
    let alert = NotificationHints {
        urgency: Some(NotificationUrgency::Critical),
        ..NotificationHints::default()
    };
    let (title, body, hints) = match state {
        ShieldState::Up => (
            "Shield up",
            "Traffic that was not allowed is refused again.",
            CONFIRMATION_HINTS,
        ),
        ShieldState::Down => {
            let body = "All traffic except to private ranges passes, without a question.";
            ("Shield down", body, alert)
        }
        ShieldState::Disengaged => (
            "Shield disengaged",
            "All traffic passes, without a question.",
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

/// Returns the popup about a sandbox that starts or ends.
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

/// Returns the popup about `count` notices that were not shown because too many came at once.
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
