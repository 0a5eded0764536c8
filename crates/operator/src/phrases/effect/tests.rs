// SPDX-License-Identifier: Apache-2.0
//! Tests of the phrases for effects and earlier answers.

use serde_json::{Value, json};
use test_support::questions::NOON_MICROS;

use super::*;
use crate::phrases::tests::{address, with_row};

fn offering(more: Value) -> Value {
    let mut changes = json!({
        "wider": ["*.example.com"], "lifetimes": ["once", "sandbox", "project", "always"],
    });
    if let Value::Object(more) = more {
        changes.as_object_mut().unwrap().extend(more);
    }
    changes
}

#[test]
fn effect_has_the_range_and_the_lifetime() {
    let check = |choice: ScopeChoice, wide: Option<&str>, expected: [&str; 2]| {
        let scope = choice
            .scope()
            .with_dest(wide.map(|name| name.parse().unwrap()));
        with_row("api.example.com", offering(json!({})), |row| {
            let words =
                [Action::Allow, Action::Deny].map(|action| describe_effect(row, action, &scope));
            assert_eq!(words.each_ref().map(String::as_str), expected);
        });
    };
    for (choice, lifetime) in [
        (ScopeChoice::Once, "once: the next connection within 60 s"),
        (ScopeChoice::FiveMinutes, "for 5 minutes"),
        (ScopeChoice::OneHour, "for 1 hour"),
        (ScopeChoice::Run, "for this run"),
        (ScopeChoice::Project, "for this project, also in later runs"),
        (ScopeChoice::Always, "always, in every sandbox"),
    ] {
        let words = format!("api.example.com port 443/tcp, {lifetime}");
        check(choice, None, [&words; 2]);
    }
    let names = "every name below example.com (not example.com itself) port 443/tcp, for this run";
    check(
        ScopeChoice::Run,
        Some("*.example.com"),
        [
            &format!("{names}; whoever runs example.com receives what is looked up"),
            names,
        ],
    );
    check(
        ScopeChoice::Run,
        Some("*.com"),
        ["the question does not offer *.com; it offers *.example.com"; 2],
    );
}

#[test]
fn effect_of_one_connection_says_which() {
    for (waiting, expected) in [
        (json!(null), "the next connection within 60 s"),
        (json!(1), "the connection that waits now"),
        (json!(2), "the connections that wait now"),
    ] {
        with_row("a.example", offering(json!({"waiting": waiting})), |row| {
            assert_eq!(
                describe_effect(row, Action::Allow, &ScopeChoice::Once.scope()),
                format!("a.example port 443/tcp, once: {expected}")
            );
        });
    }
}

#[test]
fn effect_has_the_part_of_the_network() {
    let local = address("192.168.1.20", json!({"zone": "local-network"}));
    with_row("", local, |row| {
        assert_eq!(
            describe_effect(row, Action::Allow, &AnswerScope::default_of(row)),
            "192.168.1.20 port 443/tcp (on your local network), for this run"
        );
    });
}

#[test]
fn earlier_answer_has_its_lifetime_its_age_and_its_end() {
    let at = NOON_MICROS;
    let now = Timestamp::from_micros(at + 12 * 60_000_000 + 59_000_000);
    let check = |previous: Value, expected: Option<&str>| {
        let changes = json!({"previous": previous});
        with_row("a.example", changes, |row| {
            assert_eq!(describe_previous(row, now).as_deref(), expected);
        });
    };
    check(json!(null), None);
    check(
        json!({"action": "allow", "by": "uid 1000", "at": at, "keep": "sandbox", "seconds": 300}),
        Some("this was allowed for 5 minutes, 12 minutes ago (uid 1000); the rule has ended"),
    );
    check(
        json!({"action": "deny", "by": "", "at": at, "keep": "sandbox", "revoked": true}),
        Some("this was denied for one run, 12 minutes ago; it was revoked"),
    );
    check(
        json!({"action": "allow", "by": "x", "at": at, "keep": "once"}),
        Some("this was allowed once, 12 minutes ago (x); the rule has ended"),
    );
    check(
        json!({"action": "allow", "by": "x", "at": at + 3_600_000_000_u64, "keep": "project"}),
        Some(
            "this was allowed for this project, also in later runs, 0 seconds ago (x); the rule \
             has ended",
        ),
    );
}

#[test]
fn age_is_in_its_largest_unit() {
    for (seconds, expected) in [
        (0, "0 seconds"),
        (59, "59 seconds"),
        (61, "1 minute"),
        (7199, "1 hour"),
        (200_000, "2 days"),
    ] {
        assert_eq!(format_age(Duration::from_secs(seconds)), expected);
    }
}

#[test]
fn earlier_answer_may_have_its_time() {
    let zone = TimeZone::default();
    let check = |previous: Value, expected: &str| {
        with_row("a.example", json!({"previous": previous}), |row| {
            let described = describe_previous_with_time(row, &zone);
            assert_eq!(described.as_deref(), Some(expected));
        });
    };
    let at = 1_795_351_327_000_000_u64;
    check(
        json!({"action": "allow", "by": "uid 1000", "at": at, "keep": "sandbox", "seconds": 300}),
        "allowed for 5 minutes, at 2026-11-22 12:42:07 by uid 1000; that rule has ended",
    );
    check(
        json!({"action": "deny", "by": "", "at": at, "keep": "once", "revoked": true}),
        "denied once, at 2026-11-22 12:42:07; it was revoked",
    );
}

#[test]
fn present_addresses_are_those_of_a_name() {
    with_row("a.example", json!({"address": "203.0.113.9"}), |row| {
        let described = describe_present_addresses(row);
        assert_eq!(described.as_deref(), Some("now 203.0.113.9"));
    });
    for changes in [
        address("192.0.2.7", json!({})),
        json!({"address": "a.example"}),
    ] {
        with_row("a.example", changes, |row| {
            assert_eq!(describe_present_addresses(row), None);
        });
    }
}
