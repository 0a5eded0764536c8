// SPDX-License-Identifier: Apache-2.0
//! What is pending right now.

use serde_json::json;

use crate::rig::{SANDBOX, Said, Session};
use crate::schema;

#[test]
fn nothing_asked_is_success_and_said_to_persons_only() {
    let session = Session::new();
    let check = |expected: &str| {
        let said = session.run(&["list"]);
        assert_eq!((said.status, said.text.as_str()), (0, ""));
        assert_eq!(said.error, expected);
        let (lines, status) = session.json(&["list"]);
        assert_eq!(
            (lines, status),
            (vec![json!({"event": "list", "rows": 0})], 0)
        );
    };
    check("no hub is running\n");
    let _serve = session.serve();
    check("no pending questions\n");
    // A runtime directory that is not there is one without hubs.
    let mut command = session.command(&["list"]);
    let said = Said::of(
        command
            .env("XDG_RUNTIME_DIR", "/nonexistent")
            .output()
            .unwrap(),
    );
    assert_eq!(said.status, 0);
    assert_eq!(said.error, "no hub is running\n");
}

#[test]
fn a_table_fits_the_screen_and_says_what_an_answer_opens() {
    let session = Session::new();
    let _serve = session.serve();
    let long = format!("{}.example", "a".repeat(60));
    session.report(&["one.example", "", &long]);
    let list = |columns: &str| {
        let mut command = session.command(&["list"]);
        let said = Said::of(command.env("COLUMNS", columns).output().unwrap());
        assert_eq!((said.status, said.error.as_str()), (0, ""));
        said.text
    };
    let wide = list("80");
    for line in wide.lines() {
        assert!(line.len() <= 80, "{line}");
    }
    let no_times = |text: &str| {
        let lines = text.lines().map(|line| match line.split_once(" ago; ") {
            Some((_, rest)) => format!("    blocked once, N ago; {rest}"),
            None => line.to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!("list", no_times(&wide));
    // What counts is never cut, however narrow.
    for columns in ["1", "40", "nonsense", "0"] {
        let text = list(columns);
        assert!(text.contains(&format!("{SANDBOX}:1")) && text.contains(&long));
        let words = |text: &str| text.split_whitespace().count();
        assert_eq!(words(&text), words(&wide));
    }
}

#[test]
fn colours_are_for_those_who_ask() {
    let session = Session::new();
    let _serve = session.serve();
    session.report(&["one.example"]);
    let bold = "\u{1b}[1mID";
    assert!(!session.run(&["list"]).text.contains('\u{1b}'));
    assert!(
        session
            .run(&["list", "--color=always"])
            .text
            .starts_with(bold)
    );
    let mut command = session.command(&["list"]);
    let plain = Said::of(command.env("NO_COLOR", "1").output().unwrap());
    assert!(!plain.text.contains('\u{1b}'));
}

#[test]
fn hubs_of_all_and_of_single_sandboxes_are_one_list_the_oldest_first() {
    let session = Session::new();
    let hubs = ["web", "db", "mail"].map(|sandbox| {
        let hub = session.hub_of(sandbox);
        session.report_of(sandbox, &["one.example"]);
        hub
    });
    let _serve = session.serve();
    session.report(&["one.example"]);
    let (lines, status) = session.json(&["list"]);
    assert_eq!(status, 0);
    let ids: Vec<_> = lines
        .iter()
        .filter_map(|line| line["id"].as_str())
        .collect();
    assert_eq!(ids, ["web:0", "db:0", "mail:0", "0123456789ab:0"]);
    assert_eq!(lines.last().unwrap()["rows"], 4);
    let (lines, _) = session.json(&["list", "--container", "db"]);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["id"], "db:0");
    // The whole id of the sandbox whose hub knows the first 12 characters.
    let whole = format!("{SANDBOX}{}", "c".repeat(52));
    let (lines, _) = session.json(&["list", "--container", &whole]);
    assert_eq!(lines[0]["id"], "0123456789ab:0");
    let own = session.path("terok/clearance/mail/hub.sock");
    let (lines, _) = session.json(&["list", "--socket", own.to_str().unwrap()]);
    assert_eq!((lines.len(), &lines[0]["id"]), (2, &json!("mail:0")));
    // A hub that was killed leaves a socket behind, and is none.
    drop(hubs);
    let (lines, status) = session.json(&["list"]);
    assert_eq!((lines.len(), status), (2, 0));
}

#[test]
fn wrong_arguments_are_status_2_and_an_error_of_json() {
    let session = Session::new();
    for args in [
        &["list", "--timeout", "0"] as &[_],
        &["list", "--container", "../x"],
        &["allow"],
        &["allow", ""],
        &["deny", "a b"],
        &["deny", "web:1", "--expect", ""],
        &["watch", "web:1"],
    ] {
        let said = session.run(args);
        assert_eq!((said.status, said.text.as_str()), (2, ""), "{args:?}");
        let said = session.run(&[&["--json"], args].concat());
        assert_eq!(schema::error(&said.error)["status"], 2, "{args:?}");
    }
}
