// SPDX-License-Identifier: Apache-2.0
//! The rules of a sandbox in the filtered way, from which the orders in its firewall are made.
//!
//! Each change of a rule replaces the orders of its destination, in one transaction, from all
//! rules for it. So a revoked rule takes nothing with it that another rule opens.

pub(super) mod order_terms;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use hub::Claim;
use policy::{
    BootInstant, MAX_RULES, PolicyRule, RuleId, RuleOrigin, RuleSpec, RuleTable, RuleTerm,
    RuleVerdict, TableRule,
};
use shield::{DestOrder, OpenedConnectionKey};
use terok_clearance::wire::clearance2::{RevokeReply, RuleCallError};
use terok_clearance::{
    Action, BlockedPacket, DestPattern, DestZone, DisplayText, DomainName, HostPattern, PacketDest,
    PacketHost, RuleLifetime, Target, Timestamp, error_chain,
};

use order_terms::{
    FilteredRuleError, check_expressible, contains_order, dest_orders, scope_pattern,
    target_pattern,
};

pub(super) use order_terms::target_host;

use super::connections::set_open;
use super::{ShieldEnforcerState, std_now};
use crate::boot_clock::boot_now;
use crate::state_journal::JournaledStartRule;
use crate::{AllowedDest, FilteredPolicy, LongestAnswer, RuleEnd, TraceEvent, rule_listing};

/// The rules of a sandbox.
#[derive(Debug, Default)]
pub(super) struct FilteredRules {
    pub(super) table: RuleTable,
    /// The connections that go on after the time of their rule, which was for them alone.
    pub(super) spent: HashMap<OpenedConnectionKey, RuleId>,
    /// The time to look again for connections that no rule allows.
    pub(super) check_at: Option<BootInstant>,
    /// The organisation limits what can be opened.
    pub(super) has_ceiling: bool,
    /// The longest that an answer may last.
    pub(super) longest_answer: LongestAnswer,
    /// The addresses that have orders of a rule for a network.
    pub(super) network_addresses: HashSet<IpAddr>,
    /// The rules of the start that were revoked before this supervisor.
    pub(super) revoked_at_start: Vec<JournaledStartRule>,
}

/// What the rules do with a packet that no order covers yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RuleAction {
    /// No rule covers it, or the orders of the rules cover it now.
    Continue,
    /// A rule denies it, or the organisation's ceiling does not contain it.
    Refuse,
}

impl FilteredRules {
    /// Returns the orders of the rules for a host, `without` some and `with` another one. An allow
    /// that is not wholly within the organisation's ceiling opens nothing.
    fn orders(
        &self,
        host: &PacketHost,
        without: &[RuleId],
        with: Option<&RuleSpec>,
    ) -> Vec<DestOrder> {
        let (now, std_now) = (boot_now(), std_now());
        let counts = |entry: &&TableRule| {
            entry.rule.is_live(now) && !entry.is_spent && !without.contains(&entry.rule.id)
        };
        let rules = self.table.iter().filter(counts).map(|e| &e.rule.spec);
        let covering = rules
            .chain(with)
            .filter(|spec| spec.pattern.host().matches(host));
        let (ceiling, rules): (Vec<_>, Vec<_>) =
            covering.partition(|spec| spec.origin == RuleOrigin::Ceiling);
        let orders = rules
            .into_iter()
            .flat_map(|spec| dest_orders(spec, host, now, std_now));
        let is_effective = |order: &DestOrder| {
            order.action == Action::Deny
                || !self.has_ceiling
                || ceiling.iter().any(|spec| contains_order(spec, order))
        };
        orders.filter(is_effective).collect()
    }

    /// Returns the answers for exactly this pattern, and what is the same from an earlier
    /// supervisor.
    fn replaced_by(&self, spec: &RuleSpec) -> Vec<RuleId> {
        let is_replaced = |rule: &PolicyRule| {
            let other = &rule.spec;
            other.pattern == spec.pattern
                && other.origin.is_decision()
                && (spec.origin.is_decision()
                    || (other.origin == RuleOrigin::Restored && other.action == spec.action))
        };
        let rules = self.table.iter().map(|entry| &entry.rule);
        rules
            .filter(|rule| is_replaced(rule))
            .map(|rule| rule.id)
            .collect()
    }

    /// Checks that an allow takes effect: a deny of higher rank would make it void.
    fn check_effect(&self, claim: &Claim, replaced: &[RuleId]) -> Result<(), FilteredRuleError> {
        if claim.action() == Action::Deny {
            return Ok(());
        }
        let dest = PacketDest {
            host: target_host(&claim.dest().parse_target()?),
            port: claim.port(),
            protocol: claim.protocol(),
        };
        let verdict = self.table.decide(&dest, DestZone::Public, boot_now());
        if verdict == RuleVerdict::OutsideCeiling {
            return Err(FilteredRuleError::OutsideCeiling);
        }
        let covering = self.table.covering(&dest, boot_now());
        let denying = covering
            .iter()
            .find(|rule| rule.spec.action == Action::Deny && !replaced.contains(&rule.id));
        match denying {
            None => Ok(()),
            Some(rule) => Err(FilteredRuleError::Denied {
                rule: rule.id,
                origin: rule.spec.origin.as_str(),
                pattern: rule.spec.pattern.clone(),
            }),
        }
    }
}

impl ShieldEnforcerState {
    /// Makes the rule of an answer.
    pub(super) fn add_answer(&mut self, claim: &Claim) -> Result<(), DisplayText> {
        self.try_add_answer(claim)
            .map_err(|error| error_chain(&error))
    }

    fn try_add_answer(&mut self, claim: &Claim) -> Result<(), FilteredRuleError> {
        let scope = claim.scope();
        let dest = claim.dest().parse_target()?;
        // The lookup may predate this process.
        if let (Target::Name(name), Ok(Target::Address(address))) =
            (&dest, claim.address().parse_target())
        {
            self.learn_addresses(name, &[address]);
        }
        let longest = self.rules.longest_answer;
        if !longest.permits(scope.keep, scope.seconds) {
            return Err(FilteredRuleError::TooLong);
        }
        let term = match (scope.keep, scope.seconds) {
            (_, Some(0)) => return Err(FilteredRuleError::NoDuration),
            (RuleLifetime::Project | RuleLifetime::Always, _) => {
                return Err(FilteredRuleError::UnsupportedKeep);
            }
            // Nothing removes an order but the end of its sandbox.
            (RuleLifetime::UntilRemoved, None) => RuleTerm::Run,
            _ => RuleTerm::of_scope(scope, boot_now()),
        };
        let spec = RuleSpec {
            pattern: scope_pattern(scope)?,
            action: claim.action(),
            term,
            origin: RuleOrigin::Decision {
                request: claim.request().clone(),
            },
            by: claim.by().clone(),
            since: Timestamp::now(),
        };
        let replaced = self.rules.replaced_by(&spec);
        self.rules.check_effect(claim, &replaced)?;
        self.add_rule(spec, &replaced, Some(target_host(&dest)))
    }

    /// Adds the rule of an option.
    pub(super) fn add_option(&mut self, allowed: &AllowedDest) -> Result<(), DisplayText> {
        let mut add = || {
            let spec = RuleSpec {
                pattern: target_pattern(&allowed.target, allowed.port, allowed.protocol)?,
                action: Action::Allow,
                term: RuleTerm::Run,
                origin: RuleOrigin::Flag,
                by: DisplayText::default(),
                since: Timestamp::now(),
            };
            if self.rules.take_revoked(&spec) {
                return Ok(());
            }
            let replaced = self.rules.replaced_by(&spec);
            self.add_rule(spec, &replaced, None)
        };
        add().map_err(|error: FilteredRuleError| error_chain(&error))
    }

    /// Adds the rules of the operator's options and profiles and of the organisation.
    pub(super) fn add_policy(&mut self, policy: FilteredPolicy) -> Result<(), DisplayText> {
        let FilteredPolicy {
            rules,
            has_ceiling,
            longest_answer,
        } = policy;
        self.rules.has_ceiling = has_ceiling;
        self.rules.longest_answer = longest_answer;
        if has_ceiling {
            self.rules.table.require_ceiling();
        }
        // What closes comes first: nothing is open for a moment.
        let (closing, opening): (Vec<_>, Vec<_>) = rules
            .into_iter()
            .partition(|spec| spec.action == Action::Deny || spec.origin == RuleOrigin::Ceiling);
        for spec in closing.into_iter().chain(opening) {
            let pattern = spec.pattern.clone();
            if spec.action == Action::Allow
                && let Err(reason) = check_expressible(&spec)
            {
                tracing::warn!(%pattern, %reason, "a rule opens nothing here");
                continue;
            }
            if self.rules.take_revoked(&spec) {
                continue;
            }
            let replaced = self.rules.replaced_by(&spec);
            self.add_rule(spec, &replaced, None).map_err(|error| {
                DisplayText::new(&format!("{pattern}: {}", error_chain(&error)))
            })?;
        }
        // The orders of an earlier supervisor may be outside of the ceiling.
        let rules = self.rules.table.iter().map(|entry| &entry.rule.spec);
        let patterns: HashSet<_> = rules.map(|spec| spec.pattern.host().clone()).collect();
        for host in patterns
            .iter()
            .flat_map(|host| self.hosts_of(host))
            .collect::<HashSet<_>>()
        {
            self.apply_orders(&host, &[], None)?;
        }
        Ok(())
    }

    /// Makes the orders for a packet that no order covers, if a rule for many names or addresses
    /// does.
    pub(super) fn order_by_rules(&mut self, blocked: &BlockedPacket) -> RuleAction {
        let Ok(target) = blocked.dest().parse_target() else {
            return RuleAction::Continue;
        };
        let dest = PacketDest {
            host: target_host(&target),
            port: blocked.port,
            protocol: blocked.protocol,
        };
        let (rule, action) = match self.decide(&dest) {
            RuleVerdict::Ask | RuleVerdict::Floor => return RuleAction::Continue,
            RuleVerdict::OutsideCeiling => return RuleAction::Refuse,
            RuleVerdict::Allow(rule) => (rule, RuleAction::Continue),
            RuleVerdict::Deny(rule) => (rule, RuleAction::Refuse),
        };
        let pattern = self
            .rules
            .table
            .get(rule)
            .map(|entry| &entry.rule.spec.pattern);
        if let Some(HostPattern::Address(_)) = pattern.map(DestPattern::host) {
            // Its order was there: another program has removed it, which counts.
            return RuleAction::Continue;
        }
        let is_ordered = match (&dest.host, &self.names) {
            (PacketHost::Name(name), Some(names)) => names.ordered.contains_key(name),
            (PacketHost::Name(_), None) => true,
            (PacketHost::Address(address), _) => !self.rules.network_addresses.insert(*address),
        };
        if !is_ordered && let Err(error) = self.apply_orders(&dest.host, &[], None) {
            tracing::warn!(%error, "the orders of a rule could not be made");
        }
        action
    }

    /// Makes the orders for a name, if rules for many names allow it.
    pub(super) fn order_looked_up(&mut self, name: &DomainName) {
        let names = self.names.as_ref();
        if names.is_some_and(|names| names.ordered.contains_key(name))
            || !self.rules.table.allows_name(name, boot_now())
        {
            return;
        }
        if let Err(error) = self.apply_orders(&PacketHost::Name(name.clone()), &[], None) {
            tracing::warn!(%name, %error, "the orders of a rule could not be made");
        }
    }

    /// Adds a rule in place of others, and ends the connections that no rule allows any more.
    ///
    /// `first` is a host that has orders from now on, if the rule covers it.
    fn add_rule(
        &mut self,
        spec: RuleSpec,
        replaced: &[RuleId],
        first: Option<PacketHost>,
    ) -> Result<(), FilteredRuleError> {
        check_expressible(&spec)?;
        if self.rules.table.len() >= MAX_RULES {
            return Err(FilteredRuleError::Full);
        }
        let by = spec.by.clone();
        let ends_connections = spec.action == Action::Deny || !replaced.is_empty();
        let hosts = self.hosts_of(spec.pattern.host()).into_iter();
        for host in hosts.chain(first).collect::<HashSet<_>>() {
            self.apply_orders(&host, replaced, Some(&spec))
                .map_err(FilteredRuleError::Firewall)?;
        }
        let table = &mut self.rules.table;
        let removed: Vec<_> = replaced.iter().filter_map(|id| table.remove(*id)).collect();
        let id = table.add(spec).map_err(|_full| FilteredRuleError::Full)?;
        let added = table.get(id).map(|entry| entry.rule.clone());
        if let Some(rule) = added {
            self.emit_trace(TraceEvent::RuleAdded(&rule));
        }
        if ends_connections
            && let Err(error) = self.finish_rules(&removed, RuleEnd::Replaced, Some(&by))
        {
            tracing::warn!(%error, "connections could not be ended");
        }
        Ok(())
    }

    /// Ends the rules whose time is over, and their connections. Returns the next time to do so.
    pub(super) fn end_expired(&mut self) -> Option<BootInstant> {
        let now = boot_now();
        let spent = self.keep_spent_connections(now);
        let ended = self.rules.table.expire(now);
        let hosts: HashSet<_> = ended
            .iter()
            .map(|entry| entry.rule.spec.pattern.host().clone())
            .chain(spent)
            .collect();
        for host in hosts
            .iter()
            .flat_map(|host| self.hosts_of(host))
            .collect::<HashSet<_>>()
        {
            if let Err(error) = self.apply_orders(&host, &[], None) {
                // The kernel ends the orders by itself.
                tracing::warn!(%error, "the orders of ended rules could not be removed");
            }
        }
        if !ended.is_empty() {
            if let Err(error) = self.finish_rules(&ended, RuleEnd::Expired, None) {
                tracing::warn!(%error, "the connections of ended rules could not be ended");
            }
        } else if self.rules.check_at.is_some_and(|at| at <= now) {
            self.rules.check_at = None;
            if let Err(error) = self.check_connections() {
                tracing::warn!(%error, "connections without a rule could not be ended");
            }
        }
        let check_at = self.rules.check_at;
        self.rules
            .table
            .next_end()
            .into_iter()
            .chain(check_at)
            .min()
    }

    /// Lets the connections of rules for one connection go on after the time of these rules.
    /// Returns the hosts of the rules.
    fn keep_spent_connections(&mut self, now: BootInstant) -> Vec<HostPattern> {
        let ended: Vec<_> = {
            let is_over = |entry: &&TableRule| {
                matches!(entry.rule.spec.term, RuleTerm::Once { until } if until <= now)
                    && entry.rule.spec.action == Action::Allow
                    && !entry.is_spent
            };
            let rules = self.rules.table.iter().filter(is_over);
            rules.map(|entry| entry.rule.clone()).collect()
        };
        if ended.is_empty() {
            return Vec::new();
        }
        let connections = match self.list_connections() {
            Ok(connections) => connections,
            Err(error) => {
                tracing::warn!(%error, "the connections of a rule could not be listed");
                return Vec::new();
            }
        };
        let mut hosts = Vec::new();
        for connection in connections
            .into_iter()
            .filter(|connection| connection.is_open)
        {
            let Some(dest) = self.connection_dest(&connection) else {
                continue;
            };
            let verdict = self.decide(&dest);
            let rule = ended.iter().find(|rule| rule.spec.pattern.matches(&dest));
            if let (RuleVerdict::Ask, Some(rule)) = (verdict, rule) {
                self.rules.spent.insert(connection.key, rule.id);
                self.rules.table.note_uses(rule.id, 1, Timestamp::now());
                self.rules.table.note_opened(rule.id);
                hosts.push(rule.spec.pattern.host().clone());
            }
        }
        hosts
    }

    /// Revokes the rules with a name, `r12` or the id of a question.
    pub(super) fn revoke_rules(
        &mut self,
        name: &DisplayText,
        by: &DisplayText,
    ) -> Result<RevokeReply, RuleCallError> {
        let is_named = |rule: &PolicyRule| match &rule.spec.origin {
            RuleOrigin::Decision { request } if request.as_str() == name.as_str() => true,
            _ => name.as_str().parse() == Ok(rule.id),
        };
        let found: Vec<_> = {
            let rules = self.rules.table.iter().map(|entry| &entry.rule);
            rules.filter(|rule| is_named(rule)).cloned().collect()
        };
        if found.is_empty() {
            return Err(RuleCallError::NoSuchRule { rule: name.clone() });
        }
        for rule in &found {
            rule_listing::check_revocable(rule)?;
        }
        let ids: Vec<_> = found.iter().map(|rule| rule.id).collect();
        let open = self.count_open();
        let refused = |reason: &DisplayText| RuleCallError::refused(reason.as_str());
        for rule in &found {
            for host in self.hosts_of(rule.spec.pattern.host()) {
                self.apply_orders(&host, &ids, None)
                    .map_err(|reason| refused(&reason))?;
            }
        }
        let table = &mut self.rules.table;
        let removed: Vec<_> = ids.iter().filter_map(|id| table.remove(*id)).collect();
        self.rules.spent.retain(|_, rule| !ids.contains(rule));
        let ended = self.finish_rules(&removed, RuleEnd::Revoked, Some(by));
        let ended = ended.map_err(|error| {
            let reason = format!("the rule was revoked, but its connections go on: {error}");
            RuleCallError::refused(&reason)
        })?;
        tracing::info!(rule = %name, %by, ended, "a rule was revoked");
        let now = boot_now();
        let listed = removed.iter().map(|entry| {
            let mut listed = rule_listing::list_rule(entry, now);
            set_open(&mut listed, &open);
            listed
        });
        Ok(RevokeReply {
            rules: listed.collect(),
            ended,
        })
    }

    /// Ends the connections that no rule allows any more, reports the rules that were removed, and
    /// returns the number of connections.
    fn finish_rules(
        &mut self,
        ended: &[TableRule],
        end: RuleEnd,
        by: Option<&DisplayText>,
    ) -> Result<u64, DisplayText> {
        let checked = self.check_connections();
        // A packet that was judged by the old orders may open a connection after the check.
        self.check_again_soon();
        let connections = checked.as_ref().copied().unwrap_or_default();
        for rule in ended {
            self.emit_trace(TraceEvent::RuleEnded {
                rule,
                end,
                connections,
                by,
            });
        }
        checked
    }

    /// Makes the orders of a host those of the rules, in one transaction.
    pub(super) fn apply_orders(
        &mut self,
        host: &PacketHost,
        without: &[RuleId],
        with: Option<&RuleSpec>,
    ) -> Result<(), DisplayText> {
        let orders = self.rules.orders(host, without, with);
        let Some(shield) = &mut self.shield else {
            return Err(DisplayText::new("the sandbox has ended"));
        };
        let now = std_now();
        let replaced = match (host, &mut self.names) {
            (PacketHost::Address(address), _) => {
                shield.replace_address_orders(*address, &orders, now)
            }
            (PacketHost::Name(name), None) => shield.replace_name_orders(name, &orders, now),
            (PacketHost::Name(name), Some(names)) => {
                let stand_in = names.add_ordered(name);
                let stand_in = stand_in.map_err(|error| error_chain(&error))?;
                shield.replace_stand_in_orders(name, stand_in, &orders, now)
            }
        };
        replaced.map_err(|error| error_chain(&error))
    }

    /// Returns the hosts of a pattern that can have orders: those of a pattern for many, as far as
    /// they have some.
    fn hosts_of(&self, pattern: &HostPattern) -> Vec<PacketHost> {
        match pattern {
            HostPattern::Name(name) => vec![PacketHost::Name(name.clone())],
            HostPattern::Address(address) => vec![PacketHost::Address(*address)],
            HostPattern::Subdomains(_) => {
                let ordered = self.names.iter().flat_map(|names| names.ordered.keys());
                let hosts = ordered.map(|name| PacketHost::Name(name.clone()));
                hosts.filter(|host| pattern.matches(host)).collect()
            }
            HostPattern::Network(_) => {
                let addresses = self.rules.network_addresses.iter();
                let hosts = addresses.map(|address| PacketHost::Address(*address));
                hosts.filter(|host| pattern.matches(host)).collect()
            }
        }
    }
}
