// SPDX-License-Identifier: Apache-2.0
//! Tests of `terok-clearance demo`: as root and as an ordinary user, with pipes and at a terminal,
//! complete and interrupted, and with a manipulated firewall.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests, which may look at their environment"
)]

mod demo;
mod sabotage;
mod schema;
mod stopped;
mod terminal;

use demo::{Demo, Run, User};
use serde_json::json;

/// Checks the exit status and the counts in the summary.
fn check(run: &Run, status: i32, counts: [u64; 6]) {
    let summary = run.summary();
    let names = [
        "asked",
        "allowed",
        "denied",
        "unanswered",
        "passed",
        "refused",
    ];
    for (name, expected) in names.into_iter().zip(counts) {
        assert_eq!(summary[name], json!(expected), "{name}: {run:#?}");
    }
    assert_eq!(summary["ok"], json!(status == 0), "{run:#?}");
    assert_eq!(run.status, Some(status), "{run:#?}");
}

#[test]
fn what_is_allowed_passes_as_root_and_as_an_ordinary_user() {
    for user in [User::Me, User::Other] {
        let demo = Demo::new();
        let run = demo.run(user, &["--json", "demo", "--answer", "allow"], "");
        check(&run, 0, [5, 5, 0, 0, 5, 1]);
        assert_eq!(run.stderr, "");
        for time in ["packet_to_event_us", "answer_to_connect_us"] {
            assert!(run.summary()[time].as_u64().is_some(), "{time}: {run:#?}");
        }
    }
}

#[test]
fn what_is_denied_does_not_pass_as_root_and_as_an_ordinary_user() {
    for user in [User::Me, User::Other] {
        let demo = Demo::new();
        let run = demo.run(
            user,
            &["demo", "--json", "--answer", "deny"],
            "a\na\na\na\na\n",
        );
        check(&run, 0, [5, 0, 5, 0, 0, 6]);
    }
}

#[test]
fn lines_on_standard_input_are_answers() {
    let demo = Demo::new();
    let answers = "a\nno such answer\n\ndeny\nallow\nd\na\n";
    let run = demo.run(User::Me, &["demo", "--json", "--answer", "ask"], answers);
    check(&run, 0, [5, 3, 2, 0, 3, 3]);
    let ends: Vec<_> = run
        .steps
        .iter()
        .filter(|step| step["step"] == "passed" || step["step"] == "refused")
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(
        ends,
        [
            "passed", "refused", "passed", "refused", "refused", "passed"
        ],
        "in the order of the answers, the metadata address in between"
    );
}

#[test]
fn what_nobody_answers_stays_shut_and_is_no_success() {
    let demo = Demo::new();
    let run = demo.run(User::Me, &["demo", "--json", "--answer", "ask"], "");
    check(&run, 1, [5, 0, 0, 5, 0, 6]);
    let run = demo.run(User::Me, &["demo", "--json", "--answer", "ask"], "a\n");
    check(&run, 1, [5, 1, 0, 4, 1, 5]);
}

#[test]
fn without_a_terminal_every_step_is_shown() {
    let demo = Demo::new();
    let run = demo.run(User::Me, &["demo", "--json"], "");
    check(&run, 0, [5, 4, 1, 0, 4, 2]);
    assert_eq!(run.step("answer")["by"], "the demo");
}

#[test]
fn the_metadata_address_is_never_asked_about_and_a_forged_answer_opens_nothing() {
    let demo = Demo::new();
    let run = demo.run(User::Me, &["demo", "--json", "--answer", "allow"], "");
    let about: Vec<_> = run
        .steps
        .iter()
        .filter(|step| step["fetch"] == 4)
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(about, ["fetch", "packet", "notice", "forged", "refused"]);
    assert_eq!(run.step("forged")["fetch"], 4);
}

#[test]
fn the_text_output_matches_the_snapshot() {
    let demo = Demo::new();
    let run = demo.run(User::Me, &["demo", "--answer", "ask"], "a\nd\na\n");
    assert_eq!(run.status, Some(1));
    insta::assert_snapshot!(masked(&run.stdout));
    for line in run.stdout.lines() {
        assert!(line.len() <= 80, "{line}");
        assert!(!line.contains('\x1b'), "no colours in a pipe: {line}");
    }
}

#[test]
fn names_are_looked_up_outside_only_after_they_are_allowed() {
    let demo = Demo::new();
    let answers = "a\nd\na\n";
    let run = demo.run(User::Me, &["demo", "--json", "--answer", "ask"], answers);
    check(&run, 1, [5, 2, 1, 2, 2, 4]);
    let names = ["names", "looked_up"].map(|name| &run.summary()[name]);
    assert_eq!(names, [&json!(4), &json!(2)], "{run:#?}");
}

#[test]
fn the_program_waits_for_the_answer_and_connects_at_its_first_attempt() {
    let demo = Demo::new();
    let mut started = demo.start(User::Me, &["demo", "--json", "--answer", "ask"]);
    assert_eq!(started.until("packet")["held"], true);
    let asked_at = started.until("question")["fetch"].clone();
    assert_eq!(asked_at, 1);
    started.answer("a\nd\nd\nd\nd\n");
    let run = started.end();
    check(&run, 0, [5, 1, 4, 0, 1, 5]);
    assert_eq!(run.step("connected")["address"], "203.0.113.10:80");
    assert_eq!(run.step("passed")["fetch"], 1);
    let first = run.steps.iter().filter(|step| step["fetch"] == 1);
    let packets = first.filter(|step| step["step"] == "packet");
    assert_eq!(packets.count(), 1, "{run:#?}");
}

#[test]
fn the_only_link_of_the_sandbox_ends_in_a_gateway_without_a_way_on() {
    let demo = Demo::new();
    let run = demo.run(User::Me, &["demo", "--json", "--answer", "deny"], "");
    let firewall = run.step("firewall");
    assert_eq!(firewall["sandbox_links"], json!(["lo", "eth0"]));
    assert_eq!(firewall["gateway_links"], json!(["lo", "gw0"]));
    assert_eq!(firewall["verified"], true);
}

#[test]
fn the_program_has_no_rights_in_its_sandbox() {
    let demo = Demo::new();
    let run = demo.run(User::Me, &["demo", "--json", "--answer", "allow"], "");
    let program = run.step("program");
    assert_eq!(program["capabilities"], "0000000000000000");
    assert_eq!(program["no_new_privileges"], true);
    assert_eq!(program["seccomp"], true);
}

/// Replaces everything that differs between runs: times, ids, the process found, and padding before
/// times.
fn masked(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let line = line.split(" (from ").next().unwrap();
        let indent = line.len() - line.trim_start().len();
        let mut words: Vec<&str> = line.split_whitespace().collect();
        for at in (1..words.len()).rev() {
            let unit = words[at].trim_end_matches(',');
            if matches!(unit, "ms" | "s") && words[at - 1].parse::<f64>().is_ok() {
                words.splice(at - 1..=at, ["TIME"]);
            } else if words[at - 1] == "user" {
                words[at] = "N";
            }
        }
        lines.push(format!("{:indent$}{}", "", words.join(" ")));
    }
    lines.join("\n")
}
