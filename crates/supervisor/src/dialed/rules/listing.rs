// SPDX-License-Identifier: Apache-2.0
//! The replies to operators about the rules.

use terok_clearance::wire::clearance2::{
    ExplainParameters, ExplainReply, ListedRule, RuleCallError,
};

use super::DialedRules;
use crate::boot_clock::boot_now;
use crate::rule_listing::{self, ExplainedDest};

impl DialedRules {
    /// Returns the rules in the order of their additions.
    pub(super) fn list_rules(&self) -> Vec<ListedRule> {
        rule_listing::list_rules(&self.lock_state().table, boot_now())
    }

    /// Returns what the rules do with a destination.
    pub(super) fn explain_dest(
        &self,
        asked: &ExplainParameters,
    ) -> Result<ExplainReply, RuleCallError> {
        let dest = ExplainedDest::parse(asked)?;
        Ok(dest.explain(&self.lock_state().table, boot_now()))
    }
}
