// SPDX-License-Identifier: Apache-2.0
//! Snapshots of the screens as text, at three sizes.

use std::sync::Arc;
use std::time::Duration;

use crossterm::event::KeyCode;
use operator::inbox::{InboxEvent, OperatorReply};
use ratatui::style::{Color, Modifier};
use terok_clearance::ShieldState;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{Event, Request};
use terok_clearance_tui::{Theme, TuiMessage};

use crate::harness::{NOON, TestUi, answers, asks, asks_at, hub, offering, request, rule, web};
use serde_json::json;

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (200, 60)];

/// Compares the screen with its snapshot at every size.
fn check_snapshots(name: &str, prepare: impl Fn(u16, u16) -> TestUi) {
    for (width, height) in SIZES {
        let mut ui = prepare(width, height);
        let screen = ui.screen();
        assert_eq!(screen.lines().count(), usize::from(height), "{screen}");
        insta::assert_snapshot!(format!("{name}-{width}x{height}"), screen);
    }
}

/// Compares the screen after some keys with its snapshot.
fn check_snapshots_after(name: &str, prepare: impl Fn(u16, u16) -> TestUi, keys: &str) {
    check_snapshots(name, |width, height| {
        let mut ui = prepare(width, height);
        ui.types(keys);
        ui
    });
}

/// Some questions of two sandboxes, one of an older hub.
fn busy(width: u16, height: u16) -> TestUi {
    fill(TestUi::up(width, height))
}

fn fill(mut ui: TestUi) -> TestUi {
    let mut first = asks(1, "registry.npmjs.org");
    {
        let first = Arc::make_mut(&mut first);
        first.count = 12;
        first.last_seen = first.last_seen.saturating_add(Duration::from_secs(66));
    }
    ui.asks(&first);
    ui.asks(&asks_at(2, "api.github.com", "140.82.121.6"));
    let other = hub("0123456789ab");
    ui.news_of(&other, InboxEvent::Up(ProtocolVersion::Clearance1));
    let at = NOON + 9_000_000;
    let ping = request(&format!(
        r#"{{"id": "0123456789ab:1", "container": "0123456789ab", "dest": "198.51.100.23",
            "address": "198.51.100.23", "port": 0, "protocol": "icmp",
            "scope": {{"dest": "198.51.100.23", "keep": "sandbox"}},
            "dossier": {{"container_name": "scratch"}},
            "first_seen": {at}, "last_seen": {at}, "count": 1}}"#
    ));
    ui.news_of(&other, InboxEvent::Received(Event::Pending(ping)));
    ui.asks(&asks(
        4,
        "www.bank.example.login.session.3f2a9c0d1e4b.cdn.tracker.evil.example",
    ));
    ui.wait(600);
    ui
}

#[test]
fn start() {
    check_snapshots("start", TestUi::new);
}

#[test]
fn no_hub() {
    check_snapshots("nothing", |width, height| {
        let mut ui = TestUi::new(width, height);
        ui.sync();
        ui
    });
}

#[test]
fn no_question() {
    check_snapshots("empty", TestUi::up);
}

#[test]
fn some_questions() {
    check_snapshots("questions", busy);
}

/// Two questions with held connections: of an address on the local network, which a name led to,
/// and of a name that is resolved after the answer.
fn held(width: u16, height: u16) -> TestUi {
    let mut ui = TestUi::up(width, height);
    let at = NOON + 1_000_000;
    ui.asks(&request(&format!(
        r#"{{"id": "web:1", "container": "web", "dest": "xn--bcher-kva.example",
            "address": "xn--bcher-kva.example", "domain": "xn--bcher-kva.example",
            "port": 443, "protocol": "tcp",
            "scope": {{"dest": "xn--bcher-kva.example", "port": 443, "protocol": "tcp",
                       "keep": "sandbox"}},
            "dossier": {{"project": "warp", "task": "build-42", "name": "web"}},
            "first_seen": {at}, "last_seen": {at}, "count": 3, "gave_up_after": 15}}"#
    )));
    ui.asks(&request(&format!(
        r#"{{"id": "web:2", "container": "web", "dest": "192.168.1.20",
            "address": "192.168.1.20", "zone": "local-network", "looked_up_as": "nas.example",
            "port": 445, "protocol": "tcp",
            "scope": {{"dest": "192.168.1.20", "port": 445, "protocol": "tcp",
                       "keep": "sandbox"}},
            "process": {{"pid": 812, "uid": 1000, "name": "smbclient",
                         "command": ["smbclient", "-L", "nas.example"],
                         "directory": "/home/u/project", "other_holders": 1,
                         "parents": [{{"pid": 700, "name": "bash"}}, {{"pid": 1, "name": "node"}}]}},
            "dossier": {{"project": "warp", "task": "build-42", "name": "web"}},
            "first_seen": {at}, "last_seen": {at}, "count": 2, "waiting": 2,
            "waiting_since": {at}}}"#
    )));
    ui.wait(600);
    ui
}

#[test]
fn held_connections() {
    check_snapshots("held", held);
}

#[test]
fn details_of_held_connections() {
    check_snapshots("held-details", |width, height| {
        let mut ui = held(width, height);
        ui.press(KeyCode::Down);
        ui.press(KeyCode::Enter);
        ui
    });
}

/// Returns the question without a process.
fn without_process(mut question: Arc<Request>) -> Arc<Request> {
    Arc::make_mut(&mut question).process = None;
    question
}

/// The scene of the pictures in the documents; a test of the program builds it with a live hub.
fn picture(height: u16) -> TestUi {
    let mut ui = TestUi::new(80, height);
    ui.news(InboxEvent::Up(ProtocolVersion::Clearance2));
    let first = without_process(asks(1, "registry.npmjs.org"));
    let mut first = offering(first, &["*.npmjs.org"]);
    {
        let first = Arc::make_mut(&mut first);
        first.count = 12;
        first.last_seen = first.last_seen.saturating_add(Duration::from_secs(66));
    }
    ui.asks(&first);
    let name = "www.bank.example.login.session.3f2a9c0d1e4b.cdn.tracker.evil.example";
    for (number, name, address) in [
        (2, "api.github.com", "140.82.121.6"),
        (3, "deb.debian.org", "151.101.2.132"),
        (4, name, "198.51.100.23"),
    ] {
        let question = without_process(asks_at(number, name, address));
        ui.asks(&offering(question, &[]));
    }
    ui.says(Event::Synced);
    ui.sync();
    ui.wait(600);
    ui
}

#[test]
fn pictures_in_the_documents_are_up_to_date() {
    let (readme, manual) = (
        include_str!("../../../../README.md"),
        include_str!("../../../../docs/tui.md"),
    );
    let is_in = |document: &str, mut ui: TestUi| {
        let screen = ui.screen();
        let picture = format!("```text\n{}\n```\n", screen.trim_end());
        assert!(document.contains(&picture), "the screen is\n{screen}");
    };
    insta::assert_snapshot!("picture", picture(24).screen());
    let mut several = picture(24);
    several.types("*a");
    insta::assert_snapshot!("picture-several", several.screen());
    is_in(readme, picture(17));
    is_in(manual, picture(24));
    is_in(manual, several);
}

#[test]
fn details() {
    check_snapshots("details", |width, height| {
        let mut ui = busy(width, height);
        ui.press(KeyCode::Enter);
        ui
    });
}

#[test]
fn help() {
    check_snapshots_after("help", busy, "?");
}

#[test]
fn filter() {
    check_snapshots_after("filter", busy, "/example");
}

#[test]
fn marks() {
    check_snapshots_after("marks", busy, "  ");
}

#[test]
fn confirm_dialog() {
    check_snapshots_after("confirm", busy, "*a");
}

/// After an allowed, a denied and a failed answer, with another one pending.
fn answered(width: u16, height: u16) -> TestUi {
    let mut ui = busy(width, height);
    let allow = answers(ui.press(KeyCode::Char('a'))).remove(0);
    ui.confirm(&allow);
    ui.wait(2000);
    let deny = answers(ui.press(KeyCode::Char('x'))).remove(0);
    ui.confirm(&deny);
    ui.wait(2000);
    let fails = answers(ui.press(KeyCode::Char('a'))).remove(0);
    let reason = "terok-shield: no such container".into();
    ui.reply(&fails, OperatorReply::Failed(reason));
    ui.wait(2000);
    ui.press(KeyCode::Down);
    ui.wait(600);
    answers(ui.press(KeyCode::Char('a')));
    ui.wait(100);
    ui
}

#[test]
fn after_answers() {
    check_snapshots("answered", answered);
}

#[test]
fn disconnected_hub_and_disabled_firewall() {
    check_snapshots("away", |width, height| {
        let mut ui = busy(width, height);
        ui.news(InboxEvent::Down("the hub closed the connection".into()));
        let container = "0123456789ab".parse().unwrap();
        let state = ShieldState::Down;
        ui.news_of(
            &hub("0123456789ab"),
            InboxEvent::Received(Event::Shield { container, state }),
        );
        ui.wait(600);
        ui
    });
}

#[test]
fn log_and_sandboxes() {
    check_snapshots_after("log", answered, "l");
    check_snapshots("sandboxes", |width, height| {
        let mut ui = busy(width, height);
        ui.shield("build", ShieldState::Disengaged);
        ui.types("s");
        ui
    });
}

/// A question with all scopes, which was answered before.
fn offers(width: u16, height: u16) -> TestUi {
    let mut ui = TestUi::up(width, height);
    let mut question = offering(asks(1, "cdn.assets.example.com"), &["*.assets.example.com"]);
    let previous = json!({
        "action": "allow", "by": "uid 1000 pid 812 (terok-clearance)", "at": NOON - 7_200_000_000,
        "keep": "sandbox", "seconds": 300,
    });
    {
        let question = Arc::make_mut(&mut question);
        question.wider.push("*.example.com".parse().unwrap());
        question.previous = Some(serde_json::from_value(previous).unwrap());
    }
    ui.asks(&question);
    ui.asks(&offering(asks(2, "api.github.com"), &[]));
    ui.wait(600);
    ui
}

/// A question that a program asked ahead, and that the approver left to the operator.
fn asked_ahead(width: u16, height: u16) -> TestUi {
    let mut ui = TestUi::up(width, height);
    let mut question = offering(asks(1, "upload.example.com"), &[]);
    {
        let question = Arc::make_mut(&mut question);
        question.reason = Some("to upload the build".into());
        question.approver = Some("not a registry".into());
    }
    ui.asks(&question);
    ui.wait(600);
    ui
}

#[test]
fn words_of_programs_and_approvers() {
    check_snapshots("asked-ahead", asked_ahead);
}

#[test]
fn choice_of_scopes() {
    check_snapshots("scopes", offers);
    check_snapshots_after("scopes-always", offers, "6");
    check_snapshots_after("scopes-wide", offers, "3ww");
    check_snapshots_after("scopes-together", offers, "*a2");
    for (width, height) in [(40, 12), (60, 16)] {
        let mut ui = offers(width, height);
        ui.types("2w");
        insta::assert_snapshot!(format!("scopes-small-{width}x{height}"), ui.screen());
        ui.press(KeyCode::Enter);
        insta::assert_snapshot!(format!("scopes-details-{width}x{height}"), ui.screen());
    }
}

/// The rules of two hubs, one of which is too old, and of one that is away.
fn rules(width: u16, height: u16) -> TestUi {
    let mut ui = busy(width, height);
    let gone = hub("ci");
    ui.news_of(&gone, InboxEvent::Up(ProtocolVersion::Clearance2));
    ui.news_of(&gone, InboxEvent::Down("the connection was closed".into()));
    ui.types("r");
    let name = "www.bank.example.login.session.3f2a9c0d1e4b.cdn.tracker.evil.example";
    ui.lists(
        &web(),
        vec![
            rule(
                "r1",
                json!({"origin": "profile", "origin_name": "npm", "open": 0}),
            ),
            rule(
                "r2",
                json!({"dest": "*.githubusercontent.com:443/tcp", "keep": "project",
                       "origin": "project", "origin_name": null}),
            ),
            rule(
                "r3",
                json!({"action": "deny", "dest": format!("{name}:443/tcp"), "uses": 41,
                       "open": 0, "keep": "always", "origin": "always"}),
            ),
            rule(
                "r4",
                json!({"dest": "203.0.113.0/24:80-90", "seconds_left": 250, "uses": 0,
                       "open": 0, "last_used": null}),
            ),
            rule(
                "r5",
                json!({"dest": "api.example.com:443/tcp", "keep": "once", "uses": 1,
                       "open": 1, "spent": true}),
            ),
            rule(
                "r6",
                json!({"dest": "*", "origin": "bypass", "origin_name": null,
                       "seconds_left": 890, "uses": 123_456, "open": 7}),
            ),
        ],
    );
    let old = Err("the hub is too old for a call about rules".into());
    ui.tell(TuiMessage::RulesListed(hub("0123456789ab"), old));
    ui
}

#[test]
fn page_of_rules() {
    check_snapshots("rules", rules);
    check_snapshots_after("rules-wildcard", rules, "j");
    check_snapshots_after("rules-revoke", rules, "jx");
    check_snapshots("rules-none", |width, height| {
        let mut ui = TestUi::new(width, height);
        ui.sync();
        ui.types("r");
        ui
    });
    let mut ui = rules(40, 12);
    insta::assert_snapshot!("rules-40x12", ui.screen());
    ui.types("jjx");
    insta::assert_snapshot!("rules-revoke-40x12", ui.screen());
}

#[test]
fn small_windows() {
    for (width, height) in [(40, 10), (60, 16), (39, 10), (1, 1)] {
        let mut ui = busy(width, height);
        insta::assert_snapshot!(format!("small-{width}x{height}"), ui.screen());
    }
}

#[test]
fn every_size_can_be_drawn() {
    let mut ui = answered(80, 24);
    for width in [0, 1, 2, 39, 40, 41, 79, 109, 110, 250] {
        for height in [0, 1, 2, 9, 10, 11, 17, 18, 19, 100] {
            for keys in ["", "?", "l", "s", "*a", "/x", "r", "rx"] {
                ui.resize(width, height);
                ui.types(keys);
                ui.draw();
                ui.press(KeyCode::Esc);
                ui.press(KeyCode::Esc);
            }
        }
    }
}

#[test]
fn ascii_only() {
    let theme = Theme::default();
    let mut ui = TestUi::with(theme, 80, 24);
    ui.sync();
    let screen = ui.screen();
    assert!(screen.is_ascii(), "{screen}");
    assert!(screen.contains("-- Waiting for you ---"), "{screen}");
}

/// Returns the text modifiers of each cell.
fn modifiers(ui: &TestUi) -> Vec<Modifier> {
    ui.cells().iter().map(|cell| cell.modifier).collect()
}

#[test]
fn colour_is_never_the_only_sign() {
    let plain = Theme {
        color: false,
        unicode: true,
    };
    let mut with = busy(80, 24);
    let mut without = fill(TestUi::up_with(plain, 80, 24));
    assert_eq!(with.screen(), without.screen());
    assert!(with.cells().iter().any(|cell| cell.fg != Color::Reset));
    assert!(
        without
            .cells()
            .iter()
            .all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
    );
    assert_eq!(modifiers(&with), modifiers(&without));
    // Each state has its characters.
    let mut ui = answered(80, 24);
    let screen = ui.screen();
    for text in ["> ", "allowing", "FAILED", "ALLOWED", "DENIED"] {
        assert!(screen.contains(text), "{text}\n{screen}");
    }
}
