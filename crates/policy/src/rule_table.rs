// SPDX-License-Identifier: Apache-2.0
//! The table of rules, and the precedence among them.
//!
//! The order of authority decides, and within one rank the narrowest rule that covers the
//! destination:
//!
//! 1. the floor: what nothing opens
//! 2. what the organisation denies
//! 3. the organisation's ceiling: what lies outside of it is denied
//! 4. what the operator denies: by answers, files, profiles or options
//! 5. what is allowed, narrow before wide
//! 6. the bypass: for a time, the internet is open
//! 7. nothing of these: a question
//!
//! Of two rules, the one with the exact name or address is narrower, then the one with the longer
//! domain suffix or network prefix, with fewer ports, with a given protocol.
//!
//! A wide rule never reaches behind the host. A destination on the local network or on this host
//! is opened only by its exact address, by a network that lies wholly in such ranges, or as
//! [`HOST_NAME`]. The bypass opens the internet alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use terok_clearance::{
    Action, DestPattern, DestZone, DisplayText, DomainName, HostPattern, PacketDest, PacketHost,
    Protocol, Timestamp, classify_destination, embedded_ipv4_addresses,
};

use self::host_index::HostIndex;
use self::port_ranges::PortRanges;
use crate::{BootInstant, PolicyRule, RuleId, RuleSpec, RuleTerm, RuleTier, RuleUsage};

mod changes;
mod host_index;
mod port_ranges;

pub use self::changes::{RuleRestoreError, TableChange};

/// Maximum rules of a table.
pub const MAX_RULES: usize = 65_536;
/// The name of the host inside a sandbox. Only the sandbox's forwarder knows it.
pub const HOST_NAME: &str = "host.internal";

/// Protocols that can be dialed.
const DIALED_PROTOCOLS: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::ICMP];

/// The result for a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleVerdict {
    /// This rule allows the destination.
    Allow(RuleId),
    /// This rule denies the destination.
    Deny(RuleId),
    /// The organisation's ceiling does not contain the destination.
    OutsideCeiling,
    /// No rule covers the destination.
    Ask,
    /// Nothing opens the destination.
    Floor,
}

/// Every destination on the internet that no rule denies is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BypassRule {
    /// The number among the rules.
    pub id: RuleId,
    /// The end; `None` for that of the sandbox.
    pub until: Option<BootInstant>,
    /// The operator who opened it.
    pub by: DisplayText,
    /// The time since which it counts.
    pub since: Timestamp,
    /// What it has let pass.
    pub usage: RuleUsage,
}

/// A rule with its use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRule {
    /// The rule.
    pub rule: Arc<PolicyRule>,
    /// What it has let pass, or refused.
    pub usage: RuleUsage,
    /// The rule was for one connection, which it has let pass: it decides nothing any more.
    pub is_spent: bool,
    /// The connections that exist or have existed because of the rule.
    pub opened: u64,
}

/// The table has [`MAX_RULES`] rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are {MAX_RULES} rules already: revoke some before adding one")]
pub struct RuleTableFull;

/// The rules of one sandbox.
#[derive(Debug, Default)]
pub struct RuleTable {
    rules: BTreeMap<RuleId, TableRule>,
    organisation_denies: HostIndex,
    /// `None` without a ceiling; an empty one contains nothing.
    ceiling: Option<HostIndex>,
    denies: HostIndex,
    allows: HostIndex,
    bypass: Option<BypassRule>,
    ends: BTreeSet<(BootInstant, RuleId)>,
    last_id: u64,
    /// The changes since they were last taken; `None` if they are not recorded.
    changes: Option<Vec<TableChange>>,
}

impl RuleTable {
    /// Creates an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Denies everything that no rule of the organisation's ceiling covers
    /// ([`crate::RuleOrigin::Ceiling`]).
    pub fn require_ceiling(&mut self) {
        self.ceiling.get_or_insert_default();
    }

    /// Adds a rule. A full table refuses it, and keeps all of its rules.
    pub fn add(&mut self, spec: RuleSpec) -> Result<RuleId, RuleTableFull> {
        if self.rules.len() >= MAX_RULES {
            return Err(RuleTableFull);
        }
        let id = self.next_id()?;
        let rule = Arc::new(PolicyRule { id, spec });
        self.insert(rule);
        Ok(id)
    }

    fn insert(&mut self, rule: Arc<PolicyRule>) {
        let id = rule.id;
        let end = rule.spec.term.end();
        self.ends.extend(end.map(|time| (time, id)));
        self.index_mut(rule.tier()).insert(Arc::clone(&rule));
        self.note_change(|| TableChange::Added(Arc::clone(&rule)));
        let entry = TableRule {
            rule,
            usage: RuleUsage::default(),
            is_spent: false,
            opened: 0,
        };
        self.rules.insert(id, entry);
    }

    /// Opens the internet, except for what rules deny, until `until` or the end of the sandbox. A
    /// later call replaces an earlier one.
    pub fn open_bypass(
        &mut self,
        until: Option<BootInstant>,
        by: DisplayText,
        since: Timestamp,
    ) -> Result<RuleId, RuleTableFull> {
        let id = self.next_id()?;
        self.bypass = Some(BypassRule {
            id,
            until,
            by,
            since,
            usage: RuleUsage::default(),
        });
        self.note_change(|| TableChange::Bypass);
        Ok(id)
    }

    /// Ends the bypass, if there is one.
    pub fn close_bypass(&mut self) -> Option<BypassRule> {
        let closed = self.bypass.take();
        if closed.is_some() {
            self.note_change(|| TableChange::Bypass);
        }
        closed
    }

    /// Returns the end of the bypass, if there is a bypass with an end, also if it has passed.
    pub fn bypass_end(&self) -> Option<BootInstant> {
        self.bypass.as_ref()?.until
    }

    /// Returns the bypass, if there is one that has not ended.
    pub fn bypass(&self, now: BootInstant) -> Option<&BypassRule> {
        let bypass = self.bypass.as_ref()?;
        bypass.until.is_none_or(|end| now < end).then_some(bypass)
    }

    /// Removes a rule; `None` if there is none with this number.
    pub fn remove(&mut self, id: RuleId) -> Option<TableRule> {
        let entry = self.rules.remove(&id)?;
        if let Some(time) = entry.rule.spec.term.end() {
            self.ends.remove(&(time, id));
        }
        self.index_mut(entry.rule.tier()).remove(&entry.rule);
        self.note_change(|| TableChange::Removed(Arc::clone(&entry.rule)));
        Some(entry)
    }

    /// Removes the answers, of either action, for exactly this pattern, so that a new one counts.
    pub fn remove_decisions(&mut self, pattern: &DestPattern) -> Vec<TableRule> {
        let same = |entry: &&TableRule| {
            let spec = &entry.rule.spec;
            spec.origin.is_decision() && spec.pattern == *pattern
        };
        let ids: Vec<_> = self
            .rules
            .values()
            .filter(same)
            .map(|e| e.rule.id)
            .collect();
        ids.into_iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Removes the rules that have ended, and returns them in the order of their ends.
    ///
    /// A rule for one connection stays until that connection has ended, so that it can be revoked.
    pub fn expire(&mut self, now: BootInstant) -> Vec<TableRule> {
        let mut ended = Vec::new();
        while let Some((time, id)) = self.ends.first().copied()
            && time <= now
        {
            self.ends.remove(&(time, id));
            ended.extend(self.remove(id));
        }
        ended
    }

    /// Returns the next end of a rule or of the bypass.
    pub fn next_end(&self) -> Option<BootInstant> {
        let of_rules = self.ends.first().map(|(time, _)| *time);
        let of_bypass = self.bypass.as_ref().and_then(|bypass| bypass.until);
        of_rules.into_iter().chain(of_bypass).min()
    }

    /// Counts connections that a rule has let pass at `at`, or refused. A rule for one connection
    /// decides nothing from now on.
    pub fn note_uses(&mut self, id: RuleId, uses: u64, at: Timestamp) {
        let Some(usage) = self.usage_mut(id) else {
            return;
        };
        usage.count = usage.count.saturating_add(uses);
        usage.last = Some(at);
        let Some(entry) = self.rules.get_mut(&id) else {
            return;
        };
        if let RuleTerm::Once { until } = entry.rule.spec.term
            && entry.rule.spec.action == Action::Allow
            && !entry.is_spent
        {
            entry.is_spent = true;
            let rule = Arc::clone(&entry.rule);
            self.ends.remove(&(until, id));
            self.index_mut(rule.tier()).remove(&rule);
            self.note_change(|| TableChange::Spent(rule));
        }
    }

    /// Counts a connection that exists because of the rule.
    pub fn note_opened(&mut self, id: RuleId) {
        if let Some(usage) = self.usage_mut(id) {
            usage.open = usage.open.saturating_add(1);
        }
        if let Some(entry) = self.rules.get_mut(&id) {
            entry.opened = entry.opened.saturating_add(1);
        }
    }

    /// Counts the end of such a connection. Returns a rule for one connection with its last end: it
    /// is removed. While another connection that it has let pass is still being made, it stays.
    pub fn note_closed(&mut self, id: RuleId) -> Option<TableRule> {
        let usage = self.usage_mut(id)?;
        usage.open = usage.open.saturating_sub(1);
        let entry = self.rules.get(&id)?;
        let is_opening = entry.opened < entry.usage.count;
        (entry.is_spent && entry.usage.open == 0 && !is_opening)
            .then(|| self.remove(id))
            .flatten()
    }

    /// Iterates over the rules in the order of their additions.
    pub fn iter(&self) -> impl Iterator<Item = &TableRule> {
        self.rules.values()
    }

    /// Returns a rule; `None` if there is none with this number.
    pub fn get(&self, id: RuleId) -> Option<&TableRule> {
        self.rules.get(&id)
    }

    /// Returns the number of rules, those included that have ended and were not removed.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Returns `true` if there is no rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Returns the verdict on a destination.
    ///
    /// `zone` is the zone of an address, or of what a name is known to lead to: for most names
    /// [`DestZone::Public`], because [`RuleTable::covers_address`] judges the addresses later. The
    /// table trusts it only towards more restriction.
    pub fn decide(&self, dest: &PacketDest, zone: DestZone, now: BootInstant) -> RuleVerdict {
        let zone = zone.max(least_zone(&dest.host));
        if zone == DestZone::Floor {
            return RuleVerdict::Floor;
        }
        if let Some(rule) = find_deny(&self.organisation_denies, dest, now) {
            return RuleVerdict::Deny(rule.id);
        }
        if !self.is_within_ceiling(dest, now) {
            return RuleVerdict::OutsideCeiling;
        }
        if let Some(rule) = find_deny(&self.denies, dest, now) {
            return RuleVerdict::Deny(rule.id);
        }
        let allow =
            covering_rules(&self.allows, dest, now).find(|rule| may_open(&rule.spec.pattern, zone));
        match (allow, self.bypass(now)) {
            (Some(rule), _) => RuleVerdict::Allow(rule.id),
            (None, Some(bypass)) if zone == DestZone::Public => RuleVerdict::Allow(bypass.id),
            (None, _) => RuleVerdict::Ask,
        }
    }

    /// Returns the live rules that cover a destination, in the order of authority: the first one of
    /// the deciding rank decides. Those of the ceiling are included.
    pub fn covering(&self, dest: &PacketDest, now: BootInstant) -> Vec<Arc<PolicyRule>> {
        let ranks = [&self.organisation_denies]
            .into_iter()
            .chain(&self.ceiling)
            .chain([&self.denies, &self.allows]);
        let covering = ranks.flat_map(|rank| covering_rules(rank, dest, now));
        let ids: Vec<_> = covering.map(|rule| rule.id).collect();
        let found = ids.into_iter().filter_map(|id| self.rules.get(&id));
        found.map(|entry| Arc::clone(&entry.rule)).collect()
    }

    /// Returns `true` if a connection to an allowed name may be dialed to `address`, one of the
    /// addresses of the name.
    ///
    /// The caller has established that `name` itself is allowed, by a rule or by an answer. A rule
    /// for a name reaches the internet only. A deny of the address wins over the name.
    pub fn covers_address(
        &self,
        name: &DomainName,
        address: SocketAddr,
        protocol: Protocol,
        zone: DestZone,
        now: BootInstant,
    ) -> bool {
        let dest = PacketDest {
            host: PacketHost::Address(address.ip()),
            port: address.port(),
            protocol,
        };
        let zone = zone.max(least_zone(&dest.host));
        match self.decide(&dest, zone, now) {
            RuleVerdict::Allow(_) => true,
            RuleVerdict::Deny(_) | RuleVerdict::Floor => false,
            // A ceiling of names contains no addresses; the denies count nevertheless.
            RuleVerdict::OutsideCeiling => {
                zone == DestZone::Public && find_deny(&self.denies, &dest, now).is_none()
            }
            RuleVerdict::Ask => match zone {
                DestZone::Public => true,
                DestZone::ThisHost => name.as_str() == HOST_NAME,
                DestZone::LocalNetwork | DestZone::Floor => false,
            },
        }
    }

    /// Returns `true` if some port of the name is allowed, so that a lookup may leave.
    pub fn allows_name(&self, name: &DomainName, now: BootInstant) -> bool {
        let host = PacketHost::Name(name.clone());
        let zone = least_zone(&host);
        DIALED_PROTOCOLS.into_iter().any(|protocol| {
            let ports_of = |rank: &HostIndex| {
                let rules = rank.rules_for(&host);
                let covering = rules.filter(|rule| {
                    rule.is_live(now) && covers_protocol(&rule.spec.pattern, protocol)
                });
                covering.map(|rule| rule.spec.pattern.ports()).collect()
            };
            let mut closed: PortRanges = ports_of(&self.denies);
            closed.extend(ports_of(&self.organisation_denies));
            if let Some(ceiling) = &self.ceiling {
                closed.extend(ports_of(ceiling).complement());
            }
            let mut allowed = self.allows.rules_for(&host).filter(|rule| {
                rule.is_live(now)
                    && covers_protocol(&rule.spec.pattern, protocol)
                    && may_open(&rule.spec.pattern, zone)
            });
            let is_bypassed = self.bypass(now).is_some() && zone == DestZone::Public;
            allowed.any(|rule| !closed.covers(rule.spec.pattern.ports()))
                || (is_bypassed && !closed.covers(None))
        })
    }

    /// Returns the rule because of which a connection goes on after the rules have changed; `None`
    /// if it must end.
    ///
    /// `opened_by` is the rule that let the connection pass. A rule for one connection counts for
    /// its own connection until it is removed.
    pub fn rule_to_go_on(
        &self,
        opened_by: RuleId,
        dest: &PacketDest,
        zone: DestZone,
        now: BootInstant,
    ) -> Option<RuleId> {
        match self.decide(dest, zone, now) {
            RuleVerdict::Allow(rule) => Some(rule),
            RuleVerdict::Deny(_) | RuleVerdict::OutsideCeiling | RuleVerdict::Floor => None,
            RuleVerdict::Ask => {
                let entry = self.rules.get(&opened_by);
                entry
                    .is_some_and(|entry| entry.is_spent)
                    .then_some(opened_by)
            }
        }
    }

    fn is_within_ceiling(&self, dest: &PacketDest, now: BootInstant) -> bool {
        let Some(ceiling) = &self.ceiling else {
            return true;
        };
        covering_rules(ceiling, dest, now).next().is_some()
    }

    fn next_id(&mut self) -> Result<RuleId, RuleTableFull> {
        self.last_id = self.last_id.checked_add(1).ok_or(RuleTableFull)?;
        Ok(RuleId::new(self.last_id))
    }

    fn usage_mut(&mut self, id: RuleId) -> Option<&mut RuleUsage> {
        if let Some(entry) = self.rules.get_mut(&id) {
            Some(&mut entry.usage)
        } else {
            let bypass = self.bypass.as_mut().filter(|bypass| bypass.id == id);
            bypass.map(|bypass| &mut bypass.usage)
        }
    }

    fn index_mut(&mut self, tier: RuleTier) -> &mut HostIndex {
        match tier {
            RuleTier::OrganisationDeny => &mut self.organisation_denies,
            RuleTier::Ceiling => self.ceiling.get_or_insert_default(),
            RuleTier::Deny => &mut self.denies,
            RuleTier::Allow => &mut self.allows,
        }
    }
}

/// Iterates over the live rules of a rank that cover a destination, the narrowest first.
fn covering_rules<'a>(
    rank: &'a HostIndex,
    dest: &'a PacketDest,
    now: BootInstant,
) -> impl Iterator<Item = &'a PolicyRule> {
    rank.rules_for(&dest.host).filter(move |rule| {
        rule.is_live(now) && rule.spec.pattern.covers_port(dest.port, dest.protocol)
    })
}

/// Returns the deny of a destination, or of an IPv4 address that an IPv6 address leads to. Allows
/// of embedded addresses do not count: the way through a translator is not the one that was
/// allowed.
fn find_deny<'a>(
    rank: &'a HostIndex,
    dest: &PacketDest,
    now: BootInstant,
) -> Option<&'a PolicyRule> {
    let first = |dest: &PacketDest| {
        let mut rules = rank.rules_for(&dest.host);
        rules.find(|rule| {
            rule.is_live(now) && rule.spec.pattern.covers_port(dest.port, dest.protocol)
        })
    };
    let embedded = || match dest.host {
        PacketHost::Name(_) => None,
        PacketHost::Address(address) => embedded_ipv4_addresses(address).find_map(|v4| {
            first(&PacketDest {
                host: PacketHost::Address(v4.into()),
                ..dest.clone()
            })
        }),
    };
    first(dest).or_else(embedded)
}

/// The order of the rules of one host, the narrowest first.
fn precedence(rule: &PolicyRule) -> impl Ord + use<> {
    let narrowness = Reverse(rule.spec.pattern.ports().map(|ports| {
        let more_ports = ports.high().saturating_sub(ports.low());
        Reverse(more_ports)
    }));
    let any_protocol = rule.spec.pattern.protocol().is_none();
    (narrowness, any_protocol, rule.id)
}

fn covers_protocol(pattern: &DestPattern, protocol: Protocol) -> bool {
    let has_port = protocol != Protocol::ICMP || pattern.ports().is_none();
    has_port && pattern.protocol().is_none_or(|own| own == protocol)
}

/// Returns `true` if an allow rule of this pattern reaches into the zone.
fn may_open(pattern: &DestPattern, zone: DestZone) -> bool {
    match (zone, pattern.host()) {
        (DestZone::Public, _)
        | (DestZone::LocalNetwork | DestZone::ThisHost, HostPattern::Address(_)) => true,
        (DestZone::LocalNetwork, HostPattern::Network(network)) => network.is_private(),
        (DestZone::ThisHost, HostPattern::Network(network)) => network.is_loopback(),
        (DestZone::ThisHost, HostPattern::Name(name)) => name.as_str() == HOST_NAME,
        (DestZone::Floor, _)
        | (DestZone::LocalNetwork, HostPattern::Name(_))
        | (DestZone::LocalNetwork | DestZone::ThisHost, HostPattern::Subdomains(_)) => false,
    }
}

/// Returns the zone that a host has at least, whatever the routes of this host.
fn least_zone(host: &PacketHost) -> DestZone {
    match host {
        PacketHost::Name(name) if name.as_str() == HOST_NAME => DestZone::ThisHost,
        PacketHost::Name(_) => DestZone::Public,
        PacketHost::Address(address) => classify_destination(*address, |_| false),
    }
}

#[cfg(test)]
mod tests;
