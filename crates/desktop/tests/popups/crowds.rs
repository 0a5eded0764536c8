// SPDX-License-Identifier: Apache-2.0
//! Many questions at once: one popup for all, and never more of them than a person can stand.

use operator::inbox::InboxEvent;
use serde_json::json;
use terok_clearance::Action;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::Event;
use terok_clearance_desktop::popups::MAX_SINGLE_POPUPS;

use crate::rig::{Rig, asks, asks_of, decided, hub, web};

#[test]
fn more_than_a_handful_is_one_popup_until_there_are_few_again() {
    let mut rig = Rig::up();
    let name = |n: u64| format!("host{n}.example");
    for n in 1..=MAX_SINGLE_POPUPS as u64 {
        rig.asks(n, &name(n));
        rig.wait(3000);
    }
    assert_eq!(rig.titles().len(), MAX_SINGLE_POPUPS);
    rig.asks(5, &name(5));
    rig.wait(3000);
    assert_eq!(rig.titles(), ["5 questions from warp/build-42 \u{b7} web"]);
    let (.., group) = rig.popup("5 questions");
    assert_eq!(group.body, "Answer in a terminal: terok-clearance tui");
    assert!(
        group.actions.is_empty(),
        "nobody answers what they cannot see"
    );
    for n in [1, 2] {
        let request = asks(n, &name(n), json!({}));
        let done = decided(&request, Action::Deny, "").into();
        rig.hear(&web(), InboxEvent::Received(Event::Decided(done)));
    }
    rig.wait(5000);
    let left: Vec<_> = (3..=5)
        .map(|n| format!("Blocked: {}:443", name(n)))
        .collect();
    assert_eq!(rig.titles(), left);
}

#[test]
fn a_group_says_who_has_most_and_counts_the_rest() {
    let mut rig = Rig::up();
    for (sandbox, questions) in [("a", 1), ("b", 3), ("c", 1), ("d", 2), ("e", 1), ("f", 1)] {
        rig.hear(&hub(sandbox), InboxEvent::Up(ProtocolVersion::Clearance2));
        for n in 1..=questions {
            let more = json!({"dossier": {"name": format!("box {sandbox}")}});
            let asked = asks_of(sandbox, n, &format!("host{n}.example"), more);
            rig.hear(&hub(sandbox), InboxEvent::Received(Event::Pending(asked)));
        }
    }
    rig.flush();
    let (.., group) = rig.popup("9 questions from 6 sandboxes");
    assert_eq!(
        group.body,
        "box b: 3\nbox d: 2\nbox a: 1\nbox c: 1\nand 2 more sandboxes\n\
         Answer in a terminal: terok-clearance tui"
    );
}

#[test]
fn closing_the_group_is_no_answer_and_silences_what_it_stood_for_alone() {
    let mut rig = Rig::up();
    for n in 1..=9 {
        rig.asks(n, &format!("host{n}.example"));
    }
    rig.wait(5000);
    rig.close("9 questions");
    rig.wait(60_000);
    assert!(rig.screen.is_empty());
    assert_eq!(rig.inbox.rows().len(), 9);
    rig.asks(10, "another.example");
    assert_eq!(rig.titles(), ["Blocked: another.example:443"]);
}

#[test]
fn five_hundred_questions_in_a_second_do_not_flood_the_screen() {
    let mut rig = Rig::up();
    for n in 0..500_u64 {
        let sandbox = format!("box{}", n % 50);
        if n < 50 {
            rig.news(&hub(&sandbox), InboxEvent::Up(ProtocolVersion::Clearance2));
        }
        let asked = asks_of(&sandbox, n, &format!("host{n}.example"), json!({}));
        rig.news(&hub(&sandbox), InboxEvent::Received(Event::Pending(asked)));
        rig.wait(2);
    }
    let storm = rig.posts;
    assert!(storm <= 8, "{storm} popups in the second");
    rig.wait(10_000);
    assert_eq!(rig.titles(), ["500 questions from 50 sandboxes"]);
    assert!(rig.posts <= storm + 2, "{} popups in all", rig.posts);
    assert_eq!(
        rig.board.next_due(),
        None,
        "and then there is nothing to do"
    );
    // All are answered by a script, as fast.
    for n in 0..500_u64 {
        let sandbox = format!("box{}", n % 50);
        let asked = asks_of(&sandbox, n, &format!("host{n}.example"), json!({}));
        let done = decided(&asked, Action::Deny, "uid 1000");
        rig.news(
            &hub(&sandbox),
            InboxEvent::Received(Event::Decided(done.into())),
        );
        rig.wait(2);
    }
    rig.wait(30_000);
    assert!(
        !rig.titles().iter().any(|title| title.contains("question")),
        "{:?}",
        rig.titles()
    );
    assert!(rig.posts <= storm + 16, "{} popups in all", rig.posts);
}
