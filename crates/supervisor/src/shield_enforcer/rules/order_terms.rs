// SPDX-License-Identifier: Apache-2.0
//! Rules as orders of the firewall, and orders as rules. Pure.

use std::collections::BTreeMap;
use std::time::Instant;

use policy::{BootInstant, MAX_RULES, RuleId, RuleOrigin, RuleSpec};
use shield::{DestOrder, ListedElement};
use terok_clearance::{
    Action, DestPattern, DestPatternError, DisplayText, HostPattern, PacketHost, PortRange,
    Protocol, Scope, Target,
};

/// An answer that cannot become a rule.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilteredRuleError {
    #[error("the destination is neither an address nor a name")]
    Dest(#[from] terok_clearance::DestParseError),
    #[error("the scope cannot be a rule")]
    Pattern(#[from] DestPatternError),
    #[error("{0} has no ports")]
    Port(Protocol),
    #[error("port 0 cannot be opened")]
    PortZero,
    #[error("answers that outlast the sandbox are not offered here")]
    UnsupportedKeep,
    #[error("the organisation's policy does not permit answers that last so long")]
    TooLong,
    #[error("the organisation's policy does not permit the destination")]
    OutsideCeiling,
    #[error("a container's own connection cannot be opened for networks: name the addresses")]
    Network,
    #[error("a rule for a container's own connection has at most {MAX_PORTS_OF_A_RULE} ports")]
    ManyPorts,
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

/// Returns the orders of a rule.
pub(super) fn dest_orders(
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
    let ports: Vec<_> = match spec.pattern.ports() {
        None => vec![None],
        Some(ports) => (ports.low()..=ports.high()).map(Some).collect(),
    };
    let mut orders = Vec::new();
    for protocol in protocols {
        orders.extend(ports.iter().map(|port| DestOrder {
            action: spec.action,
            port: *port,
            protocol,
            until,
        }));
    }
    orders
}

/// Returns `true` if a rule of the ceiling contains all that an order opens.
pub(super) fn contains_order(ceiling: &RuleSpec, order: &DestOrder) -> bool {
    let pattern = &ceiling.pattern;
    let has_ports = match (pattern.ports(), order.port) {
        (None, _) => true,
        (Some(ports), Some(port)) => ports.contains(port),
        (Some(_), None) => false,
    };
    has_ports && (pattern.protocol().is_none() || pattern.protocol() == order.protocol)
}

/// Maximum ports of a rule: each is an element of its own in the firewall.
const MAX_PORTS_OF_A_RULE: u16 = 64;

/// Checks that the firewall can have the orders of a rule.
pub(super) fn check_expressible(spec: &RuleSpec) -> Result<(), FilteredRuleError> {
    if spec.origin == RuleOrigin::Ceiling {
        return Ok(());
    }
    // A network is opened by its first packet, which would be refused.
    if spec.action == Action::Allow && matches!(spec.pattern.host(), HostPattern::Network(_)) {
        return Err(FilteredRuleError::Network);
    }
    let span = spec.pattern.ports();
    let span = span.map_or(0, |ports| ports.high().saturating_sub(ports.low()));
    if span >= MAX_PORTS_OF_A_RULE {
        return Err(FilteredRuleError::ManyPorts);
    }
    Ok(())
}

/// Returns the destinations that a scope covers.
pub(super) fn scope_pattern(scope: &Scope) -> Result<DestPattern, FilteredRuleError> {
    let Some(parent) = scope.dest.as_str().strip_prefix("*.") else {
        return target_pattern(&scope.dest.parse_target()?, scope.port, scope.protocol);
    };
    let host = HostPattern::Subdomains(parent.parse()?);
    let ports = match scope.port {
        None => None,
        Some(port) => Some(PortRange::new(port, port).ok_or(FilteredRuleError::PortZero)?),
    };
    Ok(DestPattern::new(host, ports, scope.protocol)?)
}

/// Returns the pattern of an order. Questions about protocols without ports have port 0.
pub(super) fn target_pattern(
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

pub(in crate::shield_enforcer) fn target_host(target: &Target) -> PacketHost {
    match target {
        Target::Name(name) => PacketHost::Name(name.clone()),
        Target::Address(address) => PacketHost::Address(*address),
    }
}

/// An order of an earlier supervisor.
#[derive(Debug)]
pub(super) struct RestoredOrder {
    pub(super) action: Action,
    pub(super) target: Target,
    pub(super) port: Option<u16>,
    pub(super) protocol: Option<Protocol>,
    pub(super) remaining: Option<std::time::Duration>,
}

/// The number of protocols with ports, each of which has an element of its own in an order for a
/// port of every protocol.
const PROTOCOLS_OF_A_PORT: usize = 5;

/// Returns the orders that elements of the firewall come from.
pub(super) fn restored_rules(elements: Vec<ListedElement>) -> Vec<RestoredOrder> {
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
