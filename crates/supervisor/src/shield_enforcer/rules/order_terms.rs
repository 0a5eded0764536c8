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
pub(in crate::shield_enforcer) enum FilteredRuleError {
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
pub(in crate::shield_enforcer) fn target_pattern(
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
pub(in crate::shield_enforcer) struct RestoredOrder {
    pub(in crate::shield_enforcer) action: Action,
    pub(in crate::shield_enforcer) target: Target,
    pub(in crate::shield_enforcer) port: Option<u16>,
    pub(in crate::shield_enforcer) protocol: Option<Protocol>,
    pub(in crate::shield_enforcer) remaining: Option<std::time::Duration>,
}

/// The number of protocols with ports, each of which has an element of its own in an order for a
/// port of every protocol.
const PROTOCOLS_OF_A_PORT: usize = 5;

/// Returns the orders that elements of the firewall come from.
pub(in crate::shield_enforcer) fn restored_rules(
    elements: Vec<ListedElement>,
) -> Vec<RestoredOrder> {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn element(protocol: Option<u8>, port: Option<u16>, seconds: Option<u64>) -> ListedElement {
        ListedElement {
            action: Action::Allow,
            address: "198.18.0.7".parse().unwrap(),
            protocol: protocol.map(Protocol),
            port,
            name: Some("a.example".parse().unwrap()),
            remaining: seconds.map(Duration::from_secs),
        }
    }

    fn restored(elements: Vec<ListedElement>) -> Vec<(String, Option<u64>)> {
        let orders = restored_rules(elements).into_iter().map(|order| {
            let pattern = target_pattern(&order.target, order.port, order.protocol).unwrap();
            (
                pattern.to_string(),
                order.remaining.map(|left| left.as_secs()),
            )
        });
        orders.collect()
    }

    #[test]
    fn elements_of_every_protocol_with_ports_are_one_rule_with_the_first_end() {
        let all = [6, 17, 33, 132, 136];
        let elements = all.map(|protocol| element(Some(protocol), Some(443), Some(60)));
        let mut elements = Vec::from(elements);
        elements[3].remaining = Some(Duration::from_secs(59));
        elements.push(element(Some(6), Some(80), None));
        elements.push(element(None, None, None));
        elements.push(element(Some(132), None, None));
        assert_eq!(
            restored(elements.clone()),
            [
                ("a.example".to_owned(), None),
                ("a.example/sctp".to_owned(), None),
                ("a.example:80/tcp".to_owned(), None),
                ("a.example:443".to_owned(), Some(59)),
            ]
        );
        elements.remove(0);
        assert_eq!(restored(elements).len(), 7, "not every protocol");
    }

    #[test]
    fn a_ceiling_contains_an_order_only_wholly() {
        let order = |port, protocol| DestOrder {
            action: Action::Allow,
            port,
            protocol,
            until: None,
        };
        let (tcp, udp) = (Some(Protocol::TCP), Some(Protocol::UDP));
        let check = |ceiling: &str, order: DestOrder, expected| {
            let spec = RuleSpec {
                pattern: ceiling.parse().unwrap(),
                action: Action::Allow,
                term: policy::RuleTerm::Run,
                origin: RuleOrigin::Ceiling,
                by: DisplayText::default(),
                since: terok_clearance::Timestamp::from_micros(0),
            };
            assert_eq!(
                contains_order(&spec, &order),
                expected,
                "{ceiling} {order:?}"
            );
        };
        check("a.example", order(None, None), true);
        check("a.example:443", order(None, None), false);
        check("a.example:443", order(Some(443), None), true);
        check("a.example:443/tcp", order(Some(443), None), false);
        check("a.example:443/tcp", order(Some(443), udp), false);
        check("a.example:443/tcp", order(Some(443), tcp), true);
        check("a.example:1-80/tcp", order(Some(81), tcp), false);
    }

    #[test]
    fn a_rule_has_an_order_for_each_of_its_ports() {
        let now = BootInstant::from_boot(Duration::from_secs(9));
        #[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
        let std_now = Instant::now();
        let orders = |pattern: &str, host: &str| {
            let spec = RuleSpec {
                pattern: pattern.parse().unwrap(),
                action: Action::Deny,
                term: policy::RuleTerm::Until(now.saturating_add(Duration::from_secs(5))),
                origin: RuleOrigin::Flag,
                by: DisplayText::default(),
                since: terok_clearance::Timestamp::from_micros(0),
            };
            let target: Target = host.parse().unwrap();
            let orders = dest_orders(&spec, &target_host(&target), now, std_now);
            let end = std_now + Duration::from_secs(5);
            assert!(orders.iter().all(|order| order.until == Some(end)));
            let parts = orders.iter().map(|order| (order.port, order.protocol));
            parts.collect::<Vec<_>>()
        };
        let icmp = |protocol| (None, Some(protocol));
        assert_eq!(orders("*.a.example", "b.a.example"), [(None, None)]);
        assert_eq!(
            orders("a.example:79-80/udp", "a.example"),
            [79, 80].map(|port| (Some(port), Some(Protocol::UDP)))
        );
        assert_eq!(
            orders("2001:db8::1/icmp", "2001:db8::1"),
            [icmp(Protocol::ICMPV6)]
        );
        assert_eq!(
            orders("203.0.113.7/icmp", "203.0.113.7"),
            [icmp(Protocol::ICMP)]
        );
    }
}
