// SPDX-License-Identifier: Apache-2.0
//! Moving about: keys, filter, pages, mouse wheel.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use operator::inbox::InboxEvent;
use terok_clearance::client::ProtocolVersion;
use terok_clearance_tui::{TuiEffect, TuiMessage};

use crate::rig::{Effect, Rig, asks, hub};

fn many(count: u64) -> Rig {
    let mut rig = Rig::up(80, 24);
    for n in 1..=count {
        rig.asks(&asks(n, &format!("host{n}.example")));
    }
    rig.wait(600);
    rig
}

#[test]
fn keys_move_the_selection() {
    let mut rig = many(100);
    let mut after = |code, expected| {
        rig.press(code);
        rig.draw();
        assert_eq!(rig.selected(), Some(expected), "{code:?}");
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
    assert!(rig.screen().contains("6 of 100"));
}

#[test]
fn the_selected_question_is_in_the_window_at_every_size() {
    let mut rig = many(100);
    for (at, size) in [
        (50, (80, 24)),
        (50, (40, 10)),
        (100, (200, 60)),
        (1, (60, 12)),
    ] {
        rig.press(KeyCode::Home);
        for _ in 1..at {
            rig.press(KeyCode::Down);
        }
        rig.resize(size.0, size.1);
        let screen = rig.screen();
        let shown = screen.lines().any(|line| line.starts_with('>'));
        assert!(shown, "{size:?}\n{screen}");
    }
}

#[test]
fn a_filter_lists_what_has_the_text_in_it() {
    let mut rig = many(30);
    rig.types("/host2");
    let screen = rig.screen();
    assert!(screen.contains("filter: host2"), "{screen}");
    let listed: Vec<_> = screen.lines().skip(3).take(6).collect();
    assert!(listed.iter().all(|line| line.contains("host2")), "{screen}");
    // Letters are text here, and answer nothing.
    rig.types("ad");
    assert!(rig.screen().contains("No question has this text"));
    rig.press(KeyCode::Backspace);
    rig.press(KeyCode::Backspace);
    rig.press(KeyCode::Enter);
    rig.draw();
    assert_eq!(rig.selected(), Some(2));
    // What comes is listed if it matches.
    rig.asks(&asks(31, "host231.example"));
    rig.asks(&asks(32, "other.example"));
    rig.press(KeyCode::End);
    rig.draw();
    assert_eq!(rig.selected(), Some(31));
    rig.press(KeyCode::Esc);
    rig.press(KeyCode::End);
    rig.draw();
    assert_eq!(rig.selected(), Some(32));
    for (text, rows) in [
        ("443/TCP", 32),
        ("curl", 32),
        ("warp/build", 32),
        ("203.0.113", 32),
        ("web", 32),
        ("nothing", 0),
    ] {
        rig.types("/");
        rig.tell(TuiMessage::Paste(text.to_owned()));
        rig.press(KeyCode::Enter);
        rig.press(KeyCode::Char('*'));
        let marked = format!("{rows} marked");
        assert_eq!(rig.screen().contains(&marked), rows > 0, "{text}");
        rig.press(KeyCode::Esc);
        rig.press(KeyCode::Esc);
    }
}

#[test]
fn questions_that_end_in_any_order_leave_a_whole_list() {
    use std::sync::Arc;
    use terok_clearance::wire::clearance2::Event;
    let mut rig = many(60);
    rig.types("jjjjjjjjjjjjjjjjjjjj");
    assert_eq!(rig.selected(), Some(21));
    let above = |rig: &mut Rig| {
        let screen = rig.screen();
        screen.lines().position(|line| line.starts_with('>'))
    };
    let line = above(&mut rig);
    for n in [3, 20, 1, 59, 18] {
        let request = asks(n, &format!("host{n}.example"));
        let reason = "evicted".into();
        rig.says(Event::Withdrawn {
            request: Arc::clone(&request),
            reason,
        });
    }
    assert_eq!(
        above(&mut rig),
        line,
        "the question stays on its line of the screen"
    );
    assert_eq!(rig.selected(), Some(21));
    rig.press(KeyCode::Up);
    rig.draw();
    assert_eq!(rig.selected(), Some(19));
    rig.press(KeyCode::End);
    rig.press(KeyCode::Up);
    rig.draw();
    assert_eq!(rig.selected(), Some(58));
}

#[test]
fn pages_open_and_close() {
    let mut rig = many(3);
    for (key, title) in [
        ('?', "The keys"),
        ('l', "What happened"),
        ('s', "Sandboxes"),
    ] {
        rig.types(&key.to_string());
        let screen = rig.screen();
        let second = screen.lines().nth(1).unwrap();
        assert!(second.contains(title), "{screen}");
        assert_eq!(rig.types("a"), None, "nothing is answered on a page");
        rig.press(KeyCode::Esc);
        assert!(rig.screen().contains("Waiting for you"));
    }
    assert_eq!(rig.press(KeyCode::Esc), None, "it does not leave");
    let control = |c| TuiMessage::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
    assert_eq!(
        rig.tell(control('c')),
        Some(Effect::Ui(TuiEffect::Interrupt))
    );
    assert_eq!(rig.tell(control('z')), Some(Effect::Ui(TuiEffect::Suspend)));
    assert_eq!(rig.tell(control('l')), Some(Effect::Ui(TuiEffect::Refresh)));
    assert_eq!(
        rig.types("m"),
        Some(Effect::Ui(TuiEffect::CaptureMouse(false)))
    );
    assert_eq!(
        rig.types("m"),
        Some(Effect::Ui(TuiEffect::CaptureMouse(true)))
    );
}

#[test]
fn the_help_names_every_key_of_every_table() {
    let mut rig = Rig::up(100, 90);
    rig.types("?");
    let screen = rig.screen();
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
fn a_socket_that_nobody_is_heard_behind_is_said_for_as_long_as_it_is_there() {
    let silent = hub("silent");
    let mut rig = many(3);
    rig.news_of(
        &silent,
        InboxEvent::Unreachable("it does not answer".into()),
    );
    let header = |rig: &mut Rig| rig.screen().lines().next().unwrap().to_owned();
    assert!(header(&mut rig).contains("1 hub  1 UNREACHABLE"));
    rig.news_of(&silent, InboxEvent::Up(ProtocolVersion::Clearance2));
    assert!(header(&mut rig).contains("2 hubs"));
    assert!(!header(&mut rig).contains("UNREACHABLE"));
    let stale = hub("stale");
    rig.news_of(&stale, InboxEvent::Unreachable("nobody listens".into()));
    rig.news_of(&stale, InboxEvent::Gone);
    assert!(!header(&mut rig).contains("UNREACHABLE"));
}

#[test]
fn nothing_is_drawn_when_nothing_changes() {
    let mut rig = many(3);
    assert!(!rig.model.needs_redraw());
    rig.says(terok_clearance::wire::clearance2::Event::Synced);
    assert!(!rig.model.needs_redraw());
    rig.sync();
    assert!(!rig.model.needs_redraw());
}

proptest::proptest! {
    #[test]
    fn every_question_is_listed_once_whatever_happens(
        steps in proptest::collection::vec((0_u8..6, 1_u64..40), 1..120)
    ) {
        use std::sync::Arc;
        use terok_clearance::wire::clearance2::Event;
        let mut rig = Rig::up(80, 24);
        for (what, n) in steps {
            let request = asks(n, &format!("host{n}.example"));
            match what {
                0..3 => rig.asks(&request),
                3 => rig.says(Event::Withdrawn { request: Arc::clone(&request), reason: "exited".into() }),
                4 => drop(rig.press(if n % 2 == 0 { KeyCode::Down } else { KeyCode::PageUp })),
                _ => drop(rig.screen()),
            }
        }
        let rows = rig.inbox.rows().len();
        let asked = rig.inbox.rows().any(|row| Some(row.number()) == rig.model.selected());
        rig.press(KeyCode::Char('*'));
        let screen = rig.screen();
        assert_eq!(screen.contains(&format!("  {rows} marked")), rows > 0, "{screen}");
        assert!(asked || rows == 0 || rig.model.selected().is_some(), "{screen}");
    }
}
