// SPDX-License-Identifier: Apache-2.0
//! Compares the table with a plain scan of all rules.

use proptest::prelude::*;
use terok_clearance::PortRange;

use super::*;

/// A plain scan of all rules.
fn model(rules: &[PolicyRule], dest: &PacketDest, zone: DestZone, now: Instant) -> RuleVerdict {
    if zone == DestZone::Floor {
        return RuleVerdict::Floor;
    }
    let private = |text: &str| {
        ["10.", "127.", "fd"]
            .iter()
            .any(|start| text.starts_with(start))
    };
    let host_width = |rule: &PolicyRule| match rule.pattern.host() {
        HostPattern::Name(_) | HostPattern::Address(_) => 0,
        HostPattern::Subdomains(name) => 1000 - name.as_str().len(),
        HostPattern::Network(network) => 1000 - usize::from(network.length()),
    };
    let ports = |rule: &PolicyRule| match rule.pattern.ports() {
        None => 100_000,
        Some(ports) => u32::from(ports.high()) - u32::from(ports.low()),
    };
    let best = rules
        .iter()
        .filter(|rule| rule.expires.is_none_or(|end| end > now))
        .filter(|rule| rule.pattern.matches(dest))
        .filter(|rule| {
            let own = match rule.pattern.host() {
                HostPattern::Address(_) => true,
                HostPattern::Network(network) => {
                    // The networks of the strategy are private as a whole from this length on.
                    network.length() >= 8
                        && private(&network.to_string())
                        && (zone == DestZone::LocalNetwork)
                            != network.to_string().starts_with("127.")
                }
                HostPattern::Name(_) | HostPattern::Subdomains(_) => false,
            };
            rule.action == Action::Deny || zone == DestZone::Public || own
        })
        .min_by_key(|rule| {
            (
                host_width(rule),
                ports(rule),
                rule.pattern.protocol().is_none(),
                rule.action == Action::Allow,
                rule.id,
            )
        });
    match best {
        None => RuleVerdict::Ask,
        Some(rule) if rule.action == Action::Allow => RuleVerdict::Allow(rule.id),
        Some(rule) => RuleVerdict::Deny(rule.id),
    }
}

/// Few hosts, ports and protocols, so that rules overlap.
fn any_pattern() -> impl Strategy<Value = DestPattern> {
    let hosts = [
        "a.example",
        "b.a.example",
        "*.example",
        "*.a.example",
        "*.b.a.example",
        "10.0.0.1",
        "10.0.0.0/8",
        "10.0.0.0/30",
        "8.0.0.0/5",
        "0.0.0.0/0",
        "127.0.0.1",
        "127.0.0.0/8",
        "203.0.113.7",
        "203.0.113.0/24",
        "2001:db8::7",
        "2001:db8::/32",
        "::/0",
        "fd12::/16",
    ];
    let ports = [
        None,
        PortRange::new(80, 80),
        PortRange::new(80, 90),
        PortRange::new(85, 95),
    ];
    let protocols = [
        None,
        Some(Protocol::TCP),
        Some(Protocol::UDP),
        Some(Protocol::ICMP),
    ];
    (
        proptest::sample::select(hosts.to_vec()),
        proptest::sample::select(ports.to_vec()),
        proptest::sample::select(protocols.to_vec()),
    )
        .prop_filter_map("ICMP has no ports", |(host, ports, protocol)| {
            let host = host.parse::<DestPattern>().unwrap().host().clone();
            DestPattern::new(host, ports, protocol).ok()
        })
}

fn any_dest() -> impl Strategy<Value = PacketDest> {
    let hosts = [
        "example",
        "a.example",
        "b.a.example",
        "c.b.a.example",
        "d.example",
        "10.0.0.1",
        "10.0.0.2",
        "10.9.9.9",
        "127.0.0.1",
        "127.0.0.2",
        "203.0.113.7",
        "203.0.113.8",
        "1.1.1.1",
        "2001:db8::7",
        "2001:db8::8",
        "2606::1",
        "fd12::1",
        "169.254.1.1",
    ];
    (
        proptest::sample::select(hosts.to_vec()),
        proptest::sample::select(vec![79_u16, 80, 85, 90, 95]),
        proptest::sample::select(vec![Protocol::TCP, Protocol::UDP, Protocol::ICMPV6]),
    )
        .prop_map(|(host, port, protocol)| PacketDest {
            host: host.parse().map_or_else(
                |_| PacketHost::Name(host.parse().unwrap()),
                PacketHost::Address,
            ),
            port,
            protocol,
        })
}

proptest! {
    #[test]
    fn the_table_decides_like_a_plain_scan(
        steps in proptest::collection::vec(
            (any_pattern(), any::<bool>(), proptest::option::of(0_u64..4), any::<bool>()),
            0..24,
        ),
        dests in proptest::collection::vec(any_dest(), 1..12),
        expire in any::<bool>(),
    ) {
        let base = start();
        let mut table = RuleTable::new();
        let mut rules: Vec<PolicyRule> = Vec::new();
        for (pattern, allow, seconds, remove) in steps {
            let action = if allow { Action::Allow } else { Action::Deny };
            let expires = seconds.map(|seconds| base + Duration::from_secs(seconds));
            let id = table.add(pattern.clone(), action, expires, RuleSource::Flag).unwrap();
            rules.push(PolicyRule { id, pattern, action, expires, source: RuleSource::Flag });
            if remove {
                let rule = rules.remove(rules.len() / 2);
                prop_assert_eq!(table.remove(rule.id), Some(rule));
            }
        }
        let now = base + Duration::from_secs(2);
        if expire {
            table.expire(now);
            rules.retain(|rule| rule.expires.is_none_or(|end| end > now));
            prop_assert_eq!(table.iter().cloned().collect::<Vec<_>>(), rules.clone());
        }
        for dest in dests {
            let zone = least_zone(&dest.host);
            let verdict = table.decide(&dest, zone, now);
            prop_assert_eq!(verdict, model(&rules, &dest, zone, now), "{:?} {:?}", dest, rules);
        }
        let name: DomainName = "b.a.example".parse().unwrap();
        // Every port that a pattern of the strategy tells apart.
        let some_port = [79, 80, 85, 90, 95].into_iter().any(|port| {
            DIALED_PROTOCOLS.into_iter().any(|protocol| {
                let dest = PacketDest { host: PacketHost::Name(name.clone()), port, protocol };
                matches!(model(&rules, &dest, DestZone::Public, now), RuleVerdict::Allow(_))
            })
        });
        prop_assert_eq!(table.allows_name(&name, now), some_port);
    }
}
