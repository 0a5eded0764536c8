// SPDX-License-Identifier: Apache-2.0
//! An answer meets the question that was read, or nothing.

use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use operator::inbox::{InboxEvent, OperatorReply};
use terok_clearance::wire::clearance2::Event;
use terok_clearance::{Action, Decision};
use terok_clearance_tui::{TuiEffect, TuiMessage};

use crate::rig::{ALLOW, Effect, Rig, answers, asks, asks_at, decision};

/// Three questions that have been read, the first selected.
fn three() -> Rig {
    let mut rig = Rig::up(110, 30);
    for (n, name) in [(1, "one.example"), (2, "two.example"), (3, "three.example")] {
        rig.asks(&asks(n, name));
    }
    rig.wait(600);
    assert_eq!(rig.selected(), Some(1));
    rig
}

#[test]
fn a_key_answers_what_the_screen_says_and_the_outcome_is_shown() {
    for (key, action, word) in [
        ('a', ALLOW, "ALLOWED"),
        ('x', Action::Deny, "DENIED"),
        ('d', Action::Deny, "DENIED"),
    ] {
        let mut rig = three();
        let screen = rig.screen();
        let opens = "opens tcp port 443 of one.example (203.0.113.7, and its later";
        assert!(screen.contains(opens), "{screen}");
        let sent = answers(rig.press(KeyCode::Char(key)));
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
        assert!(rig.screen().contains(being));
        rig.confirm(answer);
        let status = rig.status();
        assert!(status.contains(word), "{status}");
        assert!(status.contains("tcp port 443 of one.example"), "{status}");
        assert_eq!(rig.selected(), Some(2));
    }
}

#[test]
fn a_key_that_is_pressed_as_the_question_appears_is_not_taken() {
    let mut rig = Rig::up(80, 24);
    rig.asks(&asks(1, "one.example"));
    // It has not even been drawn.
    assert_eq!(rig.press(KeyCode::Char('a')), None);
    rig.wait(499);
    assert_eq!(rig.press(KeyCode::Char('a')), None);
    let status = rig.status();
    assert!(
        status.starts_with("NOT answered: question 1 has only just come here"),
        "{status}"
    );
    // Whoever keeps pressing has not read it.
    for _ in 0..20 {
        rig.wait(100);
        assert_eq!(rig.press(KeyCode::Char('a')), None);
    }
    rig.wait(501);
    assert_eq!(answers(rig.press(KeyCode::Char('a'))).len(), 1);
}

#[test]
fn a_question_that_moves_under_the_key_is_not_answered() {
    let mut rig = three();
    // Somebody else answers the first; the second is now where it was.
    let first = asks(1, "one.example");
    let by = Decision {
        by: "uid 1001".into(),
        ..of_first()
    };
    rig.says(Event::Decided(Arc::new(by)));
    assert_eq!(rig.press(KeyCode::Char('a')), None, "before it is drawn");
    rig.wait(100);
    assert_eq!(rig.selected(), Some(2));
    assert_eq!(rig.press(KeyCode::Char('a')), None, "as it is drawn");
    rig.wait(501);
    let sent = answers(rig.press(KeyCode::Char('a')));
    assert_eq!(sent[0].request.dest.as_str(), "two.example");
    drop(first);
}

fn of_first() -> Decision {
    let mut rig = three();
    let answer = answers(rig.press(KeyCode::Char('a'))).remove(0);
    decision(&answer, "uid 1000")
}

#[test]
fn the_selection_follows_the_question_and_not_the_line() {
    let mut rig = three();
    rig.types("jj");
    assert_eq!(rig.selected(), Some(3));
    rig.says(Event::Decided(Arc::new(of_first())));
    rig.wait(0);
    assert_eq!(rig.selected(), Some(3));
    // It did not change, so nothing has to be read anew.
    let sent = answers(rig.press(KeyCode::Char('d')));
    assert_eq!(sent[0].request.dest.as_str(), "three.example");
}

#[test]
fn what_would_open_more_than_was_read_is_asked_again() {
    let mut rig = three();
    // Another address of the same name: an answer would be about both.
    rig.asks(&asks_at(4, "one.example", "203.0.113.8"));
    assert_eq!(rig.press(KeyCode::Char('a')), None);
    let status = rig.status();
    assert!(
        status.starts_with("NOT answered: question 1 has just changed"),
        "{status}"
    );
    assert!(rig.screen().contains("203.0.113.7 and 1 more"));
    rig.wait(501);
    assert_eq!(answers(rig.press(KeyCode::Char('a'))).len(), 2);
}

#[test]
fn a_question_that_is_blocked_again_and_again_can_be_answered() {
    let mut rig = three();
    let mut again = asks(1, "one.example");
    for count in 2..50 {
        Arc::make_mut(&mut again).count = count;
        rig.says(Event::Repeated(Arc::clone(&again)));
        rig.wait(30);
    }
    assert!(rig.screen().contains("49 times since 12:42:08"));
    assert_eq!(answers(rig.press(KeyCode::Char('a'))).len(), 1);
}

#[test]
fn a_burst_of_keys_moves_but_does_not_answer() {
    let mut rig = three();
    for key in ['j', 'a', 'j', 'd'] {
        assert_eq!(rig.press(KeyCode::Char(key)), None, "{key}");
        rig.draw();
    }
    assert_eq!(rig.selected(), Some(3));
    rig.wait(60);
    assert_eq!(answers(rig.press(KeyCode::Char('d'))).len(), 1);
}

type Change<'a> = &'a dyn Fn(&mut Rig);

/// Every way to move to what took the place of another that was aimed at.
#[test]
fn whoever_moves_while_the_list_does_reads_first_where_they_are() {
    let second_goes = |rig: &mut Rig| {
        let request = asks(2, "two.example");
        let reason = "exited".into();
        rig.says(Event::Withdrawn { request, reason });
    };
    let another_comes = |rig: &mut Rig| rig.asks(&asks(4, "four.example"));
    let cases: [(Change<'_>, KeyCode, u64); 4] = [
        (&second_goes, KeyCode::Char('j'), 3),
        (&second_goes, KeyCode::Down, 3),
        (&another_comes, KeyCode::Char('G'), 4),
        (&another_comes, KeyCode::PageDown, 4),
    ];
    for (change, key, meets) in cases {
        for drawn_before in [None, Some(200), Some(499)] {
            let mut rig = three();
            change(&mut rig);
            if let Some(ms) = drawn_before {
                rig.wait(ms);
            }
            assert_eq!(rig.press(key), None);
            assert_eq!(rig.selected(), Some(meets));
            rig.wait(100);
            assert_eq!(
                rig.press(KeyCode::Char('a')),
                None,
                "{key:?} {drawn_before:?}"
            );
            assert!(rig.status().contains("has only just come here"));
            rig.wait(501);
            assert_eq!(answers(rig.press(KeyCode::Char('a'))).len(), 1);
        }
        // Where nothing has moved for a while, whoever knows the way is not kept.
        let mut rig = three();
        change(&mut rig);
        rig.wait(501);
        rig.press(key);
        rig.wait(51);
        assert_eq!(answers(rig.press(KeyCode::Char('a'))).len(), 1);
    }
}

#[test]
fn a_letter_in_the_midst_of_others_is_no_answer() {
    let mut rig = three();
    // A text that is pasted where the terminal does not say so: what comes together is known.
    for letter in ['a', 'd', 'x', ' ', 'a'] {
        let key = KeyEvent::new(KeyCode::Char(letter), KeyModifiers::NONE);
        assert_eq!(rig.tell(TuiMessage::KeyBurst(key)), None, "{letter}");
        rig.press(KeyCode::Esc);
        rig.wait(600);
    }
    for letter in "banana".chars() {
        assert_eq!(rig.press(KeyCode::Char(letter)), None, "{letter}");
    }
    assert!(rig.status().starts_with("NOT answered: keys came too fast"));
    rig.wait(20);
    assert_eq!(answers(rig.press(KeyCode::Char('a'))).len(), 1);
}

#[test]
fn whoever_comes_back_from_a_page_reads_the_question_first() {
    for page in ["?", "l", "s", " a"] {
        let mut rig = three();
        rig.types(page);
        rig.press(KeyCode::Esc);
        rig.press(KeyCode::Esc);
        rig.draw();
        assert_eq!(rig.press(KeyCode::Char('x')), None, "{page}");
        rig.wait(501);
        assert_eq!(answers(rig.press(KeyCode::Char('x'))).len(), 1, "{page}");
    }
}

#[test]
fn pasted_text_presses_no_key() {
    let mut rig = three();
    assert_eq!(rig.tell(TuiMessage::Paste("aaad".to_owned())), None);
    assert_eq!(rig.status(), "pasted text is not taken for keys");
    assert!(rig.inbox.rows().all(|row| row.answering().is_none()));
}

#[test]
fn a_click_selects_what_was_drawn_there_and_answers_nothing() {
    let mut rig = three();
    let line = |rig: &mut Rig, text: &str| {
        let screen = rig.screen();
        let at = screen.lines().position(|line| line.contains(text)).unwrap();
        u16::try_from(at).unwrap()
    };
    let at = line(&mut rig, "three.example");
    // The list moves up before the click and is not drawn: the click means what was seen.
    rig.says(Event::Decided(Arc::new(of_first())));
    rig.click(at);
    assert_eq!(rig.selected(), Some(3));
    for _ in 0..3 {
        rig.click(at);
    }
    assert_eq!(rig.unanswered, 0);
    // It moved under the pointer, so it is to be read.
    rig.wait(60);
    assert_eq!(rig.press(KeyCode::Char('a')), None);
    rig.wait(501);
    assert_eq!(answers(rig.press(KeyCode::Char('a'))).len(), 1);
}

#[test]
fn marked_questions_are_shown_in_full_and_answered_together() {
    let mut rig = three();
    rig.types("  ");
    assert!(rig.screen().contains("2 marked"));
    assert_eq!(rig.press(KeyCode::Char('a')), None);
    let screen = rig.screen();
    assert!(screen.contains("ALLOW these 2 questions?"), "{screen}");
    assert!(
        screen.contains("opens tcp port 443 of one.example"),
        "{screen}"
    );
    assert!(
        screen.contains("opens tcp port 443 of two.example"),
        "{screen}"
    );
    assert_eq!(rig.press(KeyCode::Char('y')), None, "in the same burst");
    assert_eq!(rig.press(KeyCode::Char('a')), None, "not the key for it");
    rig.wait(499);
    assert_eq!(rig.press(KeyCode::Char('y')), None, "it has not been read");
    rig.wait(30);
    let sent = answers(rig.press(KeyCode::Char('y')));
    let dests: Vec<_> = sent.iter().map(|a| a.request.dest.as_str()).collect();
    assert_eq!(dests, ["one.example", "two.example"]);
    assert!(!rig.screen().contains("marked"));
}

#[test]
fn of_marked_questions_those_that_changed_or_went_are_left_out() {
    let mut rig = three();
    rig.types("*a");
    rig.asks(&asks_at(4, "two.example", "203.0.113.8"));
    rig.says(Event::Decided(Arc::new(of_first())));
    rig.wait(60);
    let sent = answers(rig.press(KeyCode::Char('y')));
    let dests: Vec<_> = sent.iter().map(|a| a.request.dest.as_str()).collect();
    assert_eq!(dests, ["three.example"]);
    let status = rig.status();
    assert!(
        status.contains("1 answered; 1 NOT: changed meanwhile"),
        "{status}"
    );
    assert!(status.contains("question 1 is gone"), "{status}");
}

#[test]
fn marked_questions_need_to_have_been_shown_to_the_last() {
    let mut rig = Rig::up(80, 24);
    for n in 1..=40 {
        rig.asks(&asks(n, &format!("host{n}.example")));
    }
    rig.wait(600);
    rig.types("*x");
    assert!(rig.screen().contains("DENY these 40 questions?"));
    rig.wait(600);
    assert_eq!(rig.press(KeyCode::Char('y')), None);
    assert!(rig.status().contains("not all of it was shown yet"));
    rig.press(KeyCode::End);
    rig.wait(501);
    assert_eq!(answers(rig.press(KeyCode::Char('y'))).len(), 40);
}

#[test]
fn to_be_allowed_together_every_one_has_to_have_been_shown() {
    let mut rig = Rig::up(80, 24);
    for n in 1..=40 {
        rig.asks(&asks(n, &format!("host{n}.example")));
    }
    rig.wait(600);
    rig.types("*a");
    rig.press(KeyCode::End);
    rig.wait(600);
    assert_eq!(rig.press(KeyCode::Char('y')), None, "most were skipped");
    assert!(rig.status().contains("not all of it was shown yet"));
    rig.press(KeyCode::Home);
    for _ in 0..20 {
        rig.wait(60);
        rig.press(KeyCode::PageDown);
    }
    rig.wait(60);
    // What is hidden for a moment is read anew.
    rig.resize(20, 5);
    rig.wait(600);
    assert_eq!(
        rig.press(KeyCode::Char('y')),
        None,
        "it is not on the screen"
    );
    rig.resize(80, 24);
    assert_eq!(rig.press(KeyCode::Char('y')), None, "it has only just come");
    rig.wait(501);
    assert_eq!(answers(rig.press(KeyCode::Char('y'))).len(), 40);
}

#[test]
fn backing_out_answers_nothing() {
    let mut rig = three();
    rig.types("*a");
    assert_eq!(rig.press(KeyCode::Esc), None);
    assert_eq!(rig.status(), "nothing was answered");
    assert_eq!(rig.types("q"), Some(Effect::Ui(TuiEffect::Quit)));
}

#[test]
fn a_failure_keeps_the_question_and_says_why() {
    let mut rig = three();
    let answer = answers(rig.press(KeyCode::Char('a'))).remove(0);
    let reply = OperatorReply::EnforcementFailed("no such sandbox".into());
    rig.reply(&answer, reply);
    let status = rig.status();
    assert_eq!(
        status,
        "[1] FAILED   allow took no effect; the question is still open: no such sandbox"
    );
    assert!(rig.screen().contains("3 questions wait"));
    rig.wait(30);
    assert_eq!(answers(rig.press(KeyCode::Char('d'))).len(), 1);
}

#[test]
fn an_answer_that_nobody_confirmed_is_told_as_that() {
    let mut rig = three();
    let answer = answers(rig.press(KeyCode::Char('a'))).remove(0);
    rig.reply(
        &answer,
        OperatorReply::ResultUnknown("it was cut off".into()),
    );
    assert!(
        rig.status()
            .contains("may or may not have taken effect: it was cut off")
    );
}

#[test]
fn another_operators_answer_is_told_with_its_name() {
    let mut rig = three();
    let mine = answers(rig.press(KeyCode::Char('a'))).remove(0);
    let theirs = Decision {
        action: terok_clearance::DecisionAction::Deny,
        ..decision(&mine, "uid 1001")
    };
    rig.reply(&mine, OperatorReply::AlreadyDecided(theirs));
    let screen = rig.screen();
    assert!(screen.contains("DENIED"), "{screen}");
    assert!(screen.contains("by uid 1001"), "{screen}");
}

#[test]
fn a_hub_that_is_away_is_said_and_not_answered() {
    let mut rig = three();
    rig.news(InboxEvent::Down("the connection was closed".into()));
    rig.wait(600);
    let screen = rig.screen();
    assert!(screen.contains("1 AWAY"), "{screen}");
    assert!(screen.contains("hub away"), "{screen}");
    assert_eq!(rig.press(KeyCode::Char('a')), None);
    assert!(
        rig.status()
            .starts_with("NOT answered: the hub of row 1 is disconnected")
    );
}

#[test]
fn leaving_waits_for_the_answers_on_their_way() {
    let mut rig = three();
    let answer = answers(rig.press(KeyCode::Char('a'))).remove(0);
    assert_eq!(rig.types("q"), None);
    assert!(rig.status().contains("waiting for an answer"));
    assert_eq!(rig.confirm(&answer), Some(Effect::Ui(TuiEffect::Quit)));
    let mut rig = three();
    answers(rig.press(KeyCode::Char('a')));
    assert_eq!(rig.types("qq"), Some(Effect::Ui(TuiEffect::Quit)));
}

#[test]
fn a_window_too_small_for_the_words_answers_nothing() {
    let mut rig = three();
    rig.resize(39, 9);
    rig.wait(600);
    assert!(rig.screen().starts_with("This window of 39x9 is too small"));
    assert_eq!(rig.press(KeyCode::Char('a')), None);
    // A name so long that its words fill the window.
    rig.resize(40, 10);
    let long = format!("{}.example", ["a".repeat(60).as_str(); 3].join("."));
    rig.asks(&asks(4, &long));
    rig.press(KeyCode::End);
    rig.wait(600);
    assert_eq!(rig.press(KeyCode::Char('a')), None);
    assert!(
        rig.status().starts_with("NOT answered: Enter shows all of"),
        "{}",
        rig.status()
    );
    // It can be read part by part, and answered when it was.
    rig.press(KeyCode::Enter);
    rig.wait(600);
    assert_eq!(rig.press(KeyCode::Char('a')), None);
    let status = rig.status();
    assert!(
        status.starts_with("NOT answered: PgDn shows the"),
        "{status}"
    );
    let mut rest = 20;
    while rig.press(KeyCode::Char('a')).is_none() {
        rig.press(KeyCode::PageDown);
        rig.wait(600);
        rest -= 1;
        assert!(rest > 0, "{}", rig.screen());
    }
    assert_eq!(rig.unanswered, 1);
    rig.press(KeyCode::Esc);
    let longer = format!("x{}", &long[1..]);
    rig.asks(&asks(5, &longer));
    rig.press(KeyCode::End);
    rig.wait(600);
    assert_eq!(rig.press(KeyCode::Char('a')), None);
    rig.resize(80, 24);
    rig.wait(600);
    assert_eq!(answers(rig.press(KeyCode::Char('a'))).len(), 1);
}

#[test]
fn in_the_details_the_answer_is_the_questions_that_is_shown() {
    let mut rig = three();
    rig.press(KeyCode::Enter);
    rig.wait(600);
    let screen = rig.screen();
    assert!(screen.contains("request  web:1"), "{screen}");
    let first = of_first();
    rig.says(Event::Decided(Arc::new(first)));
    // It is gone, and the next one is not taken for it.
    assert_eq!(rig.press(KeyCode::Char('a')), None);
    let screen = rig.screen();
    assert!(screen.contains("Waiting for you"), "{screen}");
}
