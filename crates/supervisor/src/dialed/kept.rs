// SPDX-License-Identifier: Apache-2.0
//! What a supervisor that dials starts with, and where lasting answers go.

use std::fmt::Debug;
use std::sync::Arc;

use policy::{RuleOrigin, RuleSpec};
use terok_clearance::{Action, DestPattern, DisplayText, RuleLifetime};

/// The rules of a sandbox at its start, and the limits of answers.
#[derive(Debug, Clone, Default)]
pub struct DialedPolicy {
    /// The rules that do not change: of options, profiles and the organisation.
    pub rules: Vec<RuleSpec>,
    /// Everything is denied that no rule of [`RuleOrigin::Ceiling`] covers.
    pub has_ceiling: bool,
    /// The files of answers that last; `None`: no answer outlasts the sandbox.
    pub kept: Option<Arc<dyn KeptAnswers>>,
    /// The longest that an answer may last.
    pub longest_answer: LongestAnswer,
    /// The internet may be opened for a time.
    pub allows_bypass: bool,
    /// The internet is open from the start, for the operator with this description.
    pub open_for: Option<DisplayText>,
}

/// The longest that an answer may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum LongestAnswer {
    /// One connection.
    Once,
    /// This number of seconds.
    Seconds(u32),
    /// The life of the sandbox.
    Run,
    /// Every sandbox of the project.
    Project,
    /// Without limit.
    #[default]
    Always,
}

impl LongestAnswer {
    /// Returns `true` if an answer of this lifetime may be given.
    pub fn permits(self, keep: RuleLifetime, seconds: Option<u32>) -> bool {
        match (self, keep) {
            (Self::Always, _)
            | (_, RuleLifetime::Once)
            | (Self::Run | Self::Project, RuleLifetime::Sandbox)
            | (Self::Project, RuleLifetime::Project) => true,
            (Self::Seconds(limit), RuleLifetime::Sandbox) => {
                seconds.is_some_and(|seconds| seconds <= limit)
            }
            (Self::Once, RuleLifetime::Sandbox)
            | (Self::Once | Self::Seconds(_) | Self::Run, RuleLifetime::Project)
            | (
                Self::Once | Self::Seconds(_) | Self::Run | Self::Project,
                RuleLifetime::Always | RuleLifetime::UntilRemoved,
            ) => false,
        }
    }
}

/// A file of answers that last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeptPlace {
    /// That of the project.
    Project,
    /// That of every sandbox.
    Always,
}

impl KeptPlace {
    /// All files.
    pub const ALL: [Self; 2] = [Self::Project, Self::Always];

    /// Returns the file for answers of this lifetime, if they are in one.
    pub const fn of_lifetime(keep: RuleLifetime) -> Option<Self> {
        match keep {
            RuleLifetime::Project => Some(Self::Project),
            RuleLifetime::Always => Some(Self::Always),
            RuleLifetime::Once | RuleLifetime::Sandbox | RuleLifetime::UntilRemoved => None,
        }
    }

    /// Returns the file of a rule, if it is in one that answers change.
    pub const fn of_origin(origin: &RuleOrigin) -> Option<Self> {
        match origin {
            RuleOrigin::Project => Some(Self::Project),
            RuleOrigin::Always => Some(Self::Always),
            _ => None,
        }
    }

    /// Returns the origin of the rules in the file.
    pub const fn origin(self) -> RuleOrigin {
        match self {
            Self::Project => RuleOrigin::Project,
            Self::Always => RuleOrigin::Always,
        }
    }
}

/// A rule of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeptRule {
    /// Allow or deny.
    pub action: Action,
    /// The covered destinations.
    pub pattern: DestPattern,
}

/// The files of answers that last. Every method may block, and returns the reason of a failure in
/// words; then the file is unchanged.
pub trait KeptAnswers: Debug + Send + Sync + 'static {
    /// Returns the rules of a file.
    fn load(&self, place: KeptPlace) -> Result<Vec<KeptRule>, DisplayText>;

    /// Adds a rule to a file, in place of one for the same pattern.
    fn keep(&self, place: KeptPlace, rule: &KeptRule, comment: &str) -> Result<(), DisplayText>;

    /// Removes a rule from a file. A rule that is not there is no error.
    fn forget(&self, place: KeptPlace, rule: &KeptRule) -> Result<(), DisplayText>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_lasts_longer_than_the_limit() {
        use RuleLifetime::{Always, Once, Project, Sandbox};
        let answers = [
            (Once, None),
            (Sandbox, Some(60)),
            (Sandbox, Some(3_600)),
            (Sandbox, None),
            (Project, None),
            (Always, None),
        ];
        for (limit, permitted) in [
            (LongestAnswer::Once, 1),
            (LongestAnswer::Seconds(60), 2),
            (LongestAnswer::Seconds(3_600), 3),
            (LongestAnswer::Run, 4),
            (LongestAnswer::Project, 5),
            (LongestAnswer::Always, 6),
        ] {
            for (at, (keep, seconds)) in answers.into_iter().enumerate() {
                let expected = at < permitted;
                assert_eq!(limit.permits(keep, seconds), expected, "{limit:?} {keep}");
            }
        }
    }
}
