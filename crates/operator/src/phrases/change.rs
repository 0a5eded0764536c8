// SPDX-License-Identifier: Apache-2.0
//! Phrases for changes, shared by the prompt, `watch` and the log of the full screen.

use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{Decision, DecisionAction, DisplayText, ShieldState};

use super::{
    describe_answered_scope, describe_dest, describe_hub, describe_row_end, describe_sandbox,
};
use crate::inbox::{Inbox, InboxChange, Row, RowEnd, RowNumber};

/// A line about a change, in parts that each user interface styles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeMessage {
    /// The style of the line.
    pub tone: MessageTone,
    /// The kind of change, such as `[3] ALLOWED`. Without a label, the tone applies to the text.
    pub label: Option<String>,
    /// The rest of the line.
    pub text: String,
    /// The other operator who decided, as named by the hub.
    pub decided_by: Option<String>,
}

/// The style of a line. The style adds no information to the words of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageTone {
    /// For information.
    Quiet,
    /// An answer opened a destination.
    Good,
    /// A refusal, a failure, or a firewall that is not up.
    Bad,
}

impl ChangeMessage {
    fn unlabeled(tone: MessageTone, text: String) -> Self {
        Self {
            tone,
            label: None,
            text,
            decided_by: None,
        }
    }
}

/// The kind of name for questions.
#[derive(Clone, Copy)]
enum QuestionNaming<'a> {
    /// The row number, which the operator types at the prompt.
    Numbers,
    /// The question's id, looked up in this inbox.
    Ids(&'a Inbox),
}

impl QuestionNaming<'_> {
    fn name_row(self, row: &Row) -> String {
        match self {
            Self::Numbers => row.number().to_string(),
            Self::Ids(inbox) => inbox.question_id(row),
        }
    }

    fn name_number(self, number: RowNumber) -> String {
        match self {
            Self::Numbers => number.to_string(),
            Self::Ids(inbox) => inbox
                .row(number)
                .map_or_else(|| number.to_string(), |row| self.name_row(row)),
        }
    }
}

/// Returns the line for a change; `None` if the list of questions shows the change.
pub fn describe_change(change: &InboxChange) -> Option<ChangeMessage> {
    describe_change_with(change, QuestionNaming::Numbers)
}

/// Returns the line for a change, with ids of questions instead of row numbers.
pub fn describe_change_by_id(change: &InboxChange, inbox: &Inbox) -> Option<ChangeMessage> {
    describe_change_with(change, QuestionNaming::Ids(inbox))
}

fn describe_change_with(change: &InboxChange, names: QuestionNaming<'_>) -> Option<ChangeMessage> {
    let quiet = |text| Some(ChangeMessage::unlabeled(MessageTone::Quiet, text));
    match change {
        InboxChange::Added(_)
        | InboxChange::Updated(_)
        | InboxChange::ProcessFound(_)
        | InboxChange::WaitingGrew(_)
        | InboxChange::Synced(_) => None,
        InboxChange::Ended(row, RowEnd::Decided(decision)) => {
            Some(describe_decision(row, decision, names))
        }
        InboxChange::Ended(row, end) => quiet(format!(
            "[{}] GONE     {}: {}",
            names.name_row(row),
            describe_dest(row),
            describe_row_end(end)
        )),
        InboxChange::Failed {
            row,
            action,
            reason,
        } => {
            let why = if reason.is_empty() {
                String::new()
            } else {
                format!(": {reason}")
            };
            Some(ChangeMessage {
                tone: MessageTone::Bad,
                label: Some(format!("[{}] FAILED ", names.name_number(*row))),
                text: format!("{action} took no effect; the question is still open{why}"),
                decided_by: None,
            })
        }
        InboxChange::ResultUnknown {
            row,
            action,
            reason,
        } => Some(ChangeMessage {
            tone: MessageTone::Bad,
            label: Some(format!("[{}] UNSURE ", names.name_number(*row))),
            text: format!("{action} may or may not have taken effect: {reason}"),
            decided_by: None,
        }),
        InboxChange::ForgottenByHub(row) => quiet(describe_forgotten(*row, names)),
        InboxChange::Up(id, _) => quiet(format!("listening to {}", describe_hub(id))),
        InboxChange::Down(id, reason) => quiet(format!(
            "{} is disconnected; its questions stay open: {reason}",
            describe_hub(id)
        )),
        InboxChange::Gone(id) => quiet(format!("{} is gone", describe_hub(id))),
        InboxChange::Unreachable(id, reason) => {
            quiet(format!("cannot reach {}: {reason}", describe_hub(id)))
        }
        InboxChange::Lost {
            hub: id,
            lost,
            reason,
        } if reason.as_str() == "kernel" => Some(ChangeMessage::unlabeled(
            MessageTone::Bad,
            format!(
                "{}: the kernel lost reports of {lost} packets; the next packets will ask again",
                describe_hub(id)
            ),
        )),
        InboxChange::Lost { hub: id, lost, .. } => quiet(format!(
            "{} skipped {lost} events; the list of questions is complete",
            describe_hub(id)
        )),
        InboxChange::UnknownEvent(id, event) => quiet(format!(
            "{} sent an event of the unknown type {:?}: {}",
            describe_hub(id),
            event.kind(),
            DisplayText::new(&event.to_ascii_json())
        )),
        InboxChange::Container {
            container, state, ..
        } => quiet(match state {
            ContainerState::Started => format!("sandbox {container} started"),
            ContainerState::Exited => format!("sandbox {container} ended"),
        }),
        InboxChange::Shield {
            container, state, ..
        } => {
            let tone = match state {
                ShieldState::Up => MessageTone::Quiet,
                ShieldState::Down | ShieldState::Disengaged => MessageTone::Bad,
            };
            let text = format!(
                "sandbox {container}: the firewall is {}",
                describe_firewall(*state)
            );
            Some(ChangeMessage::unlabeled(tone, text))
        }
    }
}

fn describe_forgotten(row: RowNumber, names: QuestionNaming<'_>) -> String {
    let name = names.name_number(row);
    // Only the row number stays the same; the repeated question has another id.
    let again = match names {
        QuestionNaming::Numbers => format!(" as [{name}]"),
        QuestionNaming::Ids(_) => String::new(),
    };
    format!("[{name}] STALE    the hub restarted; the next packet will ask again{again}")
}

/// Returns the state of a firewall and its consequence.
pub fn describe_firewall(state: ShieldState) -> &'static str {
    match state {
        ShieldState::Up => "up",
        ShieldState::Down => "DOWN, all traffic except to private ranges passes",
        ShieldState::Disengaged => "OFF, all traffic passes",
    }
}

fn describe_decision(row: &Row, decision: &Decision, names: QuestionNaming<'_>) -> ChangeMessage {
    let name = names.name_row(row);
    let scope = decision.scope.as_ref().unwrap_or_else(|| row.scope());
    let mut reach = describe_answered_scope(scope);
    if decision.dest != *row.dest() {
        // A rule with wider names answers the questions that it covers.
        let dest = describe_dest(row);
        reach = format!("{dest}, by the answer about {}: {reach}", decision.dest);
    }
    let (tone, head, what) = match decision.action {
        DecisionAction::Allow => (MessageTone::Good, "ALLOWED", reach),
        DecisionAction::Deny => (MessageTone::Bad, "DENIED ", reach),
        DecisionAction::Dismiss => (
            MessageTone::Quiet,
            "DISMISSED",
            format!("{}: the next packet asks again", describe_dest(row)),
        ),
    };
    let ours = row.answering().map(DecisionAction::from) == Some(decision.action);
    ChangeMessage {
        tone,
        label: Some(format!("[{name}] {head}")),
        text: format!("{what}  in {}", describe_sandbox(row)),
        decided_by: (!ours && !decision.by.is_empty()).then(|| decision.by.to_string()),
    }
}
