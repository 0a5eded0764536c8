// SPDX-License-Identifier: Apache-2.0
//! `list`: the pending questions.

use serde_json::json;

use crate::harness::{ProgramOutput, SANDBOX, ScriptHarness};
use crate::schema;

#[test]
fn an_empty_list_is_success_and_a_message_in_text_output_only() {
    let harness = ScriptHarness::new();
    let check = |expected: &str| {
        let output = harness.run(&["list"]);
        assert_eq!((output.status, output.stdout.as_str()), (0, ""));
        assert_eq!(output.stderr, expected);
        let (lines, status) = harness.run_json(&["list"]);
        assert_eq!(
            (lines, status),
            (vec![json!({"event": "list", "rows": 0})], 0)
        );
    };
    check("no hub is running\n");
    let _serve = harness.start_shared_hub();
    check("no pending questions\n");
    // A missing runtime directory has no hubs.
    let mut command = harness.command(&["list"]);
    let output = ProgramOutput::of(
        command
            .env("XDG_RUNTIME_DIR", "/nonexistent")
            .output()
            .unwrap(),
    );
    assert_eq!(output.status, 0);
    assert_eq!(output.stderr, "no hub is running\n");
}

#[test]
fn the_table_names_the_scope_of_an_answer() {
    let harness = ScriptHarness::new();
    let _serve = harness.start_shared_hub();
    let long = format!("{}.example", "a".repeat(60));
    harness.report(&["one.example", "", &long]);
    let output = harness.run(&["list"]);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    let lines = output
        .stdout
        .lines()
        .map(|line| match line.split_once(" ago; ") {
            Some((_, rest)) => format!("    blocked once, N ago; {rest}"),
            None => line.to_owned(),
        });
    insta::assert_snapshot!("list", lines.collect::<Vec<_>>().join("\n"));
}

#[test]
fn colours_follow_the_option_and_the_environment() {
    let harness = ScriptHarness::new();
    let _serve = harness.start_shared_hub();
    harness.report(&["one.example"]);
    let bold = "\u{1b}[1mID";
    assert!(!harness.run(&["list"]).stdout.contains('\u{1b}'));
    assert!(
        harness
            .run(&["list", "--color=always"])
            .stdout
            .starts_with(bold)
    );
    let mut command = harness.command(&["list"]);
    let plain = ProgramOutput::of(command.env("NO_COLOR", "1").output().unwrap());
    assert!(!plain.stdout.contains('\u{1b}'));
}

#[test]
fn questions_of_all_hubs_are_one_list_oldest_first() {
    let harness = ScriptHarness::new();
    let hubs = ["web", "db", "mail"].map(|sandbox| {
        let hub = harness.start_hub(sandbox);
        harness.report_to_hub(sandbox, &["one.example"]);
        hub
    });
    let _serve = harness.start_shared_hub();
    harness.report(&["one.example"]);
    let (lines, status) = harness.run_json(&["list"]);
    assert_eq!(status, 0);
    let ids: Vec<_> = lines
        .iter()
        .filter_map(|line| line["id"].as_str())
        .collect();
    assert_eq!(ids, ["web:0", "db:0", "mail:0", "0123456789ab:0"]);
    assert_eq!(lines.last().unwrap()["rows"], 4);
    let (lines, _) = harness.run_json(&["list", "--container", "db"]);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["id"], "db:0");
    // The full container id; the hub knows its first 12 characters.
    let whole = format!("{SANDBOX}{}", "c".repeat(52));
    let (lines, _) = harness.run_json(&["list", "--container", &whole]);
    assert_eq!(lines[0]["id"], "0123456789ab:0");
    let own = harness.path("terok/clearance/mail/hub.sock");
    let (lines, _) = harness.run_json(&["list", "--socket", own.to_str().unwrap()]);
    assert_eq!((lines.len(), &lines[0]["id"]), (2, &json!("mail:0")));
    // A killed hub leaves a socket without a listener.
    drop(hubs);
    let (lines, status) = harness.run_json(&["list"]);
    assert_eq!((lines.len(), status), (2, 0));
}

#[test]
fn wrong_arguments_are_status_2_and_a_json_error() {
    let harness = ScriptHarness::new();
    for args in [
        &["list", "--timeout", "0"] as &[_],
        &["list", "--container", ""],
        &["allow"],
        &["allow", ""],
        &["deny", "a b"],
        &["deny", "web:1", "--expect", ""],
        &["watch", "web:1"],
    ] {
        let output = harness.run(args);
        assert_eq!((output.status, output.stdout.as_str()), (2, ""), "{args:?}");
        let output = harness.run(&[&["--json"], args].concat());
        assert_eq!(schema::error(&output.stderr)["status"], 2, "{args:?}");
    }
}
