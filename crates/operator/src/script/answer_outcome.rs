// SPDX-License-Identifier: Apache-2.0
//! The outcomes of `allow` and `deny`, as text and as JSON lines.

use terok_clearance::{Action, Decision, DecisionAction, DisplayText, RequestId};

use crate::inbox::HubId;
use crate::json::{ScriptEvent, to_json_line};
use crate::phrases::{self, format_age, past_participle};

/// The outcome of the answer to one question.
#[derive(Debug, Clone)]
pub struct ScriptAnswer {
    /// The request id given by the user.
    pub request: RequestId,
    /// The answer.
    pub action: Action,
    /// The hub of the question, if known.
    pub hub: Option<HubId>,
    /// The outcome.
    pub outcome: ScriptOutcome,
}

/// The outcome of an answer.
#[derive(Debug, Clone)]
pub enum ScriptOutcome {
    /// The answer took effect; the text describes the effect.
    Applied(Box<Decision>, String),
    /// The answer replaced an earlier one, which is first; the text describes the effect.
    Changed(Box<Decision>, Box<Decision>, String),
    /// Another answer came first, so this answer changed nothing. If `ok` is false, the other
    /// answer is still being applied.
    AlreadyDecided(Box<Decision>),
    /// No hub has the question. The question was never asked or was withdrawn.
    NotPending(DisplayText),
    /// Nothing was sent for this reason.
    Refused(DisplayText),
    /// The answer took no effect for this reason; the question stays.
    Failed(DisplayText),
    /// The answer was sent, but the result is unknown.
    ResultUnknown(DisplayText),
    /// The hub that may have the question is unreachable; nothing was sent.
    HubUnreachable(DisplayText),
}

impl ScriptAnswer {
    /// Returns `true` if the answer took effect.
    pub const fn is_applied(&self) -> bool {
        matches!(
            self.outcome,
            ScriptOutcome::Applied(..) | ScriptOutcome::Changed(..)
        )
    }

    /// Returns the outcome as a JSON line.
    pub fn to_json(&self) -> String {
        let request = &self.request;
        let hub = self
            .hub
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        to_json_line(&match &self.outcome {
            ScriptOutcome::Applied(decision, reach) => ScriptEvent::Decided {
                row: None,
                hub,
                reach: Some(reach),
                changed: None,
                decision,
            },
            ScriptOutcome::Changed(earlier, decision, reach) => ScriptEvent::Decided {
                row: None,
                hub,
                reach: Some(reach),
                changed: Some(earlier),
                decision,
            },
            ScriptOutcome::AlreadyDecided(decision) => ScriptEvent::Already { hub, decision },
            ScriptOutcome::NotPending(reason) => ScriptEvent::Missing { request, reason },
            ScriptOutcome::HubUnreachable(reason) => ScriptEvent::Unheard { request, reason },
            ScriptOutcome::Refused(reason) => ScriptEvent::Refused {
                row: None,
                request: Some(request),
                reason: reason.clone(),
            },
            ScriptOutcome::Failed(reason) => ScriptEvent::Failed {
                row: None,
                request: Some(request),
                action: self.action,
                reason,
            },
            ScriptOutcome::ResultUnknown(reason) => ScriptEvent::Unsure {
                row: None,
                request: Some(request),
                action: self.action,
                reason,
            },
        })
    }

    /// Returns the outcome as one line of text, without the line end.
    pub fn to_text(&self) -> String {
        let request = &self.request;
        let what = match &self.outcome {
            ScriptOutcome::Applied(_, reach) => {
                format!("{}: {reach}", past_participle(self.action.into()))
            }
            ScriptOutcome::Changed(earlier, decision, reach) => {
                let was = past_participle(earlier.action);
                let ago = format_age(decision.at.saturating_since(earlier.at));
                let by = match earlier.by.as_str() {
                    "" => String::new(),
                    by => format!(" by {by}"),
                };
                let now = past_participle(self.action.into());
                format!("was {was} {ago} ago{by}, now {now}: {reach}")
            }
            ScriptOutcome::AlreadyDecided(decision) => describe_earlier_decision(decision),
            ScriptOutcome::NotPending(reason) | ScriptOutcome::HubUnreachable(reason) => {
                reason.to_string()
            }
            ScriptOutcome::Refused(reason) => format!("refused: {reason}"),
            ScriptOutcome::Failed(reason) if reason.is_empty() => {
                format!("{} took no effect; the question is still open", self.action)
            }
            ScriptOutcome::Failed(reason) => {
                format!(
                    "{} took no effect; the question is still open: {reason}",
                    self.action
                )
            }
            ScriptOutcome::ResultUnknown(reason) => {
                format!("{} may or may not have taken effect: {reason}", self.action)
            }
        };
        format!("{request}: {what}")
    }
}

/// Describes the earlier decision of another answer.
fn describe_earlier_decision(decision: &Decision) -> String {
    let what = match (decision.action, decision.ok) {
        (DecisionAction::Allow, true) => "it was allowed already",
        (DecisionAction::Deny, true) => "it was denied already",
        (DecisionAction::Dismiss, _) => "it was dismissed already",
        (DecisionAction::Allow, false) => "it is being allowed already",
        (DecisionAction::Deny, false) => "it is being denied already",
    };
    let reach = decision.scope.as_ref().map(|scope| {
        let reach = phrases::describe_answered_scope(scope);
        format!(" ({reach})")
    });
    let by = match decision.by.as_str() {
        "" => String::new(),
        by => format!(" by {by}"),
    };
    format!("{what}{by}{}", reach.unwrap_or_default())
}
