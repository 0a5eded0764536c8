// SPDX-License-Identifier: Apache-2.0
//! A rule: who made it, for what, for how long.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use terok_clearance::{
    Action, DestPattern, DisplayText, RequestId, RuleLifetime, Scope, Timestamp,
};

/// A time of the clock that also runs while the machine sleeps (`CLOCK_BOOTTIME`), since boot.
///
/// The ends of rules are such times: setting the wall clock moves none, and a rule for an hour ends
/// an hour later although the machine slept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BootInstant(Duration);

impl BootInstant {
    /// Returns the time `since_boot` after the boot.
    pub const fn from_boot(since_boot: Duration) -> Self {
        Self(since_boot)
    }

    /// Returns the time since the boot.
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// Returns the time `duration` later.
    #[must_use]
    pub const fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration))
    }

    /// Returns the time from `earlier` to this one, zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The number of a rule, unique in its table and never used again: `r12`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(u64);

/// A text that is not a [`RuleId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rule is named like r12")]
pub struct RuleIdParseError;

impl RuleId {
    /// Returns the id with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

impl FromStr for RuleId {
    type Err = RuleIdParseError;

    fn from_str(text: &str) -> Result<Self, RuleIdParseError> {
        let digits = text.strip_prefix('r').ok_or(RuleIdParseError)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(RuleIdParseError); // `parse` would accept a sign
        }
        digits.parse().map(Self).map_err(|_error| RuleIdParseError)
    }
}

/// The origin of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuleOrigin {
    /// What the organisation allows or denies.
    Organisation,
    /// What the organisation lets its users allow. Such a rule alone opens nothing.
    Ceiling,
    /// A command-line option, or the same setting of the configuration file.
    Flag,
    /// A profile.
    Profile {
        /// The name of the profile.
        name: DisplayText,
    },
    /// The kept answers of the project.
    Project,
    /// The answers that are kept for every sandbox.
    Always,
    /// A file in the work tree that the operator trusts.
    TrustedFile,
    /// The answer to a question.
    Decision {
        /// The question.
        request: RequestId,
    },
    /// An order that the firewall has from an earlier supervisor: what it was made by is not known
    /// any more.
    Restored,
}

impl RuleOrigin {
    /// Returns the kind of origin, as the wire spells it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Ceiling => "ceiling",
            Self::Flag => "flag",
            Self::Profile { .. } => "profile",
            Self::Project => "project",
            Self::Always => "always",
            Self::TrustedFile => "trusted_file",
            Self::Decision { .. } | Self::Restored => "decision",
        }
    }

    /// Returns `true` for an answer that lasts as long as its sandbox at most.
    pub const fn is_decision(&self) -> bool {
        matches!(self, Self::Decision { .. } | Self::Restored)
    }

    /// Returns `true` for a rule of a file that outlasts the sandbox and that answers change.
    pub const fn is_kept(&self) -> bool {
        matches!(self, Self::Project | Self::Always)
    }
}

/// The end of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleTerm {
    /// The connections that wait at the time of the answer, else the next one until this time.
    Once {
        /// The end, if no connection comes.
        until: BootInstant,
    },
    /// This time.
    Until(BootInstant),
    /// The end of the sandbox.
    Run,
    /// None: the rule is in a file.
    Kept,
}

impl RuleTerm {
    /// Returns the term of an answer that was given at `now`.
    ///
    /// A scope that keeps the rule in a file has [`RuleTerm::Kept`]; its seconds do not count.
    pub fn of_scope(scope: &Scope, now: BootInstant) -> Self {
        let after = |seconds: u32| now.saturating_add(Duration::from_secs(seconds.into()));
        match (scope.keep, scope.seconds) {
            (RuleLifetime::Once, seconds) => Self::Once {
                until: after(seconds.unwrap_or(Scope::ONCE_SECONDS)),
            },
            (RuleLifetime::Sandbox, Some(seconds)) => Self::Until(after(seconds)),
            (RuleLifetime::Sandbox, None) => Self::Run,
            (RuleLifetime::UntilRemoved | RuleLifetime::Project | RuleLifetime::Always, _) => {
                Self::Kept
            }
        }
    }

    /// Returns the time at which the rule ends without an operator.
    pub const fn end(self) -> Option<BootInstant> {
        match self {
            Self::Once { until } | Self::Until(until) => Some(until),
            Self::Run | Self::Kept => None,
        }
    }
}

/// What a rule consists of, before a table has given it a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSpec {
    /// The covered destinations.
    pub pattern: DestPattern,
    /// Allow or deny.
    pub action: Action,
    /// The end of the rule.
    pub term: RuleTerm,
    /// The origin of the rule.
    pub origin: RuleOrigin,
    /// The operator who made it, as the record names them.
    pub by: DisplayText,
    /// The time since which it counts.
    pub since: Timestamp,
}

/// A rule of a [`RuleTable`](crate::RuleTable).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    /// The number of the rule.
    pub id: RuleId,
    /// Its content.
    pub spec: RuleSpec,
}

impl PolicyRule {
    /// Returns the rank of the rule: the first rank with a rule for a destination decides.
    pub const fn tier(&self) -> RuleTier {
        match (&self.spec.origin, self.spec.action) {
            (RuleOrigin::Organisation, Action::Deny) => RuleTier::OrganisationDeny,
            (RuleOrigin::Ceiling, _) => RuleTier::Ceiling,
            (_, Action::Deny) => RuleTier::Deny,
            (_, Action::Allow) => RuleTier::Allow,
        }
    }

    /// Returns `true` if the rule has not ended at `now`.
    pub fn is_live(&self, now: BootInstant) -> bool {
        self.spec.term.end().is_none_or(|end| now < end)
    }
}

/// The ranks of rules, the first one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleTier {
    /// What the organisation denies.
    OrganisationDeny,
    /// What the organisation's ceiling contains: everything else is denied.
    Ceiling,
    /// What the operator denies.
    Deny,
    /// What the operator or the organisation allows.
    Allow,
}

/// How often a rule has decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleUsage {
    /// Connections that the rule has let pass, or refused.
    pub count: u64,
    /// The time of the last one.
    pub last: Option<Timestamp>,
    /// Connections that exist because of the rule.
    pub open: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_id_is_r_and_digits() {
        assert_eq!("r12".parse(), Ok(RuleId::new(12)));
        assert_eq!(RuleId::new(7).to_string(), "r7");
        for text in [
            "",
            "r",
            "12",
            "r-1",
            "r+1",
            "R1",
            "r1 ",
            "r99999999999999999999",
        ] {
            assert_eq!(text.parse::<RuleId>(), Err(RuleIdParseError), "{text:?}");
        }
    }

    #[test]
    fn the_term_of_an_answer_is_never_longer_than_its_scope() {
        let now = BootInstant::from_boot(Duration::from_secs(100));
        let term = |keep, seconds| {
            let dest = "a.example".parse().unwrap();
            let scope = Scope {
                keep,
                seconds,
                ..Scope::whole_dest(dest)
            };
            RuleTerm::of_scope(&scope, now)
        };
        let at = |seconds| BootInstant::from_boot(Duration::from_secs(seconds));
        assert_eq!(
            term(RuleLifetime::Once, None),
            RuleTerm::Once { until: at(160) }
        );
        assert_eq!(
            term(RuleLifetime::Once, Some(5)),
            RuleTerm::Once { until: at(105) }
        );
        assert_eq!(
            term(RuleLifetime::Sandbox, Some(300)),
            RuleTerm::Until(at(400))
        );
        assert_eq!(term(RuleLifetime::Sandbox, None), RuleTerm::Run);
        assert_eq!(term(RuleLifetime::Project, None), RuleTerm::Kept);
    }
}
