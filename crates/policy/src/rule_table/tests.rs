// SPDX-License-Identifier: Apache-2.0
//! Tests of precedence, zones, ends and limits.

use std::time::Duration;

use super::*;

mod plain_scan;

/// The words `allow` or `deny` and a pattern.
fn table(rules: &[&str]) -> RuleTable {
    let mut table = RuleTable::new();
    for rule in rules {
        let (action, pattern) = rule.split_once(' ').unwrap();
        let pattern = pattern.parse().unwrap();
        table
            .add(pattern, action.parse().unwrap(), None, RuleSource::Flag)
            .unwrap();
    }
    table
}

fn dest(text: &str) -> PacketDest {
    let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "0"));
    let host = host.trim_matches(['[', ']']);
    PacketDest {
        host: match host.parse() {
            Ok(address) => PacketHost::Address(address),
            Err(_) => PacketHost::Name(host.parse().unwrap()),
        },
        port: port.parse().unwrap(),
        protocol: protocol.parse().unwrap(),
    }
}

#[expect(clippy::disallowed_methods, reason = "any instant is a start")]
fn start() -> Instant {
    Instant::now()
}

/// Checks the verdict; a number counts the rules from 1.
fn check(rules: &[&str], zone: DestZone, text: &str, expected: &str) {
    let shown = match table(rules).decide(&dest(text), zone, start()) {
        RuleVerdict::Allow(RuleId(id)) => format!("allow {id}"),
        RuleVerdict::Deny(RuleId(id)) => format!("deny {id}"),
        RuleVerdict::Ask => "ask".to_owned(),
        RuleVerdict::Floor => "floor".to_owned(),
    };
    assert_eq!(shown, expected, "of {text} in {zone} by {rules:?}");
}

#[test]
fn the_narrowest_rule_decides() {
    let public = |rules: &[&str], text, expected| check(rules, DestZone::Public, text, expected);
    public(&[], "a.example:443", "ask");
    public(&["allow a.example"], "a.example:443", "allow 1");
    public(&["allow a.example"], "b.a.example:443", "ask");
    public(&["allow a.example:80"], "a.example:443", "ask");
    public(
        &["deny *.example", "allow a.example"],
        "a.example:443",
        "allow 2",
    );
    public(
        &["allow *.example", "deny a.example"],
        "a.example:443",
        "deny 2",
    );
    public(
        &["allow *.example", "deny *.b.example"],
        "a.b.example:443",
        "deny 2",
    );
    public(
        &["deny *.example", "allow *.b.example"],
        "a.b.example:443",
        "allow 2",
    );
    public(
        &["deny *.b.example:443", "allow a.b.example"],
        "a.b.example:443",
        "allow 2",
    );
}

#[test]
fn fewer_ports_and_a_protocol_are_narrower_and_a_deny_wins_a_tie() {
    let public = |rules: &[&str], text, expected| check(rules, DestZone::Public, text, expected);
    public(
        &["deny a.example", "allow a.example:443"],
        "a.example:443",
        "allow 2",
    );
    public(
        &["deny a.example", "allow a.example:443"],
        "a.example:80",
        "deny 1",
    );
    public(
        &["allow a.example:1-65535", "deny a.example"],
        "a.example:80",
        "allow 1",
    );
    public(
        &["deny a.example:80-90", "allow a.example:85"],
        "a.example:85",
        "allow 2",
    );
    public(
        &["deny a.example:80-90", "allow a.example:84-86"],
        "a.example:85",
        "allow 2",
    );
    public(
        &["deny a.example/tcp", "allow a.example:443"],
        "a.example:443",
        "allow 2",
    );
    public(
        &["deny a.example", "allow a.example/tcp"],
        "a.example:443",
        "allow 2",
    );
    public(
        &["deny a.example", "allow a.example/tcp"],
        "a.example:443/udp",
        "deny 1",
    );
    public(
        &["allow a.example", "deny a.example"],
        "a.example:443",
        "deny 2",
    );
    public(
        &["allow a.example:443", "deny a.example:443"],
        "a.example:443",
        "deny 2",
    );
    public(
        &["allow a.example", "allow a.example"],
        "a.example:443",
        "allow 1",
    );
}

#[test]
fn a_longer_prefix_is_narrower() {
    let public = |rules: &[&str], text, expected| check(rules, DestZone::Public, text, expected);
    public(&["allow 0.0.0.0/0"], "203.0.113.7:443", "allow 1");
    public(&["allow 0.0.0.0/0"], "a.example:443", "ask");
    public(
        &["allow 0.0.0.0/0", "deny 203.0.113.0/24"],
        "203.0.113.7:443",
        "deny 2",
    );
    public(
        &["deny 0.0.0.0/0", "allow 203.0.113.0/24"],
        "203.0.113.7:443",
        "allow 2",
    );
    public(
        &["deny 203.0.113.0/24", "allow 203.0.113.7"],
        "203.0.113.7:443",
        "allow 2",
    );
    public(
        &["allow ::/0", "deny 2001:db8::/32"],
        "[2001:db8::7]:443",
        "deny 2",
    );
    public(&["allow ::/0"], "203.0.113.7:443", "ask");
    public(
        &["allow 203.0.113.7"],
        "[::ffff:203.0.113.7]:443",
        "allow 1",
    );
}

#[test]
fn a_wide_rule_does_not_reach_behind_the_host() {
    let lan = |rules: &[&str], text, expected| check(rules, DestZone::LocalNetwork, text, expected);
    lan(&["allow 0.0.0.0/0"], "10.0.0.5:80", "ask");
    lan(&["allow 8.0.0.0/6"], "10.0.0.5:80", "ask");
    lan(&["allow 10.0.0.0/8"], "10.0.0.5:80", "allow 1");
    lan(&["allow 10.0.0.5"], "10.0.0.5:80", "allow 1");
    lan(&["allow 10.0.0.5:443"], "10.0.0.5:80", "ask");
    lan(&["allow ::/0"], "[fd12::5]:80", "ask");
    lan(&["allow fd12::/16"], "[fd12::5]:80", "allow 1");
    lan(&["allow nas.local"], "nas.local:80", "ask");
    lan(&["allow *.local"], "nas.local:80", "ask");
    lan(
        &["deny 0.0.0.0/0", "allow 10.0.0.0/8"],
        "10.0.0.5:80",
        "allow 2",
    );
    lan(&["deny 0.0.0.0/0"], "10.0.0.5:80", "deny 1");
    // A public address of a network that the host's routes know as local.
    lan(&["allow 203.0.113.0/24"], "203.0.113.7:80", "ask");
    lan(&["allow 203.0.113.7"], "203.0.113.7:80", "allow 1");

    let host = |rules: &[&str], text, expected| check(rules, DestZone::ThisHost, text, expected);
    host(&["allow 0.0.0.0/0"], "127.0.0.1:80", "ask");
    host(&["allow 127.0.0.0/8"], "127.0.0.1:80", "allow 1");
    host(&["allow 127.0.0.1:80"], "127.0.0.1:80", "allow 1");
    host(&["allow 10.0.0.0/8"], "10.0.0.1:80", "ask");
    host(&["allow 10.0.0.1"], "10.0.0.1:80", "allow 1");
    host(&["allow ::/0"], "[::1]:80", "ask");
    host(&["allow ::1"], "[::1]:80", "allow 1");
    host(&["allow host.internal:80"], "host.internal:80", "allow 1");
    host(&["allow *.internal"], "host.internal:80", "ask");
    host(&["allow a.example"], "a.example:80", "ask");
}

#[test]
fn a_wrong_zone_opens_nothing() {
    let public = |rules: &[&str], text, expected| check(rules, DestZone::Public, text, expected);
    public(&["allow 0.0.0.0/0"], "10.0.0.5:80", "ask");
    public(&["allow 0.0.0.0/0"], "127.0.0.1:80", "ask");
    public(&["allow *.internal"], "host.internal:80", "ask");
    public(&["allow 0.0.0.0/0"], "169.254.169.254:80", "floor");
    public(&["allow ::/0"], "[64:ff9b::a00:5]:80", "ask");
}

#[test]
fn nothing_opens_the_floor() {
    for text in [
        "169.254.169.254:80",
        "[fe80::1]:80",
        "198.18.0.1:80",
        "a.example:80",
    ] {
        let rules = [
            "allow 169.254.169.254",
            "allow a.example",
            "allow 198.18.0.1",
        ];
        check(&rules, DestZone::Floor, text, "floor");
    }
}

#[test]
fn a_denied_address_stays_denied_behind_a_translator() {
    let public = |rules: &[&str], text, expected| check(rules, DestZone::Public, text, expected);
    let rules = ["allow ::/0", "deny 203.0.113.0/24"];
    public(&rules, "[64:ff9b::203.0.113.7]:80", "deny 2");
    public(&rules, "[2002:cb00:7107::1]:80", "deny 2");
    public(&rules, "[64:ff9b::203.0.114.7]:80", "allow 1");
    public(&["allow 203.0.113.7"], "[64:ff9b::203.0.113.7]:80", "ask");
}

fn covers(rules: &[&str], name: &str, address: &str, zone: DestZone) -> bool {
    let name = name.parse().unwrap();
    let address = address.parse().unwrap();
    table(rules).covers_address(&name, address, Protocol::TCP, zone, start())
}

#[test]
fn a_name_reaches_the_internet_only() {
    use DestZone::{Floor, LocalNetwork, Public, ThisHost};
    let named: &[&str] = &["allow a.example"];
    let lan: &[&str] = &["allow 10.0.0.0/8"];
    for (rules, address, zone, expected) in [
        (named, "203.0.113.7:80", Public, true),
        (&[], "203.0.113.7:80", Public, true),
        (named, "10.0.0.5:80", LocalNetwork, false),
        (named, "10.0.0.5:80", Public, false),
        (named, "127.0.0.1:80", ThisHost, false),
        (named, "169.254.169.254:80", Floor, false),
        (lan, "10.0.0.5:80", LocalNetwork, true),
        (lan, "10.0.0.5:80", ThisHost, false),
        (&["allow 10.0.0.5:443"], "10.0.0.5:80", LocalNetwork, false),
        (&["allow 0.0.0.0/0"], "10.0.0.5:80", LocalNetwork, false),
        (&["allow 127.0.0.1"], "127.0.0.1:80", ThisHost, true),
    ] {
        let covered = covers(rules, "a.example", address, zone);
        assert_eq!(covered, expected, "{address} {zone} {rules:?}");
    }
}

#[test]
fn a_denied_address_wins_over_an_allowed_name() {
    let network: &[&str] = &["allow a.example", "deny 203.0.113.0/24:80"];
    let but_one: &[&str] = &["deny 0.0.0.0/0", "allow 203.0.113.7"];
    for (rules, address, expected) in [
        (network, "203.0.113.7:80", false),
        (network, "203.0.113.7:443", true),
        (network, "[64:ff9b::203.0.113.7]:80", false),
        (but_one, "203.0.113.7:80", true),
        (but_one, "203.0.113.8:80", false),
    ] {
        let covered = covers(rules, "a.example", address, DestZone::Public);
        assert_eq!(covered, expected, "{address} {rules:?}");
    }
}

#[test]
fn the_hosts_own_name_reaches_the_host_only() {
    use DestZone::{LocalNetwork, ThisHost};
    assert!(covers(&[], HOST_NAME, "127.0.0.1:80", ThisHost));
    assert!(!covers(&[], HOST_NAME, "10.0.0.5:80", LocalNetwork));
    assert!(!covers(
        &["deny 127.0.0.1"],
        HOST_NAME,
        "127.0.0.1:80",
        ThisHost
    ));
}

#[test]
fn a_lookup_leaves_if_some_port_is_allowed() {
    for (rules, name, expected) in [
        (&[][..], "a.example", false),
        (&["allow a.example:443"], "a.example", true),
        (&["allow a.example/icmp"], "a.example", true),
        (&["allow a.example"], "b.a.example", false),
        (&["allow *.example"], "a.example", true),
        (&["allow *.example"], "example", false),
        (&["allow 0.0.0.0/0", "allow ::/0"], "a.example", false),
        (&["deny a.example"], "a.example", false),
        (&["allow *.example", "deny a.example"], "a.example", false),
        (
            &["allow *.example", "deny a.example:443"],
            "a.example",
            true,
        ),
        (
            &["allow *.example:443", "deny a.example:443"],
            "a.example",
            false,
        ),
        (
            &["allow *.example:443", "deny a.example:443/tcp"],
            "a.example",
            true,
        ),
        (
            &["allow *.example:443/tcp", "deny a.example/tcp"],
            "a.example",
            false,
        ),
        (
            &[
                "allow *.example:80-90",
                "deny a.example:80-85",
                "deny a.example:86-90",
            ],
            "a.example",
            false,
        ),
        (
            &[
                "allow *.example:80-90",
                "deny a.example:80-85",
                "deny a.example:87-90",
            ],
            "a.example",
            true,
        ),
        (
            &["allow *.example", "deny a.example:1-65535"],
            "a.example",
            true,
        ),
        (
            &["allow *.example/tcp", "deny a.example:1-65535"],
            "a.example",
            false,
        ),
        (&["allow *.internal"], "host.internal", false),
        (&["allow host.internal"], "host.internal", true),
    ] {
        let name = name.parse().unwrap();
        assert_eq!(
            table(rules).allows_name(&name, start()),
            expected,
            "{name} {rules:?}"
        );
    }
}

#[test]
fn a_rule_ends_at_its_time() {
    let now = start();
    let second = Duration::from_secs(1);
    let mut table = RuleTable::new();
    let request: RequestId = "web:1".parse().unwrap();
    let source = RuleSource::Decision { request };
    let short = table
        .add(
            "a.example".parse().unwrap(),
            Action::Allow,
            Some(now + second),
            source,
        )
        .unwrap();
    let long = table
        .add(
            "*.example".parse().unwrap(),
            Action::Deny,
            None,
            RuleSource::Flag,
        )
        .unwrap();
    let dest = dest("a.example:443");
    let decide = |table: &RuleTable, at| table.decide(&dest, DestZone::Public, at);
    assert_eq!(decide(&table, now), RuleVerdict::Allow(short));
    assert_eq!(decide(&table, now + second), RuleVerdict::Deny(long));
    assert!(!table.allows_name(&"a.example".parse().unwrap(), now + second));
    assert_eq!(table.expire(now), []);
    let ended = table.expire(now + second);
    assert_eq!(
        ended.iter().map(|rule| rule.id).collect::<Vec<_>>(),
        [short]
    );
    assert_eq!((table.len(), table.expiries.len()), (1, 0));
    assert_eq!(table.remove(short), None);
    assert_eq!(table.remove(long).map(|rule| rule.id), Some(long));
    assert_eq!(decide(&table, now), RuleVerdict::Ask);
    assert!(table.is_empty());
}

#[test]
fn a_full_table_refuses_a_rule_and_keeps_its_own() {
    let mut table = RuleTable::new();
    let pattern: DestPattern = "a.example".parse().unwrap();
    let mut add = |pattern| table.add(pattern, Action::Allow, None, RuleSource::Flag);
    let first = add(pattern.clone()).unwrap();
    for number in 1..MAX_RULES {
        add(format!("n{number}.example").parse().unwrap()).unwrap();
    }
    assert_eq!(add(pattern.clone()), Err(RuleTableFull));
    assert_eq!(table.len(), MAX_RULES);
    table.remove(first).unwrap();
    assert!(
        table
            .add(pattern, Action::Allow, None, RuleSource::Flag)
            .is_ok()
    );
}
