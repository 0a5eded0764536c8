// SPDX-License-Identifier: Apache-2.0
//! The rules in the journal, and the rules of an earlier supervisor.
//!
//! The firewall outlasts a supervisor, and what it has counts. The journal adds which answer made
//! an order, and the rules for many names or networks, of which the firewall has only the orders
//! for some.

use std::collections::HashSet;
use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;
use std::time::Duration;

use policy::{BootInstant, RuleId, RuleOrigin, RuleSpec, RuleTerm, TableChange};
use shield::ListedElement;
use terok_clearance::{Action, DestPattern, DisplayText, HostPattern, PacketHost, Timestamp};

use super::ShieldEnforcerState;
use super::rules::FilteredRules;
use super::rules::order_terms::{RestoredOrder, restored_rules, target_host, target_pattern};
use crate::boot_clock::boot_now;
use crate::state_journal::{
    JournalChange, JournalState, JournaledRule, JournaledStartRule, SharedJournal,
};

/// The locked enforcer. Changes of its rules are recorded before it is unlocked.
#[derive(Debug)]
pub(super) struct EnforcerGuard<'a>(MutexGuard<'a, ShieldEnforcerState>);

impl<'a> EnforcerGuard<'a> {
    pub(super) const fn new(state: MutexGuard<'a, ShieldEnforcerState>) -> Self {
        Self(state)
    }
}

impl Deref for EnforcerGuard<'_> {
    type Target = ShieldEnforcerState;

    fn deref(&self) -> &ShieldEnforcerState {
        &self.0
    }
}

impl DerefMut for EnforcerGuard<'_> {
    fn deref_mut(&mut self) -> &mut ShieldEnforcerState {
        &mut self.0
    }
}

impl Drop for EnforcerGuard<'_> {
    fn drop(&mut self) {
        let ShieldEnforcerState { rules, journal, .. } = &mut *self.0;
        if let Some(journal) = journal {
            rules.record_changes(journal);
        }
    }
}

/// An order of the firewall, as a rule.
#[derive(Debug)]
struct KernelRule {
    pattern: DestPattern,
    host: PacketHost,
    action: Action,
    remaining: Option<Duration>,
}

impl KernelRule {
    fn of(order: &RestoredOrder) -> Option<Self> {
        let pattern = target_pattern(&order.target, order.port, order.protocol).ok()?;
        Some(Self {
            pattern,
            host: target_host(&order.target),
            action: order.action,
            remaining: order.remaining,
        })
    }

    fn end(&self, now: BootInstant) -> Option<BootInstant> {
        self.remaining
            .map(|remaining| now.saturating_add(remaining))
    }

    fn to_spec(&self, now: BootInstant, since: Timestamp) -> RuleSpec {
        RuleSpec {
            pattern: self.pattern.clone(),
            action: self.action,
            term: self.end(now).map_or(RuleTerm::Run, RuleTerm::Until),
            origin: RuleOrigin::Restored,
            by: DisplayText::default(),
            since,
        }
    }

    /// Returns the term of an answer that made the order, which the firewall may end earlier;
    /// `None` if another rule must have made it.
    fn term_of_answer(&self, spec: &RuleSpec, now: BootInstant) -> Option<RuleTerm> {
        if self.pattern != spec.pattern || self.action != spec.action {
            return None;
        }
        let earlier = |until: BootInstant| self.end(now).map_or(until, |end| end.min(until));
        match (spec.term, self.remaining) {
            (RuleTerm::Run, None) => Some(RuleTerm::Run),
            (RuleTerm::Run, Some(_)) | (RuleTerm::Kept, _) => None,
            (RuleTerm::Until(until), _) => Some(RuleTerm::Until(earlier(until))),
            (RuleTerm::Once { until }, _) => Some(RuleTerm::Once {
                until: earlier(until),
            }),
        }
    }

    /// Returns `true` if a rule that has ended made the order, which has an end, too.
    fn is_of_ended(&self, spec: &RuleSpec) -> bool {
        let is_own = self.pattern == spec.pattern && self.action == spec.action;
        self.remaining.is_some() && (is_own || self.is_part_of(spec))
    }

    /// Returns `true` if a rule for many hosts has made the order.
    fn is_part_of(&self, spec: &RuleSpec) -> bool {
        self.action == spec.action
            && spec.pattern.host().matches(&self.host)
            && self.pattern.ports() == spec.pattern.ports()
            && self.pattern.protocol() == spec.pattern.protocol()
            && (self.remaining.is_some() || spec.term.end().is_none())
    }
}

const fn is_for_many(pattern: &DestPattern) -> bool {
    matches!(
        pattern.host(),
        HostPattern::Subdomains(_) | HostPattern::Network(_)
    )
}

impl ShieldEnforcerState {
    /// Takes the orders of an earlier supervisor over as rules, and its rules for many hosts.
    pub(super) fn restore_rules(
        &mut self,
        elements: Vec<ListedElement>,
        earlier: Option<&JournalState>,
    ) {
        let now = boot_now();
        let orders = restored_rules(elements);
        let kernel: Vec<_> = orders
            .iter()
            .filter_map(|order| {
                let rule = KernelRule::of(order);
                if rule.is_none() {
                    tracing::warn!(?order, "an order of an earlier supervisor is not listed");
                }
                rule
            })
            .collect();
        let ended = self.rules.restore(&kernel, earlier, now, Timestamp::now());
        for host in ended {
            if let Err(error) = self.apply_orders(&host, &[], None) {
                tracing::warn!(%error, "the orders of an ended rule could not be removed");
            }
        }
        if let (Some(journal), Some(earlier)) = (&self.journal, earlier) {
            self.rules.record_start(journal, earlier);
        }
    }
}

impl FilteredRules {
    /// Adds the rules of an earlier supervisor. Returns the hosts with orders of rules that have
    /// ended meanwhile: the firewall's clock stops while the machine sleeps.
    fn restore(
        &mut self,
        kernel: &[KernelRule],
        earlier: Option<&JournalState>,
        now: BootInstant,
        since: Timestamp,
    ) -> HashSet<PacketHost> {
        let mut ended = HashSet::new();
        let mut explained = HashSet::new();
        if let Some(earlier) = earlier {
            self.table.record_changes();
            self.table.reserve_ids(RuleId::new(earlier.last_rule));
            self.revoked_at_start
                .clone_from(&earlier.revoked_start_rules);
            for rule in earlier.rules.values() {
                let spec = rule.to_spec();
                if spec.term.end().is_none_or(|end| now < end) {
                    self.restore_answer(rule, kernel, &mut explained, now);
                    continue;
                }
                for (at, order) in kernel.iter().enumerate() {
                    if order.is_of_ended(&spec) && explained.insert(at) {
                        ended.insert(order.host.clone());
                    }
                }
            }
        }
        for (at, rule) in kernel.iter().enumerate() {
            if !explained.contains(&at)
                && let Err(error) = self.table.add(rule.to_spec(now, since))
            {
                let pattern = &rule.pattern;
                tracing::warn!(%pattern, %error, "an order of an earlier supervisor is not listed");
            }
        }
        ended
    }

    /// Restores the rule of an answer, if the firewall has its order. A rule for many hosts may
    /// have none yet.
    fn restore_answer(
        &mut self,
        rule: &JournaledRule,
        kernel: &[KernelRule],
        explained: &mut HashSet<usize>,
        now: BootInstant,
    ) {
        let mut spec = rule.to_spec();
        let all = || kernel.iter().enumerate();
        if is_for_many(&spec.pattern) {
            for (at, part) in all().filter(|(_, order)| order.is_part_of(&spec)) {
                explained.insert(at);
                if let PacketHost::Address(address) = part.host {
                    self.network_addresses.insert(address);
                }
            }
        } else {
            let mut terms =
                all().filter_map(|(at, order)| Some((at, order.term_of_answer(&spec, now)?)));
            let Some((at, term)) = terms.next() else {
                return;
            };
            // An order that lasts longer than the answer is also that of another rule.
            if kernel
                .get(at)
                .is_some_and(|order| order.remaining.is_some())
                || term.end().is_none()
            {
                explained.insert(at);
            }
            spec.term = term;
        }
        let id = rule.rule_id();
        if let Err(error) = self.table.restore(id, spec) {
            tracing::warn!(rule = %id, %error, "a rule of an earlier supervisor is not listed");
        }
    }

    /// Makes the journal that of these rules.
    fn record_start(&mut self, journal: &SharedJournal, earlier: &JournalState) {
        // A changed end is that of a new rule to the journal.
        let is_same = |rule: &JournaledRule| {
            let restored = self.table.get(rule.rule_id());
            let restored = restored.and_then(|entry| JournaledRule::of(&entry.rule, None));
            restored.as_ref() == Some(rule)
        };
        let ended = earlier.rules.values().filter(|rule| !is_same(rule));
        let ended = ended.map(|rule| JournalChange::RuleEnded { id: rule.id });
        journal.record(ended.collect());
        self.record_changes(journal);
    }

    fn record_changes(&mut self, journal: &SharedJournal) {
        let changes = self.table.take_changes();
        if changes.is_empty() {
            return;
        }
        let changes = changes.into_iter().filter_map(to_journal_change);
        let last = JournalChange::LastRule {
            id: self.table.last_id().get(),
        };
        journal.record(changes.chain([last]).collect());
    }

    /// Returns `true` once for each revocation of a rule of the start.
    pub(super) fn take_revoked(&mut self, spec: &RuleSpec) -> bool {
        let Some(own) = JournaledStartRule::of(spec) else {
            return false;
        };
        let at = self.revoked_at_start.iter().position(|rule| *rule == own);
        at.map(|at| self.revoked_at_start.swap_remove(at)).is_some()
    }
}

fn to_journal_change(change: TableChange) -> Option<JournalChange> {
    match change {
        // What is known from the firewall alone is known from it again.
        TableChange::Added(rule) if rule.spec.origin == RuleOrigin::Restored => None,
        TableChange::Added(rule) => {
            let rule = Box::new(JournaledRule::of(&rule, None)?);
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
        TableChange::Bypass => None,
    }
}

#[cfg(test)]
mod tests;
