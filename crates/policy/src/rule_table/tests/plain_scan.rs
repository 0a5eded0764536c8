// SPDX-License-Identifier: Apache-2.0
//! Compares the table with a plain scan of all rules.

use proptest::prelude::*;
use terok_clearance::PortRange;

use super::*;

/// A plain scan of all rules.
fn model(
    rules: &[PolicyRule],
    has_ceiling: bool,
    bypass: Option<RuleId>,
    dest: &PacketDest,
    zone: DestZone,
    now: BootInstant,
) -> RuleVerdict {
    if zone == DestZone::Floor {
        return RuleVerdict::Floor;
    }
    let covering = rules
        .iter()
        .filter(|rule| rule.spec.term.end().is_none_or(|end| end > now))
        .filter(|rule| rule.spec.pattern.matches(dest));
    let best = |tier| {
        let of_tier = covering.clone().filter(|rule| rule.tier() == tier);
        of_tier.min_by_key(|rule| width(rule))
    };
    let opening = covering
        .clone()
        .filter(|rule| rule.tier() == RuleTier::Allow)
        .filter(|rule| zone == DestZone::Public || is_own(rule, zone))
        .min_by_key(|rule| width(rule));
    if let Some(deny) = best(RuleTier::OrganisationDeny) {
        RuleVerdict::Deny(deny.id)
    } else if has_ceiling && best(RuleTier::Ceiling).is_none() {
        RuleVerdict::OutsideCeiling
    } else if let Some(deny) = best(RuleTier::Deny) {
        RuleVerdict::Deny(deny.id)
    } else if let Some(allow) = opening {
        RuleVerdict::Allow(allow.id)
    } else {
        match bypass {
            Some(bypass) if zone == DestZone::Public => RuleVerdict::Allow(bypass),
            _ => RuleVerdict::Ask,
        }
    }
}

/// A key that is smaller for a narrower rule.
fn width(rule: &PolicyRule) -> (usize, u32, bool, RuleId) {
    let host = match rule.spec.pattern.host() {
        HostPattern::Name(_) | HostPattern::Address(_) => 0,
        HostPattern::Subdomains(name) => 1000 - name.as_str().len(),
        HostPattern::Network(network) => 1000 - usize::from(network.length()),
    };
    let ports = match rule.spec.pattern.ports() {
        None => 100_000,
        Some(ports) => u32::from(ports.high()) - u32::from(ports.low()),
    };
    (host, ports, rule.spec.pattern.protocol().is_none(), rule.id)
}

/// Returns `true` for a pattern that lies wholly in the private zone.
fn is_own(rule: &PolicyRule, zone: DestZone) -> bool {
    let private = |text: &str| {
        ["10.", "127.", "fd"]
            .iter()
            .any(|start| text.starts_with(start))
    };
    match rule.spec.pattern.host() {
        HostPattern::Address(_) => true,
        HostPattern::Network(network) => {
            // The networks of the strategy are private as a whole from this length on.
            let text = network.to_string();
            network.length() >= 8
                && private(&text)
                && (zone == DestZone::LocalNetwork) != text.starts_with("127.")
        }
        HostPattern::Name(_) | HostPattern::Subdomains(_) => false,
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

fn any_origin() -> impl Strategy<Value = RuleOrigin> {
    proptest::sample::select(vec![
        RuleOrigin::Flag,
        RuleOrigin::Flag,
        RuleOrigin::Always,
        RuleOrigin::Organisation,
    ])
}

fn any_spec() -> impl Strategy<Value = RuleSpec> {
    let end = proptest::option::of(0_u64..4);
    (any_pattern(), any::<bool>(), end, any_origin()).prop_map(|(pattern, allow, end, origin)| {
        let end = end.map(|seconds| start().saturating_add(Duration::from_secs(seconds)));
        RuleSpec {
            action: if allow { Action::Allow } else { Action::Deny },
            term: end.map_or(RuleTerm::Run, RuleTerm::Until),
            origin,
            pattern,
            by: DisplayText::default(),
            since: Timestamp::UNIX_EPOCH,
        }
    })
}

/// A ceiling of wide patterns, so that most destinations are within it.
fn any_ceiling() -> impl Strategy<Value = Option<Vec<RuleSpec>>> {
    let wide = [
        "*.example",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "::/0",
        "a.example:80-90",
    ];
    let some = proptest::sample::subsequence(wide.to_vec(), 0..=wide.len());
    let rules = |wide: Vec<&str>| {
        let lines = wide.into_iter().map(|wide| format!("ceiling {wide}"));
        lines.map(|line| parse_rule(&line)).collect()
    };
    proptest::option::weighted(0.4, some.prop_map(rules))
}

proptest! {
    #[test]
    fn the_table_decides_like_a_plain_scan(
        steps in proptest::collection::vec((any_spec(), any::<bool>()), 0..24),
        ceiling in any_ceiling(),
        with_bypass in any::<bool>(),
        dests in proptest::collection::vec(any_dest(), 1..12),
        expire in any::<bool>(),
    ) {
        let mut table = RuleTable::new();
        let mut rules: Vec<PolicyRule> = Vec::new();
        let has_ceiling = ceiling.is_some();
        for spec in ceiling.into_iter().flatten() {
            let id = table.add(spec.clone()).unwrap();
            rules.push(PolicyRule { id, spec });
        }
        if has_ceiling {
            table.require_ceiling();
        }
        for (spec, remove) in steps {
            let id = table.add(spec.clone()).unwrap();
            rules.push(PolicyRule { id, spec });
            if remove {
                let rule = rules.remove(rules.len() / 2);
                let removed = table.remove(rule.id).unwrap();
                prop_assert_eq!(&*removed.rule, &rule);
            }
        }
        let now = start().saturating_add(Duration::from_secs(2));
        if expire {
            table.expire(now);
            rules.retain(|rule| rule.is_live(now));
            let left: Vec<_> = table.iter().map(|entry| PolicyRule::clone(&entry.rule)).collect();
            prop_assert_eq!(left, rules.clone());
        }
        let bypass = with_bypass.then(|| {
            table.open_bypass(None, DisplayText::default(), Timestamp::UNIX_EPOCH).unwrap()
        });
        let judge = |dest: &PacketDest, zone| {
            model(&rules, has_ceiling, bypass, dest, zone, now)
        };
        for dest in dests {
            let zone = least_zone(&dest.host);
            let verdict = table.decide(&dest, zone, now);
            prop_assert_eq!(verdict, judge(&dest, zone), "{:?} {:?}", dest, rules);
        }
        let name: DomainName = "b.a.example".parse().unwrap();
        // Every port that a pattern of the strategy tells apart.
        let some_port = [79, 80, 85, 90, 95].into_iter().any(|port| {
            DIALED_PROTOCOLS.into_iter().any(|protocol| {
                let dest = PacketDest { host: PacketHost::Name(name.clone()), port, protocol };
                matches!(judge(&dest, DestZone::Public), RuleVerdict::Allow(_))
            })
        });
        prop_assert_eq!(table.allows_name(&name, now), some_port);
    }
}
