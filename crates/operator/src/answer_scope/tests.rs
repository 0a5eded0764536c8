// SPDX-License-Identifier: Apache-2.0
//! Tests of the scopes of answers.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use terok_clearance::Action;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::Event;
use test_support::questions::question;

use super::*;
use crate::inbox::{HubId, Inbox, InboxEvent, RowRefusal};
use crate::phrases;

const EVERY_LIFETIME: [&str; 4] = ["once", "sandbox", "project", "always"];

/// Returns an inbox with these questions of one sandbox.
fn inbox_with(questions: &[Value], version: ProtocolVersion) -> Inbox {
    let hub = HubId::new(Path::new("/run/hub.sock"));
    let mut inbox = Inbox::new();
    inbox.apply_event(&hub, InboxEvent::Up(version));
    for (number, changes) in (1..).zip(questions) {
        let asked = question("web", number, "api.example.com", changes.clone());
        let event = Event::Pending(Arc::clone(&asked));
        inbox.apply_event(&hub, InboxEvent::Received(event));
    }
    inbox
}

fn with_row<T>(changes: Value, check: impl FnOnce(&Row) -> T) -> T {
    let inbox = inbox_with(&[changes], ProtocolVersion::Clearance2);
    check(inbox.rows().next().unwrap())
}

fn everything_offered() -> Value {
    json!({"wider": ["*.example.com"], "lifetimes": EVERY_LIFETIME})
}

fn dest(name: &str) -> Dest {
    name.parse().unwrap()
}

#[test]
fn every_choice_of_a_hub_that_offers_all_is_offered() {
    with_row(everything_offered(), |row| {
        let offered: Vec<_> = ScopeChoice::offered(row).collect();
        assert_eq!(offered, ScopeChoice::all());
        assert_eq!(AnswerScope::default_of(row), ScopeChoice::Run.scope());
        assert_eq!(row.offered_names(), ["*.example.com".parse().unwrap()]);
        let scope = row.scope_with(&ScopeChoice::Run.scope()).unwrap();
        assert_eq!(scope, *row.scope());
        let wide = ScopeChoice::FiveMinutes.scope();
        let wide = wide.with_dest(Some(dest("*.example.com")));
        let scope = row.scope_with(&wide).unwrap();
        assert_eq!(
            serde_json::to_value(&scope).unwrap(),
            json!({"dest": "*.example.com", "port": 443, "protocol": "tcp", "keep": "sandbox",
                   "seconds": 300})
        );
    });
}

#[test]
fn a_hub_without_offers_has_the_own_scope_only() {
    for version in [ProtocolVersion::Clearance1, ProtocolVersion::Clearance2] {
        let kept = json!({"scope": {"dest": "api.example.com", "keep": "until_removed"}});
        let inbox = inbox_with(&[kept], version);
        let row = inbox.rows().next().unwrap();
        assert_eq!(ScopeChoice::offered(row).count(), 0);
        assert_eq!(
            row.scope_with(&AnswerScope::default_of(row)).as_ref(),
            Ok(row.scope())
        );
        let refused = row.scope_with(&ScopeChoice::OneHour.scope()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the firewall of this sandbox offers no choice; an answer lasts until it is removed \
             from the firewall"
        );
    }
    with_row(json!({}), |row| {
        let offered: Vec<_> = ScopeChoice::offered(row).collect();
        assert_eq!(offered, [ScopeChoice::Run]);
    });
}

#[test]
fn refusals_say_what_is_offered() {
    let check = |changes: Value, asked: AnswerScope, expected: &str| {
        with_row(changes, |row| {
            let refusal = row.scope_with(&asked).unwrap_err();
            assert_eq!(refusal.to_string(), expected);
        });
    };
    let run = ScopeChoice::Run.scope();
    check(
        everything_offered(),
        run.clone().with_dest(Some(dest("*.com"))),
        "the question does not offer *.com; it offers *.example.com",
    );
    check(
        json!({}),
        run.with_dest(Some(dest("*.example.com"))),
        "the question does not offer *.example.com; it offers no wider name",
    );
    check(
        json!({"lifetimes": ["once", "sandbox"]}),
        ScopeChoice::Always.scope(),
        "the question does not offer \"always, in every sandbox\"; it offers: once, 5 min, 1 h, \
         this run",
    );
    let once = ScopeChoice::Once
        .scope()
        .with_dest(Some(dest("*.example.com")));
    check(
        everything_offered(),
        once,
        "an answer for one connection is for the name that was asked about, no wider one",
    );
    check(
        everything_offered(),
        AnswerScope::own_dest(RuleLifetime::Project, Some(9)),
        "an answer with the lifetime project has no end after some seconds",
    );
    check(
        everything_offered(),
        AnswerScope::own_dest(RuleLifetime::Sandbox, Some(0)),
        "an answer lasts at least a second",
    );
}

#[test]
fn only_what_every_question_of_a_row_offers_is_offered() {
    let narrow = json!({"address": "203.0.113.9", "wider": ["*.a.example.com"],
                        "lifetimes": ["once", "sandbox"]});
    let inbox = inbox_with(&[everything_offered(), narrow], ProtocolVersion::Clearance2);
    assert_eq!(inbox.rows().len(), 1);
    let row = inbox.rows().next().unwrap();
    assert_eq!(row.offered_names(), [] as [Dest; 0]);
    let expected = [RuleLifetime::Once, RuleLifetime::Sandbox];
    assert_eq!(row.offered_lifetimes(), expected);
}

#[test]
fn every_question_of_a_row_is_answered_with_the_chosen_scope() {
    let mut other = everything_offered();
    other["address"] = json!("203.0.113.9");
    let mut inbox = inbox_with(&[everything_offered(), other], ProtocolVersion::Clearance2);
    let number = inbox.rows().next().unwrap().number();
    let too_wide = ScopeChoice::Run.scope().with_dest(Some(dest("*.com")));
    let refused = inbox.answer_with(number, Action::Allow, &too_wide);
    assert!(matches!(refused, Err(RowRefusal::Scope(..))), "{refused:?}");
    assert_eq!(inbox.row(number).unwrap().answering(), None);

    let wide = ScopeChoice::OneHour.scope();
    let wide = wide.with_dest(Some(dest("*.example.com")));
    let answers = inbox.answer_with(number, Action::Deny, &wide).unwrap();
    let row = inbox.row(number).unwrap();
    let expected = row.scope_with(&wide).unwrap();
    assert_eq!(row.answering_scope(), Some(&expected));
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|answer| answer.scope == expected));
    assert_eq!(row.dest().as_str(), "api.example.com");
}

prop_compose! {
    fn any_scope()(
        wide in proptest::sample::select(vec![
            None, Some("api.example.com"), Some("*.example.com"), Some("*.com"), Some("*"),
            Some("other.example.com"),
        ]),
        keep in proptest::sample::select(vec![
            RuleLifetime::Once, RuleLifetime::Sandbox, RuleLifetime::UntilRemoved,
            RuleLifetime::Project, RuleLifetime::Always,
        ]),
        seconds in proptest::sample::select(vec![None, Some(0), Some(1), Some(300), Some(u32::MAX)]),
    ) -> AnswerScope {
        AnswerScope { dest: wide.map(dest), keep, seconds }
    }
}

proptest! {
    #[test]
    fn no_scope_is_more_than_the_question_offers(
        asked in any_scope(),
        wider in any::<bool>(),
        lifetimes in proptest::sample::subsequence(EVERY_LIFETIME.to_vec(), 0..=4),
    ) {
        let mut changes = json!({"lifetimes": lifetimes});
        if wider {
            changes["wider"] = json!(["*.example.com"]);
        }
        with_row(changes, |row| {
            let words = phrases::describe_effect(row, Action::Allow, &asked);
            let scope = match row.scope_with(&asked) {
                Ok(scope) => scope,
                Err(refusal) => {
                    prop_assert_eq!(words, refusal.to_string());
                    return Ok(());
                }
            };
            let own = row.scope();
            for choice in ScopeChoice::all() {
                prop_assert_eq!(choice.is_offered(row), row.scope_with(&choice.scope()).is_ok());
            }
            prop_assert_eq!((scope.port, scope.protocol), (own.port, own.protocol));
            prop_assert!(scope.dest == own.dest || row.offered_names().contains(&scope.dest));
            let is_own = (scope.keep, scope.seconds) == (own.keep, own.seconds);
            prop_assert!(is_own || lifetimes.contains(&scope.keep.as_str()));
            prop_assert!(scope.seconds != Some(0));
            prop_assert!(scope.seconds.is_none() || !scope.keep.is_kept());
            prop_assert!(scope.keep != RuleLifetime::Once || scope.dest == own.dest);
            // The words name the names and the lifetime of exactly this scope.
            let reach = phrases::describe_reach(&scope);
            prop_assert!(words.starts_with(&reach), "{}", words);
            let lifetime = phrases::describe_answer_lifetime(scope.keep, scope.seconds);
            prop_assert!(words.contains(&lifetime), "{}", words);
            Ok(())
        })?;
    }
}
