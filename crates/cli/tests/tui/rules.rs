// SPDX-License-Identifier: Apache-2.0
//! From the choice of a scope to the end of the rule.

use terok_clearance::{Action, RuleLifetime};

use crate::rule_keeper::{LiveHub, RuleKeeper, blocked};
use crate::session::Session;
use crate::window::Window;

#[test]
fn a_scope_is_chosen_by_keys_and_its_rule_is_revoked() {
    let session = Session::new();
    let keeper = RuleKeeper::default();
    let asked = vec![blocked(1, "cdn.example.com", "203.0.113.7")];
    let hub = LiveHub::start(&session, keeper.clone(), asked);
    let window = Window::open(&session, 100, 30);
    window.tui("", "");
    window.until("[4 this run]");
    window.press(&["3"]);
    window.until("opens cdn.example.com port 443/tcp, for 1 hour");
    window.press(&["w"]);
    window.until("opens every name below example.com (not example.com itself) port 443/tcp, for 1");
    window.press_until("a", "[1] ALLOWED");
    let rules = keeper.rules_in_force();
    let [rule] = rules.as_slice() else {
        panic!("{rules:?}");
    };
    assert_eq!(rule.dest.as_str(), "*.example.com:443/tcp");
    assert_eq!(
        (rule.action, rule.keep),
        (Action::Allow, RuleLifetime::Sandbox)
    );
    assert_eq!(rule.seconds_left, Some(3600));
    window.press(&["r"]);
    let screen = window.until("*.example.com:443/tcp");
    assert!(screen.contains("1 rule"), "{screen}");
    window.press(&["x"]);
    window.until("Revoking it ends 2 connections at once.");
    window.press(&["n"]);
    window.until("no rule was revoked");
    assert_eq!(keeper.rules_in_force().len(), 1);
    window.press(&["x"]);
    window.until("REVOKE web:r1?");
    let said = "REVOKED  web:r1 (allow *.example.com:443/tcp); it ended 2 connections";
    window.press_until("y", said);
    window.until("no rule: every connection is a question");
    assert!(keeper.rules_in_force().is_empty());
    window.press(&["Escape"]);
    window.until("Waiting for you");
    window.press(&["q"]);
    window.until_over(0);
    drop(hub);
}
