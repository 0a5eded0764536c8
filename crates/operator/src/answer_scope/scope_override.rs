// SPDX-License-Identifier: Apache-2.0
//! What the operator types about the scope of an answer: a wider name, a lifetime, or neither.

use std::str::FromStr;

use terok_clearance::{Decision, Dest, DisplayText, RuleLifetime, Scope};

use super::{AnswerScope, ScopeChoice, ScopeDuration, ScopeDurationError};
use crate::inbox::Row;

/// The differences of an answer's scope from the question's own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScopeOverride {
    /// A wider name.
    pub dest: Option<Dest>,
    /// The lifetime.
    pub lifetime: Option<ScopeLifetime>,
}

/// A lifetime as people type it: `once`, `10m`, `run`, `project` or `always`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScopeLifetime {
    /// The connections that wait, else the next one.
    Once,
    /// This time.
    For(ScopeDuration),
    /// The life of the sandbox.
    Run,
    /// Every sandbox of the project.
    Project,
    /// Every sandbox.
    Always,
}

/// A text that is not a [`ScopeLifetime`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeLifetimeError {
    /// The text is no word for a lifetime.
    #[error("{0:?} is not once, run, project, always, or a time such as 5m")]
    Unknown(DisplayText),
    /// The text is a time that no answer lasts.
    #[error(transparent)]
    Duration(#[from] ScopeDurationError),
}

impl FromStr for ScopeLifetime {
    type Err = ScopeLifetimeError;

    fn from_str(text: &str) -> Result<Self, ScopeLifetimeError> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "once" => Self::Once,
            "run" => Self::Run,
            "project" => Self::Project,
            "always" => Self::Always,
            time if time.starts_with(|c: char| c.is_ascii_digit()) => Self::For(time.parse()?),
            _ => return Err(ScopeLifetimeError::Unknown(DisplayText::new(text))),
        })
    }
}

impl ScopeLifetime {
    /// Returns the scope with this lifetime, for the row's own destination.
    pub const fn scope(self) -> AnswerScope {
        match self {
            Self::Once => ScopeChoice::Once.scope(),
            Self::For(duration) => AnswerScope::lasting(duration),
            Self::Run => ScopeChoice::Run.scope(),
            Self::Project => ScopeChoice::Project.scope(),
            Self::Always => ScopeChoice::Always.scope(),
        }
    }
}

impl ScopeOverride {
    /// Returns `true` if the answer has the question's own scope.
    pub const fn is_none(&self) -> bool {
        self.dest.is_none() && self.lifetime.is_none()
    }

    /// Returns the scope of an answer to the row.
    pub fn scope_for(&self, row: &Row) -> AnswerScope {
        let own = AnswerScope::default_of(row);
        let scope = self.lifetime.map_or(own, ScopeLifetime::scope);
        scope.with_dest(self.dest.clone())
    }

    /// Returns the scope of a new answer to a question that was answered before. The port and the
    /// protocol are those of the earlier answer; `None` leaves the scope to the hub.
    pub(crate) fn scope_after(&self, earlier: &Decision) -> Result<Option<Scope>, DisplayText> {
        if self.is_none() {
            return Ok(None);
        }
        let Some(own) = &earlier.scope else {
            let reason =
                "it was dismissed, and its scope is no longer known; answer it without one";
            return Err(reason.into());
        };
        let lifetime = match self.lifetime {
            Some(lifetime) => lifetime.scope(),
            None => AnswerScope::own_dest(own.keep, own.seconds),
        };
        if self.dest.is_some() && lifetime.keep == RuleLifetime::Once {
            return Err(DisplayText::new(
                &super::ScopeRefusal::OnceForNames.to_string(),
            ));
        }
        Ok(Some(Scope {
            dest: self.dest.clone().unwrap_or_else(|| earlier.dest.clone()),
            keep: lifetime.keep,
            seconds: lifetime.seconds,
            ..own.clone()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_word_or_a_time() {
        let check = |text: &str, keep: RuleLifetime, seconds: Option<u32>| {
            let lifetime: ScopeLifetime = text.parse().unwrap();
            assert_eq!(lifetime.scope(), AnswerScope::own_dest(keep, seconds));
        };
        check("once", RuleLifetime::Once, None);
        check("5m", RuleLifetime::Sandbox, Some(300));
        check("1H", RuleLifetime::Sandbox, Some(3600));
        check("run", RuleLifetime::Sandbox, None);
        check("Project", RuleLifetime::Project, None);
        check("always", RuleLifetime::Always, None);
        for text in ["", "forever", "5", "0s", "31d", "sandbox", "*"] {
            assert!(text.parse::<ScopeLifetime>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_new_answer_keeps_the_port_of_the_earlier_one() {
        let earlier = |scope: &str| -> Decision {
            let text = format!(
                r#"{{"request": "web:1", "container": "web", "dest": "a.example",
                "action": "deny", "scope": {scope}, "by": "x", "at": 1, "ok": true}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let narrow =
            earlier(r#"{"dest": "*.example", "port": 443, "protocol": "tcp", "keep": "once"}"#);
        assert_eq!(ScopeOverride::default().scope_after(&narrow), Ok(None));
        let hour = ScopeOverride {
            dest: None,
            lifetime: Some("1h".parse().unwrap()),
        };
        let scope = hour.scope_after(&narrow).unwrap().unwrap();
        assert_eq!(
            serde_json::to_value(scope).unwrap(),
            serde_json::json!({"dest": "a.example", "port": 443, "protocol": "tcp",
                               "keep": "sandbox", "seconds": 3600})
        );
        assert!(hour.scope_after(&earlier("null")).is_err());
        let wide = ScopeOverride {
            dest: Some("*.example".parse().unwrap()),
            lifetime: None,
        };
        assert!(wide.scope_after(&narrow).is_err(), "once is for one name");
    }
}
