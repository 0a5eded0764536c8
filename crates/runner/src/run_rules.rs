// SPDX-License-Identifier: Apache-2.0
//! The rules of a run: at its start, from files, and as answers may make them.

use std::path::PathBuf;
use std::sync::Arc;

use policy::{RuleOrigin, RuleSpec, RuleTerm};
use supervisor::{DialedPolicy, KeptAnswers, LongestAnswer};
use terok_clearance::{Action, DestPattern, DisplayText, Timestamp};

use crate::KeptFiles;

/// The rules of a run.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent limits and settings"
)]
#[derive(Debug, Clone, Default)]
pub struct RunRules {
    /// The rules at the start that do not change.
    pub rules: Vec<StartRule>,
    /// The profiles that are among them.
    pub profiles: Vec<DisplayText>,
    /// Everything is denied that no rule of [`RuleOrigin::Ceiling`] covers.
    pub has_ceiling: bool,
    /// The files of answers that last; `None`: no answer outlasts the run.
    pub kept: Option<KeptFiles>,
    /// The file in the work tree that the operator trusts.
    pub trusted_file: Option<PathBuf>,
    /// The longest that an answer may last.
    pub longest_answer: LongestAnswer,
    /// The organisation does not permit to open the internet for a time.
    pub forbids_bypass: bool,
    /// The organisation does not permit that a program answers.
    pub forbids_approver: bool,
    /// Everything on the internet that no rule denies passes, to learn what the command needs.
    pub learns: bool,
}

/// A rule at the start of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRule {
    /// Allow or deny.
    pub action: Action,
    /// The covered destinations.
    pub pattern: DestPattern,
    /// The origin.
    pub origin: RuleOrigin,
}

impl RunRules {
    /// Returns the rules for the supervisor, in force since `since`. `by` describes the operator.
    pub fn to_policy(&self, since: Timestamp, by: &DisplayText) -> DialedPolicy {
        let rules = self.rules.iter().map(|rule| RuleSpec {
            pattern: rule.pattern.clone(),
            action: rule.action,
            term: RuleTerm::Run,
            origin: rule.origin.clone(),
            by: by.clone(),
            since,
        });
        let kept = self.kept.clone();
        DialedPolicy {
            rules: rules.collect(),
            has_ceiling: self.has_ceiling,
            kept: kept.map(|kept| Arc::new(kept) as Arc<dyn KeptAnswers>),
            longest_answer: self.longest_answer,
            allows_bypass: !self.forbids_bypass,
            forbids_approver: self.forbids_approver,
            open_for: self.learns.then(|| by.clone()),
            earlier: Vec::new(),
        }
    }
}
