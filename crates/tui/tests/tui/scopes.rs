// SPDX-License-Identifier: Apache-2.0
//! The choice of a scope: an answer has the scope that was on the screen.

use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use terok_clearance::wire::clearance2::Event;
use terok_clearance::{Action, RuleLifetime, Scope};
use terok_clearance_tui::{TuiMessage, TuiModel};

use crate::harness::{ALLOW, TestUi, answers, asks, offering};

const WIDER: [&str; 2] = ["*.b.example", "*.example"];

/// Two questions that offer every scope, visible for long enough, the first selected.
fn two() -> TestUi {
    let mut ui = TestUi::up(110, 30);
    for (n, name) in [(1, "a.b.example"), (2, "c.b.example")] {
        ui.asks(&offering(asks(n, name), &WIDER));
    }
    ui.wait(600);
    ui
}

fn sent(ui: &mut TestUi, key: char) -> Scope {
    let sent = answers(ui.press(KeyCode::Char(key)));
    assert_eq!(sent.len(), 1);
    sent[0].scope.clone()
}

fn line(ui: &mut TestUi, label: &str) -> String {
    let screen = ui.screen();
    let line = screen.lines().find(|line| line.starts_with(label));
    line.unwrap_or_else(|| panic!("no {label:?} in\n{screen}"))
        .to_owned()
}

#[test]
fn each_key_chooses_what_the_screen_says() {
    use RuleLifetime::{Always, Once, Project, Sandbox};
    let widened = "*.b.example";
    for (keys, dest, keep, seconds, words) in [
        ("", "a.b.example", Sandbox, None, "for this run"),
        (
            "1",
            "a.b.example",
            Once,
            None,
            "once: the next connection within 60 s",
        ),
        ("2", "a.b.example", Sandbox, Some(300), "for 5 minutes"),
        ("3", "a.b.example", Sandbox, Some(3600), "for 1 hour"),
        ("34", "a.b.example", Sandbox, None, "for this run"),
        (
            "5",
            "a.b.example",
            Project,
            None,
            "for this project, also in later runs",
        ),
        ("6", "a.b.example", Always, None, "always, in every sandbox"),
        ("60", "a.b.example", Sandbox, None, "for this run"),
        ("w", widened, Sandbox, None, "for this run"),
        ("w6", widened, Always, None, "always, in every sandbox"),
        ("2ww", "*.example", Sandbox, Some(300), "for 5 minutes"),
        ("2www", "a.b.example", Sandbox, Some(300), "for 5 minutes"),
        ("w0", "a.b.example", Sandbox, None, "for this run"),
    ] {
        for (key, action) in [('a', ALLOW), ('x', Action::Deny)] {
            let mut ui = two();
            ui.types(keys);
            let label = if action == ALLOW {
                " a allow"
            } else {
                " x deny"
            };
            let says = line(&mut ui, label);
            assert!(says.contains(words), "{keys:?} {says}");
            let expected = Scope {
                dest: dest.parse().unwrap(),
                port: Some(443),
                protocol: Some(terok_clearance::Protocol::TCP),
                keep,
                seconds,
            };
            assert_eq!(sent(&mut ui, key), expected, "{keys:?}");
        }
    }
}

#[test]
fn the_chosen_scope_is_marked_without_colour() {
    let mut ui = two();
    let shown = line(&mut ui, " lasts");
    assert!(
        shown.contains("3 1 h  [4 this run]  5 this project"),
        "{shown}"
    );
    ui.types("5w");
    let shown = line(&mut ui, " lasts");
    assert!(
        shown.contains("4 this run  [5 this project]  6 always"),
        "{shown}"
    );
    let shown = line(&mut ui, " name");
    assert!(shown.contains("[*.b.example]  w *.example"), "{shown}");
    ui.types("w");
    let shown = line(&mut ui, " name");
    assert!(shown.contains("[*.example]  w only a.b.example"), "{shown}");
}

#[test]
fn after_each_choice_the_text_must_be_read() {
    for keys in ["6", "w", "0", "4"] {
        let mut ui = two();
        ui.types("3");
        for key in keys.chars() {
            assert_eq!(ui.press(KeyCode::Char(key)), None);
        }
        // Before the frame with the new text, and until it was visible for half a second.
        assert_eq!(ui.press(KeyCode::Char('a')), None);
        ui.wait(499);
        assert_eq!(ui.press(KeyCode::Char('a')), None, "{keys}");
        assert!(ui.status().starts_with("NOT answered: "), "{}", ui.status());
        ui.wait(501);
        assert_eq!(answers(ui.press(KeyCode::Char('a'))).len(), 1);
    }
}

#[test]
fn a_choice_belongs_to_its_question() {
    let mut ui = two();
    ui.types("6");
    // Even before the next frame.
    ui.press(KeyCode::Char('j'));
    ui.press(KeyCode::Char('k'));
    ui.wait(600);
    assert!(line(&mut ui, " a allow").contains("for this run"));
    assert_eq!(sent(&mut ui, 'a').keep, RuleLifetime::Sandbox);
    // The next question has the default, too.
    ui.types("6");
    let first = asks(1, "a.b.example");
    ui.says(Event::Withdrawn {
        request: first,
        reason: "exited".into(),
    });
    ui.wait(600);
    assert_eq!(ui.selected(), Some(2));
    assert!(line(&mut ui, " a allow").contains("for this run"));
}

#[test]
fn a_changed_offer_ends_the_choice() {
    let mut ui = two();
    ui.types("6w");
    let mut narrower = offering(asks(1, "a.b.example"), &WIDER);
    Arc::make_mut(&mut narrower).lifetimes.truncate(2);
    Arc::make_mut(&mut narrower).count = 2;
    ui.says(Event::Repeated(narrower));
    assert_eq!(ui.press(KeyCode::Char('a')), None, "before it is drawn");
    ui.wait(600);
    let shown = line(&mut ui, " lasts");
    assert!(shown.ends_with("[4 this run]"), "{shown}");
    let scope = sent(&mut ui, 'a');
    assert_eq!(
        (scope.dest.as_str(), scope.keep),
        ("a.b.example", RuleLifetime::Sandbox)
    );
}

#[test]
fn a_repeated_packet_keeps_the_choice() {
    let mut ui = two();
    ui.types("6");
    let mut again = offering(asks(1, "a.b.example"), &WIDER);
    Arc::make_mut(&mut again).count = 7;
    ui.says(Event::Repeated(again));
    ui.wait(0);
    assert_eq!(sent(&mut ui, 'a').keep, RuleLifetime::Always);
}

#[test]
fn what_a_question_does_not_offer_has_no_effect() {
    let mut ui = TestUi::up(110, 30);
    ui.asks(&asks(1, "a.b.example"));
    ui.wait(600);
    assert!(!ui.screen().contains("\n lasts"), "{}", ui.screen());
    for (key, expected) in [
        (
            '6',
            "no effect: the firewall of this sandbox offers no choice",
        ),
        ('w', "question 1 offers no wider name"),
    ] {
        ui.press(KeyCode::Char(key));
        assert!(ui.status().starts_with(expected), "{}", ui.status());
        ui.wait(600);
    }
    assert_eq!(sent(&mut ui, 'a').keep, RuleLifetime::Sandbox);
    // One connection is for the name itself.
    let mut ui = two();
    ui.types("w1");
    assert!(
        ui.status()
            .starts_with("no effect: an answer for one connection")
    );
    assert_eq!(sent(&mut ui, 'a').dest.as_str(), "*.b.example");
}

/// Keys of a text that is pasted without a word choose nothing, and a held key no second name.
#[test]
fn keys_that_arrive_together_choose_no_scope() {
    let mut ui = two();
    for key in ['6', 'w', '0'] {
        let key = KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE);
        for message in [TuiMessage::KeyBurst(key), TuiMessage::DoubtfulKey(key)] {
            assert_eq!(ui.tell(message), None);
            assert!(
                ui.status().starts_with("scope NOT changed"),
                "{}",
                ui.status()
            );
        }
    }
    assert_eq!(ui.tell(TuiMessage::Paste("6w".to_owned())), None);
    ui.wait(600);
    let scope = sent(&mut ui, 'a');
    assert_eq!(
        (scope.dest.as_str(), scope.keep),
        ("a.b.example", RuleLifetime::Sandbox)
    );
}

#[test]
fn the_default_is_an_option_where_it_is_offered() {
    let mut ui = two();
    let model = std::mem::replace(
        &mut ui.model,
        TuiModel::new("", <_>::default(), <_>::default()),
    );
    ui.model = model.with_default_scope(operator::ScopeChoice::OneHour);
    ui.wait(600);
    assert_eq!(sent(&mut ui, 'a').seconds, Some(3600));
    let mut plain = asks(3, "d.example");
    Arc::make_mut(&mut plain).scope.seconds = Some(77);
    ui.asks(&plain);
    ui.press(KeyCode::End);
    ui.wait(600);
    assert!(line(&mut ui, " a allow").contains("for 77 seconds"));
    assert_eq!(sent(&mut ui, 'a').seconds, Some(77));
}

#[test]
fn marked_questions_share_a_lifetime_that_all_of_them_offer() {
    let mut ui = two();
    // The choice for one question is none for several.
    ui.types("6*a");
    let screen = ui.screen();
    assert_eq!(screen.matches(", for this run").count(), 2, "{screen}");
    assert_eq!(ui.press(KeyCode::Char('2')), None);
    let screen = ui.screen();
    assert_eq!(screen.matches(", for 5 minutes").count(), 2, "{screen}");
    ui.wait(499);
    assert_eq!(ui.press(KeyCode::Char('y')), None, "it must be read again");
    ui.wait(501);
    let sent = answers(ui.press(KeyCode::Char('y')));
    assert!(
        sent.iter().all(|answer| answer.scope.seconds == Some(300)),
        "{sent:?}"
    );

    let mut ui = two();
    ui.asks(&asks(3, "plain.example"));
    ui.wait(600);
    ui.types("*a");
    ui.press(KeyCode::Char('2'));
    assert_eq!(ui.status(), "not every marked question offers \"5 min\"");
    ui.wait(600);
    let sent = answers(ui.press(KeyCode::Char('y')));
    assert!(
        sent.iter().all(|answer| answer.scope.seconds.is_none()),
        "{sent:?}"
    );
}
