// SPDX-License-Identifier: Apache-2.0
//! What a click does, what closing does not, and what is shown of what became of an answer.

use operator::inbox::{InboxEvent, OperatorReply};
use serde_json::json;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::Event;
use terok_clearance::{Action, ShieldState};
use terok_clearance_desktop::notifier::NotificationUrgency;
use terok_clearance_desktop::popups::{CLICK_GUARD_DELAY, ClickOutcome};

use crate::rig::{NOON, Rig, asks, decided, web};

#[test]
fn a_click_answers_and_the_answer_takes_the_popups_place() {
    for (key, action, title, effect) in [
        ("allow", Action::Allow, "Allowed: a.example", "Open: "),
        ("deny", Action::Deny, "Denied: a.example", "Refused: "),
    ] {
        let mut rig = Rig::up();
        rig.asks(1, "a.example");
        let (slot, ..) = rig.popup("Blocked");
        rig.wait(600);
        let answers = rig.answer("Blocked", key);
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].action, action);
        assert_eq!(answers[0].scope, answers[0].request.scope);
        let by = decided(&answers[0].request, action, "uid 1000");
        rig.settle(&answers[0], OperatorReply::Decided(by));
        let (at, _, popup) = rig.popup(title);
        assert_eq!(
            (at, rig.screen.len()),
            (slot, 1),
            "it is in the question's place"
        );
        let said = format!("Task: warp/build-42 \u{b7} web\n{effect}tcp port 443 of a.example");
        assert_eq!(popup.body, said);
        assert_eq!(popup.hints.urgency, Some(NotificationUrgency::Normal));
        assert!(popup.hints.transient && popup.actions.is_empty());
    }
}

#[test]
fn an_answer_from_elsewhere_takes_the_popups_place_and_says_who_gave_it() {
    let mut rig = Rig::up();
    rig.asks(1, "a.example");
    let request = asks(1, "a.example", json!({}));
    let elsewhere = decided(&request, Action::Deny, "uid 1000 (terok-clearance 4711)");
    rig.says(Event::Decided(elsewhere.into()));
    assert_eq!(rig.titles(), ["Denied: a.example"]);
    let body = rig.body("Denied");
    assert!(
        body.ends_with("\nBy uid 1000 (terok-clearance 4711)"),
        "{body}"
    );
}

#[test]
fn an_answer_that_took_no_effect_is_said_and_asked_again_in_the_same_place() {
    let mut rig = Rig::up();
    rig.asks(1, "a.example");
    let (slot, ..) = rig.popup("Blocked");
    rig.wait(600);
    let answers = rig.answer("Blocked", "allow");
    rig.settle(&answers[0], OperatorReply::Failed("nft: busy".into()));
    let (at, _, popup) = rig.popup("Allow failed: a.example");
    assert_eq!((at, rig.screen.len()), (slot, 1));
    assert!(
        popup
            .body
            .contains("\nThe answer took no effect, the question is still open: nft: busy\n"),
        "{popup:?}"
    );
    assert_eq!(popup.hints.urgency, Some(NotificationUrgency::Critical));
    rig.wait(600);
    let answers = rig.answer("Allow failed", "deny");
    assert_eq!(answers[0].action, Action::Deny);
    rig.settle(
        &answers[0],
        OperatorReply::ResultUnknown("the hub is silent".into()),
    );
    let body = rig.body("Deny unsure: a.example");
    assert!(
        body.contains("\nThe answer may or may not have taken effect: the hub is silent\n"),
        "{body}"
    );
}

/// Invariant 3.
#[test]
fn closing_is_no_answer_and_the_question_keeps_quiet_for_a_while() {
    let mut rig = Rig::up();
    rig.asks(1, "a.example");
    rig.wait(600);
    rig.close("Blocked");
    assert_eq!(
        rig.inbox
            .rows()
            .filter(|row| row.answering().is_some())
            .count(),
        0
    );
    assert_eq!(rig.inbox.rows().len(), 1, "it is still asked");
    let again = |n| asks(1, "a.example", json!({"count": n, "last_seen": NOON + n}));
    rig.wait(5000);
    rig.says(Event::Repeated(again(2)));
    rig.wait(5000);
    assert!(rig.screen.is_empty(), "{:?}", rig.titles());
    rig.wait(25_000);
    rig.says(Event::Repeated(again(3)));
    assert_eq!(rig.titles(), ["Blocked: a.example:443"]);
}

#[test]
fn what_moves_up_when_another_is_closed_is_not_clicked_through() {
    let mut rig = Rig::up();
    rig.asks(1, "a.example");
    rig.asks(2, "b.example");
    rig.wait(5000);
    rig.close("Blocked: a.example");
    let second = rig.click("Blocked: b.example", "allow");
    assert!(matches!(second, ClickOutcome::Rejected(_)), "{second:?}");
}

#[test]
fn what_comes_or_moves_under_the_pointer_is_not_clicked_through() {
    let ms = u64::try_from(CLICK_GUARD_DELAY.as_millis()).unwrap();
    let mut rig = Rig::up();
    rig.asks(1, "a.example");
    rig.wait(ms - 1);
    assert!(matches!(
        rig.click("Blocked", "allow"),
        ClickOutcome::Rejected(_)
    ));
    rig.flush();
    assert_eq!(
        rig.titles(),
        ["Blocked: a.example:443"],
        "it is asked again"
    );
    let body = rig.body("Blocked: a.example");
    assert!(
        body.starts_with("The click came too soon") && body.contains("Choose again.\nTask: "),
        "{body}"
    );
    rig.wait(ms);
    rig.asks(2, "b.example");
    rig.wait(ms - 1);
    let moved = rig.click("Blocked: a.example", "allow");
    assert!(
        matches!(moved, ClickOutcome::Rejected(_)),
        "another one came: {moved:?}"
    );
    rig.flush();
    rig.wait(ms);
    assert!(matches!(
        rig.click("Blocked: a.example", "allow"),
        ClickOutcome::Answer(..)
    ));
    rig.wait(100);
    let second = rig.click("Blocked: b.example", "allow");
    assert!(
        matches!(second, ClickOutcome::Rejected(_)),
        "it moved up under a double click: {second:?}"
    );
}

/// A line more moves the popups below; another count in the same lines moves none.
#[test]
fn a_popup_that_grows_guards_the_others() {
    let ms = u64::try_from(CLICK_GUARD_DELAY.as_millis()).unwrap();
    for (count, grows) in [(2, true), (3, false)] {
        let mut rig = Rig::up();
        rig.asks(1, "a.example");
        rig.asks(2, "b.example");
        if !grows {
            rig.says(Event::Repeated(asks(1, "a.example", json!({"count": 2}))));
        }
        rig.wait(5000);
        rig.says(Event::Repeated(asks(
            1,
            "a.example",
            json!({"count": count}),
        )));
        rig.wait(ms - 1);
        let body = rig.body("Blocked: a.example");
        assert!(body.contains(&format!("Blocked {count} times")), "{body}");
        let click = rig.click("Blocked: b.example", "allow");
        let rejected = matches!(click, ClickOutcome::Rejected(_));
        assert_eq!(rejected, grows, "{click:?}");
    }
}

/// The notifier shows popups again by itself, as when another service takes over.
#[test]
fn a_change_that_only_the_notifier_saw_guards_the_popups() {
    let ms = u64::try_from(CLICK_GUARD_DELAY.as_millis()).unwrap();
    let mut rig = Rig::up();
    rig.asks(1, "a.example");
    rig.wait(5000);
    rig.board.record_layout_change(rig.clock);
    rig.wait(ms - 1);
    let click = rig.click("Blocked", "allow");
    assert!(matches!(click, ClickOutcome::Rejected(_)), "{click:?}");
}

/// Invariant 4.
#[test]
fn a_click_answers_only_what_the_popup_said() {
    let mut rig = Rig::up();
    rig.asks(1, "a.example");
    rig.wait(600);
    let other = json!({"id": "web:2", "address": "203.0.113.9"});
    rig.hear(
        &web(),
        InboxEvent::Received(Event::Pending(asks(2, "a.example", other))),
    );
    let ClickOutcome::Rejected(_) = rig.click("Blocked", "allow") else {
        unreachable!("it would open more than was read")
    };
    rig.flush();
    let body = rig.body("Blocked");
    assert!(body.contains("203.0.113.7 and 1 more"), "{body}");
    rig.wait(600);
    let answers = rig.answer("Blocked", "allow");
    assert_eq!(answers.len(), 2, "both, as it said");
}

#[test]
fn a_popup_goes_with_its_question() {
    let request = || asks(1, "a.example", json!({}));
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
        let mut rig = Rig::with("blocked verdict", ProtocolVersion::Clearance2);
        rig.asks(1, "a.example");
        assert_eq!(rig.titles(), ["Blocked: a.example:443"]);
        rig.news(&web(), event.clone());
        assert!(rig.screen.is_empty(), "{event:?}: {:?}", rig.titles());
    }
    // An older hub says it of the sandbox, and not of each question.
    let mut rig = Rig::with("blocked verdict", ProtocolVersion::Clearance1);
    rig.asks(1, "a.example");
    rig.says(Event::Shield {
        container: "web".parse().unwrap(),
        state: ShieldState::Down,
    });
    assert!(rig.screen.is_empty());
}

#[test]
fn what_cannot_be_answered_right_now_has_no_buttons_and_says_why() {
    let mut rig = Rig::up();
    rig.asks(1, "a.example");
    rig.wait(2000);
    rig.news(&web(), InboxEvent::Down("it broke".into()));
    rig.wait(2000);
    let (.., away) = rig.popup("Blocked: a.example:443");
    assert!(
        away.actions.is_empty() && away.body.contains("The hub is disconnected"),
        "{away:?}"
    );
    rig.hear(&web(), InboxEvent::Restarted);
    rig.hear(&web(), InboxEvent::Up(ProtocolVersion::Clearance2));
    rig.says(Event::Synced);
    rig.wait(2000);
    let (.., lapsed) = rig.popup("Blocked: a.example:443");
    assert!(
        lapsed.actions.is_empty() && lapsed.body.contains("The hub was restarted"),
        "{lapsed:?}"
    );
    rig.asks(9, "a.example");
    rig.wait(2000);
    let (.., asked) = rig.popup("Blocked: a.example:443");
    assert_eq!(asked.actions.len(), 2, "{asked:?}");
    assert_eq!(rig.screen.len(), 1);
}

#[test]
fn whoever_wants_no_answers_sees_none() {
    let mut rig = Rig::with("blocked", ProtocolVersion::Clearance2);
    rig.asks(1, "a.example");
    rig.wait(600);
    let answers = rig.answer("Blocked", "allow");
    let by = decided(&answers[0].request, Action::Allow, "");
    rig.settle(&answers[0], OperatorReply::Decided(by));
    assert!(rig.screen.is_empty(), "{:?}", rig.titles());
}
