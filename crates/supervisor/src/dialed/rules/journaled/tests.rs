// SPDX-License-Identifier: Apache-2.0
//! What a supervisor makes of the journal of an earlier one.

use std::os::fd::AsFd as _;
use std::time::Duration;

use policy::{RuleOrigin, RuleSpec, RuleTerm};
use terok_clearance::{Action, ContainerId};

use super::super::DialedRules;
use super::*;
use crate::boot_clock::boot_now;
use crate::state_journal::StateJournal;

fn spec(pattern: &str, term: RuleTerm, origin: RuleOrigin) -> RuleSpec {
    let (text, action) = match pattern.strip_prefix('!') {
        Some(pattern) => (pattern, Action::Deny),
        None => (pattern, Action::Allow),
    };
    RuleSpec {
        pattern: text.parse().unwrap(),
        action,
        term,
        origin,
        by: "uid 1000".into(),
        since: Timestamp::from_micros(7),
    }
}

fn answer(pattern: &str, term: RuleTerm) -> RuleSpec {
    let request = "box:1".parse().unwrap();
    spec(pattern, term, RuleOrigin::Decision { request })
}

fn policy(patterns: &[&str]) -> DialedPolicy {
    let rules = patterns.iter();
    DialedPolicy {
        rules: rules
            .map(|pattern| spec(pattern, RuleTerm::Run, RuleOrigin::Flag))
            .collect(),
        open_for: Some("uid 1000".into()),
        ..DialedPolicy::default()
    }
}

/// The state between supervisors.
struct Restarts(StateJournal);

impl Restarts {
    fn start(&self, policy: DialedPolicy) -> DialedRules {
        let file = self.0.as_fd().try_clone_to_owned().unwrap();
        let container: ContainerId = "box".parse().unwrap();
        let opened = StateJournal::from_fd(file).open(&container, "boot-1");
        assert_eq!(opened.lost, None);
        DialedRules::new(policy, std::sync::Arc::default(), Some(&opened)).unwrap()
    }
}

fn listed(rules: &DialedRules) -> Vec<String> {
    let state = rules.lock_state();
    let bypass = state
        .table
        .stored_bypass()
        .map(|b| format!("{} bypass", b.id));
    let rules = state.table.iter().map(|entry| {
        let spec = &entry.rule.spec;
        format!("{} {} {}", entry.rule.id, spec.action, spec.pattern)
    });
    rules.chain(bypass).collect()
}

#[test]
fn answers_revocations_and_the_bypass_outlast_a_supervisor() {
    let restarts = Restarts(StateJournal::create().unwrap());
    let start = || policy(&["a.example", "!b.example", "a.example"]);
    let first = restarts.start(start());
    let later = boot_now().saturating_add(Duration::from_secs(600));
    {
        let mut state = first.lock_state();
        let table = &mut state.table;
        table.add(answer("c.example", RuleTerm::Run)).unwrap();
        table
            .add(answer("!d.example", RuleTerm::Until(later)))
            .unwrap();
        let once = answer("e.example", RuleTerm::Once { until: later });
        let once = table.add(once).unwrap();
        let spent = answer("f.example", RuleTerm::Once { until: later });
        let spent = table.add(spent).unwrap();
        let ended = RuleTerm::Until(boot_now());
        table.add(answer("g.example", ended)).unwrap();
        table.note_uses(spent, 1, Timestamp::from_micros(9));
        table.remove(RuleId::new(2)).unwrap();
        table.remove(RuleId::new(3)).unwrap();
        assert_eq!(once, RuleId::new(7));
    }
    let expected = [
        "r1 allow a.example",
        "r5 allow c.example",
        "r6 deny d.example",
        "r7 allow e.example",
        "r4 bypass",
    ];
    let second = restarts.start(start());
    // One of the two equal options was revoked: the other one, whichever it is, counts.
    let names = |rules: &DialedRules| {
        let listed = listed(rules).into_iter();
        listed
            .map(|rule| rule.split_once(' ').unwrap().1.to_owned())
            .collect::<Vec<_>>()
    };
    let without_ids: Vec<_> = expected
        .iter()
        .map(|r| r.split_once(' ').unwrap().1)
        .collect();
    assert_eq!(names(&second), without_ids);
    assert_eq!(listed(&second)[1..], expected[1..]);
    second.lock_state().table.close_bypass();
    let new = second
        .lock_state()
        .table
        .add(answer("h.example", RuleTerm::Run));
    assert_eq!(new, Ok(RuleId::new(10)), "no number is given twice");

    // With other options, none gets the number of an answer.
    let third = restarts.start(policy(&["x.example", "y.example"]));
    let mut found = names(&third);
    found.sort();
    let expected = [
        "allow c.example",
        "allow e.example",
        "allow h.example",
        "allow x.example",
        "allow y.example",
        "deny d.example",
    ];
    assert_eq!(found, expected, "the bypass stays closed");
    let state = third.lock_state();
    let of = |id| {
        state
            .table
            .get(RuleId::new(id))
            .map(|e| e.rule.spec.pattern.to_string())
    };
    assert_eq!(of(5).as_deref(), Some("c.example"));
    assert_eq!(of(10).as_deref(), Some("h.example"));
}
