// SPDX-License-Identifier: Apache-2.0
//! Many questions at once: one popup for all, and a bounded rate of changes.

use operator::inbox::InboxEvent;
use serde_json::json;
use terok_clearance::Action;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::Event;
use terok_clearance_desktop::popups::MAX_SINGLE_POPUPS;
use test_support::questions::question;

use crate::harness::{PopupHarness, decided, hub, web, web_question};

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
    assert_eq!(group.body, "Answer in a terminal: terok-clearance tui");
    assert!(group.actions.is_empty(), "a group cannot be answered");
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
        "box b: 3\nbox d: 2\nbox a: 1\nbox c: 1\nand 2 more sandboxes\n\
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
