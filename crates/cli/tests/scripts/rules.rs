// SPDX-License-Identifier: Apache-2.0
//! `rules`, `revoke`, `explain` and `bypass`.

use serde_json::json;
use terok_clearance::Action;

use crate::harness::ScriptHarness;
use crate::scoped_hub::ScopedHub;

/// A hub with the rule of an answer, one of a profile, and one of the organisation.
fn with_rules(check: impl FnOnce(&ScriptHarness, &ScopedHub)) {
    let harness = ScriptHarness::new();
    let hub = ScopedHub::start(&harness.path(""), "web");
    hub.ask(17, "api.example.com", None);
    assert_eq!(harness.run(&["allow", "web:17", "--for", "10m"]).status, 0);
    let npm = json!({"origin": "profile", "origin_name": "npm", "uses": 0, "open": 0});
    hub.add_rule(Action::Allow, "*.npmjs.org:443/tcp", &npm);
    let denied = json!({"origin": "organisation", "uses": 1, "open": 0});
    hub.add_rule(Action::Deny, "203.0.113.0/24", &denied);
    check(&harness, &hub);
}

#[test]
fn rules_are_listed_with_their_origin_and_their_use() {
    with_rules(|harness, _hub| {
        let output = harness.run(&["rules"]);
        assert_eq!((output.stderr.as_str(), output.status), ("", 0));
        let lines: Vec<_> = output.stdout.lines().collect();
        assert!(
            lines[0].starts_with("RULE    WHAT   COVERS"),
            "{}",
            lines[0]
        );
        for (line, parts) in [
            (
                1,
                [
                    "web:r1  allow",
                    "api.example.com port 443/tcp",
                    "10 minutes left",
                ],
            ),
            (
                3,
                [
                    "web:r2  allow",
                    "every name below npmjs.org",
                    "for this run",
                ],
            ),
            (
                5,
                ["web:r3  deny", "203.0.113.0/24, every port", "for this run"],
            ),
        ] {
            for part in parts {
                assert!(lines[line].contains(part), "{part}: {}", lines[line]);
            }
        }
        assert!(
            lines[2].contains("the answer to web:17 by uid"),
            "{}",
            lines[2]
        );
        assert!(
            lines[2].ends_with("2 connections; 2 open now"),
            "{}",
            lines[2]
        );
        assert!(lines[4].contains("profile npm by uid 1000"), "{}", lines[4]);
        assert!(lines[4].ends_with("never used"), "{}", lines[4]);
        assert!(lines[6].ends_with("refused 1 connection"), "{}", lines[6]);

        let (lines, status) = harness.run_json(&["rules", "web"]);
        assert_eq!((lines.len(), status), (4, 0));
        assert_eq!(lines[0]["name"], "web:r1");
        assert_eq!(lines[0]["origin_name"], "web:17");
        assert_eq!(lines[3], json!({"event": "rules", "rules": 3}));
    });
}

#[test]
fn a_rule_is_revoked_by_its_name_or_its_question() {
    with_rules(|harness, hub| {
        let output = harness.run(&["revoke", "web:17"]);
        assert_eq!((output.stderr.as_str(), output.status), ("", 0));
        let revoked = "revoked web:r1 (allow api.example.com port 443/tcp); ended 2 connections\n";
        assert_eq!(output.stdout, revoked);
        let output = harness.run(&["revoke", "r2"]);
        assert_eq!(output.status, 0, "{output:?}");
        assert!(
            output.stdout.ends_with("; no connection was open\n"),
            "{output:?}"
        );
        let (lines, status) = harness.run_json(&["revoke", "web:r1", "web:r3"]);
        let events: Vec<_> = lines.iter().map(|line| &line["event"]).collect();
        assert_eq!(
            (events.as_slice(), status),
            (&[&json!("missing_rule"), &json!("refused")][..], 1)
        );
        let output = harness.run(&["revoke", "web:r1"]);
        assert_eq!(output.status, 3);
        let missing = "no sandbox has a rule web:r1: it has ended, or was never made\n";
        assert_eq!(output.stderr, missing);
        assert_eq!(hub.rules(), ["r3 deny 203.0.113.0/24 sandbox"]);
    });
}

#[test]
fn a_rule_of_two_sandboxes_is_named_with_its_sandbox() {
    let harness = ScriptHarness::new();
    let hubs = ["web", "db"].map(|name| ScopedHub::start(&harness.path(""), name));
    for hub in &hubs {
        hub.add_rule(Action::Deny, "a.example", &json!({}));
    }
    let (lines, status) = harness.run_json(&["revoke", "r1"]);
    assert_eq!((&lines[0]["event"], status), (&json!("refused"), 1));
    assert_eq!(
        lines[0]["reason"],
        "several sandboxes have r1: db:r1, web:r1"
    );
    let (lines, status) = harness.run_json(&["revoke", "db:r1"]);
    assert_eq!((&lines[0]["sandbox"], status), (&json!("db"), 0));
    assert_eq!(hubs[0].rules().len(), 1);
    assert_eq!(hubs[1].rules().len(), 0);
    let (lines, status) = harness.run_json(&["rules", "db"]);
    assert_eq!((lines.len(), status), (1, 0));
}

#[test]
fn explain_says_which_rule_decides_and_what_would_change_it() {
    with_rules(|harness, hub| {
        let output = harness.run(&["explain", "web", "api.example.com"]);
        assert_eq!((output.stderr.as_str(), output.status), ("", 0));
        for part in [
            "web: api.example.com port 443/tcp is allowed by web:r1",
            "to close it: `terok-clearance revoke web:r1`; the next connection then asks",
        ] {
            assert!(output.stdout.contains(part), "{output:?}");
        }
        hub.add_rule(Action::Deny, "api.example.com:443/tcp", &json!({}));
        let (lines, status) = harness.run_json(&["explain", "web", "api.example.com:443"]);
        assert_eq!((lines.len(), status), (1, 0));
        assert_eq!(lines[0]["verdict"], "deny");
        assert_eq!(lines[0]["rule"]["rule"], "r4");
        assert_eq!(lines[0]["others"][0]["rule"], "r1");
        let output = harness.run(&["explain", "web", "other.example:22"]);
        assert!(
            output.stdout.contains("is asked about: no rule covers it"),
            "{output:?}"
        );
        assert_eq!(harness.run(&["explain", "web", "*.example"]).status, 2);
    });
}

#[test]
fn a_bypass_says_loudly_what_it_opens() {
    with_rules(|harness, hub| {
        let output = harness.run(&["bypass", "web", "--for", "10m"]);
        assert_eq!((output.stderr.as_str(), output.status), ("", 0));
        let open = "web IS OPEN for 10 minutes: EVERY destination on the internet";
        assert!(output.stdout.starts_with(open), "{output:?}");
        assert_eq!(hub.rules()[3], "r4 allow * sandbox 600");
        let (lines, status) = harness.run_json(&["bypass", "web", "--end"]);
        assert_eq!((&lines[0]["ended"], status), (&json!(3), 0));
        let output = harness.run(&["bypass", "web", "--end"]);
        assert_eq!(output.status, 1);
        assert!(output.stderr.contains("there is no bypass"), "{output:?}");
        for args in [
            &["bypass", "web"][..],
            &["bypass", "web", "--for", "1h", "--end"],
        ] {
            assert_eq!(harness.run(args).status, 2, "{args:?}");
        }
    });
}

#[test]
fn a_sandbox_that_does_not_exist_is_named() {
    with_rules(|harness, _hub| {
        for args in [
            &["rules", "db"][..],
            &["explain", "db", "a.example"],
            &["bypass", "db", "--end"],
        ] {
            let output = harness.run(args);
            assert_eq!((output.stdout.as_str(), output.status), ("", 3), "{args:?}");
            let error = "error: no sandbox is called db; there are: web\n";
            assert_eq!(output.stderr, error);
        }
    });
    let harness = ScriptHarness::new();
    let output = harness.run(&["rules"]);
    assert_eq!(
        (output.stderr.as_str(), output.status),
        ("no hub is running\n", 0)
    );
}

#[test]
fn a_hub_that_does_not_tell_its_rules_is_named() {
    let harness = ScriptHarness::new();
    let _helper = harness.start_verdict_helper("");
    let _serve = harness.start_shared_hub();
    let output = harness.run(&["rules"]);
    assert_eq!((output.stdout.as_str(), output.status), ("", 5));
    assert!(
        output
            .stderr
            .contains("did not tell its rules: the firewall"),
        "{output:?}"
    );
    let (lines, status) = harness.run_json(&["rules"]);
    assert_eq!((&lines[0]["event"], status), (&json!("hub"), 5));
}
