// SPDX-License-Identifier: Apache-2.0
//! The screens, as text, at three sizes.

use std::sync::Arc;
use std::time::Duration;

use crossterm::event::KeyCode;
use operator::inbox::{InboxEvent, OperatorReply};
use ratatui::style::{Color, Modifier};
use terok_clearance::ShieldState;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{Event, Request};
use terok_clearance_tui::Theme;

use crate::rig::{NOON, Rig, answers, asks, asks_at, hub, request};

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

/// Takes the picture of a UI in every size.
fn pictures(name: &str, prepare: impl Fn(u16, u16) -> Rig) {
    for (width, height) in SIZES {
        let mut rig = prepare(width, height);
        let screen = rig.screen();
        assert_eq!(screen.lines().count(), usize::from(height), "{screen}");
        insta::assert_snapshot!(format!("{name}-{width}x{height}"), screen);
    }
}

/// The same after some keys.
fn pictures_after(name: &str, prepare: impl Fn(u16, u16) -> Rig, keys: &str) {
    pictures(name, |width, height| {
        let mut rig = prepare(width, height);
        rig.types(keys);
        rig
    });
}

/// Some questions of two sandboxes, one of an older hub.
fn busy(width: u16, height: u16) -> Rig {
    fill(Rig::up(width, height))
}

fn fill(mut rig: Rig) -> Rig {
    let mut first = asks(1, "registry.npmjs.org");
    {
        let first = Arc::make_mut(&mut first);
        first.count = 12;
        first.last_seen = first.last_seen.saturating_add(Duration::from_secs(66));
    }
    rig.asks(&first);
    rig.asks(&asks_at(2, "api.github.com", "140.82.121.6"));
    let other = hub("0123456789ab");
    rig.news_of(&other, InboxEvent::Up(ProtocolVersion::Clearance1));
    let at = NOON + 9_000_000;
    let ping = request(&format!(
        r#"{{"id": "0123456789ab:1", "container": "0123456789ab", "dest": "198.51.100.23",
            "address": "198.51.100.23", "port": 0, "protocol": "icmp",
            "scope": {{"dest": "198.51.100.23", "keep": "sandbox"}},
            "dossier": {{"container_name": "scratch"}},
            "first_seen": {at}, "last_seen": {at}, "count": 1}}"#
    ));
    rig.news_of(&other, InboxEvent::Received(Event::Pending(ping)));
    rig.asks(&asks(
        4,
        "www.bank.example.login.session.3f2a9c0d1e4b.cdn.tracker.evil.example",
    ));
    rig.wait(600);
    rig
}

#[test]
fn at_the_start() {
    pictures("start", Rig::new);
}

#[test]
fn without_a_hub() {
    pictures("nothing", |width, height| {
        let mut rig = Rig::new(width, height);
        rig.sync();
        rig
    });
}

#[test]
fn without_a_question() {
    pictures("empty", Rig::up);
}

#[test]
fn with_some_questions() {
    pictures("questions", busy);
}

/// The question without a process, as the reader reports it today.
fn without_process(mut question: Arc<Request>) -> Arc<Request> {
    Arc::make_mut(&mut question).process = None;
    question
}

/// What the pictures show; the program's own test has a live hub ask the same.
fn picture() -> Rig {
    let mut rig = Rig::new(80, 24);
    rig.news(InboxEvent::Up(ProtocolVersion::Clearance2));
    let mut first = without_process(asks(1, "registry.npmjs.org"));
    {
        let first = Arc::make_mut(&mut first);
        first.count = 12;
        first.last_seen = first.last_seen.saturating_add(Duration::from_secs(66));
    }
    rig.asks(&first);
    let name = "www.bank.example.login.session.3f2a9c0d1e4b.cdn.tracker.evil.example";
    for (number, name, address) in [
        (2, "api.github.com", "140.82.121.6"),
        (3, "deb.debian.org", "151.101.2.132"),
        (4, name, "198.51.100.23"),
    ] {
        rig.asks(&without_process(asks_at(number, name, address)));
    }
    rig.says(Event::Synced);
    rig.sync();
    rig.wait(600);
    rig
}

#[test]
fn the_pictures_in_the_documents_are_what_it_shows() {
    let (readme, manual) = (
        include_str!("../../../../README.md"),
        include_str!("../../../../docs/tui.md"),
    );
    let is_in = |document: &str, mut rig: Rig| {
        let screen = rig.screen();
        let picture = format!("```text\n{}\n```\n", screen.trim_end());
        assert!(document.contains(&picture), "it shows\n{screen}");
    };
    insta::assert_snapshot!("picture", picture().screen());
    let mut several = picture();
    several.types("*a");
    insta::assert_snapshot!("picture-several", several.screen());
    is_in(readme, picture());
    is_in(manual, picture());
    is_in(manual, several);
}

#[test]
fn with_all_about_one() {
    pictures("details", |width, height| {
        let mut rig = busy(width, height);
        rig.press(KeyCode::Enter);
        rig
    });
}

#[test]
fn with_the_help() {
    pictures_after("help", busy, "?");
}

#[test]
fn with_a_filter() {
    pictures_after("filter", busy, "/example");
}

#[test]
fn with_marks() {
    pictures_after("marks", busy, "  ");
}

#[test]
fn when_several_are_about_to_be_answered() {
    pictures_after("confirm", busy, "*a");
}

/// After an allow, a deny, a failure, and with one answer on its way.
fn answered(width: u16, height: u16) -> Rig {
    let mut rig = busy(width, height);
    let allow = answers(rig.press(KeyCode::Char('a'))).remove(0);
    rig.confirm(&allow);
    rig.wait(2000);
    let deny = answers(rig.press(KeyCode::Char('x'))).remove(0);
    rig.confirm(&deny);
    rig.wait(2000);
    let fails = answers(rig.press(KeyCode::Char('a'))).remove(0);
    let reason = "terok-shield: no such container".into();
    rig.reply(&fails, OperatorReply::Failed(reason));
    rig.wait(2000);
    rig.press(KeyCode::Down);
    rig.wait(600);
    answers(rig.press(KeyCode::Char('a')));
    rig.wait(100);
    rig
}

#[test]
fn after_answers() {
    pictures("answered", answered);
}

#[test]
fn when_a_hub_is_away_and_a_firewall_down() {
    pictures("away", |width, height| {
        let mut rig = busy(width, height);
        rig.news(InboxEvent::Down("the hub closed the connection".into()));
        let container = "0123456789ab".parse().unwrap();
        let state = ShieldState::Down;
        rig.news_of(
            &hub("0123456789ab"),
            InboxEvent::Received(Event::Shield { container, state }),
        );
        rig.wait(600);
        rig
    });
}

#[test]
fn with_the_log_and_the_sandboxes() {
    pictures_after("log", answered, "l");
    pictures("sandboxes", |width, height| {
        let mut rig = busy(width, height);
        rig.shield("build", ShieldState::Disengaged);
        rig.types("s");
        rig
    });
}

#[test]
fn in_small_windows() {
    for (width, height) in [(40, 10), (60, 16), (39, 10), (1, 1)] {
        let mut rig = busy(width, height);
        insta::assert_snapshot!(format!("small-{width}x{height}"), rig.screen());
    }
}

#[test]
fn every_size_is_drawn() {
    let mut rig = answered(80, 24);
    for width in [0, 1, 2, 39, 40, 41, 79, 109, 110, 250] {
        for height in [0, 1, 2, 9, 10, 11, 17, 18, 19, 100] {
            for keys in ["", "?", "l", "s", "*a", "/x"] {
                rig.resize(width, height);
                rig.types(keys);
                rig.draw();
                rig.press(KeyCode::Esc);
                rig.press(KeyCode::Esc);
            }
        }
    }
}

#[test]
fn in_ascii() {
    let theme = Theme::default();
    let mut rig = Rig::with(theme, 80, 24);
    rig.sync();
    let screen = rig.screen();
    assert!(screen.is_ascii(), "{screen}");
    assert!(screen.contains("-- Waiting for you ---"), "{screen}");
}

/// Says which cells look otherwise than plain text.
fn looks(rig: &Rig) -> Vec<Modifier> {
    rig.cells().iter().map(|cell| cell.modifier).collect()
}

#[test]
fn colours_say_nothing_that_is_not_said_without_them() {
    let plain = Theme {
        color: false,
        unicode: true,
    };
    let mut with = busy(80, 24);
    let mut without = fill(Rig::up_with(plain, 80, 24));
    assert_eq!(with.screen(), without.screen());
    assert!(with.cells().iter().any(|cell| cell.fg != Color::Reset));
    assert!(
        without
            .cells()
            .iter()
            .all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
    );
    assert_eq!(looks(&with), looks(&without));
    // What is selected, marked, being answered, failed or open is told in characters.
    let mut rig = answered(80, 24);
    let screen = rig.screen();
    for text in ["> ", "allowing", "FAILED", "ALLOWED", "DENIED"] {
        assert!(screen.contains(text), "{text}\n{screen}");
    }
}
