// SPDX-License-Identifier: Apache-2.0
//! Rules from the start, for many names, and of the organisation.

use std::io;

use netns_tests::guarded::{Guarded, Operator, connect};
use policy::{RuleOrigin, RuleSpec, RuleTerm};
use supervisor::{FilteredPolicy, LongestAnswer};
use terok_clearance::{Action, DecisionAction, DisplayText, RuleLifetime, Scope, Timestamp};

use super::{
    LONG, allow, describe_all, ended, for_seconds, names, open, revoke, rules, ruleset, stand_in,
    start,
};

fn rule(origin: &RuleOrigin, action: Action, pattern: &str) -> RuleSpec {
    RuleSpec {
        pattern: pattern.parse().unwrap(),
        action,
        term: RuleTerm::Run,
        origin: origin.clone(),
        by: DisplayText::default(),
        since: Timestamp::now(),
    }
}

/// Starts a supervisor with rules.
async fn start_ruled(policy: FilteredPolicy) -> Guarded {
    let mut guarded = start();
    guarded.end().await;
    guarded.supervise_ruled(LONG, names(), policy);
    guarded
}

#[tokio::test]
async fn rules_for_many_names_count_without_a_question_and_a_deny_outweighs_them() {
    use Action::{Allow, Deny};
    let profile = RuleOrigin::Profile {
        name: "mine".into(),
    };
    let guarded = start_ruled(FilteredPolicy {
        rules: vec![
            rule(&profile, Allow, "*.wild.test:443"),
            rule(&profile, Allow, "ports.test:79-80/tcp"),
            // What the firewall cannot open is left out.
            rule(&profile, Allow, "198.51.100.0/24"),
            rule(&RuleOrigin::Flag, Deny, "*.bad.wild.test"),
            rule(&RuleOrigin::Flag, Deny, "203.0.113.64/26"),
        ],
        ..FilteredPolicy::default()
    })
    .await;
    let mut operator = Operator::connect(&guarded).await;
    let at = stand_in("a.wild.test").await;
    let stream = open(at, 443).await;
    drop(open(stand_in("ports.test").await, 80).await);
    for (at, port) in [
        (stand_in("b.bad.wild.test").await, 443),
        ("203.0.113.70", 443),
    ] {
        // The first packet asks the rules, and the kernel repeats it.
        let (refused, _) = connect(at, port).await.unwrap();
        assert_eq!(
            refused.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused,
            "{at}"
        );
        let (refused, _) = connect(at, port).await.unwrap();
        assert_eq!(
            refused.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused,
            "{at}"
        );
    }
    let listed = rules(&operator).await;
    assert_eq!(
        describe_all(&listed),
        [
            "r1 deny *.bad.wild.test flag 0",
            "r2 deny 203.0.113.64/26 flag 0",
            "r3 allow *.wild.test:443 profile 1",
            "r4 allow ports.test:79-80/tcp profile 0",
        ]
    );
    operator.expect_silence().await;
    // The name itself is not below itself, and another port is another question.
    let waiting = connect(at, 80);
    let asked = operator.question().await;
    assert_eq!(asked.dest.as_str(), "a.wild.test");
    operator.answer(&asked, DecisionAction::Deny).await;
    let other = connect(stand_in("wild.test").await, 443);
    let asked = operator.question().await;
    assert_eq!(asked.dest.as_str(), "wild.test");
    operator.answer(&asked, DecisionAction::Deny).await;
    for denied in [waiting, other] {
        assert!(denied.await.unwrap().0.is_err());
    }
    assert_eq!(revoke(&operator, "r3").await.ended, 1);
    ended(stream).await;
    let of_name = ruleset().matches("a.wild.test").count();
    assert_eq!(of_name, 1, "the deny alone: {}", ruleset());
}

#[tokio::test]
async fn an_answer_for_wider_names_covers_them_until_it_is_revoked() {
    let guarded = start();
    let mut operator = Operator::connect(&guarded).await;
    let at = stand_in("one.example.com").await;
    let decision = allow(&mut operator, at, 443, |request| {
        Some(Scope {
            dest: "*.example.com".parse().unwrap(),
            ..request.scope.clone()
        })
    })
    .await;
    let one = open(at, 443).await;
    let two = open(stand_in("two.example.com").await, 443).await;
    assert_eq!(
        describe_all(&rules(&operator).await),
        ["r1 allow *.example.com:443/tcp decision 2"]
    );
    assert_eq!(revoke(&operator, decision.request.as_str()).await.ended, 2);
    ended(one).await;
    ended(two).await;
    assert!(!ruleset().contains("example.com"), "{}", ruleset());
}

#[tokio::test]
async fn nothing_opens_what_the_organisation_does_not_permit() {
    let ceiling = |pattern| rule(&RuleOrigin::Ceiling, Action::Allow, pattern);
    let mut guarded = start();
    let mut operator = Operator::connect(&guarded).await;
    // Allowed before the ceiling was there.
    let before = stand_in("before.test").await;
    allow(&mut operator, before, 443, |_| None).await;
    let stream = open(before, 443).await;
    guarded.end().await;
    guarded.supervise_ruled(
        LONG,
        names(),
        FilteredPolicy {
            rules: vec![
                ceiling("*.ok.test"),
                rule(&RuleOrigin::Organisation, Action::Deny, "denied.ok.test"),
                rule(&RuleOrigin::Flag, Action::Allow, "elsewhere.test"),
            ],
            has_ceiling: true,
            longest_answer: LongestAnswer::Seconds(60),
        },
    );
    ended(stream).await;
    let mut operator = Operator::connect(&guarded).await;
    // No operator takes a rule of the organisation back.
    let of_organisation = |origin: &str| ["organisation", "ceiling"].contains(&origin);
    let mut listed = rules(&operator).await;
    listed.retain(|rule| of_organisation(rule.origin.as_str()));
    assert_eq!(listed.len(), 2);
    for rule in listed {
        let error = operator.client.revoke(rule.rule).await.unwrap_err();
        assert!(error.to_string().contains("organisation"), "{error}");
    }
    for name in [
        "elsewhere.test",
        "before.test",
        "other.test",
        "denied.ok.test",
    ] {
        let (refused, _) = connect(stand_in(name).await, 443).await.unwrap();
        assert_eq!(
            refused.unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused,
            "{name}"
        );
    }
    operator.expect_silence().await;
    let at = stand_in("a.ok.test").await;
    let waiting = connect(at, 443);
    let request = operator.question().await;
    let asked = operator
        .client
        .decide(&request, DecisionAction::Allow, None);
    let error = asked.await.unwrap_err();
    assert!(error.to_string().contains("last so long"), "{error}");
    let scope = for_seconds(RuleLifetime::Sandbox, 60)(&request);
    let answered = operator
        .client
        .decide(&request, DecisionAction::Allow, scope);
    assert!(answered.await.unwrap().ok);
    waiting.await.unwrap().0.unwrap();
}
