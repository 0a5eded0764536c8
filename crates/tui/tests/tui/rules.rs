// SPDX-License-Identifier: Apache-2.0
//! The page of rules: what is listed when, and what ends a rule.

use crossterm::event::KeyCode;
use operator::inbox::InboxEvent;
use proptest::prelude::*;
use serde_json::json;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{ListedRule, RevokeReply};
use terok_clearance_tui::{TuiEffect, TuiMessage};

use crate::answers::three;
use crate::harness::{Effect, TestUi, answers, hub, rule, web};

fn dest(name: &str, dest: &str) -> ListedRule {
    rule(name, json!({ "dest": dest }))
}

/// The page with three rules, the first selected.
fn page() -> TestUi {
    let mut ui = three();
    ui.types("r");
    assert_eq!(std::mem::take(&mut ui.listings), [web()]);
    let rules = ["one", "two", "three"].iter().zip(1..);
    let rules = rules.map(|(name, n)| dest(&format!("r{n}"), &format!("{name}.example:443/tcp")));
    ui.lists(&web(), rules.collect());
    ui.wait(600);
    ui
}

fn revoked(effect: Option<Effect>) -> String {
    match effect {
        Some(Effect::Ui(TuiEffect::Revoke { hub, rule })) => {
            format!("{}:{rule}", hub.sandbox().unwrap())
        }
        other => panic!("nothing was revoked: {other:?}"),
    }
}

fn selected(ui: &mut TestUi) -> String {
    let screen = ui.screen();
    let line = screen.lines().find(|line| line.starts_with("> "));
    line.unwrap_or_default()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .to_owned()
}

#[test]
fn rules_are_listed_on_opening_after_decisions_and_on_a_key() {
    let mut ui = page();
    ui.wait(60_000);
    assert!(ui.listings.is_empty(), "nothing is polled");
    ui.press(KeyCode::Char('r'));
    ui.press(KeyCode::Char('r'));
    assert_eq!(
        std::mem::take(&mut ui.listings),
        [web()],
        "one call at a time"
    );
    // The second one follows the reply.
    ui.lists(&web(), Vec::new());
    assert_eq!(std::mem::take(&mut ui.listings), [web()]);
    ui.lists(&web(), Vec::new());
    assert!(ui.listings.is_empty());
    assert!(
        ui.screen()
            .contains("no rule: every connection is a question")
    );

    let mut ui = three();
    let answer = answers(ui.press(KeyCode::Char('a'))).remove(0);
    ui.types("r");
    ui.lists(&web(), Vec::new());
    ui.listings.clear();
    ui.confirm(&answer);
    assert_eq!(
        std::mem::take(&mut ui.listings),
        [web()],
        "after a decision"
    );
    ui.lists(&web(), vec![dest("r1", "one.example:443/tcp")]);
    assert!(ui.screen().contains("one.example:443/tcp"));
    ui.press(KeyCode::Esc);
    assert!(ui.screen().contains("Waiting for you"));
    ui.news_of(&hub("db"), InboxEvent::Up(ProtocolVersion::Clearance2));
    assert!(ui.listings.is_empty(), "the page is closed");
}

#[test]
fn hubs_come_and_go() {
    let mut ui = page();
    ui.news_of(&hub("db"), InboxEvent::Up(ProtocolVersion::Clearance2));
    assert_eq!(std::mem::take(&mut ui.listings), [hub("db")]);
    assert!(ui.screen().contains("listing the rules ..."));
    let failed = TuiMessage::RulesListed(hub("db"), Err("this hub keeps no rules".into()));
    ui.tell(failed);
    assert!(ui.screen().contains("this hub keeps no rules"));
    ui.news(InboxEvent::Down("the connection was closed".into()));
    let screen = ui.screen();
    assert!(screen.contains("the hub is away"), "{screen}");
    assert!(!screen.contains("one.example:443"), "{screen}");
    ui.news(InboxEvent::Gone);
    assert!(!ui.screen().contains("the hub is away"));
    // A late reply of a hub that is gone is no rule.
    ui.lists(&web(), vec![dest("r1", "one.example:443/tcp")]);
    assert!(!ui.screen().contains("one.example:443"));
}

#[test]
fn the_selection_follows_the_rule() {
    let mut ui = page();
    ui.types("j");
    assert_eq!(selected(&mut ui), "r2");
    let rules = [
        ("r0", "zero"),
        ("r1", "one"),
        ("r2", "two"),
        ("r3", "three"),
    ];
    let listed = |names: &[(&str, &str)]| {
        let rules = names.iter();
        rules
            .map(|(rule, name)| dest(rule, &format!("{name}.example:443/tcp")))
            .collect::<Vec<_>>()
    };
    ui.lists(&web(), listed(&rules));
    assert_eq!(selected(&mut ui), "r2");
    // The next one takes the place of one that ended.
    ui.lists(&web(), listed(&[rules[0], rules[1], rules[3]]));
    assert_eq!(selected(&mut ui), "r3");
    ui.lists(&web(), listed(&rules[..1]));
    assert_eq!(selected(&mut ui), "r0");
    ui.types("jGg");
    assert_eq!(selected(&mut ui), "r0");
}

#[test]
fn a_rule_ends_after_a_confirmation_that_was_read() {
    let mut ui = page();
    ui.types("j");
    assert_eq!(ui.press(KeyCode::Char('x')), None);
    let screen = ui.screen();
    assert!(screen.contains("REVOKE web:r2?"), "{screen}");
    assert!(
        screen.contains("It allows two.example port 443/tcp, for this run."),
        "{screen}"
    );
    assert!(
        screen.contains("Revoking it ends 3 connections at once."),
        "{screen}"
    );
    assert_eq!(ui.press(KeyCode::Char('y')), None, "in the same burst");
    ui.wait(499);
    assert_eq!(
        ui.press(KeyCode::Char('y')),
        None,
        "not visible long enough"
    );
    assert!(ui.status().starts_with("NOT "), "{}", ui.status());
    ui.wait(600);
    assert_eq!(revoked(ui.press(KeyCode::Char('y'))), "web:r2");
    // An end that has no reply yet delays the end of the program.
    ui.press(KeyCode::Esc);
    assert_eq!(ui.types("q"), None);
    assert!(
        ui.status().starts_with("waiting for the end of a rule"),
        "{}",
        ui.status()
    );
    let reply = RevokeReply {
        rules: vec![dest("r2", "two.example:443/tcp")],
        ended: 3,
    };
    let done = TuiMessage::RuleRevoked {
        hub: web(),
        rule: "r2".into(),
        result: Ok(reply),
    };
    assert_eq!(ui.tell(done), Some(Effect::Ui(TuiEffect::Quit)));
    let says = "REVOKED  web:r2 (allow two.example:443/tcp); it ended 3 connections";
    assert_eq!(ui.status(), says);
    ui.types("l");
    assert!(ui.screen().contains(says), "{}", ui.screen());
}

#[test]
fn a_failure_is_told_and_the_rules_are_listed_again() {
    let mut ui = page();
    ui.types("x");
    assert_eq!(revoked(ui.press(KeyCode::Char('y'))), "web:r1");
    let reason = "the sandbox has no rule r1: it has ended, or was never made";
    let failed = TuiMessage::RuleRevoked {
        hub: web(),
        rule: "r1".into(),
        result: Err(reason.into()),
    };
    assert_eq!(ui.tell(failed), None);
    assert_eq!(ui.listings, [web()]);
    assert_eq!(
        ui.status(),
        format!("FAILED  web:r1 was not revoked: {reason}")
    );
    ui.press(KeyCode::Esc);
    ui.types("l");
    assert!(
        ui.screen().contains("web:r1 was not revoked"),
        "{}",
        ui.screen()
    );
}

#[test]
fn nothing_ends_without_the_word_or_if_it_is_another_rule() {
    for key in [KeyCode::Esc, KeyCode::Char('n'), KeyCode::Char('q')] {
        let mut ui = page();
        ui.types("x");
        assert_eq!(ui.press(key), None);
        assert_eq!(ui.status(), "no rule was revoked");
        ui.wait(600);
        assert_eq!(ui.press(KeyCode::Char('y')), None);
    }
    let changed = |ui: &mut TestUi| ui.lists(&web(), vec![dest("r1", "*")]);
    let ended = |ui: &mut TestUi| ui.lists(&web(), Vec::new());
    let away = |ui: &mut TestUi| ui.news(InboxEvent::Down("closed".into()));
    for change in [changed as fn(&mut TestUi), ended, away] {
        let mut ui = page();
        ui.types("x");
        change(&mut ui);
        ui.wait(600);
        assert_eq!(ui.press(KeyCode::Char('y')), None);
        assert_eq!(
            ui.status(),
            "NOT revoked: web:r1 is another rule now, or gone"
        );
    }
    // Counts may differ.
    let mut ui = page();
    ui.types("x");
    ui.lists(
        &web(),
        vec![rule(
            "r1",
            json!({"dest": "one.example:443/tcp", "uses": 99, "open": 5}),
        )],
    );
    ui.wait(600);
    assert_eq!(revoked(ui.press(KeyCode::Char('y'))), "web:r1");
    let mut ui = page();
    ui.lists(&web(), vec![rule("r1", json!({"spent": true}))]);
    ui.types("x");
    assert!(
        ui.status().starts_with("the rule was for one connection"),
        "{}",
        ui.status()
    );
}

#[test]
fn a_dialog_that_does_not_fit_must_be_scrolled() {
    let mut ui = page();
    let long = format!("{}.example", ["a".repeat(60).as_str(); 3].join("."));
    ui.lists(&web(), vec![dest("r1", &long)]);
    ui.resize(40, 10);
    ui.types("x");
    assert_eq!(ui.press(KeyCode::Char('y')), None);
    assert_eq!(ui.status(), "NOT revoked: PgDn shows the rest");
    for _ in 0..4 {
        ui.press(KeyCode::PageDown);
        ui.wait(600);
    }
    assert_eq!(revoked(ui.press(KeyCode::Char('y'))), "web:r1");
}

#[test]
fn a_click_selects_a_rule_and_ends_none() {
    let mut ui = page();
    let screen = ui.screen();
    let at = screen
        .lines()
        .position(|line| line.contains("three.example"))
        .unwrap();
    for _ in 0..3 {
        ui.click(u16::try_from(at).unwrap());
    }
    assert_eq!(selected(&mut ui), "r3");
    ui.click(2);
    assert_eq!(selected(&mut ui), "r3", "a heading is no rule");
}

/// A step of the attack on the page.
#[derive(Debug, Clone)]
enum Step {
    Key(char),
    Esc,
    /// The hub lists rules: each name has one of these destinations, or none.
    Listed([Option<u8>; 3]),
    Away,
    Back,
    Wait(u64),
    Resize(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let some = prop::option::of(0..2_u8);
    let key = prop::sample::select(vec!['r', 'x', 'x', 'x', 'y', 'y', 'y', 'j', 'k', 'n', '?']);
    let step = prop_oneof![
        12 => key.prop_map(Step::Key),
        1 => Just(Step::Esc),
        3 => [some.clone(), some.clone(), some].prop_map(Step::Listed),
        1 => Just(Step::Away),
        1 => Just(Step::Back),
        1 => any::<bool>().prop_map(Step::Resize),
        8 => prop::sample::select(vec![0, 60, 399, 401, 600]).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A rule ends only if the screen asked about this very rule for half a second.
    #[test]
    fn the_rule_that_ends_is_the_one_on_the_screen(steps in steps()) {
        let mut ui = page();
        let (mut shown, mut since, mut last_key) = (ui.screen(), ui.clock, None);
        let mut now = [Some(9), Some(9), Some(9)];
        for step in steps {
            match step {
                Step::Key(key) => {
                    let at = ui.clock;
                    match ui.press(KeyCode::Char(key)) {
                        None => {}
                        Some(Effect::Ui(TuiEffect::Revoke { rule, .. })) => {
                            prop_assert_eq!(key, 'y');
                            let asked = format!("REVOKE web:{rule}?");
                            prop_assert!(shown.contains(&asked), "{}", shown);
                            let n = usize::from(rule.as_str().as_bytes()[1] - b'1');
                            let dest = now[n].expect("a rule that is gone");
                            if dest != 9 {
                                let says = format!("It allows d{dest}.example port 443/tcp");
                                prop_assert!(shown.contains(&says), "{}", shown);
                            }
                            let ms = |from| at.saturating_sub(from).as_millis();
                            prop_assert!(ms(since) >= 500, "visible for {} ms", ms(since));
                            prop_assert!(last_key.is_none_or(|key| ms(key) >= 400));
                        }
                        Some(Effect::Sent(_)) => prop_assert!(!shown.contains("REVOKE")),
                        Some(other) => prop_assert!(false, "{other:?}"),
                    }
                    last_key = Some(at);
                }
                Step::Esc => prop_assert_eq!(ui.press(KeyCode::Esc), None),
                Step::Listed(rules) => {
                    let listed = rules.iter().zip(1..);
                    let listed = listed.filter_map(|(dest, n)| {
                        let dest = json!({"dest": format!("d{}.example:443/tcp", (*dest)?)});
                        Some(rule(&format!("r{n}"), dest))
                    });
                    ui.lists(&web(), listed.collect());
                    now = rules;
                }
                Step::Away => {
                    ui.news(InboxEvent::Down("closed".into()));
                    now = [None; 3];
                }
                Step::Back => ui.news(InboxEvent::Up(ProtocolVersion::Clearance2)),
                Step::Wait(ms) => ui.wait(ms),
                Step::Resize(small) => if small { ui.resize(20, 5) } else { ui.resize(110, 30) },
            }
            // The lines of the dialog, without the clock and the status.
            let screen = ui.screen();
            let dialog = |screen: &str| screen.lines().skip(1).take(8).collect::<Vec<_>>().join("\n");
            if dialog(&screen) != dialog(&shown) {
                since = ui.clock;
            }
            shown = screen;
        }
    }
}
