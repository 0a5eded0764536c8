// SPDX-License-Identifier: Apache-2.0
//! Answers: the action, the scope, and the record of the outcome.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::display_text::deserialize_optional_program_output;
use crate::{ContainerId, Dest, DisplayText, Protocol, RequestId, Timestamp};

/// An operator's choice for a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Let packets to the destination pass.
    Allow,
    /// Refuse packets to the destination, without asking again.
    Deny,
}

/// A text that is not an [`Action`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither \"allow\" nor \"deny\"")]
pub struct ActionParseError(pub DisplayText);

impl Action {
    /// Returns the action as every interface spells it.
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

/// The lifetime of the rule that an answer makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleLifetime {
    /// The connections that wait at the time of the answer, else the next one within
    /// [`Scope::ONCE_SECONDS`], or the seconds of the scope. A firewall that cannot tell
    /// connections apart opens the destination for that time.
    Once,
    /// The life of the sandbox.
    #[default]
    Sandbox,
    /// Until it is removed from the firewall, which keeps it over restarts of the sandbox: the only
    /// lifetime of a `terok-shield` program and of Clearance1.
    #[serde(rename = "until_removed")]
    UntilRemoved,
    /// Permanent, in every sandbox of the project.
    Project,
    /// Permanent, in every sandbox.
    Always,
}

impl RuleLifetime {
    /// Returns the lifetime as the wire spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Sandbox => "sandbox",
            Self::UntilRemoved => "until_removed",
            Self::Project => "project",
            Self::Always => "always",
        }
    }

    /// Returns `true` if the rule outlasts the sandbox in a file of the operator.
    pub const fn is_kept(self) -> bool {
        matches!(self, Self::Project | Self::Always)
    }
}

impl fmt::Display for RuleLifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The part of the network that an answer opens or closes: never wider than the request offers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// The request's destination, or one of the wider names that the request offers, such as
    /// `*.example.com`.
    pub dest: Dest,
    /// The single port; absent for every port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The single protocol; absent for every protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The lifetime of the rule.
    #[serde(default)]
    pub keep: RuleLifetime,
    /// Seconds after which the rule ends, earlier than `keep` would end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
}

impl Scope {
    /// Seconds for which [`RuleLifetime::Once`] waits for its connection.
    pub const ONCE_SECONDS: u32 = 60;

    /// Returns the scope of the whole destination, for the sandbox's life.
    pub const fn whole_dest(dest: Dest) -> Self {
        Self {
            dest,
            port: None,
            protocol: None,
            keep: RuleLifetime::Sandbox,
            seconds: None,
        }
    }

    /// Returns the scope of a Clearance1 verdict: the whole destination, until the rule is removed.
    pub const fn until_removed(dest: Dest) -> Self {
        Self {
            dest,
            port: None,
            protocol: None,
            keep: RuleLifetime::UntilRemoved,
            seconds: None,
        }
    }
}

/// The result of one attempt to enforce a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnforcementOutcome {
    /// The rule is in the kernel.
    Applied,
    /// Nothing was opened or closed, for this reason.
    Failed(DisplayText),
}

impl EnforcementOutcome {
    /// Returns `true` if the rule took effect.
    pub const fn is_applied(&self) -> bool {
        matches!(self, Self::Applied)
    }
}

/// The record of one answer: operator, action, time and outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The request.
    pub request: RequestId,
    /// The request's sandbox.
    pub container: ContainerId,
    /// The request's destination.
    pub dest: Dest,
    /// `allow`, `deny`, or `dismiss` for an answer without a rule.
    pub action: DecisionAction,
    /// The scope of the rule; absent with `dismiss`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// The operator: the peer's user id and process, as the kernel reports them.
    pub by: DisplayText,
    /// The time of the answer.
    pub at: Timestamp,
    /// `true` if the answer took effect.
    pub ok: bool,
    /// The reason why the answer did not take effect.
    #[serde(
        default,
        deserialize_with = "deserialize_optional_program_output",
        skip_serializing_if = "Option::is_none"
    )]
    pub reason: Option<DisplayText>,
}

/// The action that a [`Decision`] records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecisionAction {
    /// The operator allowed the destination.
    Allow,
    /// The operator denied the destination.
    Deny,
    /// The operator dismissed the question: no rule, and the next packet asks again.
    Dismiss,
}

/// How a question was answered before.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PreviousAnswer {
    /// The answer.
    pub action: Action,
    /// The operator, as the record names them.
    pub by: DisplayText,
    /// The time of the answer.
    pub at: Timestamp,
    /// The lifetime of its rule.
    #[serde(default)]
    pub keep: RuleLifetime,
    /// The seconds after which its rule ended, if the answer had some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
    /// `true` if the rule was revoked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
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
    fn the_reason_of_a_decision_keeps_the_length_of_program_output() {
        let reason = "x".repeat(512);
        let text = format!(
            r#"{{"request": "web:1", "container": "web", "dest": "203.0.113.7", "action": "deny",
            "by": "uid 1000", "at": 1, "ok": false, "reason": "{reason}"}}"#
        );
        let decision: Decision = serde_json::from_str(&text).unwrap();
        assert_eq!(decision.reason.unwrap().as_str(), reason);
    }

    #[test]
    fn only_allow_and_deny_are_actions() {
        assert_eq!("allow".parse(), Ok(Action::Allow));
        assert_eq!("deny".parse(), Ok(Action::Deny));
        for word in ["", "accept", "Allow", "allow ", "allow\0", "dismiss"] {
            assert!(word.parse::<Action>().is_err(), "{word:?}");
        }
    }

    #[test]
    fn an_absent_limit_of_a_scope_is_absent_in_json() {
        let whole = Scope::whole_dest("203.0.113.7".parse().unwrap());
        let json = serde_json::to_string(&whole).unwrap();
        assert_eq!(json, r#"{"dest":"203.0.113.7","keep":"sandbox"}"#);
        assert_eq!(serde_json::from_str::<Scope>(&json).unwrap(), whole);
        let kept = Scope::until_removed(whole.dest);
        let json = serde_json::to_string(&kept).unwrap();
        assert_eq!(json, r#"{"dest":"203.0.113.7","keep":"until_removed"}"#);
        assert_eq!(serde_json::from_str::<Scope>(&json).unwrap(), kept);
    }
}
