// SPDX-License-Identifier: Apache-2.0
//! The rules in the journal: each change is there before the rules are unlocked, and a restarted
//! supervisor begins with them.

use std::ops::{Deref, DerefMut};
use std::sync::{MutexGuard, PoisonError};

use policy::{BootInstant, RuleId, RuleTableFull, TableChange};
use terok_clearance::Timestamp;

use super::{RulesState, SharedRules};
use crate::DialedPolicy;
use crate::state_journal::{
    BypassState, JournalChange, JournalState, JournaledBypass, JournaledRule, JournaledStartRule,
    SharedJournal,
};

/// The locked rules. Their changes are recorded before they are unlocked.
#[derive(Debug)]
pub(in crate::dialed) struct RulesGuard<'a> {
    state: MutexGuard<'a, RulesState>,
    journal: Option<&'a SharedJournal>,
}

impl SharedRules {
    pub(super) fn lock_state(&self) -> RulesGuard<'_> {
        let state = self.state.lock();
        RulesGuard {
            state: state.unwrap_or_else(PoisonError::into_inner),
            journal: self.journal.as_ref(),
        }
    }
}

impl Deref for RulesGuard<'_> {
    type Target = RulesState;

    fn deref(&self) -> &RulesState {
        &self.state
    }
}

impl DerefMut for RulesGuard<'_> {
    fn deref_mut(&mut self) -> &mut RulesState {
        &mut self.state
    }
}

impl Drop for RulesGuard<'_> {
    fn drop(&mut self) {
        if let Some(journal) = self.journal {
            self.state.record_changes(journal);
        }
    }
}

impl RulesState {
    /// Creates the rules of a sandbox: those of its start, and those of an earlier supervisor.
    pub(super) fn new(
        policy: &DialedPolicy,
        earlier: Option<&JournalState>,
        now: BootInstant,
    ) -> Result<Self, RuleTableFull> {
        let mut state = Self::default();
        if policy.has_ceiling {
            state.table.require_ceiling();
        }
        if let Some(earlier) = earlier {
            state.table.record_changes();
            // With other rules at the start than before, none may get the number of an answer.
            let before = earlier.start_rules;
            if before.is_some_and(|count| usize::try_from(count) != Ok(policy.rules.len())) {
                state.table.reserve_ids(RuleId::new(earlier.last_rule));
            }
        }
        let mut revoked = earlier.map_or_else(Vec::new, |e| e.revoked_start_rules.clone());
        for spec in &policy.rules {
            let own = JournaledStartRule::of(spec);
            match revoked.iter().position(|rule| Some(rule) == own.as_ref()) {
                // Its number stays its own.
                Some(at) => {
                    drop(revoked.swap_remove(at));
                    let unused = state.table.last_id().get().saturating_add(1);
                    state.table.reserve_ids(RuleId::new(unused));
                }
                None => {
                    state.table.add(spec.clone())?;
                }
            }
        }
        match earlier.map(|earlier| &earlier.bypass) {
            Some(BypassState::Open(open)) => state.table.restore_bypass(open.to_rule()),
            Some(BypassState::Closed) => {}
            Some(BypassState::Unknown) | None => {
                if let Some(by) = &policy.open_for {
                    let since = Timestamp::now();
                    state.table.open_bypass(None, by.clone(), since)?;
                }
            }
        }
        if let Some(earlier) = earlier {
            state.restore_answers(earlier, now);
        }
        Ok(state)
    }

    fn restore_answers(&mut self, earlier: &JournalState, now: BootInstant) {
        self.table.reserve_ids(RuleId::new(earlier.last_rule));
        for rule in earlier.rules.values() {
            let (id, spec) = (rule.rule_id(), rule.to_spec());
            if spec.term.end().is_some_and(|end| end <= now) {
                continue;
            }
            // Before the change is recorded.
            self.answers
                .extend(rule.to_answer().map(|answer| (id, answer)));
            if let Err(error) = self.table.restore(id, spec) {
                tracing::warn!(rule = %id, %error, "a rule of the earlier supervisor has ended");
                self.answers.remove(&id);
            }
        }
    }

    /// Returns the changes that make a journal that of these rules, at the start.
    pub(super) fn start_changes(
        &self,
        policy: &DialedPolicy,
        earlier: &JournalState,
    ) -> Vec<JournalChange> {
        let count = u64::try_from(policy.rules.len()).unwrap_or(u64::MAX);
        let ended = earlier.rules.keys().copied();
        let ended = ended.filter(|id| self.table.get(RuleId::new(*id)).is_none());
        let ended = ended.map(|id| JournalChange::RuleEnded { id });
        ended.chain([JournalChange::StartRules { count }]).collect()
    }

    fn record_changes(&mut self, journal: &SharedJournal) {
        let changes = self.table.take_changes();
        if changes.is_empty() {
            return;
        }
        let mut recorded: Vec<_> = changes
            .into_iter()
            .filter_map(|change| self.to_journal_change(change))
            .collect();
        // The rules of files have numbers of the same table.
        recorded.push(JournalChange::LastRule {
            id: self.table.last_id().get(),
        });
        journal.record(recorded);
    }

    fn to_journal_change(&self, change: TableChange) -> Option<JournalChange> {
        match change {
            TableChange::Added(rule) => {
                let rule = JournaledRule::of(&rule, self.answers.get(&rule.id))?;
                let rule = Box::new(rule);
                Some(JournalChange::Rule { rule })
            }
            TableChange::Removed(rule) if !rule.spec.origin.is_decision() => {
                let rule = JournaledStartRule::of(&rule.spec)?;
                Some(JournalChange::StartRuleRevoked { rule })
            }
            TableChange::Removed(rule) | TableChange::Spent(rule) => {
                let id = rule.id.get();
                Some(JournalChange::RuleEnded { id })
            }
            TableChange::Bypass => {
                let open = self.table.stored_bypass().map(JournaledBypass::of);
                Some(JournalChange::Bypass { open })
            }
        }
    }
}

#[cfg(test)]
mod tests;
