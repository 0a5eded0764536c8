// SPDX-License-Identifier: Apache-2.0
//! Navigation: keys, filter, pages, mouse wheel.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use operator::inbox::InboxEvent;
use terok_clearance::client::ProtocolVersion;
use terok_clearance_tui::{TuiEffect, TuiMessage};

use crate::harness::{Effect, TestUi, asks, hub};

fn many(count: u64) -> TestUi {
    let mut ui = TestUi::up(80, 24);
    for n in 1..=count {
        ui.asks(&asks(n, &format!("host{n}.example")));
    }
    ui.wait(600);
    ui
}

#[test]
fn keys_move_the_selection() {
    let mut ui = many(100);
    let mut after = |code, expected| {
        ui.press(code);
        ui.draw();
        assert_eq!(ui.selected(), Some(expected), "{code:?}");
    };
    after(KeyCode::Up, 1);
    after(KeyCode::Down, 2);
    after(KeyCode::Char('j'), 3);
    after(KeyCode::Char('k'), 2);
    after(KeyCode::End, 100);
    after(KeyCode::Char('g'), 1);
    after(KeyCode::Char('G'), 100);
    after(KeyCode::Home, 1);
    after(KeyCode::PageDown, 6);
    after(KeyCode::PageDown, 11);
    after(KeyCode::PageUp, 6);
    assert!(ui.screen().contains("6 of 100"));
}

#[test]
fn selected_question_is_visible_at_every_size() {
    let mut ui = many(100);
    for (at, size) in [
        (50, (80, 24)),
        (50, (40, 10)),
        (100, (200, 60)),
        (1, (60, 12)),
    ] {
        ui.press(KeyCode::Home);
        for _ in 1..at {
            ui.press(KeyCode::Down);
        }
        ui.resize(size.0, size.1);
        let screen = ui.screen();
        let shown = screen.lines().any(|line| line.starts_with('>'));
        assert!(shown, "{size:?}\n{screen}");
    }
}

#[test]
fn filter_lists_questions_that_contain_the_text() {
    let mut ui = many(30);
    ui.types("/host2");
    let screen = ui.screen();
    assert!(screen.contains("filter: host2"), "{screen}");
    let listed: Vec<_> = screen.lines().skip(3).take(6).collect();
    assert!(listed.iter().all(|line| line.contains("host2")), "{screen}");
    // Letters are text of the filter, and answer nothing.
    ui.types("ad");
    assert!(ui.screen().contains("No question contains this text"));
    ui.press(KeyCode::Backspace);
    ui.press(KeyCode::Backspace);
    ui.press(KeyCode::Enter);
    ui.draw();
    assert_eq!(ui.selected(), Some(2));
    // New questions are listed if they match.
    ui.asks(&asks(31, "host231.example"));
    ui.asks(&asks(32, "other.example"));
    ui.press(KeyCode::End);
    ui.draw();
    assert_eq!(ui.selected(), Some(31));
    ui.press(KeyCode::Esc);
    ui.press(KeyCode::End);
    ui.draw();
    assert_eq!(ui.selected(), Some(32));
    for (text, rows) in [
        ("443/TCP", 32),
        ("curl", 32),
        ("warp/build", 32),
        ("203.0.113", 32),
        ("web", 32),
        ("nothing", 0),
    ] {
        ui.types("/");
        ui.tell(TuiMessage::Paste(text.to_owned()));
        ui.press(KeyCode::Enter);
        ui.press(KeyCode::Char('*'));
        let marked = format!("{rows} marked");
        assert_eq!(ui.screen().contains(&marked), rows > 0, "{text}");
        ui.press(KeyCode::Esc);
        ui.press(KeyCode::Esc);
    }
}

#[test]
fn list_stays_complete_when_questions_end_in_any_order() {
    use std::sync::Arc;
    use terok_clearance::wire::clearance2::Event;
    let mut ui = many(60);
    ui.types("jjjjjjjjjjjjjjjjjjjj");
    assert_eq!(ui.selected(), Some(21));
    let above = |ui: &mut TestUi| {
        let screen = ui.screen();
        screen.lines().position(|line| line.starts_with('>'))
    };
    let line = above(&mut ui);
    for n in [3, 20, 1, 59, 18] {
        let request = asks(n, &format!("host{n}.example"));
        let reason = "evicted".into();
        ui.says(Event::Withdrawn {
            request: Arc::clone(&request),
            reason,
        });
    }
    assert_eq!(
        above(&mut ui),
        line,
        "the question stays on its line of the screen"
    );
    assert_eq!(ui.selected(), Some(21));
    ui.press(KeyCode::Up);
    ui.draw();
    assert_eq!(ui.selected(), Some(19));
    ui.press(KeyCode::End);
    ui.press(KeyCode::Up);
    ui.draw();
    assert_eq!(ui.selected(), Some(58));
}

#[test]
fn pages_open_and_close() {
    let mut ui = many(3);
    for (key, title) in [('?', "Keys"), ('l', "Activity"), ('s', "Sandboxes")] {
        ui.types(&key.to_string());
        let screen = ui.screen();
        let second = screen.lines().nth(1).unwrap();
        assert!(second.contains(title), "{screen}");
        assert_eq!(ui.types("a"), None, "nothing is answered on a page");
        ui.press(KeyCode::Esc);
        assert!(ui.screen().contains("Waiting for you"));
    }
    assert_eq!(ui.press(KeyCode::Esc), None, "Esc does not quit");
    let control = |c| TuiMessage::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
    assert_eq!(
        ui.tell(control('c')),
        Some(Effect::Ui(TuiEffect::Interrupt))
    );
    assert_eq!(ui.tell(control('z')), Some(Effect::Ui(TuiEffect::Suspend)));
    assert_eq!(ui.tell(control('l')), Some(Effect::Ui(TuiEffect::Refresh)));
    assert_eq!(
        ui.types("m"),
        Some(Effect::Ui(TuiEffect::CaptureMouse(false)))
    );
    assert_eq!(
        ui.types("m"),
        Some(Effect::Ui(TuiEffect::CaptureMouse(true)))
    );
}

#[test]
fn help_names_every_key_of_every_table() {
    let mut ui = TestUi::up(100, 90);
    ui.types("?");
    let screen = ui.screen();
    for text in [
        "Space",
        "Enter",
        "Up k",
        "Down j",
        "PgUp",
        "PgDn",
        "Home g",
        "End G",
        "x d",
        "Ctrl-Z",
        "Ctrl-C",
        "n Esc",
        "Backspace",
    ] {
        assert!(screen.contains(text), "{text} is not in\n{screen}");
    }
}

#[test]
fn unreachable_socket_is_counted_until_its_removal() {
    let silent = hub("silent");
    let mut ui = many(3);
    ui.news_of(
        &silent,
        InboxEvent::Unreachable("it does not answer".into()),
    );
    let header = |ui: &mut TestUi| ui.screen().lines().next().unwrap().to_owned();
    assert!(header(&mut ui).contains("1 hub  1 UNREACHABLE"));
    ui.news_of(&silent, InboxEvent::Up(ProtocolVersion::Clearance2));
    assert!(header(&mut ui).contains("2 hubs"));
    assert!(!header(&mut ui).contains("UNREACHABLE"));
    let stale = hub("stale");
    ui.news_of(&stale, InboxEvent::Unreachable("nobody listens".into()));
    ui.news_of(&stale, InboxEvent::Gone);
    assert!(!header(&mut ui).contains("UNREACHABLE"));
}

#[test]
fn unchanged_screen_is_not_redrawn() {
    let mut ui = many(3);
    assert!(!ui.model.needs_redraw());
    ui.says(terok_clearance::wire::clearance2::Event::Synced);
    assert!(!ui.model.needs_redraw());
    ui.sync();
    assert!(!ui.model.needs_redraw());
}

proptest::proptest! {
    #[test]
    fn every_question_is_listed_exactly_once(
        steps in proptest::collection::vec((0_u8..6, 1_u64..40), 1..120)
    ) {
        use std::sync::Arc;
        use terok_clearance::wire::clearance2::Event;
        let mut ui = TestUi::up(80, 24);
        for (what, n) in steps {
            let request = asks(n, &format!("host{n}.example"));
            match what {
                0..3 => ui.asks(&request),
                3 => ui.says(Event::Withdrawn { request: Arc::clone(&request), reason: "exited".into() }),
                4 => drop(ui.press(if n % 2 == 0 { KeyCode::Down } else { KeyCode::PageUp })),
                _ => drop(ui.screen()),
            }
        }
        let rows = ui.inbox.rows().len();
        let asked = ui.inbox.rows().any(|row| Some(row.number()) == ui.model.selected());
        ui.press(KeyCode::Char('*'));
        let screen = ui.screen();
        assert_eq!(screen.contains(&format!("  {rows} marked")), rows > 0, "{screen}");
        assert!(asked || rows == 0 || ui.model.selected().is_some(), "{screen}");
    }
}
