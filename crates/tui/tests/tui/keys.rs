// SPDX-License-Identifier: Apache-2.0
//! Keys that answer nothing, and the reason that the status line shows.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use terok_clearance_tui::{IgnoredInput, TuiMessage};

use crate::answers::three;
use crate::harness::{answers, asks};

/// A person types into the wrong window while questions come.
#[test]
fn typed_prose_answers_nothing() {
    for interval in [60, 120, 200, 399] {
        let mut ui = three();
        let mut question = 4;
        for letter in "xa day a dad had a fax and an axe as dadaist adds a wax".chars() {
            if letter == ' ' {
                ui.asks(&asks(question, &format!("host{question}.example")));
                question += 1;
                continue;
            }
            // What a mark or a page does is not the matter here.
            let code = match letter {
                'l' | 's' | 'y' => KeyCode::Char('v'),
                letter => KeyCode::Char(letter),
            };
            let effect = ui.press(code);
            // The first letter follows a pause, which only later input makes a part of a text.
            assert!(effect.is_none() || question == 4, "{letter} {interval}");
            ui.wait(interval);
        }
    }
}

#[test]
fn a_key_that_cannot_be_an_answer_says_why() {
    let plain = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE);
    let mut ui = three();
    for (key, expected) in [
        (
            'A',
            "NOT answered: keys are lowercase letters; release Shift or Caps Lock",
        ),
        ('X', "NOT answered: keys are lowercase"),
        ('Q', "no effect: keys are lowercase"),
        (
            '\u{444}',
            "NOT answered: the keyboard types other letters; switch it to Latin ones",
        ),
        ('\u{447}', "NOT answered: the keyboard types other letters"),
        ('\u{e9}', "no effect: the keyboard types other letters"),
        ('v', "? shows the keys"),
    ] {
        assert_eq!(ui.press(KeyCode::Char(key)), None);
        let status = ui.status();
        assert!(status.starts_with(expected), "{key:?}: {status}");
        ui.wait(600);
    }
    assert_eq!(ui.tell(TuiMessage::DoubtfulKey(plain('a'))), None);
    assert!(
        ui.status()
            .starts_with("NOT answered: the key came after Escape")
    );
    for (input, expected) in [
        (IgnoredInput::UnknownKey, "no effect: an unknown key"),
        (
            IgnoredInput::InsideReply,
            "no effect: the keys look like a reply",
        ),
        (IgnoredInput::InsidePaste, "pasted text is ignored"),
    ] {
        assert_eq!(ui.tell(TuiMessage::Ignored(input)), None);
        assert!(ui.status().starts_with(expected), "{}", ui.status());
        ui.wait(399);
        assert_eq!(ui.press(KeyCode::Char('a')), None, "{input:?}");
        ui.wait(600);
    }
    assert_eq!(answers(ui.press(KeyCode::Char('a'))).len(), 1);
}

#[test]
fn a_held_key_answers_one_question() {
    let mut ui = three();
    let sent = answers(ui.press(KeyCode::Char('a')));
    ui.confirm(&sent[0]);
    // The longest usual delay before a keyboard repeats.
    ui.wait(660);
    for _ in 0..50 {
        assert_eq!(ui.press(KeyCode::Char('a')), None);
        assert!(ui.status().starts_with("NOT answered: "), "{}", ui.status());
        ui.wait(33);
    }
    ui.wait(700);
    assert_eq!(answers(ui.press(KeyCode::Char('a'))).len(), 1);
}
