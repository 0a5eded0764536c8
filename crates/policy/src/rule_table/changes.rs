// SPDX-License-Identifier: Apache-2.0
//! The changes of a table, and the return of rules that an earlier table had.

use std::sync::Arc;

use super::{BypassRule, MAX_RULES, RuleTable};
use crate::{PolicyRule, RuleId, RuleSpec};

/// A change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableChange {
    /// A rule was added.
    Added(Arc<PolicyRule>),
    /// A rule was removed, for whatever reason.
    Removed(Arc<PolicyRule>),
    /// A rule for one connection has let it pass, and decides nothing any more.
    Spent(Arc<PolicyRule>),
    /// The bypass was opened or closed.
    Bypass,
}

/// A rule of an earlier table cannot return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleRestoreError {
    /// Another rule has the number.
    #[error("rule {0} exists already")]
    Taken(RuleId),
    /// The table has the maximum number of rules.
    #[error("there are {MAX_RULES} rules already")]
    Full,
}

impl RuleTable {
    /// Records the changes from now on, for [`take_changes`](Self::take_changes).
    pub fn record_changes(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// Removes and returns the recorded changes, in their order.
    pub fn take_changes(&mut self) -> Vec<TableChange> {
        self.changes
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Returns the highest number that a rule has, or has had.
    pub const fn last_id(&self) -> RuleId {
        RuleId::new(self.last_id)
    }

    /// Gives no number up to `last` to a new rule: an earlier table did.
    pub fn reserve_ids(&mut self, last: RuleId) {
        self.last_id = self.last_id.max(last.get());
    }

    /// Adds a rule of an earlier table under its number.
    pub fn restore(&mut self, id: RuleId, spec: RuleSpec) -> Result<(), RuleRestoreError> {
        let of_bypass = self.bypass.as_ref().map(|bypass| bypass.id);
        if self.rules.contains_key(&id) || of_bypass == Some(id) {
            return Err(RuleRestoreError::Taken(id));
        }
        if self.rules.len() >= MAX_RULES {
            return Err(RuleRestoreError::Full);
        }
        self.reserve_ids(id);
        self.insert(Arc::new(PolicyRule { id, spec }));
        Ok(())
    }

    /// Opens the bypass of an earlier table, under its number.
    pub fn restore_bypass(&mut self, bypass: BypassRule) {
        self.reserve_ids(bypass.id);
        self.bypass = Some(bypass);
        self.note_change(|| TableChange::Bypass);
    }

    /// Returns the bypass, also if its end has passed.
    pub const fn stored_bypass(&self) -> Option<&BypassRule> {
        self.bypass.as_ref()
    }

    pub(super) fn note_change(&mut self, change: impl FnOnce() -> TableChange) {
        if let Some(changes) = &mut self.changes {
            changes.push(change());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use terok_clearance::{Action, DisplayText, Timestamp};

    use super::*;
    use crate::{BootInstant, RuleOrigin, RuleTerm, RuleUsage};

    fn spec(pattern: &str, term: RuleTerm) -> RuleSpec {
        RuleSpec {
            pattern: pattern.parse().unwrap(),
            action: Action::Allow,
            term,
            origin: RuleOrigin::Flag,
            by: DisplayText::default(),
            since: Timestamp::from_micros(7),
        }
    }

    fn at(seconds: u64) -> BootInstant {
        BootInstant::from_boot(Duration::from_secs(seconds))
    }

    #[test]
    fn each_change_is_recorded_once() {
        let mut table = RuleTable::new();
        table.add(spec("early.example", RuleTerm::Run)).unwrap();
        assert_eq!(table.take_changes(), [], "they are not recorded");
        table.record_changes();
        let timed = table
            .add(spec("a.example", RuleTerm::Until(at(9))))
            .unwrap();
        let once = RuleTerm::Once { until: at(99) };
        let once = table.add(spec("b.example", once)).unwrap();
        let rule = |table: &RuleTable, id| Arc::clone(&table.get(id).unwrap().rule);
        let (timed, once) = (rule(&table, timed), rule(&table, once));
        let added = [&timed, &once].map(|rule| TableChange::Added(Arc::clone(rule)));
        assert_eq!(table.take_changes(), added);
        table.note_uses(once.id, 1, Timestamp::from_micros(8));
        table.note_uses(once.id, 1, Timestamp::from_micros(9));
        table.expire(at(10));
        let expected = [TableChange::Spent(once), TableChange::Removed(timed)];
        assert_eq!(table.take_changes(), expected);
        let by = DisplayText::new("op");
        table
            .open_bypass(None, by, Timestamp::from_micros(9))
            .unwrap();
        table.close_bypass();
        assert!(table.close_bypass().is_none());
        let expected = [TableChange::Bypass, TableChange::Bypass];
        assert_eq!(table.take_changes(), expected);
        assert_eq!(table.take_changes(), []);
    }

    #[test]
    fn a_rule_returns_under_its_number_which_no_new_rule_gets() {
        let mut table = RuleTable::new();
        table.add(spec("first.example", RuleTerm::Run)).unwrap();
        let earlier = RuleId::new(7);
        let restored = table.restore(earlier, spec("a.example", RuleTerm::Until(at(9))));
        assert_eq!(restored, Ok(()));
        let again = table.restore(earlier, spec("b.example", RuleTerm::Run));
        assert_eq!(again, Err(RuleRestoreError::Taken(earlier)));
        assert_eq!(table.get(earlier).unwrap().usage, RuleUsage::default());
        assert_eq!(table.next_end(), Some(at(9)));
        let next = table.add(spec("c.example", RuleTerm::Run)).unwrap();
        assert_eq!(next, RuleId::new(8));
        table.restore_bypass(BypassRule {
            id: RuleId::new(20),
            until: Some(at(5)),
            by: DisplayText::default(),
            since: Timestamp::from_micros(9),
            usage: RuleUsage::default(),
        });
        assert!(table.bypass(at(4)).is_some() && table.bypass(at(5)).is_none());
        assert!(table.stored_bypass().is_some());
        let taken = table.restore(RuleId::new(20), spec("d.example", RuleTerm::Run));
        assert_eq!(taken, Err(RuleRestoreError::Taken(RuleId::new(20))));
        table.reserve_ids(RuleId::new(30));
        table.reserve_ids(RuleId::new(3));
        assert_eq!(table.last_id(), RuleId::new(30));
        assert_eq!(table.expire(at(9)).len(), 1);
    }
}
