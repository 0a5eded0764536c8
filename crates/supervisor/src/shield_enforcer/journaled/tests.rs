// SPDX-License-Identifier: Apache-2.0
//! What a supervisor makes of the firewall and the journal of an earlier one.

use terok_clearance::ContainerId;

use super::*;
use crate::state_journal::{OpenedJournal, StateJournal};

const BOOT: &str = "boot-1";

fn at(seconds: u64) -> BootInstant {
    BootInstant::from_boot(Duration::from_secs(seconds))
}

fn order(pattern: &str, remaining: Option<u64>) -> KernelRule {
    let (text, action) = match pattern.strip_prefix('!') {
        Some(pattern) => (pattern, Action::Deny),
        None => (pattern, Action::Allow),
    };
    let pattern: DestPattern = text.parse().unwrap();
    let host = match pattern.host() {
        HostPattern::Name(name) => PacketHost::Name(name.clone()),
        HostPattern::Address(address) => PacketHost::Address(*address),
        other => panic!("{other}"),
    };
    KernelRule {
        pattern,
        host,
        action,
        remaining: remaining.map(Duration::from_secs),
    }
}

fn spec(pattern: &str, term: RuleTerm) -> RuleSpec {
    let (text, action) = match pattern.strip_prefix('!') {
        Some(pattern) => (pattern, Action::Deny),
        None => (pattern, Action::Allow),
    };
    RuleSpec {
        pattern: text.parse().unwrap(),
        action,
        term,
        origin: RuleOrigin::Decision {
            request: "box:1".parse().unwrap(),
        },
        by: "uid 1000".into(),
        since: Timestamp::from_micros(1),
    }
}

fn open(journal: StateJournal) -> OpenedJournal {
    let container: ContainerId = "box".parse().unwrap();
    journal.open(&container, BOOT)
}

/// Returns the rules after a restart at second 100: pattern, origin and term, and what the next
/// supervisor finds in the journal.
fn restart(before: &[RuleSpec], kernel: &[KernelRule]) -> (Vec<String>, JournalState) {
    let journal = StateJournal::create().unwrap();
    let file = std::os::fd::AsFd::as_fd(&journal).try_clone_to_owned();
    let file = file.unwrap();
    let opened = open(journal);
    let mut rules = FilteredRules::default();
    rules.table.record_changes();
    for spec in before {
        rules.table.add(spec.clone()).unwrap();
    }
    rules.record_changes(&opened.journal);
    let again = file.try_clone().unwrap();
    let opened = open(StateJournal::from_fd(file));
    let mut rules = FilteredRules::default();
    let since = Timestamp::from_micros(2);
    let ended = rules.restore(kernel, Some(&opened.state), at(100), since);
    let is_listed = |host: &PacketHost| {
        let mut specs = rules.table.iter().map(|entry| &entry.rule.spec);
        specs.any(|spec| spec.pattern.host().matches(host))
    };
    assert!(!ended.iter().any(is_listed));
    rules.record_start(&opened.journal, &opened.state);
    let listed = rules.table.iter().map(|entry| {
        let RuleSpec {
            pattern,
            action,
            term,
            origin,
            ..
        } = &entry.rule.spec;
        let term = match term {
            RuleTerm::Run => "run".to_owned(),
            RuleTerm::Until(end) => format!("until {}", end.since_boot().as_secs()),
            RuleTerm::Once { until } => format!("once {}", until.since_boot().as_secs()),
            RuleTerm::Kept => "kept".to_owned(),
        };
        let origin = match origin {
            RuleOrigin::Decision { request } => request.to_string(),
            _ => "?".to_owned(),
        };
        format!("{} {action} {pattern} {term} {origin}", entry.rule.id)
    });
    let listed = listed.collect();
    (listed, open(StateJournal::from_fd(again)).state)
}

#[test]
fn an_order_gets_its_answer_back() {
    let (rules, next) = restart(
        &[
            spec("a.example:443/tcp", RuleTerm::Run),
            spec("!203.0.113.7", RuleTerm::Until(at(160))),
            spec("gone.example", RuleTerm::Run),
        ],
        &[
            order("a.example:443/tcp", None),
            order("!203.0.113.7", Some(50)),
            order("other.example", None),
        ],
    );
    let expected = [
        "r1 allow a.example:443/tcp run box:1",
        "r2 deny 203.0.113.7 until 150 box:1",
        "r4 allow other.example run ?",
    ];
    assert_eq!(rules, expected);
    // What is not in the firewall any more is not in the journal either.
    assert_eq!(next.rules.into_keys().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn an_order_of_another_kind_stays_without_an_answer() {
    let (rules, next) = restart(
        &[
            spec("a.example", RuleTerm::Run),
            spec("b.example", RuleTerm::Run),
            spec("c.example", RuleTerm::Until(at(160))),
            spec("d.example", RuleTerm::Once { until: at(90) }),
        ],
        &[
            order("a.example", Some(30)),
            order("!b.example", None),
            order("c.example", None),
        ],
    );
    let expected = [
        "r3 allow c.example until 160 box:1",
        "r5 allow a.example until 130 ?",
        "r6 deny b.example run ?",
        // Another rule, such as one of an option, has no end.
        "r7 allow c.example run ?",
    ];
    assert_eq!(rules, expected);
    assert_eq!(next.rules.into_keys().collect::<Vec<_>>(), [3]);
}

#[test]
fn a_rule_for_many_hosts_explains_their_orders() {
    let (rules, _) = restart(
        &[
            spec("*.a.example:443/tcp", RuleTerm::Run),
            spec("!203.0.113.0/24", RuleTerm::Run),
        ],
        &[
            order("x.a.example:443/tcp", None),
            order("y.a.example:80/tcp", None),
            order("!203.0.113.9", None),
        ],
    );
    let expected = [
        "r1 allow *.a.example:443/tcp run box:1",
        "r2 deny 203.0.113.0/24 run box:1",
        "r3 allow y.a.example:80/tcp run ?",
    ];
    assert_eq!(rules, expected);
}

#[test]
fn a_rule_that_has_ended_by_the_boot_clock_is_not_listed_any_more() {
    let ended = spec("a.example", RuleTerm::Until(at(100)));
    let (rules, next) = restart(&[ended], &[order("a.example", Some(30))]);
    assert!(rules.is_empty(), "{rules:?}");
    assert!(next.rules.is_empty());
}
