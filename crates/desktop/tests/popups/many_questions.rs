// SPDX-License-Identifier: Apache-2.0
//! Many questions at once: one popup for all, and a bounded rate of changes.

use operator::inbox::{InboxEvent, OperatorReply};
use serde_json::json;
use terok_clearance::Action;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::Event;
use terok_clearance_desktop::notifier::{Notification, NotificationAction};
use terok_clearance_desktop::popups::{ClickOutcome, MAX_SINGLE_POPUPS};
use test_support::questions::question;

use crate::harness::{PopupHarness, decided, hub, web, web_question};

fn labels(popup: &Notification) -> Vec<&str> {
    let actions = popup.actions.iter();
    actions.map(NotificationAction::label).collect()
}

#[test]
fn more_than_the_maximum_is_one_popup_until_few_are_left() {
    let mut harness = PopupHarness::connected();
    let name = |n: u64| format!("host{n}.example");
    for n in 1..=MAX_SINGLE_POPUPS as u64 {
        harness.receive_question(n, &name(n));
        harness.wait(3000);
    }
    assert_eq!(harness.titles().len(), MAX_SINGLE_POPUPS);
    harness.receive_question(5, &name(5));
    harness.wait(3000);
    assert_eq!(
        harness.titles(),
        ["5 questions from warp/build-42 \u{b7} web"]
    );
    let (.., group) = harness.popup("5 questions");
    let listed: Vec<_> = (1..=5).map(|n| format!("{} 443/tcp\n", name(n))).collect();
    let hint = "Answer in a terminal: terok-clearance tui";
    assert_eq!(group.body, format!("{}{hint}", listed.concat()));
    assert_eq!(labels(&group), ["Deny all"], "no screen can be opened");
    for n in [1, 2] {
        let request = web_question(n, &name(n), json!({}));
        let done = decided(&request, Action::Deny, "").into();
        harness.apply_without_flush(&web(), InboxEvent::Received(Event::Decided(done)));
    }
    harness.wait(5000);
    let left: Vec<_> = (3..=5)
        .map(|n| format!("Blocked: {}:443", name(n)))
        .collect();
    assert_eq!(harness.titles(), left);
}

#[test]
fn a_group_lists_the_sandboxes_with_most_questions() {
    let mut harness = PopupHarness::connected();
    for (sandbox, questions) in [("a", 1), ("b", 3), ("c", 1), ("d", 2), ("e", 1), ("f", 1)] {
        harness.apply_without_flush(&hub(sandbox), InboxEvent::Up(ProtocolVersion::Clearance2));
        for n in 1..=questions {
            let more = json!({"dossier": {"name": format!("box {sandbox}")}});
            let request = question(sandbox, n, &format!("host{n}.example"), more);
            harness
                .apply_without_flush(&hub(sandbox), InboxEvent::Received(Event::Pending(request)));
        }
    }
    harness.flush();
    let (.., group) = harness.popup("9 questions from 6 sandboxes");
    assert_eq!(
        group.body,
        "host1.example 443/tcp (box a)\nhost1.example 443/tcp (box b)\n\
         host2.example 443/tcp (box b)\nhost3.example 443/tcp (box b)\n\
         host1.example 443/tcp (box c)\nand 4 more\n\
         box b: 3\nbox d: 2\nbox a: 1\nbox c: 1\nand 2 more sandboxes\n\
         Answer in a terminal: terok-clearance tui"
    );
}

#[test]
fn closing_the_group_is_no_answer_and_silences_only_its_questions() {
    let mut harness = PopupHarness::connected();
    for n in 1..=9 {
        harness.receive_question(n, &format!("host{n}.example"));
    }
    harness.wait(5000);
    harness.close("9 questions");
    harness.wait(60_000);
    assert!(harness.screen.is_empty());
    assert_eq!(harness.inbox.rows().len(), 9);
    harness.receive_question(10, "another.example");
    assert_eq!(harness.titles(), ["Blocked: another.example:443"]);
}

#[test]
fn five_hundred_questions_in_a_second_do_not_flood_the_screen() {
    let mut harness = PopupHarness::connected();
    for n in 0..500_u64 {
        let sandbox = format!("box{}", n % 50);
        if n < 50 {
            harness.apply(&hub(&sandbox), InboxEvent::Up(ProtocolVersion::Clearance2));
        }
        let request = question(&sandbox, n, &format!("host{n}.example"), json!({}));
        harness.apply(
            &hub(&sandbox),
            InboxEvent::Received(Event::Pending(request)),
        );
        harness.wait(2);
    }
    let storm = harness.posts;
    assert!(storm <= 8, "{storm} popups in the second");
    harness.wait(10_000);
    assert_eq!(harness.titles(), ["500 questions from 50 sandboxes"]);
    assert!(
        harness.posts <= storm + 2,
        "{} popups in all",
        harness.posts
    );
    assert_eq!(harness.model.next_due(), None, "no command is left");
    // A script answers all of them at the same rate.
    for n in 0..500_u64 {
        let sandbox = format!("box{}", n % 50);
        let request = question(&sandbox, n, &format!("host{n}.example"), json!({}));
        let done = decided(&request, Action::Deny, "uid 1000");
        harness.apply(
            &hub(&sandbox),
            InboxEvent::Received(Event::Decided(done.into())),
        );
        harness.wait(2);
    }
    harness.wait(30_000);
    assert!(
        !harness
            .titles()
            .iter()
            .any(|title| title.contains("question")),
        "{:?}",
        harness.titles()
    );
    assert!(
        harness.posts <= storm + 16,
        "{} popups in all",
        harness.posts
    );
}

/// Returns a harness whose screen can be opened, with `count` questions in a group popup.
fn grouped(count: u64) -> PopupHarness {
    let mut harness = PopupHarness::connected();
    let now = harness.now();
    harness.model.set_can_open_screen(true, now);
    for n in 1..=count {
        harness.receive_question(n, &format!("host{n}.example"));
    }
    harness.wait(10_000);
    harness
}

/// The destinations that a click on the present group popup denies.
fn denied_by_click(harness: &mut PopupHarness) -> Vec<String> {
    let ClickOutcome::Deny(rows) = harness.click("", "deny-listed") else {
        unreachable!("the popup was there long enough")
    };
    let row = |number| harness.inbox.row(number).unwrap().dest().to_string();
    let names = rows.iter().copied().map(row).collect();
    let mut answers = Vec::new();
    for row in rows {
        answers.extend(harness.inbox.answer(row, Action::Deny).unwrap());
    }
    for answer in answers {
        let by = decided(&answer.request, Action::Deny, "uid 1000");
        harness.apply_reply(&answer, OperatorReply::Decided(by));
    }
    names
}

/// Invariant 4.
#[test]
fn deny_all_denies_what_the_popup_lists_and_nothing_that_came_later() {
    let mut harness = grouped(5);
    let (.., group) = harness.popup("5 questions");
    assert_eq!(labels(&group), ["Deny all", "Open"]);
    assert!(!group.body.contains("terminal"), "{group:?}");
    for n in 6..=9 {
        let request = web_question(n, &format!("host{n}.example"), json!({}));
        harness.apply_without_flush(&web(), InboxEvent::Received(Event::Pending(request)));
    }
    let listed: Vec<_> = (1..=5).map(|n| format!("host{n}.example")).collect();
    assert_eq!(denied_by_click(&mut harness), listed);
    // The other questions have their popups.
    harness.wait(5000);
    let left: Vec<_> = (6..=9)
        .map(|n| format!("Blocked: host{n}.example:443"))
        .collect();
    assert_eq!(harness.titles(), left);
}

#[test]
fn a_label_tells_how_many_questions_are_denied() {
    let mut harness = grouped(9);
    let (.., group) = harness.popup("9 questions");
    assert_eq!(labels(&group), ["Deny these 5", "Open"]);
    assert!(group.body.contains("\nand 4 more"), "{group:?}");
    let listed: Vec<_> = (1..=5).map(|n| format!("host{n}.example")).collect();
    assert_eq!(denied_by_click(&mut harness), listed);
}

#[test]
fn a_question_that_changed_since_the_popup_was_shown_is_not_denied() {
    let mut harness = grouped(5);
    let other = json!({"id": "web:20", "address": "203.0.113.9"});
    let event = Event::Pending(web_question(20, "host2.example", other));
    harness.apply_without_flush(&web(), InboxEvent::Received(event));
    let denied = denied_by_click(&mut harness);
    assert_eq!(
        denied,
        [
            "host1.example",
            "host3.example",
            "host4.example",
            "host5.example"
        ]
    );
}

/// A name that is not shown whole is neither listed nor denied.
#[test]
fn a_group_lists_no_name_that_may_be_cut() {
    let mut harness = PopupHarness::connected();
    let long = |n: u64| format!("{}.host{n}.example", "x".repeat(180));
    for n in 1..=5 {
        harness.receive_question(n, &long(n));
    }
    harness.receive_question(6, "short.example");
    harness.wait(10_000);
    let (.., group) = harness.popup("6 questions");
    assert_eq!(labels(&group), ["Deny this one"]);
    assert!(
        group
            .body
            .starts_with("short.example 443/tcp\nand 5 more\n"),
        "{group:?}"
    );
    assert_eq!(denied_by_click(&mut harness), ["short.example"]);
}

#[test]
fn a_click_on_the_group_that_came_too_soon_denies_nothing() {
    let mut harness = grouped(5);
    let now = harness.clock;
    harness.model.record_layout_change(now);
    let click = harness.click("5 questions", "deny-listed");
    assert!(matches!(click, ClickOutcome::Rejected(_)), "{click:?}");
    harness.flush();
    let body = harness.body("5 questions");
    assert!(body.contains("\nThe click came too soon"), "{body}");
}

#[test]
fn the_screen_replaces_the_popups_of_its_questions() {
    let mut harness = grouped(5);
    let (slot, ..) = harness.popup("5 questions");
    assert_eq!(
        harness.click("5 questions", "open"),
        ClickOutcome::OpenScreen
    );
    let now = harness.now();
    harness.model.mark_screen_opened(slot, now);
    harness.wait(60_000);
    assert!(harness.screen.is_empty(), "{:?}", harness.titles());
    // Without a screen, the popup is back, without the action.
    let now = harness.now();
    harness.model.mark_screen_failed(now);
    harness.wait(1000);
    let (.., group) = harness.popup("5 questions");
    assert_eq!(labels(&group), ["Deny all"]);
}
