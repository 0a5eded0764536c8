// SPDX-License-Identifier: Apache-2.0
//! Tests of precedence, zones, ends and limits.

use std::time::Duration;

use super::*;
use crate::RuleOrigin;

mod plain_scan;
mod zones;

/// The rule of a line: `allow` or `deny` and a pattern, after `org` for one of the organisation;
/// `ceiling` and a pattern.
fn parse_rule(line: &str) -> RuleSpec {
    let (words, pattern) = line.rsplit_once(' ').unwrap();
    let (origin, action) = match words.split_once(' ') {
        Some(("org", action)) => (RuleOrigin::Organisation, action),
        None if words == "ceiling" => (RuleOrigin::Ceiling, "allow"),
        _ => (RuleOrigin::Flag, words),
    };
    RuleSpec {
        pattern: pattern.parse().unwrap(),
        action: action.parse().unwrap(),
        term: RuleTerm::Run,
        origin,
        by: DisplayText::default(),
        since: Timestamp::UNIX_EPOCH,
    }
}

fn table(rules: &[&str]) -> RuleTable {
    let mut table = RuleTable::new();
    for rule in rules {
        table.add(parse_rule(rule)).unwrap();
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

const fn start() -> BootInstant {
    BootInstant::from_boot(Duration::from_secs(1_000))
}

/// Checks the verdict; a number counts the rules from 1.
fn check(rules: &[&str], zone: DestZone, text: &str, expected: &str) {
    let shown = match table(rules).decide(&dest(text), zone, start()) {
        RuleVerdict::Allow(id) => format!("allow {}", id.get()),
        RuleVerdict::Deny(id) => format!("deny {}", id.get()),
        RuleVerdict::OutsideCeiling => "outside".to_owned(),
        RuleVerdict::Ask => "ask".to_owned(),
        RuleVerdict::Floor => "floor".to_owned(),
    };
    assert_eq!(shown, expected, "of {text} in {zone} by {rules:?}");
}

#[test]
fn a_deny_comes_before_every_allow() {
    let public = |rules: &[&str], text, expected| check(rules, DestZone::Public, text, expected);
    public(&[], "a.example:443", "ask");
    public(&["allow a.example"], "a.example:443", "allow 1");
    public(&["allow a.example"], "b.a.example:443", "ask");
    public(&["allow a.example:80"], "a.example:443", "ask");
    for rules in [
        ["deny *.example", "allow a.example"],
        ["deny a.example", "allow a.example"],
        ["deny a.example", "allow a.example:443/tcp"],
        ["deny a.example:1-65535", "allow a.example:443"],
        ["deny a.example/tcp", "allow a.example:443"],
        ["deny a.example", "org allow a.example"],
    ] {
        public(&rules, "a.example:443", "deny 1");
    }
    public(
        &["allow *.example", "deny a.example"],
        "a.example:443",
        "deny 2",
    );
    public(
        &["allow *.example", "deny a.example"],
        "b.example:443",
        "allow 1",
    );
    public(
        &["deny a.example:80", "allow a.example"],
        "a.example:443",
        "allow 2",
    );
    public(
        &["deny a.example/udp", "allow a.example"],
        "a.example:443",
        "allow 2",
    );
}

#[test]
fn the_narrowest_allow_is_the_one_that_decides() {
    let public = |rules: &[&str], text, expected| check(rules, DestZone::Public, text, expected);
    for (rules, expected) in [
        (["allow *.example", "allow a.example"], "allow 2"),
        (["allow a.example", "allow *.example:443"], "allow 1"),
        (["allow a.example", "allow a.example:443"], "allow 2"),
        (
            ["allow a.example:1-500", "allow a.example:400-500"],
            "allow 2",
        ),
        (
            ["allow a.example:443", "allow a.example:443/tcp"],
            "allow 2",
        ),
        (["allow a.example", "allow a.example/tcp"], "allow 2"),
        (["allow a.example", "allow a.example"], "allow 1"),
    ] {
        public(&rules, "a.example:443", expected);
    }
    public(&["allow 0.0.0.0/0"], "203.0.113.7:443", "allow 1");
    public(&["allow 0.0.0.0/0"], "a.example:443", "ask");
    public(
        &["allow 0.0.0.0/0", "allow 203.0.113.0/24"],
        "203.0.113.7:443",
        "allow 2",
    );
    public(
        &["allow 0.0.0.0/0", "deny 203.0.113.0/24"],
        "203.0.113.7:443",
        "deny 2",
    );
    public(
        &["deny 203.0.113.0/24", "allow 203.0.113.7"],
        "203.0.113.7:443",
        "deny 1",
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
fn nothing_outside_of_the_ceiling_is_opened_or_asked_about() {
    let public = |rules: &[&str], text, expected| check(rules, DestZone::Public, text, expected);
    public(&["ceiling *.example"], "a.example:443", "ask");
    public(&["ceiling *.example"], "a.test:443", "outside");
    public(
        &["ceiling *.example", "allow a.test"],
        "a.test:443",
        "outside",
    );
    public(
        &["ceiling *.example", "org allow a.test"],
        "a.test:443",
        "outside",
    );
    public(
        &["ceiling *.example", "allow a.example"],
        "a.example:443",
        "allow 2",
    );
    public(
        &["ceiling *.example:443", "allow a.example"],
        "a.example:80",
        "outside",
    );
    public(
        &["ceiling *.example", "deny a.example"],
        "a.example:443",
        "deny 2",
    );
    public(
        &["ceiling *.example", "org deny a.example"],
        "a.example:443",
        "deny 2",
    );
    public(
        &["ceiling *.example", "org deny a.test"],
        "a.test:443",
        "deny 2",
    );
    public(&["ceiling 203.0.113.0/24"], "198.51.100.1:443", "outside");
    // An entry of the ceiling opens nothing.
    check(
        &["ceiling 10.0.0.5"],
        DestZone::LocalNetwork,
        "10.0.0.5:80",
        "ask",
    );

    let mut empty = table(&["allow a.example"]);
    empty.require_ceiling();
    let verdict = empty.decide(&dest("a.example:443"), DestZone::Public, start());
    assert_eq!(verdict, RuleVerdict::OutsideCeiling);
    assert!(!empty.allows_name(&"a.example".parse().unwrap(), start()));
}

#[test]
fn the_bypass_opens_the_internet_alone_and_only_for_its_time() {
    let now = start();
    let end = now.saturating_add(Duration::from_secs(60));
    let by = || DisplayText::new("uid 1000");
    let mut table = table(&[
        "deny bad.example",
        "allow a.example",
        "org deny worse.example",
    ]);
    let bypass = table.open_bypass(Some(end), by(), Timestamp::UNIX_EPOCH);
    let bypass = bypass.unwrap();
    let decide = |table: &RuleTable, text: &str, at| {
        let zone = match text {
            "10.0.0.5:80" => DestZone::LocalNetwork,
            _ => DestZone::Public,
        };
        table.decide(&dest(text), zone, at)
    };
    let name: DomainName = "b.example".parse().unwrap();
    assert_eq!(
        decide(&table, "b.example:1", now),
        RuleVerdict::Allow(bypass)
    );
    assert!(table.allows_name(&name, now));
    assert!(!table.allows_name(&"bad.example".parse().unwrap(), now));
    assert!(!table.allows_name(&HOST_NAME.parse().unwrap(), now));
    assert_eq!(
        decide(&table, "a.example:1", now),
        RuleVerdict::Allow(RuleId::new(2))
    );
    assert_eq!(
        decide(&table, "bad.example:1", now),
        RuleVerdict::Deny(RuleId::new(1))
    );
    assert_eq!(
        decide(&table, "worse.example:1", now),
        RuleVerdict::Deny(RuleId::new(3))
    );
    assert_eq!(decide(&table, "10.0.0.5:80", now), RuleVerdict::Ask);
    assert_eq!(
        decide(&table, "169.254.169.254:80", now),
        RuleVerdict::Floor
    );
    assert_eq!(decide(&table, "b.example:1", end), RuleVerdict::Ask);
    assert!(!table.allows_name(&name, end));
    assert_eq!(table.next_end(), Some(end));
    table.note_uses(bypass, 2, Timestamp::from_micros(7));
    assert_eq!(table.close_bypass().unwrap().usage.count, 2);
    assert_eq!(decide(&table, "b.example:1", now), RuleVerdict::Ask);

    let mut ceiling = tests::table(&["ceiling a.example"]);
    ceiling
        .open_bypass(None, by(), Timestamp::UNIX_EPOCH)
        .unwrap();
    assert_eq!(
        decide(&ceiling, "b.example:1", now),
        RuleVerdict::OutsideCeiling
    );
    assert!(!ceiling.allows_name(&name, now));
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
            &["allow a.example:80", "ceiling *.example:443"],
            "a.example",
            false,
        ),
        (
            &["allow a.example:400-500", "ceiling *.example:443"],
            "a.example",
            true,
        ),
        (&["allow a.example", "ceiling a.test"], "a.example", false),
        (
            &["allow a.example:443", "deny *.example:443"],
            "a.example",
            false,
        ),
        (
            &["allow a.example:443", "org deny *.example:443"],
            "a.example",
            false,
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

/// An answer for `pattern`.
fn answer(pattern: &str, action: Action, term: RuleTerm) -> RuleSpec {
    RuleSpec {
        term,
        action,
        origin: RuleOrigin::Decision {
            request: "web:1".parse().unwrap(),
        },
        ..parse_rule(&format!("allow {pattern}"))
    }
}

#[test]
fn a_rule_ends_at_its_time() {
    let now = start();
    let end = now.saturating_add(Duration::from_secs(1));
    let mut table = RuleTable::new();
    let until = RuleTerm::Until(end);
    let short = table.add(answer("a.example", Action::Allow, until));
    let short = short.unwrap();
    let long = table.add(parse_rule("allow *.example")).unwrap();
    let dest = dest("a.example:443");
    let decide = |table: &RuleTable, at| table.decide(&dest, DestZone::Public, at);
    assert_eq!(decide(&table, now), RuleVerdict::Allow(short));
    assert_eq!(decide(&table, end), RuleVerdict::Allow(long));
    assert_eq!(table.next_end(), Some(end));
    assert_eq!(table.expire(now), []);
    let ended = table.expire(end);
    assert_eq!(
        ended.iter().map(|ended| ended.rule.id).collect::<Vec<_>>(),
        [short]
    );
    assert_eq!((table.len(), table.next_end()), (1, None));
    assert_eq!(table.remove(short), None);
    assert!(table.remove(long).is_some());
    assert_eq!(decide(&table, now), RuleVerdict::Ask);
    assert!(table.is_empty());
}

#[test]
fn a_rule_for_one_connection_counts_until_that_connection_ends() {
    let now = start();
    let later = now.saturating_add(Duration::from_secs(3_600));
    let until = now.saturating_add(Duration::from_secs(60));
    let mut table = RuleTable::new();
    let once = table.add(answer("a.example", Action::Allow, RuleTerm::Once { until }));
    let once = once.unwrap();
    let (dest, zone) = (dest("a.example:443"), DestZone::Public);
    assert_eq!(table.decide(&dest, zone, now), RuleVerdict::Allow(once));
    table.note_uses(once, 2, Timestamp::from_micros(1));
    for _ in 0..2 {
        table.note_opened(once);
    }
    assert_eq!(table.decide(&dest, zone, now), RuleVerdict::Ask);
    assert!(!table.allows_name(&"a.example".parse().unwrap(), now));
    // Its connections go on, also when its time is over.
    assert_eq!(table.expire(later), []);
    assert_eq!(table.rule_to_go_on(once, &dest, zone, later), Some(once));
    assert_eq!(table.note_closed(once), None);
    let ended = table.note_closed(once).unwrap();
    assert_eq!((ended.usage.count, ended.usage.open), (2, 0));
    assert_eq!(table.rule_to_go_on(once, &dest, zone, later), None);

    let unused = table.add(answer("a.example", Action::Allow, RuleTerm::Once { until }));
    assert_eq!(table.expire(until).len(), 1);
    assert_eq!(table.get(unused.unwrap()), None);
}

#[test]
fn a_connection_goes_on_while_some_rule_allows_it() {
    let now = start();
    let (dest, zone) = (dest("a.example:443"), DestZone::Public);
    let mut table = table(&["allow a.example", "allow *.example"]);
    let (narrow, wide) = (RuleId::new(1), RuleId::new(2));
    table.remove(narrow).unwrap();
    assert_eq!(table.rule_to_go_on(narrow, &dest, zone, now), Some(wide));
    table.add(parse_rule("deny a.example")).unwrap();
    assert_eq!(table.rule_to_go_on(wide, &dest, zone, now), None);
}

#[test]
fn a_new_answer_replaces_the_answers_for_the_same_pattern() {
    let mut table = table(&["allow a.example:443"]);
    for action in [Action::Allow, Action::Deny] {
        table
            .add(answer("a.example:443", action, RuleTerm::Run))
            .unwrap();
        table
            .add(answer("a.example", action, RuleTerm::Run))
            .unwrap();
    }
    let removed = table.remove_decisions(&"a.example:443".parse().unwrap());
    assert_eq!(removed.len(), 2);
    assert_eq!(table.len(), 3);
}

#[test]
fn covering_rules_come_in_the_order_of_authority() {
    let table = table(&[
        "allow *.example",
        "allow a.example:443",
        "deny *.a.example",
        "deny *.example:443",
        "ceiling *.example",
        "org deny a.example",
        "allow a.test",
    ]);
    let covering = table.covering(&dest("a.example:443"), start());
    let ids: Vec<_> = covering.iter().map(|rule| rule.id.get()).collect();
    assert_eq!(ids, [6, 5, 4, 2, 1]);
}

#[test]
fn a_full_table_refuses_a_rule_and_keeps_its_own() {
    let mut table = RuleTable::new();
    let first = table.add(parse_rule("allow a.example")).unwrap();
    for number in 1..MAX_RULES {
        table
            .add(parse_rule(&format!("allow n{number}.example")))
            .unwrap();
    }
    let refused = table.add(parse_rule("allow a.example"));
    assert_eq!(refused, Err(RuleTableFull));
    assert_eq!(table.len(), MAX_RULES);
    table.remove(first).unwrap();
    assert!(table.add(parse_rule("allow a.example")).is_ok());
}
