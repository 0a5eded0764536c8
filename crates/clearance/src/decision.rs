// SPDX-License-Identifier: Apache-2.0
//! What a person answers, how far the answer reaches, and what became of it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::display_text::deserialize_optional_program_output;
use crate::{ContainerId, Dest, DisplayText, Protocol, RequestId};

/// What an answer asks of the firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Let packets to the destination pass.
    Allow,
    /// Refuse packets to the destination, without asking again.
    Deny,
}

/// A text that is no [`Action`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither \"allow\" nor \"deny\"")]
pub struct ActionParseError(pub DisplayText);

impl Action {
    /// Returns the word that stands for it on every wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

impl FromStr for Action {
    type Err = ActionParseError;

    fn from_str(text: &str) -> Result<Self, ActionParseError> {
        match text {
            "allow" => Ok(Self::Allow),
            "deny" => Ok(Self::Deny),
            _ => Err(ActionParseError(DisplayText::new(text))),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How long an answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleLifetime {
    /// For one short window, [`Scope::ONCE_SECONDS`] unless the scope says otherwise.
    Once,
    /// As long as the sandbox lives.
    #[default]
    Sandbox,
    /// In every sandbox of the project.
    Project,
    /// Everywhere, for good.
    Always,
}

/// How far an answer reaches: never wider than what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// The destination, the request's own.
    pub dest: Dest,
    /// Only this port; absent, every port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Only this protocol; absent, every protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// How long it holds.
    #[serde(default)]
    pub keep: RuleLifetime,
    /// Seconds after which it ends by itself; absent, as `keep` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
}

impl Scope {
    /// The seconds for which [`Keep::Once`] opens a destination.
    pub const ONCE_SECONDS: u32 = 60;

    /// The whole destination for the sandbox's life: what a Clearance1 verdict means.
    pub const fn whole_dest(dest: Dest) -> Self {
        Self {
            dest,
            port: None,
            protocol: None,
            keep: RuleLifetime::Sandbox,
            seconds: None,
        }
    }
}

/// What the firewall's keeper says of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnforcementOutcome {
    /// The kernel holds it.
    Applied,
    /// Nothing was opened, for this reason.
    Failed(DisplayText),
}

impl EnforcementOutcome {
    /// Says whether the order took effect.
    pub const fn is_applied(&self) -> bool {
        matches!(self, Self::Applied)
    }
}

/// The record of one answer: who decided what, when, and whether it took effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The question.
    pub request: RequestId,
    /// The sandbox it was about.
    pub container: ContainerId,
    /// The destination it was about.
    pub dest: Dest,
    /// `allow`, `deny`, or `dismiss` for a question that was put away without a rule.
    pub action: DecisionAction,
    /// How far it reaches; absent with `dismiss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Who decided: the peer's user id and process as the kernel gives them.
    pub by: DisplayText,
    /// When, in microseconds since the epoch.
    pub at: u64,
    /// Whether it took effect.
    pub ok: bool,
    /// Why it did not.
    #[serde(
        default,
        deserialize_with = "deserialize_optional_program_output",
        skip_serializing_if = "Option::is_none"
    )]
    pub reason: Option<DisplayText>,
}

/// What became of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecisionAction {
    /// Allowed.
    Allow,
    /// Denied.
    Deny,
    /// Put away without a rule: the next packet asks again.
    Dismiss,
}

impl From<Action> for DecisionAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => Self::Allow,
            Action::Deny => Self::Deny,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_decision_is_kept_as_long_as_a_program_may_say_it() {
        let reason = "x".repeat(512);
        let text = format!(
            r#"{{"request": "web:1", "container": "web", "dest": "203.0.113.7", "action": "deny",
            "by": "uid 1000", "at": 1, "ok": false, "reason": "{reason}"}}"#
        );
        let decision: Decision = serde_json::from_str(&text).unwrap();
        assert_eq!(decision.reason.unwrap().as_str(), reason);
    }

    #[test]
    fn only_the_two_words_are_actions() {
        assert_eq!("allow".parse(), Ok(Action::Allow));
        assert_eq!("deny".parse(), Ok(Action::Deny));
        for word in ["", "accept", "Allow", "allow ", "allow\0", "dismiss"] {
            assert!(word.parse::<Action>().is_err(), "{word:?}");
        }
    }

    #[test]
    fn a_scope_leaves_out_what_it_does_not_narrow() {
        let whole = Scope::whole_dest("203.0.113.7".parse().unwrap());
        let json = serde_json::to_string(&whole).unwrap();
        assert_eq!(json, r#"{"dest":"203.0.113.7","keep":"sandbox"}"#);
        assert_eq!(serde_json::from_str::<Scope>(&json).unwrap(), whole);
    }
}
