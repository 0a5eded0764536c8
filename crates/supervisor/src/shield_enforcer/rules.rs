// SPDX-License-Identifier: Apache-2.0
//! The rules of a sandbox in the filtered way, from which the orders in its firewall are made.
//!
//! Each change of a rule makes the orders of its destination anew, in one transaction, from all
//! rules for it. So a revoked rule takes nothing with it that another rule opens.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Instant;

use hub::Claim;
use policy::{
    BootInstant, MAX_RULES, PolicyRule, RuleId, RuleOrigin, RuleSpec, RuleTable, RuleTerm,
    RuleVerdict, TableRule,
};
use shield::{ConnectionKey, DestOrder, ListedElement};
use terok_clearance::wire::clearance2::{RevokeReply, RuleCallError};
use terok_clearance::{
    Action, DestPattern, DestPatternError, DisplayText, HostPattern, PacketDest, PacketHost,
    PortRange, Protocol, RuleLifetime, Target, Timestamp, error_chain,
};

use super::connections::set_open;
use super::{ShieldEnforcerState, std_now};
use crate::boot_clock::boot_now;
use crate::{AllowedDest, RuleEnd, TraceEvent, rule_listing};

/// The rules of a sandbox.
#[derive(Debug, Default)]
pub(super) struct FilteredRules {
    pub(super) table: RuleTable,
    /// The connections that go on after the time of their rule, which was for them alone.
    pub(super) spent: HashMap<ConnectionKey, RuleId>,
    /// The time to look again for connections that no rule allows.
    pub(super) check_at: Option<BootInstant>,
}

/// An answer that cannot become a rule.
#[derive(Debug, thiserror::Error)]
enum FilteredRuleError {
    #[error("the destination is neither an address nor a name")]
    Dest(#[from] terok_clearance::DestParseError),
    #[error("the scope cannot be a rule")]
    Pattern(#[from] DestPatternError),
    #[error("{0} has no ports")]
    Port(Protocol),
    #[error("answers that outlast the sandbox are not offered here")]
    UnsupportedKeep,
    #[error("the duration of the scope is zero")]
    NoDuration,
    #[error("rule {rule} ({origin}: !{pattern}) denies the destination; revoke it first")]
    Denied {
        rule: RuleId,
        origin: &'static str,
        pattern: DestPattern,
    },
    #[error("there are {MAX_RULES} rules already: revoke some before adding one")]
    Full,
    #[error("{0}")]
    Firewall(DisplayText),
}

impl FilteredRules {
    /// Returns the orders of the rules for a host, `without` some and `with` another one.
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
        let covering = rules.filter(|spec| spec.pattern.host().matches(host));
        covering
            .chain(with)
            .flat_map(|spec| dest_orders(spec, host, now, std_now))
            .collect()
    }

    /// Returns the answers for exactly this pattern, and what is the same from an earlier
    /// supervisor.
    fn replaced_by(&self, spec: &RuleSpec) -> Vec<RuleId> {
        let is_replaced = |rule: &PolicyRule| {
            let other = &rule.spec;
            other.pattern == spec.pattern
                && (other.origin == RuleOrigin::Restored
                    || (other.origin.is_decision() && spec.origin.is_decision()))
        };
        let rules = self.table.iter().map(|entry| &entry.rule);
        rules
            .filter(|rule| is_replaced(rule))
            .map(|rule| rule.id)
            .collect()
    }

    /// Returns the destination of a packet as the rules know it.
    fn check_effect(
        &self,
        claim: &Claim,
        target: &Target,
        replaced: &[RuleId],
    ) -> Result<(), FilteredRuleError> {
        if claim.action() == Action::Deny {
            return Ok(());
        }
        let dest = PacketDest {
            host: target_host(target),
            port: claim.port(),
            protocol: claim.protocol(),
        };
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
        let target = scope.dest.parse_target()?;
        // The lookup may predate this process.
        if let (Target::Name(name), Ok(Target::Address(address))) =
            (&target, claim.address().parse_target())
        {
            self.learn_addresses(name, &[address]);
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
            pattern: target_pattern(&target, scope.port, scope.protocol)?,
            action: claim.action(),
            term,
            origin: RuleOrigin::Decision {
                request: claim.request().clone(),
            },
            by: claim.by().clone(),
            since: Timestamp::now(),
        };
        let replaced = self.rules.replaced_by(&spec);
        self.rules.check_effect(claim, &target, &replaced)?;
        self.add_rule(spec, &replaced)
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
            let replaced = self.rules.replaced_by(&spec);
            self.add_rule(spec, &replaced)
        };
        add().map_err(|error: FilteredRuleError| error_chain(&error))
    }

    /// Adds a rule in place of others, and ends the connections that no rule allows any more.
    fn add_rule(&mut self, spec: RuleSpec, replaced: &[RuleId]) -> Result<(), FilteredRuleError> {
        if self.rules.table.len() >= MAX_RULES {
            return Err(FilteredRuleError::Full);
        }
        let by = spec.by.clone();
        let ends_connections = spec.action == Action::Deny || !replaced.is_empty();
        for host in hosts_of(spec.pattern.host()) {
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

    /// Takes the orders of an earlier supervisor over as rules.
    pub(super) fn restore_rules(&mut self, elements: Vec<ListedElement>) {
        let (now, since) = (boot_now(), Timestamp::now());
        for restored in restored_rules(elements) {
            let term = match restored.remaining {
                Some(remaining) => RuleTerm::Until(now.saturating_add(remaining)),
                None => RuleTerm::Run,
            };
            let pattern = target_pattern(&restored.target, restored.port, restored.protocol);
            let added = pattern.map(|pattern| {
                self.rules.table.add(RuleSpec {
                    pattern,
                    action: restored.action,
                    term,
                    origin: RuleOrigin::Restored,
                    by: DisplayText::default(),
                    since,
                })
            });
            if !matches!(added, Ok(Ok(_))) {
                tracing::warn!(?restored, "an order of an earlier supervisor is not listed");
            }
        }
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
        for host in hosts.iter().flat_map(hosts_of).collect::<Vec<_>>() {
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
        let ids: Vec<_> = found.iter().map(|rule| rule.id).collect();
        let open = self.count_open();
        let refused = |reason: &DisplayText| RuleCallError::refused(reason.as_str());
        for rule in &found {
            for host in hosts_of(rule.spec.pattern.host()) {
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
    fn apply_orders(
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
}

/// Returns the hosts of a pattern that can have orders.
fn hosts_of(pattern: &HostPattern) -> Vec<PacketHost> {
    match pattern {
        HostPattern::Name(name) => vec![PacketHost::Name(name.clone())],
        HostPattern::Address(address) => vec![PacketHost::Address(*address)],
        HostPattern::Subdomains(_) | HostPattern::Network(_) => Vec::new(),
    }
}

/// Returns the orders of a rule.
fn dest_orders(
    spec: &RuleSpec,
    host: &PacketHost,
    now: BootInstant,
    std_now: Instant,
) -> Vec<DestOrder> {
    let until = spec.term.end().map(|end| {
        let left = end.saturating_since(now);
        std_now.checked_add(left).unwrap_or(std_now)
    });
    let protocols = match (spec.pattern.protocol(), host) {
        (Some(Protocol::ICMP), PacketHost::Address(address)) if address.is_ipv6() => {
            vec![Some(Protocol::ICMPV6)]
        }
        (Some(Protocol::ICMP), PacketHost::Name(_)) => {
            vec![Some(Protocol::ICMP), Some(Protocol::ICMPV6)]
        }
        (protocol, _) => vec![protocol],
    };
    let order = |protocol| DestOrder {
        action: spec.action,
        port: spec.pattern.ports().map(PortRange::low),
        protocol,
        until,
    };
    protocols.into_iter().map(order).collect()
}

/// Returns the pattern of an order. Questions about protocols without ports have port 0.
fn target_pattern(
    target: &Target,
    port: Option<u16>,
    protocol: Option<Protocol>,
) -> Result<DestPattern, FilteredRuleError> {
    let host = match target {
        Target::Name(name) => HostPattern::Name(name.clone()),
        Target::Address(address) => HostPattern::Address(*address),
    };
    let has_ports = |protocol: Protocol| !matches!(protocol, Protocol::ICMP | Protocol::ICMPV6);
    let ports = match (port, protocol) {
        (None, _) | (Some(0), Some(_)) => None,
        (Some(_), Some(protocol)) if !has_ports(protocol) => {
            return Err(FilteredRuleError::Port(protocol));
        }
        (Some(port), _) => PortRange::new(port, port),
    };
    Ok(match protocol {
        Some(protocol) => DestPattern::with_any_protocol(host, ports, protocol)?,
        None => DestPattern::new(host, ports, None)?,
    })
}

pub(super) fn target_host(target: &Target) -> PacketHost {
    match target {
        Target::Name(name) => PacketHost::Name(name.clone()),
        Target::Address(address) => PacketHost::Address(*address),
    }
}

/// An order of an earlier supervisor.
#[derive(Debug)]
struct RestoredOrder {
    action: Action,
    target: Target,
    port: Option<u16>,
    protocol: Option<Protocol>,
    remaining: Option<std::time::Duration>,
}

/// The number of protocols with ports, each of which has an element of its own in an order for a
/// port of every protocol.
const PROTOCOLS_OF_A_PORT: usize = 5;

/// Returns the orders that elements of the firewall come from.
fn restored_rules(elements: Vec<ListedElement>) -> Vec<RestoredOrder> {
    type OrderKey = (String, bool, Option<u16>);
    let mut by_port: BTreeMap<OrderKey, BTreeMap<Option<u8>, RestoredOrder>> = BTreeMap::new();
    for element in elements {
        let target = match element.name {
            Some(name) => Target::Name(name),
            None => Target::Address(element.address),
        };
        let is_allow = element.action == Action::Allow;
        let key = (target.to_string(), is_allow, element.port);
        let order = RestoredOrder {
            action: element.action,
            target,
            port: element.port,
            protocol: element.protocol,
            remaining: element.remaining,
        };
        let protocol = element.protocol.map(|protocol| protocol.0);
        by_port.entry(key).or_default().insert(protocol, order);
    }
    let mut restored = Vec::new();
    for ((_, _, port), mut orders) in by_port {
        let is_every_protocol = port.is_some() && orders.len() == PROTOCOLS_OF_A_PORT;
        if is_every_protocol && let Some((_, first)) = orders.pop_first() {
            let ends = orders.values().filter_map(|order| order.remaining);
            restored.push(RestoredOrder {
                protocol: None,
                remaining: ends.chain(first.remaining).min(),
                ..first
            });
        } else {
            restored.extend(orders.into_values());
        }
    }
    restored
}
