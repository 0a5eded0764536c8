// SPDX-License-Identifier: Apache-2.0
//! The table of rules, and the precedence among them.
//!
//! The narrowest live rule that covers a destination decides. Hosts compare first: an exact name
//! or address, then the longest domain suffix or network prefix. Then the fewest ports, then a
//! given protocol. Among equals a deny comes before an allow.
//!
//! A wide rule never reaches behind the host. A destination on the local network or on this host
//! is opened only by its exact address, by a network that lies wholly in such ranges, or as
//! [`HOST_NAME`]. The floor is opened by nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use terok_clearance::{
    Action, DestPattern, DestZone, DomainName, HostPattern, PacketDest, PacketHost, Protocol,
    RequestId, classify_destination, embedded_ipv4_addresses,
};

use self::denied_ports::DeniedPorts;
use self::host_index::HostIndex;

mod denied_ports;
mod host_index;

/// Maximum rules of a table.
pub const MAX_RULES: usize = 65_536;
/// The name of the host inside a sandbox. Only the sandbox's forwarder knows it.
pub const HOST_NAME: &str = "host.internal";

/// Protocols that can be dialed.
const DIALED_PROTOCOLS: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::ICMP];

/// The number of a rule, unique in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(u64);

/// The origin of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuleSource {
    /// A command-line option.
    Flag,
    /// The answer to a question.
    Decision {
        /// The question.
        request: RequestId,
    },
}

/// A rule of a [`RuleTable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    /// The number of the rule.
    pub id: RuleId,
    /// The covered destinations.
    pub pattern: DestPattern,
    /// Allow or deny.
    pub action: Action,
    /// The end of the rule; it does not count at this time any more.
    pub expires: Option<Instant>,
    /// The origin of the rule.
    pub source: RuleSource,
}

/// The result for a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleVerdict {
    /// This rule allows the destination.
    Allow(RuleId),
    /// This rule denies the destination.
    Deny(RuleId),
    /// No rule covers the destination.
    Ask,
    /// Nothing opens the destination.
    Floor,
}

/// The table has [`MAX_RULES`] rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are {MAX_RULES} rules already: revoke some before adding one")]
pub struct RuleTableFull;

/// The rules of one sandbox.
#[derive(Debug, Default)]
pub struct RuleTable {
    rules: BTreeMap<RuleId, Arc<PolicyRule>>,
    index: HostIndex,
    expiries: BTreeSet<(Instant, RuleId)>,
    last_id: u64,
}

impl RuleTable {
    /// Creates an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule. A full table refuses it, and keeps all of its rules.
    pub fn add(
        &mut self,
        pattern: DestPattern,
        action: Action,
        expires: Option<Instant>,
        source: RuleSource,
    ) -> Result<RuleId, RuleTableFull> {
        if self.rules.len() >= MAX_RULES {
            return Err(RuleTableFull);
        }
        self.last_id = self.last_id.checked_add(1).ok_or(RuleTableFull)?;
        let id = RuleId(self.last_id);
        let rule = Arc::new(PolicyRule {
            id,
            pattern,
            action,
            expires,
            source,
        });
        self.expiries.extend(expires.map(|time| (time, id)));
        self.index.insert(Arc::clone(&rule));
        self.rules.insert(id, rule);
        Ok(id)
    }

    /// Removes a rule; `None` if there is none with this number.
    pub fn remove(&mut self, id: RuleId) -> Option<PolicyRule> {
        let rule = self.rules.remove(&id)?;
        if let Some(time) = rule.expires {
            self.expiries.remove(&(time, id));
        }
        self.index.remove(&rule);
        Some(Arc::unwrap_or_clone(rule))
    }

    /// Removes the rules that have ended, and returns them in the order of their ends.
    pub fn expire(&mut self, now: Instant) -> Vec<PolicyRule> {
        let mut ended = Vec::new();
        while let Some((time, id)) = self.expiries.first().copied()
            && time <= now
        {
            self.expiries.remove(&(time, id));
            ended.extend(self.remove(id));
        }
        ended
    }

    /// Iterates over the rules in the order of their additions.
    pub fn iter(&self) -> impl Iterator<Item = &PolicyRule> {
        self.rules.values().map(AsRef::as_ref)
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
    pub fn decide(&self, dest: &PacketDest, zone: DestZone, now: Instant) -> RuleVerdict {
        let zone = zone.max(least_zone(&dest.host));
        if zone == DestZone::Floor {
            return RuleVerdict::Floor;
        }
        let verdict = self.decide_literally(dest, zone, now);
        if let PacketHost::Address(address) = dest.host
            && !matches!(verdict, RuleVerdict::Deny(_))
            && let Some(deny) = self.deny_of_embedded(address, dest, zone, now)
        {
            return deny;
        }
        verdict
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
        now: Instant,
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
            RuleVerdict::Ask => match zone {
                DestZone::Public => true,
                DestZone::ThisHost => name.as_str() == HOST_NAME,
                DestZone::LocalNetwork | DestZone::Floor => false,
            },
        }
    }

    /// Returns `true` if a rule allows some port of the name, so that a lookup may leave.
    pub fn allows_name(&self, name: &DomainName, now: Instant) -> bool {
        let host = PacketHost::Name(name.clone());
        let zone = least_zone(&host);
        DIALED_PROTOCOLS.into_iter().any(|protocol| {
            let mut denied = DeniedPorts::default();
            self.index
                .rules_for(&host)
                .filter(|rule| is_live(rule, now) && covers_protocol(rule, protocol))
                .any(|rule| match rule.action {
                    Action::Deny => {
                        denied.add(rule.pattern.ports());
                        false
                    }
                    Action::Allow => {
                        may_open(&rule.pattern, zone) && !denied.covers(rule.pattern.ports())
                    }
                })
        })
    }

    fn decide_literally(&self, dest: &PacketDest, zone: DestZone, now: Instant) -> RuleVerdict {
        let deciding = self.index.rules_for(&dest.host).find(|rule| {
            is_live(rule, now)
                && rule.pattern.covers_port(dest.port, dest.protocol)
                && (rule.action == Action::Deny || may_open(&rule.pattern, zone))
        });
        match deciding {
            None => RuleVerdict::Ask,
            Some(rule) => match rule.action {
                Action::Allow => RuleVerdict::Allow(rule.id),
                Action::Deny => RuleVerdict::Deny(rule.id),
            },
        }
    }

    /// Returns the deny of an IPv4 address that an IPv6 address leads to. Only denies count: the
    /// way through a translator is not the one that was allowed.
    fn deny_of_embedded(
        &self,
        address: IpAddr,
        dest: &PacketDest,
        zone: DestZone,
        now: Instant,
    ) -> Option<RuleVerdict> {
        embedded_ipv4_addresses(address)
            .map(|v4| PacketDest {
                host: PacketHost::Address(v4.into()),
                ..dest.clone()
            })
            .map(|embedded| self.decide_literally(&embedded, zone, now))
            .find(|verdict| matches!(verdict, RuleVerdict::Deny(_)))
    }
}

/// The order of the rules of one host, the narrowest first.
fn precedence(rule: &PolicyRule) -> impl Ord + use<> {
    let narrowness = Reverse(rule.pattern.ports().map(|ports| {
        let more_ports = ports.high().saturating_sub(ports.low());
        Reverse(more_ports)
    }));
    let any_protocol = rule.pattern.protocol().is_none();
    (
        narrowness,
        any_protocol,
        rule.action == Action::Allow,
        rule.id,
    )
}

fn is_live(rule: &PolicyRule, now: Instant) -> bool {
    rule.expires.is_none_or(|end| now < end)
}

fn covers_protocol(rule: &PolicyRule, protocol: Protocol) -> bool {
    let has_port = protocol != Protocol::ICMP || rule.pattern.ports().is_none();
    has_port && rule.pattern.protocol().is_none_or(|own| own == protocol)
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
