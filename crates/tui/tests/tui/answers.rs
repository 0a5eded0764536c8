// SPDX-License-Identifier: Apache-2.0
//! An answer reaches only the question that the operator has read.

use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use operator::inbox::{InboxEvent, OperatorReply};
use terok_clearance::wire::clearance2::Event;
use terok_clearance::{Action, Decision};
use terok_clearance_tui::{TuiEffect, TuiMessage};

use crate::harness::{ALLOW, Effect, TestUi, answers, asks, asks_at, decision};

/// Three questions, visible for long enough, the first selected.
pub(crate) fn three() -> TestUi {
    let mut ui = TestUi::up(110, 30);
    for (n, name) in [(1, "one.example"), (2, "two.example"), (3, "three.example")] {
        ui.asks(&asks(n, name));
    }
    ui.wait(600);
    assert_eq!(ui.selected(), Some(1));
    ui
}

#[test]
fn key_answers_the_shown_question_and_the_result_is_shown() {
    for (key, action, word) in [
        ('a', ALLOW, "ALLOWED"),
        ('x', Action::Deny, "DENIED"),
        ('d', Action::Deny, "DENIED"),
    ] {
        let mut ui = three();
        let screen = ui.screen();
        let opens = "opens one.example port 443/tcp, for this run (now 203.0.113.7)";
        assert!(screen.contains(opens), "{screen}");
        let sent = answers(ui.press(KeyCode::Char(key)));
        let [answer] = sent.as_slice() else {
            panic!("{sent:?}");
        };
        assert_eq!(answer.action, action);
        assert_eq!(answer.request.dest.as_str(), "one.example");
        assert_eq!(answer.scope, answer.request.scope);
        let being = if action == ALLOW {
            "allowing"
        } else {
            "denying"
        };
        assert!(ui.screen().contains(being));
        ui.confirm(answer);
        let status = ui.status();
        assert!(status.contains(word), "{status}");
        assert!(status.contains("one.example port 443/tcp"), "{status}");
        assert_eq!(ui.selected(), Some(2));
    }
}

#[test]
fn key_is_refused_while_the_question_just_appeared() {
    let mut ui = TestUi::up(80, 24);
    ui.asks(&asks(1, "one.example"));
    // The question is not drawn yet.
    assert_eq!(ui.press(KeyCode::Char('a')), None);
    ui.wait(499);
    assert_eq!(ui.press(KeyCode::Char('a')), None);
    let status = ui.status();
    assert!(
        status.starts_with("NOT answered: question 1 just appeared"),
        "{status}"
    );
    // Each refused key restarts the time.
    for _ in 0..20 {
        ui.wait(100);
        assert_eq!(ui.press(KeyCode::Char('a')), None);
    }
    ui.wait(501);
    assert_eq!(answers(ui.press(KeyCode::Char('a'))).len(), 1);
}

#[test]
fn question_that_moves_under_the_selection_is_not_answered() {
    let mut ui = three();
    // Another operator answers the first; the second takes its place.
    let first = asks(1, "one.example");
    let by = Decision {
        by: "uid 1001".into(),
        ..of_first()
    };
    ui.says(Event::Decided(Arc::new(by)));
    assert_eq!(ui.press(KeyCode::Char('a')), None, "before it is drawn");
    ui.wait(100);
    assert_eq!(ui.selected(), Some(2));
    assert_eq!(ui.press(KeyCode::Char('a')), None, "as it is drawn");
    ui.wait(501);
    let sent = answers(ui.press(KeyCode::Char('a')));
    assert_eq!(sent[0].request.dest.as_str(), "two.example");
    drop(first);
}

fn of_first() -> Decision {
    let mut ui = three();
    let answer = answers(ui.press(KeyCode::Char('a'))).remove(0);
    decision(&answer, "uid 1000")
}

#[test]
fn selection_follows_the_question_not_the_line() {
    let mut ui = three();
    ui.types("jj");
    assert_eq!(ui.selected(), Some(3));
    ui.says(Event::Decided(Arc::new(of_first())));
    ui.wait(0);
    assert_eq!(ui.selected(), Some(3));
    // The selected question did not change, so its time goes on.
    let sent = answers(ui.press(KeyCode::Char('d')));
    assert_eq!(sent[0].request.dest.as_str(), "three.example");
}

#[test]
fn question_that_would_open_more_must_be_read_again() {
    let mut ui = three();
    // Another address of the same name: an answer would open both.
    ui.asks(&asks_at(4, "one.example", "203.0.113.8"));
    assert_eq!(ui.press(KeyCode::Char('a')), None);
    let status = ui.status();
    assert!(
        status.starts_with("NOT answered: question 1 just changed"),
        "{status}"
    );
    assert!(ui.screen().contains("(now 203.0.113.7 and 1 more)"));
    ui.wait(501);
    assert_eq!(answers(ui.press(KeyCode::Char('a'))).len(), 2);
}

/// The operator cannot have aimed at a question that the filter hid.
#[test]
fn questions_that_came_behind_a_filter_need_time_to_read() {
    let mut ui = TestUi::up(110, 30);
    for key in ['/', 'y'] {
        ui.press(KeyCode::Char(key));
    }
    for (number, name) in [(1, "one.example"), (2, "two.example")] {
        ui.asks(&asks(number, name));
    }
    ui.press(KeyCode::Esc);
    ui.press(KeyCode::Char('j'));
    assert_eq!(ui.selected(), Some(2));
    ui.wait(60);
    assert_eq!(ui.press(KeyCode::Char('a')), None);
    ui.wait(501);
    assert_eq!(answers(ui.press(KeyCode::Char('a'))).len(), 1);
}

#[test]
fn frequently_repeated_question_can_be_answered() {
    let mut ui = three();
    let mut again = asks(1, "one.example");
    for count in 2..50 {
        Arc::make_mut(&mut again).count = count;
        ui.says(Event::Repeated(Arc::clone(&again)));
        ui.wait(30);
    }
    assert!(ui.screen().contains("49 times since 12:42:08"));
    assert_eq!(answers(ui.press(KeyCode::Char('a'))).len(), 1);
}

#[test]
fn burst_of_keys_moves_the_selection_without_answering() {
    let mut ui = three();
    for key in ['j', 'a', 'j', 'd'] {
        assert_eq!(ui.press(KeyCode::Char(key)), None, "{key}");
        ui.draw();
    }
    assert_eq!(ui.selected(), Some(3));
    // Each key restarts the time.
    for _ in 0..5 {
        ui.wait(399);
        assert_eq!(ui.press(KeyCode::Char('d')), None);
    }
    ui.wait(401);
    assert_eq!(answers(ui.press(KeyCode::Char('d'))).len(), 1);
}

type Change<'a> = &'a dyn Fn(&mut TestUi);

/// Every move to a question that took the place of another.
#[test]
fn selection_in_a_changing_list_needs_time_to_read() {
    let second_goes = |ui: &mut TestUi| {
        let request = asks(2, "two.example");
        let reason = "exited".into();
        ui.says(Event::Withdrawn { request, reason });
    };
    let another_comes = |ui: &mut TestUi| ui.asks(&asks(4, "four.example"));
    let cases: [(Change<'_>, KeyCode, u64); 4] = [
        (&second_goes, KeyCode::Char('j'), 3),
        (&second_goes, KeyCode::Down, 3),
        (&another_comes, KeyCode::Char('G'), 4),
        (&another_comes, KeyCode::PageDown, 4),
    ];
    for (change, key, meets) in cases {
        for drawn_before in [None, Some(200), Some(499)] {
            let mut ui = three();
            change(&mut ui);
            if let Some(ms) = drawn_before {
                ui.wait(ms);
            }
            assert_eq!(ui.press(key), None);
            assert_eq!(ui.selected(), Some(meets));
            ui.wait(100);
            assert_eq!(
                ui.press(KeyCode::Char('a')),
                None,
                "{key:?} {drawn_before:?}"
            );
            assert!(ui.status().contains("just appeared"));
            ui.wait(501);
            assert_eq!(answers(ui.press(KeyCode::Char('a'))).len(), 1);
        }
        // In an unchanging list, a selected question can be answered sooner.
        let mut ui = three();
        change(&mut ui);
        ui.wait(501);
        ui.press(key);
        ui.wait(401);
        assert_eq!(answers(ui.press(KeyCode::Char('a'))).len(), 1);
    }
}

#[test]
fn letter_among_others_is_no_answer() {
    let mut ui = three();
    // Text pasted without paste markers: the keys arrive together.
    for letter in ['a', 'd', 'x', ' ', 'a'] {
        let key = KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE);
        assert_eq!(ui.tell(TuiMessage::KeyBurst(key)), None, "{letter}");
        ui.press(KeyCode::Esc);
        ui.wait(600);
    }
    for letter in "banana".chars() {
        assert_eq!(ui.press(KeyCode::Char(letter)), None, "{letter}");
    }
    assert!(
        ui.status()
            .starts_with("NOT answered: keys arrived too fast")
    );
    ui.wait(401);
    assert_eq!(answers(ui.press(KeyCode::Char('a'))).len(), 1);
}

#[test]
fn question_must_be_read_again_after_a_page() {
    for page in ["?", "l", "s", " a"] {
        let mut ui = three();
        ui.types(page);
        ui.press(KeyCode::Esc);
        ui.press(KeyCode::Esc);
        ui.draw();
        assert_eq!(ui.press(KeyCode::Char('x')), None, "{page}");
        ui.wait(501);
        assert_eq!(answers(ui.press(KeyCode::Char('x'))).len(), 1, "{page}");
    }
}

#[test]
fn pasted_text_is_not_interpreted_as_keys() {
    let mut ui = three();
    assert_eq!(ui.tell(TuiMessage::Paste("aaad".to_owned())), None);
    assert_eq!(ui.status(), "pasted text is ignored");
    assert!(ui.inbox.rows().all(|row| row.answering().is_none()));
}

#[test]
fn click_selects_the_drawn_question_and_answers_nothing() {
    let mut ui = three();
    let line = |ui: &mut TestUi, text: &str| {
        let screen = ui.screen();
        let at = screen.lines().position(|line| line.contains(text)).unwrap();
        u16::try_from(at).unwrap()
    };
    let at = line(&mut ui, "three.example");
    // The list moves up before the click and is not drawn: the click applies to the drawn list.
    ui.says(Event::Decided(Arc::new(of_first())));
    ui.click(at);
    assert_eq!(ui.selected(), Some(3));
    for _ in 0..3 {
        ui.click(at);
    }
    assert_eq!(ui.unanswered, 0);
    // The question moved under the pointer, so it must be read.
    ui.wait(60);
    assert_eq!(ui.press(KeyCode::Char('a')), None);
    ui.wait(501);
    assert_eq!(answers(ui.press(KeyCode::Char('a'))).len(), 1);
}

#[test]
fn marked_questions_are_shown_in_full_and_answered_together() {
    let mut ui = three();
    ui.types("  ");
    assert!(ui.screen().contains("2 marked"));
    assert_eq!(ui.press(KeyCode::Char('a')), None);
    let screen = ui.screen();
    assert!(screen.contains("ALLOW these 2 questions?"), "{screen}");
    assert!(
        screen.contains("opens one.example port 443/tcp"),
        "{screen}"
    );
    assert!(
        screen.contains("opens two.example port 443/tcp"),
        "{screen}"
    );
    assert_eq!(ui.press(KeyCode::Char('y')), None, "in the same burst");
    assert_eq!(ui.press(KeyCode::Char('a')), None, "not the key for it");
    ui.wait(499);
    assert_eq!(
        ui.press(KeyCode::Char('y')),
        None,
        "not visible long enough"
    );
    ui.wait(401);
    let sent = answers(ui.press(KeyCode::Char('y')));
    let dests: Vec<_> = sent.iter().map(|a| a.request.dest.as_str()).collect();
    assert_eq!(dests, ["one.example", "two.example"]);
    assert!(!ui.screen().contains("marked"));
}

#[test]
fn marked_questions_that_changed_or_ended_are_not_answered() {
    let mut ui = three();
    ui.types("*a");
    ui.asks(&asks_at(4, "two.example", "203.0.113.8"));
    ui.says(Event::Decided(Arc::new(of_first())));
    ui.wait(60);
    let sent = answers(ui.press(KeyCode::Char('y')));
    let dests: Vec<_> = sent.iter().map(|a| a.request.dest.as_str()).collect();
    assert_eq!(dests, ["three.example"]);
    let status = ui.status();
    assert!(
        status.contains("1 answered; 1 NOT: changed meanwhile"),
        "{status}"
    );
    assert!(status.contains("question 1 is gone"), "{status}");
}

#[test]
fn denial_of_marked_questions_needs_the_last_to_be_shown() {
    let mut ui = TestUi::up(80, 24);
    for n in 1..=40 {
        ui.asks(&asks(n, &format!("host{n}.example")));
    }
    ui.wait(600);
    ui.types("*x");
    assert!(ui.screen().contains("DENY these 40 questions?"));
    ui.wait(600);
    assert_eq!(ui.press(KeyCode::Char('y')), None);
    assert!(ui.status().contains("the last question was not shown yet"));
    ui.press(KeyCode::End);
    ui.wait(501);
    assert_eq!(answers(ui.press(KeyCode::Char('y'))).len(), 40);
}

#[test]
fn allowing_marked_questions_needs_each_to_be_shown() {
    let mut ui = TestUi::up(80, 24);
    for n in 1..=40 {
        ui.asks(&asks(n, &format!("host{n}.example")));
    }
    ui.wait(600);
    ui.types("*a");
    ui.press(KeyCode::End);
    ui.wait(600);
    assert_eq!(ui.press(KeyCode::Char('y')), None, "most were skipped");
    assert!(ui.status().contains("not every question was shown yet"));
    ui.press(KeyCode::Home);
    for _ in 0..20 {
        ui.wait(60);
        ui.press(KeyCode::PageDown);
    }
    ui.wait(60);
    // After the dialog was hidden, the time to read starts again.
    ui.resize(20, 5);
    ui.wait(600);
    assert_eq!(ui.press(KeyCode::Char('y')), None, "not on the screen");
    ui.resize(80, 24);
    assert_eq!(ui.press(KeyCode::Char('y')), None, "just appeared");
    ui.wait(501);
    assert_eq!(answers(ui.press(KeyCode::Char('y'))).len(), 40);
}

#[test]
fn cancelled_dialog_answers_nothing() {
    let mut ui = three();
    ui.types("*a");
    assert_eq!(ui.press(KeyCode::Esc), None);
    assert_eq!(ui.status(), "nothing was answered");
    assert_eq!(ui.types("q"), Some(Effect::Ui(TuiEffect::Quit)));
}

#[test]
fn failed_answer_keeps_the_question_and_shows_the_reason() {
    let mut ui = three();
    let answer = answers(ui.press(KeyCode::Char('a'))).remove(0);
    let reply = OperatorReply::EnforcementFailed("no such sandbox".into());
    ui.reply(&answer, reply);
    let status = ui.status();
    assert_eq!(
        status,
        "[1] FAILED   allow took no effect; the question is still open: no such sandbox"
    );
    assert!(ui.screen().contains("3 questions wait"));
    ui.wait(401);
    assert_eq!(answers(ui.press(KeyCode::Char('d'))).len(), 1);
}

#[test]
fn unknown_result_is_shown_as_unknown() {
    let mut ui = three();
    let answer = answers(ui.press(KeyCode::Char('a'))).remove(0);
    ui.reply(
        &answer,
        OperatorReply::ResultUnknown("it was cut off".into()),
    );
    assert!(
        ui.status()
            .contains("may or may not have taken effect: it was cut off")
    );
}

#[test]
fn answer_of_another_operator_is_shown_with_the_name() {
    let mut ui = three();
    let mine = answers(ui.press(KeyCode::Char('a'))).remove(0);
    let theirs = Decision {
        action: terok_clearance::DecisionAction::Deny,
        ..decision(&mine, "uid 1001")
    };
    ui.reply(&mine, OperatorReply::AlreadyDecided(theirs));
    let screen = ui.screen();
    assert!(screen.contains("DENIED"), "{screen}");
    assert!(screen.contains("by uid 1001"), "{screen}");
}

#[test]
fn disconnected_hub_is_shown_and_not_answered() {
    let mut ui = three();
    ui.news(InboxEvent::Down("the connection was closed".into()));
    ui.wait(600);
    let screen = ui.screen();
    assert!(screen.contains("1 AWAY"), "{screen}");
    assert!(screen.contains("hub away"), "{screen}");
    assert_eq!(ui.press(KeyCode::Char('a')), None);
    assert!(
        ui.status()
            .starts_with("NOT answered: the hub of row 1 is disconnected")
    );
}

#[test]
fn quitting_waits_for_pending_answers() {
    let mut ui = three();
    let answer = answers(ui.press(KeyCode::Char('a'))).remove(0);
    assert_eq!(ui.types("q"), None);
    assert!(ui.status().contains("waiting for an answer"));
    assert_eq!(ui.confirm(&answer), Some(Effect::Ui(TuiEffect::Quit)));
    let mut ui = three();
    answers(ui.press(KeyCode::Char('a')));
    assert_eq!(ui.types("qq"), Some(Effect::Ui(TuiEffect::Quit)));
}

#[test]
fn window_too_small_for_the_question_answers_nothing() {
    let mut ui = three();
    ui.resize(39, 9);
    ui.wait(600);
    assert!(ui.screen().starts_with("This window of 39x9 is too small"));
    assert_eq!(ui.press(KeyCode::Char('a')), None);
    // A name so long that the text fills the window.
    ui.resize(40, 10);
    let long = format!("{}.example", ["a".repeat(60).as_str(); 3].join("."));
    ui.asks(&asks(4, &long));
    ui.press(KeyCode::End);
    ui.wait(600);
    assert_eq!(ui.press(KeyCode::Char('a')), None);
    assert!(
        ui.status().starts_with("NOT answered: press Enter to read"),
        "{}",
        ui.status()
    );
    // After scrolling through all parts, the question can be answered.
    ui.press(KeyCode::Enter);
    ui.wait(600);
    assert_eq!(ui.press(KeyCode::Char('a')), None);
    let status = ui.status();
    assert!(
        status.starts_with("NOT answered: PgDn shows the"),
        "{status}"
    );
    let mut rest = 20;
    while ui.press(KeyCode::Char('a')).is_none() {
        ui.press(KeyCode::PageDown);
        ui.wait(600);
        rest -= 1;
        assert!(rest > 0, "{}", ui.screen());
    }
    assert_eq!(ui.unanswered, 1);
    ui.press(KeyCode::Esc);
    let longer = format!("x{}", &long[1..]);
    ui.asks(&asks(5, &longer));
    ui.press(KeyCode::End);
    ui.wait(600);
    assert_eq!(ui.press(KeyCode::Char('a')), None);
    ui.resize(80, 24);
    ui.wait(600);
    assert_eq!(answers(ui.press(KeyCode::Char('a'))).len(), 1);
}

#[test]
fn details_answer_only_their_own_question() {
    let mut ui = three();
    ui.press(KeyCode::Enter);
    ui.wait(600);
    let screen = ui.screen();
    assert!(screen.contains("request  web:1"), "{screen}");
    let first = of_first();
    ui.says(Event::Decided(Arc::new(first)));
    // The question ended, and the next one does not take its place.
    assert_eq!(ui.press(KeyCode::Char('a')), None);
    let screen = ui.screen();
    assert!(screen.contains("Waiting for you"), "{screen}");
}
