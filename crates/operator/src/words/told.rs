// SPDX-License-Identifier: Apache-2.0
//! What changed, in words: one wording for the prompt's lines and for the log of the full screen.

use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{Decision, DecisionAction, ShieldState};

use super::{hub, reach, what, who, why};
use crate::inbox::{Change, End, Inbox, Row, RowNumber};

/// One thing that happened, as a line in parts, so that each UI can set them off in its own way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// How it should look.
    pub tone: Tone,
    /// What it is, such as `[3] ALLOWED`; where there is none, the tone is the whole line's.
    pub head: Option<String>,
    /// The rest of the line.
    pub text: String,
    /// Who else did it: the peer as its hub gives it.
    pub by: Option<String>,
}

/// How a line should look. What it says is in its words as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// In passing.
    Quiet,
    /// Something opened as it was meant to.
    Good,
    /// Something is refused, failed or stands open.
    Bad,
}

impl Told {
    fn line(tone: Tone, text: String) -> Self {
        Self {
            tone,
            head: None,
            text,
            by: None,
        }
    }
}

/// What questions are called.
#[derive(Clone, Copy)]
enum Names<'a> {
    /// By the numbers of their rows, which a person types.
    Numbers,
    /// By their ids, as this inbox knows them.
    Ids(&'a Inbox),
}

impl Names<'_> {
    fn row(self, row: &Row) -> String {
        match self {
            Self::Numbers => row.number().to_string(),
            Self::Ids(_) => row.request().id.to_string(),
        }
    }

    fn number(self, number: RowNumber) -> String {
        match self {
            Self::Numbers => number.to_string(),
            Self::Ids(inbox) => inbox
                .row(number)
                .map_or_else(|| number.to_string(), |row| self.row(row)),
        }
    }
}

/// Returns what to say of a change; nothing where the list of questions shows it already.
pub fn told(change: &Change) -> Option<Told> {
    told_of(change, Names::Numbers)
}

/// Returns the same, where questions are called by their ids, since nobody types numbers.
pub fn told_by_id(change: &Change, inbox: &Inbox) -> Option<Told> {
    told_of(change, Names::Ids(inbox))
}

fn told_of(change: &Change, names: Names<'_>) -> Option<Told> {
    let quiet = |text| Some(Told::line(Tone::Quiet, text));
    match change {
        Change::Asked(_) | Change::Again(_) | Change::Synced(_) => None,
        Change::Ended(row, End::Decided(decision)) => Some(decided(row, decision, names)),
        Change::Ended(row, end) => quiet(format!(
            "[{}] GONE     {}: {}",
            names.row(row),
            what(row),
            why(end)
        )),
        Change::Failed {
            row,
            action,
            reason,
        } => {
            let why = if reason.is_empty() {
                String::new()
            } else {
                format!(": {reason}")
            };
            Some(Told {
                tone: Tone::Bad,
                head: Some(format!("[{}] FAILED ", names.number(*row))),
                text: format!("{action} took no effect, it is still asked{why}"),
                by: None,
            })
        }
        Change::Unsure {
            row,
            action,
            reason,
        } => Some(Told {
            tone: Tone::Bad,
            head: Some(format!("[{}] UNSURE ", names.number(*row))),
            text: format!("{action} may have taken effect, or not: {reason}"),
            by: None,
        }),
        Change::Lapsed(row) => {
            let name = names.number(*row);
            // It is another id then.
            let again = match names {
                Names::Numbers => format!(", as [{name}],"),
                Names::Ids(_) => String::new(),
            };
            quiet(format!(
                "[{name}] WAITS    its hub ended and has forgotten it; it is asked again{again} at \
                 the sandbox's next packet"
            ))
        }
        Change::Up(id, _) => quiet(format!("listening to {}", hub(id))),
        Change::Down(id, reason) => quiet(format!(
            "{} is away, its questions wait for it: {reason}",
            hub(id)
        )),
        Change::Gone(id) => quiet(format!("{} is gone", hub(id))),
        Change::Unreachable(id, reason) => quiet(format!("cannot reach {}: {reason}", hub(id))),
        Change::Lost {
            hub: id,
            lost,
            reason,
        } if reason.as_str() == "kernel" => Some(Told::line(
            Tone::Bad,
            format!(
                "{}: the kernel lost the reports of {lost} packets; they are asked when sent again",
                hub(id)
            ),
        )),
        Change::Lost { hub: id, lost, .. } => quiet(format!(
            "{} skipped {lost} events; what is asked is complete",
            hub(id)
        )),
        Change::Container {
            container, state, ..
        } => quiet(match state {
            ContainerState::Started => format!("sandbox {container} started"),
            ContainerState::Exited => format!("sandbox {container} ended"),
        }),
        Change::Shield {
            container, state, ..
        } => {
            let tone = match state {
                ShieldState::Up => Tone::Quiet,
                ShieldState::Down | ShieldState::Disengaged => Tone::Bad,
            };
            let text = format!("sandbox {container}: the firewall is {}", firewall(*state));
            Some(Told::line(tone, text))
        }
    }
}

/// Returns what a firewall is and what that means.
pub fn firewall(state: ShieldState) -> &'static str {
    match state {
        ShieldState::Up => "up",
        ShieldState::Down => "DOWN, all but the private ranges passes",
        ShieldState::Disengaged => "OFF, everything passes",
    }
}

fn decided(row: &Row, decision: &Decision, names: Names<'_>) -> Told {
    let name = names.row(row);
    let reach = reach(decision.scope.as_ref().unwrap_or_else(|| row.scope()));
    let (tone, head, what) = match decision.action {
        DecisionAction::Allow => (Tone::Good, "ALLOWED", reach),
        DecisionAction::Deny => (Tone::Bad, "DENIED ", reach),
        DecisionAction::Dismiss => (
            Tone::Quiet,
            "PUT AWAY",
            format!("{}: the next packet asks again", what(row)),
        ),
    };
    let ours = row.answering().map(DecisionAction::from) == Some(decision.action);
    Told {
        tone,
        head: Some(format!("[{name}] {head}")),
        text: format!("{what}  for {}", who(row)),
        by: (!ours && !decision.by.is_empty()).then(|| decision.by.to_string()),
    }
}
