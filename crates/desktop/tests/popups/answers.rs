// SPDX-License-Identifier: Apache-2.0
//! Clicks, closed popups, and the results of answers.

use operator::inbox::{InboxEvent, OperatorReply};
use serde_json::json;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::Event;
use terok_clearance::{Action, RuleLifetime, ShieldState};
use terok_clearance_desktop::notifier::{NotificationUrgency, TextLimits};
use terok_clearance_desktop::popups::{CLICK_GUARD_DELAY, ClickOutcome};
use test_support::questions::NOON_MICROS;

use crate::harness::{PopupHarness, decided, web, web_question};

#[test]
fn a_click_answers_and_the_result_replaces_the_popup() {
    for (key, action, title, effect) in [
        ("allow", Action::Allow, "Allowed: a.example", "Open: "),
        ("deny", Action::Deny, "Denied: a.example", "Refused: "),
    ] {
        let mut harness = PopupHarness::connected();
        harness.receive_question(1, "a.example");
        let (slot, ..) = harness.popup("Blocked");
        harness.wait(600);
        let answers = harness.answer("Blocked", key);
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].action, action);
        assert_eq!(answers[0].scope, answers[0].request.scope);
        let by = decided(&answers[0].request, action, "uid 1000");
        harness.apply_reply(&answers[0], OperatorReply::Decided(by));
        let (at, _, popup) = harness.popup(title);
        assert_eq!(
            (at, harness.screen.len()),
            (slot, 1),
            "it replaces the question"
        );
        let body =
            format!("Task: warp/build-42 \u{b7} web\n{effect}a.example port 443/tcp, for this run");
        assert_eq!(popup.body, body);
        assert_eq!(popup.hints.urgency, Some(NotificationUrgency::Normal));
        assert!(popup.hints.transient && popup.actions.is_empty());
    }
}

#[test]
fn the_answer_of_another_operator_replaces_the_popup_and_names_them() {
    let mut harness = PopupHarness::connected();
    harness.receive_question(1, "a.example");
    let request = web_question(1, "a.example", json!({}));
    let elsewhere = decided(&request, Action::Deny, "uid 1000 (terok-clearance 4711)");
    harness.receive(Event::Decided(elsewhere.into()));
    assert_eq!(harness.titles(), ["Denied: a.example"]);
    let body = harness.body("Denied");
    assert!(
        body.ends_with("\nBy uid 1000 (terok-clearance 4711)"),
        "{body}"
    );
}

#[test]
fn a_failed_answer_is_reported_in_the_popup_of_the_question() {
    let mut harness = PopupHarness::connected();
    harness.receive_question(1, "a.example");
    let (slot, ..) = harness.popup("Blocked");
    harness.wait(600);
    let answers = harness.answer("Blocked", "allow");
    harness.apply_reply(&answers[0], OperatorReply::Failed("nft: busy".into()));
    let (at, _, popup) = harness.popup("Allow failed: a.example");
    assert_eq!((at, harness.screen.len()), (slot, 1));
    assert!(
        popup
            .body
            .contains("\nThe answer took no effect, the question is still open: nft: busy\n"),
        "{popup:?}"
    );
    assert_eq!(popup.hints.urgency, Some(NotificationUrgency::Critical));
    harness.wait(600);
    let answers = harness.answer("Allow failed", "deny");
    assert_eq!(answers[0].action, Action::Deny);
    harness.apply_reply(
        &answers[0],
        OperatorReply::ResultUnknown("the hub is silent".into()),
    );
    let body = harness.body("Deny unsure: a.example");
    assert!(
        body.contains("\nThe answer may or may not have taken effect: the hub is silent\n"),
        "{body}"
    );
}

/// Invariant 3.
#[test]
fn closing_a_popup_is_no_answer_and_delays_the_next_one() {
    let mut harness = PopupHarness::connected();
    harness.receive_question(1, "a.example");
    harness.wait(600);
    harness.close("Blocked");
    assert_eq!(
        harness
            .inbox
            .rows()
            .filter(|row| row.answering().is_some())
            .count(),
        0
    );
    assert_eq!(harness.inbox.rows().len(), 1, "the question stays");
    let again = |n| {
        web_question(
            1,
            "a.example",
            json!({"count": n, "last_seen": NOON_MICROS + n}),
        )
    };
    harness.wait(5000);
    harness.receive(Event::Repeated(again(2)));
    harness.wait(5000);
    assert!(harness.screen.is_empty(), "{:?}", harness.titles());
    harness.wait(25_000);
    harness.receive(Event::Repeated(again(3)));
    assert_eq!(harness.titles(), ["Blocked: a.example:443"]);
}

#[test]
fn a_popup_that_moved_up_after_a_close_rejects_clicks() {
    let mut harness = PopupHarness::connected();
    harness.receive_question(1, "a.example");
    harness.receive_question(2, "b.example");
    harness.wait(5000);
    harness.close("Blocked: a.example");
    let second = harness.click("Blocked: b.example", "allow");
    assert!(matches!(second, ClickOutcome::Rejected(_)), "{second:?}");
}

#[test]
fn a_popup_that_appeared_or_moved_recently_rejects_clicks() {
    let ms = u64::try_from(CLICK_GUARD_DELAY.as_millis()).unwrap();
    let mut harness = PopupHarness::connected();
    harness.receive_question(1, "a.example");
    harness.wait(ms - 1);
    assert!(matches!(
        harness.click("Blocked", "allow"),
        ClickOutcome::Rejected(_)
    ));
    harness.flush();
    assert_eq!(
        harness.titles(),
        ["Blocked: a.example:443"],
        "the question is shown again"
    );
    let body = harness.body("Blocked: a.example");
    assert!(
        body.starts_with("Allow opens ")
            && body.contains("\nThe click came too soon")
            && body.contains("Choose again.\nTask: "),
        "{body}"
    );
    harness.wait(ms);
    harness.receive_question(2, "b.example");
    harness.wait(ms - 1);
    let moved = harness.click("Blocked: a.example", "allow");
    assert!(
        matches!(moved, ClickOutcome::Rejected(_)),
        "a new popup moved it: {moved:?}"
    );
    harness.flush();
    harness.wait(ms);
    assert!(matches!(
        harness.click("Blocked: a.example", "allow"),
        ClickOutcome::Answer(..)
    ));
    harness.wait(100);
    let second = harness.click("Blocked: b.example", "allow");
    assert!(
        matches!(second, ClickOutcome::Rejected(_)),
        "it moved up under a double click: {second:?}"
    );
}

/// An additional line moves the popups below; a changed count in an existing line does not.
#[test]
fn a_click_below_a_popup_that_grew_is_rejected() {
    let ms = u64::try_from(CLICK_GUARD_DELAY.as_millis()).unwrap();
    for (count, grows) in [(2, true), (3, false)] {
        let mut harness = PopupHarness::connected();
        harness.receive_question(1, "a.example");
        harness.receive_question(2, "b.example");
        if !grows {
            harness.receive(Event::Repeated(web_question(
                1,
                "a.example",
                json!({"count": 2}),
            )));
        }
        harness.wait(5000);
        harness.receive(Event::Repeated(web_question(
            1,
            "a.example",
            json!({"count": count}),
        )));
        harness.wait(ms - 1);
        let body = harness.body("Blocked: a.example");
        assert!(body.contains(&format!("Blocked {count} times")), "{body}");
        let click = harness.click("Blocked: b.example", "allow");
        let rejected = matches!(click, ClickOutcome::Rejected(_));
        assert_eq!(rejected, grows, "{click:?}");
    }
}

/// The notifier shows popups again without a command when another service takes over.
#[test]
fn a_click_after_a_layout_change_of_the_notifier_is_rejected() {
    let ms = u64::try_from(CLICK_GUARD_DELAY.as_millis()).unwrap();
    let mut harness = PopupHarness::connected();
    harness.receive_question(1, "a.example");
    harness.wait(5000);
    harness.model.record_layout_change(harness.clock);
    harness.wait(ms - 1);
    let click = harness.click("Blocked", "allow");
    assert!(matches!(click, ClickOutcome::Rejected(_)), "{click:?}");
}

/// Invariant 4.
#[test]
fn a_click_answers_only_the_scope_in_the_popup() {
    let mut harness = PopupHarness::connected();
    harness.receive_question(1, "a.example");
    harness.wait(600);
    let other = json!({"id": "web:2", "address": "203.0.113.9"});
    harness.apply_without_flush(
        &web(),
        InboxEvent::Received(Event::Pending(web_question(2, "a.example", other))),
    );
    let ClickOutcome::Rejected(_) = harness.click("Blocked", "allow") else {
        unreachable!("the answer would open more than the popup body")
    };
    harness.flush();
    let body = harness.body("Blocked");
    assert!(body.contains("203.0.113.7 and 1 more"), "{body}");
    harness.wait(600);
    let answers = harness.answer("Blocked", "allow");
    assert_eq!(answers.len(), 2, "one for each address in the popup");
}

#[test]
fn a_popup_closes_with_its_question() {
    let request = || web_question(1, "a.example", json!({}));
    let withdrawn = |reason: &str| Event::Withdrawn {
        request: request(),
        reason: reason.into(),
    };
    for event in [
        InboxEvent::Received(withdrawn("exited")),
        InboxEvent::Received(withdrawn("shield")),
        InboxEvent::Received(withdrawn("evicted")),
        InboxEvent::Gone,
    ] {
        let mut harness = PopupHarness::with("blocked verdict", ProtocolVersion::Clearance2);
        harness.receive_question(1, "a.example");
        assert_eq!(harness.titles(), ["Blocked: a.example:443"]);
        harness.apply(&web(), event.clone());
        assert!(
            harness.screen.is_empty(),
            "{event:?}: {:?}",
            harness.titles()
        );
    }
    // A Clearance1 hub reports this for the sandbox and not for each question.
    let mut harness = PopupHarness::with("blocked verdict", ProtocolVersion::Clearance1);
    harness.receive_question(1, "a.example");
    harness.receive(Event::Shield {
        container: "web".parse().unwrap(),
        state: ShieldState::Down,
    });
    assert!(harness.screen.is_empty());
}

#[test]
fn a_question_that_cannot_be_answered_has_no_buttons_and_a_reason() {
    let mut harness = PopupHarness::connected();
    harness.receive_question(1, "a.example");
    harness.wait(2000);
    harness.apply(&web(), InboxEvent::Down("it broke".into()));
    harness.wait(2000);
    let (.., away) = harness.popup("Blocked: a.example:443");
    assert!(
        away.actions.is_empty() && away.body.contains("The hub is disconnected"),
        "{away:?}"
    );
    harness.apply_without_flush(&web(), InboxEvent::Restarted);
    harness.apply_without_flush(&web(), InboxEvent::Up(ProtocolVersion::Clearance2));
    harness.receive(Event::Synced);
    harness.wait(2000);
    let (.., lapsed) = harness.popup("Blocked: a.example:443");
    assert!(
        lapsed.actions.is_empty() && lapsed.body.contains("The hub was restarted"),
        "{lapsed:?}"
    );
    harness.receive_question(9, "a.example");
    harness.wait(2000);
    let (.., pending) = harness.popup("Blocked: a.example:443");
    assert_eq!(pending.actions.len(), 2, "{pending:?}");
    assert_eq!(harness.screen.len(), 1);
}

#[test]
fn results_are_not_shown_without_their_category() {
    let mut harness = PopupHarness::with("blocked", ProtocolVersion::Clearance2);
    harness.receive_question(1, "a.example");
    harness.wait(600);
    let answers = harness.answer("Blocked", "allow");
    let by = decided(&answers[0].request, Action::Allow, "");
    harness.apply_reply(&answers[0], OperatorReply::Decided(by));
    assert!(harness.screen.is_empty(), "{:?}", harness.titles());
}

/// A click beside the buttons closes a popup at most services. It was not meant for a popup that
/// has just come.
#[test]
fn a_popup_that_is_closed_too_soon_is_shown_again_a_few_times() {
    let ms = u64::try_from(CLICK_GUARD_DELAY.as_millis()).unwrap();
    for (wait, comes_again) in [(0, true), (200, true), (ms - 1, true), (ms, false)] {
        let mut harness = PopupHarness::connected();
        harness.receive_question(1, "a.example");
        harness.wait(wait);
        harness.close("Blocked");
        harness.wait(1000);
        assert_eq!(harness.screen.len(), usize::from(comes_again), "{wait} ms");
        if comes_again {
            let body = harness.body("Blocked: a.example");
            assert!(body.contains("\nThe click came too soon"), "{body}");
            harness.wait(ms);
            assert!(matches!(
                harness.click("Blocked", "allow"),
                ClickOutcome::Answer(..)
            ));
        }
    }
    // A service that closes every popup at once is not asked for ever.
    let mut harness = PopupHarness::connected();
    harness.receive_question(1, "a.example");
    let mut closes = 0;
    while !harness.screen.is_empty() {
        harness.close("Blocked");
        harness.flush();
        closes += 1;
        assert!(closes < 10, "it comes again for ever");
    }
    assert_eq!(harness.inbox.rows().len(), 1, "the question stays");
}

#[test]
fn a_group_that_is_closed_too_soon_is_shown_again() {
    let mut harness = PopupHarness::connected();
    for n in 1..=5 {
        harness.receive_question(n, &format!("host{n}.example"));
    }
    let now = harness.clock;
    harness.model.record_layout_change(now);
    harness.wait(200);
    harness.close("5 questions");
    harness.flush();
    assert_eq!(
        harness.titles(),
        ["5 questions from warp/build-42 \u{b7} web"]
    );
    harness.wait(5000);
    harness.close("5 questions");
    assert!(harness.screen.is_empty(), "{:?}", harness.titles());
}

/// Invariant 4.
#[test]
fn a_further_action_has_the_lifetime_on_its_button() {
    for (key, keep, seconds) in [
        ("allow-5min", RuleLifetime::Sandbox, Some(300)),
        ("allow-once", RuleLifetime::Once, None),
        ("allow-1h", RuleLifetime::Sandbox, Some(3600)),
        ("allow-always", RuleLifetime::Always, None),
    ] {
        let offers = |lifetimes: &[&str]| {
            let changes = json!({"lifetimes": lifetimes, "count": lifetimes.len()});
            web_question(1, "a.example", changes)
        };
        let all = ["once", "sandbox", "project", "always"];
        let mut harness = PopupHarness::connected();
        let now = harness.now();
        harness.model.set_limits(TextLimits::UNLIMITED, now);
        harness.receive(Event::Pending(offers(&all)));
        let too_soon = harness.click("Blocked", key);
        assert!(
            matches!(too_soon, ClickOutcome::Rejected(_)),
            "{too_soon:?}"
        );
        harness.flush();
        harness.wait(600);
        // The hub no longer offers it: the click is for a text that is no longer true.
        harness.apply_without_flush(&web(), InboxEvent::Received(Event::Repeated(offers(&[]))));
        let changed = harness.click("Blocked", key);
        assert!(matches!(changed, ClickOutcome::Rejected(_)), "{changed:?}");
        harness.receive(Event::Repeated(offers(&all)));
        harness.wait(2000);
        let answers = harness.answer("Blocked", key);
        assert_eq!(answers[0].action, Action::Allow);
        let scope = &answers[0].scope;
        assert_eq!((scope.keep, scope.seconds), (keep, seconds), "{key}");
        assert_eq!(scope.dest.as_str(), "a.example");
    }
}
