// SPDX-License-Identifier: Apache-2.0
//! The dialog that confirms the end of a rule, with what the rule did and what its end means.

use std::time::Duration;

use operator::answer_guard::{ConfirmGuard, KeyRefusal};
use operator::inbox::HubId;
use operator::rules::RuleRow;
use terok_clearance::wire::clearance2::ListedRule;
use terok_clearance::{Action, RuleLifetime};

use crate::drawn::DrawnPage;
use crate::rule_list::{RuleEntry, RuleKey};

#[derive(Debug)]
pub(crate) struct RevokeDialog {
    pub(crate) key: RuleKey,
    /// The name of the rule for the operator: `web:r12`.
    pub(crate) name: String,
    rule: ListedRule,
    words: RuleRow,
    /// Number of lines that have been on the screen, from the first on without a gap.
    lines_read: usize,
    guard: ConfirmGuard,
}

impl RevokeDialog {
    pub(crate) fn new(hub: &HubId, entry: &RuleEntry, name: String) -> Self {
        Self {
            key: RuleKey {
                hub: hub.clone(),
                rule: entry.rule.rule.clone(),
            },
            name,
            rule: entry.rule.clone(),
            words: entry.words.clone(),
            lines_read: 0,
            guard: ConfirmGuard::default(),
        }
    }

    /// Returns the text: what the rule does, and what its end means.
    pub(crate) fn paragraphs(&self) -> Vec<String> {
        let RuleRow {
            covers,
            lifetime,
            origin,
            by,
            ..
        } = &self.words;
        let verb = match self.rule.action {
            Action::Allow => "allows",
            Action::Deny => "denies",
        };
        let mut paragraphs = vec![
            format!("It {verb} {covers}, {lifetime}."),
            format!("Origin: {origin}, by {by}."),
        ];
        let ends = match self.rule.open {
            0 => "No connection exists because of it.".to_owned(),
            1 => "Revoking it ends 1 connection at once.".to_owned(),
            count => format!("Revoking it ends {count} connections at once."),
        };
        paragraphs.push(ends);
        if matches!(self.rule.keep, RuleLifetime::Project | RuleLifetime::Always) {
            paragraphs.push("It is removed from its file too, for later runs.".to_owned());
        }
        paragraphs.push(
            match self.rule.action {
                Action::Allow => "The next connection is a question, unless another rule decides.",
                Action::Deny => {
                    "The next connection is a question, or PASSES if another rule allows it."
                }
            }
            .to_owned(),
        );
        paragraphs
    }

    /// Returns `true` if `rule` is still the one that the dialog shows; counts may differ.
    pub(crate) fn shows(&self, rule: &ListedRule) -> bool {
        let identity = |rule: &ListedRule| {
            (
                rule.rule.clone(),
                rule.action,
                rule.dest.clone(),
                rule.keep,
                rule.origin.clone(),
                rule.origin_name.clone(),
                rule.since,
            )
        };
        identity(&self.rule) == identity(rule)
    }

    /// Records the lines that a frame showed.
    pub(crate) fn record_drawn(&mut self, page: DrawnPage, now: Duration) {
        if page.first_line <= self.lines_read {
            let end = page.first_line.saturating_add(page.height);
            self.lines_read = self.lines_read.max(end);
        }
        if self.lines_read >= page.max_first_line.saturating_add(page.height) {
            self.guard.record_fully_shown(now);
        }
    }

    /// Restarts the time to read, after the screen was hidden.
    pub(crate) const fn reset_shown_time(&mut self) {
        self.lines_read = 0;
        self.guard.reset();
    }

    /// Restarts the time to read that started with a frame that the terminal shows only now.
    pub(crate) fn restart_shown_time(&mut self, now: Duration) {
        self.guard.restart(now);
    }

    /// Returns `true` if the time to read started at `now`.
    pub(crate) fn is_shown_since(&self, now: Duration) -> bool {
        self.guard.starts_at(now)
    }

    /// Returns whether a confirmation counts now.
    pub(crate) fn check_key(&self, now: Duration) -> Result<(), KeyRefusal> {
        self.guard.check_key(now)
    }
}
