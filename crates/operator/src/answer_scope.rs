// SPDX-License-Identifier: Apache-2.0
//! The scope of an answer: a name and a lifetime, chosen among those that the question offers.
//!
//! An [`AnswerScope`] is a wish; [`Row::scope_with`] turns it into the scope that is sent, and
//! refuses what the hub does not offer.

use std::fmt;

use terok_clearance::{Dest, RuleLifetime, Scope};

use crate::inbox::Row;

mod scope_duration;
mod scope_override;
mod scope_refusal;

pub(crate) use scope_duration::format_seconds;
pub use scope_duration::{ScopeDuration, ScopeDurationError};
pub use scope_override::{ScopeLifetime, ScopeLifetimeError, ScopeOverride};
pub use scope_refusal::ScopeRefusal;

/// The name and the lifetime of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AnswerScope {
    /// One of the wider names of the row; `None` for the row's own destination.
    pub dest: Option<Dest>,
    /// The lifetime of the rule.
    pub keep: RuleLifetime,
    /// Seconds after which the rule ends.
    pub seconds: Option<u32>,
}

impl AnswerScope {
    /// Returns the scope of an answer that names none: the row's own.
    pub const fn default_of(row: &Row) -> Self {
        Self::own_dest(row.scope().keep, row.scope().seconds)
    }

    /// Returns the row's own destination, with this lifetime.
    pub const fn own_dest(keep: RuleLifetime, seconds: Option<u32>) -> Self {
        Self {
            dest: None,
            keep,
            seconds,
        }
    }

    /// Returns the row's own destination, for this time.
    pub const fn lasting(duration: ScopeDuration) -> Self {
        Self::own_dest(RuleLifetime::Sandbox, Some(duration.seconds()))
    }

    /// Returns the same lifetime for another name, one of the row's wider ones.
    #[must_use]
    pub fn with_dest(self, dest: Option<Dest>) -> Self {
        Self { dest, ..self }
    }
}

/// A lifetime that every user interface offers with one key or word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScopeChoice {
    /// The connections that wait, else the next one.
    Once,
    /// Five minutes.
    FiveMinutes,
    /// One hour.
    OneHour,
    /// The life of the sandbox.
    Run,
    /// Every sandbox of the project.
    Project,
    /// Every sandbox.
    Always,
}

impl ScopeChoice {
    /// Returns the choices, the shortest first.
    pub const fn all() -> [Self; 6] {
        [
            Self::Once,
            Self::FiveMinutes,
            Self::OneHour,
            Self::Run,
            Self::Project,
            Self::Always,
        ]
    }

    /// Returns the choices that the row offers, the shortest first.
    pub fn offered(row: &Row) -> impl Iterator<Item = Self> {
        Self::all()
            .into_iter()
            .filter(|choice| choice.is_offered(row))
    }

    /// Returns the scope: the row's own destination with this lifetime.
    pub const fn scope(self) -> AnswerScope {
        match self {
            Self::Once => AnswerScope::own_dest(RuleLifetime::Once, None),
            Self::FiveMinutes => AnswerScope::own_dest(RuleLifetime::Sandbox, Some(300)),
            Self::OneHour => AnswerScope::own_dest(RuleLifetime::Sandbox, Some(3600)),
            Self::Run => AnswerScope::own_dest(RuleLifetime::Sandbox, None),
            Self::Project => AnswerScope::own_dest(RuleLifetime::Project, None),
            Self::Always => AnswerScope::own_dest(RuleLifetime::Always, None),
        }
    }

    /// Returns `true` if an answer to the row may have this lifetime.
    pub fn is_offered(self, row: &Row) -> bool {
        let AnswerScope { keep, seconds, .. } = self.scope();
        row.is_own_lifetime(keep, seconds) || row.offers_lifetime(keep)
    }

    /// Returns the words on a button: `5 min`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::FiveMinutes => "5 min",
            Self::OneHour => "1 h",
            Self::Run => "this run",
            Self::Project => "this project",
            Self::Always => "always",
        }
    }
}

impl fmt::Display for ScopeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Row {
    /// Returns the scope of an answer with the name and the lifetime of `asked`: never more than
    /// the row offers. The port and the protocol are the row's own.
    pub fn scope_with(&self, asked: &AnswerScope) -> Result<Scope, ScopeRefusal> {
        let own = self.scope();
        let dest = asked.dest.as_ref().filter(|dest| **dest != own.dest);
        if let Some(dest) = dest {
            let offered = self.offered_names();
            if !offered.contains(dest) {
                return Err(ScopeRefusal::name(dest, offered));
            }
        }
        if !self.is_own_lifetime(asked.keep, asked.seconds) {
            self.check_lifetime(asked)?;
        }
        if dest.is_some() && asked.keep == RuleLifetime::Once {
            return Err(ScopeRefusal::OnceForNames);
        }
        Ok(Scope {
            dest: dest.unwrap_or(&own.dest).clone(),
            keep: asked.keep,
            seconds: asked.seconds,
            ..own.clone()
        })
    }

    fn is_own_lifetime(&self, keep: RuleLifetime, seconds: Option<u32>) -> bool {
        let own = self.scope();
        (keep, seconds) == (own.keep, own.seconds)
    }

    fn check_lifetime(&self, asked: &AnswerScope) -> Result<(), ScopeRefusal> {
        if !self.offers_lifetimes() {
            return Err(ScopeRefusal::only_own(self));
        }
        if !self.offers_lifetime(asked.keep) {
            return Err(ScopeRefusal::lifetime(asked, self));
        }
        match (asked.keep, asked.seconds) {
            (_, Some(0)) => Err(ScopeRefusal::NoTime),
            (_, None) | (RuleLifetime::Once | RuleLifetime::Sandbox, Some(_)) => Ok(()),
            (keep, Some(_)) => Err(ScopeRefusal::EndOfKeptRule(keep)),
        }
    }
}

#[cfg(test)]
mod tests;
