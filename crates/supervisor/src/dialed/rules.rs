// SPDX-License-Identifier: Apache-2.0
//! The rules of one sandbox, shared by the hub (answers) and the engine (connections).

mod answers;
mod journaled;
mod kept_rules;
mod listing;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use egress::{
    AddressVerdict, DialedConnection, EgressPolicy, EgressVerdict, LiveConnections, RuleTag,
};
use hub::ledger::StoredQuestion;
use policy::{
    BootInstant, PolicyRule, RuleId, RuleOrigin, RuleTable, RuleTableFull, RuleVerdict, TableRule,
};
use terok_clearance::{
    Action, DestPattern, DestZone, DisplayText, DomainName, HostPattern, PacketDest, PacketHost,
    PortRange, PreviousAnswer, Protocol, Target, Timestamp,
};
use tokio::sync::Notify;

use journaled::RulesGuard;

use super::kept::{DialedPolicy, KeptPlace};
use crate::boot_clock::{BootAlarm, boot_now};
use crate::state_journal::{OpenedJournal, SharedJournal};
use crate::{RuleEnd, TraceEvent, TraceObserver};

/// Maximum destinations whose last answer is remembered after its rule has ended.
const MAX_PREVIOUS_ANSWERS: usize = 4_096;

/// The rules of one sandbox. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct DialedRules {
    shared: Arc<SharedRules>,
}

#[derive(Debug)]
struct SharedRules {
    state: Mutex<RulesState>,
    changed: Arc<Notify>,
    connections: LiveConnections,
    observer: Mutex<RuleObserver>,
    /// Where answers come from that last, and the limits of answers.
    policy: DialedPolicy,
    /// Held during a change of a file, so that each reading shows all changes before it.
    files: tokio::sync::Mutex<()>,
    /// Notified when another program may have changed a file.
    kept_changed: Arc<Notify>,
    /// Notified when the next end of a rule may have changed.
    ends_changed: Notify,
    /// Where the rules of answers are kept for a later supervisor.
    journal: Option<SharedJournal>,
}

#[derive(Debug, Default)]
pub(super) struct RulesState {
    table: RuleTable,
    /// The answers whose rules are in force.
    answers: HashMap<RuleId, PreviousAnswer>,
    /// The last answers whose rules have ended, by what they covered.
    previous: HashMap<DestPattern, Arc<PreviousAnswer>>,
}

#[derive(Default)]
struct RuleObserver(Option<TraceObserver>);

impl std::fmt::Debug for RuleObserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RuleObserver")
            .field(&self.0.is_some())
            .finish()
    }
}

impl DialedRules {
    /// Creates the rules of a sandbox. Those of files are added by [`load_kept`](Self::load_kept).
    pub(super) fn new(
        policy: DialedPolicy,
        kept_changed: Arc<Notify>,
        journal: Option<&OpenedJournal>,
    ) -> Result<Self, RuleTableFull> {
        let earlier = journal.map(|opened| &opened.state);
        let state = RulesState::new(&policy, earlier, boot_now())?;
        let journal = journal.map(|opened| {
            let journal = opened.journal.clone();
            journal.record(state.start_changes(&policy, &opened.state));
            journal
        });
        let rules = Self {
            shared: Arc::new(SharedRules {
                state: Mutex::new(state),
                journal,
                changed: Arc::default(),
                connections: LiveConnections::default(),
                observer: Mutex::default(),
                policy,
                files: tokio::sync::Mutex::default(),
                kept_changed,
                ends_changed: Notify::new(),
            }),
        };
        drop(rules.lock_state()); // records what is new
        Ok(rules)
    }

    pub(super) fn set_observer(&self, observer: TraceObserver) {
        self.lock_observer().0 = Some(observer);
    }

    pub(super) fn emit_trace(&self, event: TraceEvent<'_>) {
        if let Some(observer) = &mut self.lock_observer().0 {
            observer(event);
        }
    }

    /// Returns the signal that the rules have changed.
    pub(super) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.shared.changed)
    }

    /// Returns the connections of the sandbox.
    pub(super) fn connections(&self) -> LiveConnections {
        self.shared.connections.clone()
    }

    /// Returns a rule of the table; `None` for the bypass, and for one that was removed.
    pub(super) fn rule(&self, rule: RuleTag) -> Option<Arc<PolicyRule>> {
        let state = self.lock_state();
        let entry = state.table.get(RuleId::new(rule.0))?;
        Some(Arc::clone(&entry.rule))
    }

    /// Returns `true` if the internet is open from the start, to learn what the sandbox needs.
    pub(super) fn learns(&self) -> bool {
        self.shared.policy.open_for.is_some()
    }

    /// Returns where a rule in force comes from.
    pub(super) fn origin_of(&self, rule: RuleId) -> Option<RuleOrigin> {
        let state = self.lock_state();
        let entry = state.table.get(rule)?;
        Some(entry.rule.spec.origin.clone())
    }

    /// Returns the last answer about a destination, if its rule has ended: one of this run, else
    /// the newest of earlier runs.
    pub(super) fn previous_answer(
        &self,
        dest: &PacketDest,
        zone: DestZone,
    ) -> Option<Arc<PreviousAnswer>> {
        let pattern = exact_pattern(dest)?;
        let state = self.lock_state();
        if let Some(answer) = state.previous.get(&pattern) {
            return Some(Arc::clone(answer));
        }
        let mut earlier = self.shared.policy.earlier.iter();
        let found = earlier.find(|earlier| {
            earlier.zone == zone.question_zone()
                && earlier.pattern.matches(dest)
                && !state.is_kept(earlier.answer.action, &earlier.pattern)
        });
        found.map(|earlier| Arc::clone(&earlier.answer))
    }

    /// Removes the rules that have ended, and ends their connections. Returns the next end.
    fn end_expired(&self) -> Option<BootInstant> {
        let now = boot_now();
        let (ended, bypass, next) = {
            let mut state = self.lock_state();
            let ended = state.table.expire(now);
            let has_ended = |end: BootInstant| end <= now;
            let bypass_end = state.table.bypass_end();
            let bypass = bypass_end
                .is_some_and(has_ended)
                .then(|| state.table.close_bypass())
                .flatten();
            (ended, bypass, state.table.next_end())
        };
        if !ended.is_empty() || bypass.is_some() {
            self.finish_rules(&ended, RuleEnd::Expired, None);
            if let Some(bypass) = bypass {
                self.emit_trace(TraceEvent::BypassEnded(&bypass));
            }
        }
        next
    }

    /// Ends rules at their times. Ends with an error only.
    pub(super) async fn follow_ends(&self, mut alarm: BootAlarm) -> io::Result<()> {
        loop {
            let next = self.end_expired();
            tokio::select! {
                rung = alarm.wait_until(next) => rung?,
                () = self.shared.ends_changed.notified() => {}
            }
        }
    }

    /// Returns `true` if no rule covers the destination of a question of an earlier supervisor.
    pub(super) fn still_asks(&self, question: &StoredQuestion) -> bool {
        let host = match question.dest().parse_target() {
            Ok(Target::Name(name)) => PacketHost::Name(name),
            Ok(Target::Address(address)) => PacketHost::Address(address),
            Err(_) => return true,
        };
        let dest = PacketDest {
            host,
            port: question.port(),
            protocol: question.protocol(),
        };
        self.decide(&dest, question.zone().into()) == EgressVerdict::Ask
    }

    /// Reports the connections that ended with the sandbox.
    pub(super) fn report_last_connections(&self) {
        for closed in self.shared.connections.take_closed() {
            self.emit_trace(TraceEvent::Closed(&closed));
        }
    }

    /// Reports rules that were removed, ends the connections that no rule allows any more, and
    /// returns their number.
    fn finish_rules(&self, ended: &[TableRule], end: RuleEnd, by: Option<&DisplayText>) -> u64 {
        let connections = self.check_connections();
        {
            let mut state = self.lock_state();
            for rule in ended {
                state.remember_answer(rule, end == RuleEnd::Revoked);
            }
        }
        for rule in ended {
            self.emit_trace(TraceEvent::RuleEnded {
                rule,
                end,
                connections,
                by,
            });
        }
        connections
    }

    /// Ends the connections that no rule allows any more, and returns their number. Those that wait
    /// are checked by the engine.
    fn check_connections(&self) -> u64 {
        let now = boot_now();
        let mut state = self.lock_state();
        let table = &mut state.table;
        let ended = self.shared.connections.check(|connection| {
            let opened_by = RuleId::new(connection.rule.0);
            let rule = rule_to_go_on(table, connection, now)?;
            if rule != opened_by {
                table.note_opened(rule);
                // A rule for one connection that has none left ends here.
                drop(table.note_closed(opened_by));
            }
            Some(RuleTag(rule.get()))
        });
        drop(state);
        self.shared.changed.notify_one();
        self.shared.ends_changed.notify_one();
        ended
    }

    fn lock_state(&self) -> RulesGuard<'_> {
        self.shared.lock_state()
    }

    fn lock_observer(&self) -> MutexGuard<'_, RuleObserver> {
        let observer = self.shared.observer.lock();
        observer.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the rule because of which a connection goes on. A deny of the address that it was dialed
/// to ends it, too.
fn rule_to_go_on(
    table: &RuleTable,
    connection: &DialedConnection,
    now: BootInstant,
) -> Option<RuleId> {
    let DialedConnection {
        rule,
        dest,
        zone,
        address,
        is_proxied,
        ..
    } = connection;
    let rule = table.rule_to_go_on(RuleId::new(rule.0), dest, *zone, now)?;
    match &dest.host {
        PacketHost::Name(name) if !is_proxied => {
            let zone = DestZone::Public; // the table knows the private addresses
            let is_covered = table.covers_address(name, *address, dest.protocol, zone, now);
            is_covered.then_some(rule)
        }
        PacketHost::Name(_) | PacketHost::Address(_) => Some(rule),
    }
}

/// Returns the pattern that covers a destination alone.
fn exact_pattern(dest: &PacketDest) -> Option<DestPattern> {
    let host = match &dest.host {
        PacketHost::Name(name) => HostPattern::Name(name.clone()),
        PacketHost::Address(address) => HostPattern::Address(*address),
    };
    let ports = PortRange::new(dest.port, dest.port);
    DestPattern::new(host, ports, Some(dest.protocol)).ok()
}

impl RulesState {
    /// Returns `true` if a file of kept answers has this rule.
    fn is_kept(&self, action: Action, pattern: &DestPattern) -> bool {
        self.table.iter().any(|entry| {
            let spec = &entry.rule.spec;
            KeptPlace::of_origin(&spec.origin).is_some()
                && spec.action == action
                && spec.pattern == *pattern
        })
    }

    /// Remembers the answer whose rule has ended.
    fn remember_answer(&mut self, ended: &TableRule, revoked: bool) {
        let Some(answer) = self.answers.remove(&ended.rule.id) else {
            return;
        };
        if self.previous.len() >= MAX_PREVIOUS_ANSWERS {
            let oldest = self.previous.iter().min_by_key(|(_, answer)| answer.at);
            if let Some(pattern) = oldest.map(|(pattern, _)| pattern.clone()) {
                self.previous.remove(&pattern);
            }
        }
        let answer = PreviousAnswer { revoked, ..answer };
        let pattern = ended.rule.spec.pattern.clone();
        self.previous.insert(pattern, Arc::new(answer));
    }
}

impl EgressPolicy for DialedRules {
    fn decide(&self, dest: &PacketDest, zone: DestZone) -> EgressVerdict {
        match self.lock_state().table.decide(dest, zone, boot_now()) {
            RuleVerdict::Allow(rule) => EgressVerdict::Allow(RuleTag(rule.get())),
            RuleVerdict::Deny(rule) => EgressVerdict::Deny(Some(RuleTag(rule.get()))),
            RuleVerdict::OutsideCeiling => EgressVerdict::Deny(None),
            RuleVerdict::Ask => EgressVerdict::Ask,
            RuleVerdict::Floor => EgressVerdict::Floor,
        }
    }

    fn decide_address(
        &self,
        name: &DomainName,
        address: IpAddr,
        port: u16,
        protocol: Protocol,
        zone: DestZone,
    ) -> AddressVerdict {
        let now = boot_now();
        let state = self.lock_state();
        let at = SocketAddr::new(address, port);
        if state.table.covers_address(name, at, protocol, zone, now) {
            return AddressVerdict::Allow;
        }
        let dest = PacketDest {
            host: PacketHost::Address(address),
            port,
            protocol,
        };
        match state.table.decide(&dest, zone, now) {
            RuleVerdict::Allow(_) => AddressVerdict::Allow,
            RuleVerdict::Deny(_) | RuleVerdict::OutsideCeiling => AddressVerdict::Deny,
            RuleVerdict::Ask => AddressVerdict::Ask,
            RuleVerdict::Floor => AddressVerdict::Floor,
        }
    }

    fn allows_name(&self, name: &DomainName) -> bool {
        self.lock_state().table.allows_name(name, boot_now())
    }

    fn note_uses(&self, rule: RuleTag, count: u64) {
        let at = Timestamp::now();
        let rule = RuleId::new(rule.0);
        let mut state = self.lock_state();
        state.table.note_uses(rule, count, at);
        // A rule for one connection decides nothing any more, although it lasts as long as that.
        let spent = state
            .table
            .get(rule)
            .filter(|entry| entry.is_spent)
            .cloned();
        if let Some(spent) = spent {
            state.remember_answer(&spent, false);
        }
    }

    fn rule_to_go_on(&self, connection: &DialedConnection) -> Option<RuleTag> {
        let state = self.lock_state();
        let rule = rule_to_go_on(&state.table, connection, boot_now())?;
        Some(RuleTag(rule.get()))
    }

    fn note_opened(&self, rule: RuleTag) {
        self.lock_state().table.note_opened(RuleId::new(rule.0));
    }

    fn note_closed(&self, rule: RuleTag) {
        let ended = {
            let mut state = self.lock_state();
            let ended = state.table.note_closed(RuleId::new(rule.0));
            if let Some(ended) = &ended {
                state.remember_answer(ended, false);
            }
            ended
        };
        if let Some(rule) = &ended {
            self.emit_trace(TraceEvent::RuleEnded {
                rule,
                end: RuleEnd::Used,
                connections: 0,
                by: None,
            });
        }
    }
}

#[cfg(test)]
mod tests;
