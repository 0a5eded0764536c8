// SPDX-License-Identifier: Apache-2.0
//! The picture in the README matches the screen when a live hub asks these questions.

use crate::rule_keeper::{LiveHub, RuleKeeper, blocked};
use crate::session::Session;
use crate::window::Window;

/// Returns the text with times of day replaced and without trailing spaces.
fn timeless(screen: &str) -> String {
    let mut shown: Vec<u8> = screen.bytes().collect();
    let is_time = |part: &[u8]| {
        let mut at = part.iter().enumerate();
        at.all(|(at, b)| {
            if at == 2 || at == 5 {
                *b == b':'
            } else {
                b.is_ascii_digit()
            }
        })
    };
    for at in 0..shown.len().saturating_sub(7) {
        let part = shown.get_mut(at..at + 8).unwrap();
        if is_time(part) {
            part.copy_from_slice(b"HH:MM:SS");
        }
    }
    let shown = String::from_utf8(shown).unwrap();
    let lines: Vec<_> = shown.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}

#[test]
fn a_live_hubs_questions_look_as_in_the_readme() {
    let session = Session::new();
    let mut asked: Vec<_> = (1..=12)
        .map(|number| blocked(number, "registry.npmjs.org", "203.0.113.7"))
        .collect();
    let name = "www.bank.example.login.session.3f2a9c0d1e4b.cdn.tracker.evil.example";
    asked.extend([
        blocked(13, "api.github.com", "140.82.121.6"),
        blocked(14, "deb.debian.org", "151.101.2.132"),
        blocked(15, name, "198.51.100.23"),
    ]);
    let hub = LiveHub::start(&session, RuleKeeper::default(), asked);
    let window = Window::open(&session, 80, 17);
    window.tui("", "");
    let screen = window.until("4 questions wait");
    let place = session.runtime().to_str().unwrap();
    let there = format!("{:>1$}", "/run/user/1000", place.len());
    let screen = timeless(&screen.replace(place, &there));
    let readme = timeless(include_str!("../../../../README.md"));
    assert!(
        readme.contains(&format!("```text\n{screen}\n```")),
        "it shows\n{screen}"
    );
    drop(hub);
}
