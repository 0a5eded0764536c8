// SPDX-License-Identifier: Apache-2.0
//! `allow` and `deny` by question id.

use std::process::Stdio;

use serde_json::json;
use terok_clearance::wire::clearance2::Event;
use test_support::fake_hub::{CLEARANCE1_ONLY, CLEARANCE2_ONLY, CallReply};
use test_support::hub_thread::HubThread;

use crate::harness::{ProgramOutput, SANDBOX, ScriptHarness, pending};

const ONE: &str = "0123456789ab:0";
const TWO: &str = "0123456789ab:1";
const THREE: &str = "0123456789ab:2";

#[test]
fn decisions_are_reported_on_stderr_if_stdout_is_full() {
    let harness = ScriptHarness::new();
    let _helper = harness.start_verdict_helper("");
    let _serve = harness.start_shared_hub();
    harness.report(&["one.example", "two.example", "three.example"]);
    let into_full = |args: &[&str]| {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let mut command = harness.command(args);
        let command = command.stdout(full.unwrap()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        ProgramOutput::of(child.wait_with_output().unwrap())
    };
    let output = into_full(&["allow", ONE, TWO]);
    assert_eq!(output.status, 1);
    for id in [ONE, TWO] {
        let line = format!("{id}: allowed: EVERY port and protocol of");
        assert!(output.stderr.contains(&line), "{}", output.stderr);
    }
    assert!(output.stderr.contains("No space left"), "{}", output.stderr);
    let output = into_full(&["--json", "allow", THREE]);
    let (decided, _) = output.stderr.split_once('\n').unwrap();
    assert_eq!(crate::schema::line(decided)["event"], "decided");
}

#[test]
fn an_answer_has_the_listed_scope_and_reports_it() {
    let harness = ScriptHarness::new();
    let _helper = harness.start_verdict_helper("");
    let _serve = harness.start_shared_hub();
    harness.report(&["one.example", "two.example", "three.example"]);
    let (listed, _) = harness.run_json(&["list"]);
    let opens = listed[0]["opens"].as_str().unwrap();
    let output = harness.run(&["allow", ONE]);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    assert_eq!(output.stdout, format!("{ONE}: allowed: {opens}\n"));
    let output = harness.run(&[
        "deny",
        TWO,
        "--expect",
        "two.example",
        "--container",
        SANDBOX,
    ]);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    let reach = "EVERY port and protocol of two.example, until it is removed from the firewall";
    assert_eq!(output.stdout, format!("{TWO}: denied: {reach}\n"));
    let (lines, status) = harness.run_json(&["allow", THREE]);
    assert_eq!((lines.len(), status), (1, 0));
    let decided = &lines[0];
    assert_eq!(decided["event"], "decided");
    assert_eq!(
        (&decided["request"], &decided["ok"]),
        (&json!(THREE), &json!(true))
    );
    assert_eq!(decided["scope"], listed[2]["scope"]);
    assert_eq!(decided["reach"], listed[2]["opens"]);
    let orders = [
        "allow {} one.example",
        "deny {} two.example",
        "allow {} three.example",
    ];
    assert_eq!(
        harness.orders(),
        orders.map(|order| order.replace("{}", SANDBOX))
    );
    assert_eq!(harness.run_json(&["list"]).0.len(), 1);
}

#[test]
fn an_unexpected_destination_is_not_answered() {
    let harness = ScriptHarness::new();
    let _helper = harness.start_verdict_helper("");
    let _serve = harness.start_shared_hub();
    harness.report(&["one.example"]);
    let output = harness.run(&["allow", ONE, "--expect", "other.example"]);
    assert_eq!((output.status, output.stdout.as_str()), (1, ""));
    let expected =
        format!("{ONE}: refused: the question is for one.example, not for other.example\n");
    assert_eq!(output.stderr, expected);
    let (lines, status) = harness.run_json(&["allow", ONE, "--container", "web"]);
    assert_eq!((&lines[0]["event"], status), (&json!("missing"), 3));
    assert!(harness.orders().is_empty());
    // Another spelling of the same destination.
    assert_eq!(
        harness
            .run(&["allow", ONE, "--expect", "ONE.example."])
            .status,
        0
    );
}

#[test]
fn every_id_has_an_outcome_of_its_own() {
    let harness = ScriptHarness::new();
    let _helper =
        harness.start_verdict_helper("[ $3 != bad.example ] || { echo no such name >&2; exit 3; }");
    let _serve = harness.start_shared_hub();
    harness.report(&["one.example", "bad.example", "three.example"]);
    let (lines, status) = harness.run_json(&["deny", ONE, TWO, "web:9", THREE, ONE]);
    assert_eq!(status, 1);
    let events: Vec<_> = lines.iter().map(|line| &line["event"]).collect();
    assert_eq!(
        events,
        ["decided", "failed", "missing", "decided", "decided"]
    );
    assert_eq!(lines[1]["request"], TWO);
    assert_eq!(lines[1]["reason"], "no such name");
    let ones = harness
        .orders()
        .into_iter()
        .filter(|order| order.ends_with("one.example"));
    assert_eq!(ones.count(), 1, "a repeated id is answered once");
    // The question of the failed answer is pending, and can be answered again.
    let (lines, _) = harness.run_json(&["list"]);
    assert_eq!((lines.len(), &lines[0]["id"]), (2, &json!(TWO)));
    let check = |ids: &[&str], expected: i32| {
        assert_eq!(
            harness.run(&[&["deny"], ids].concat()).status,
            expected,
            "{ids:?}"
        );
    };
    check(&[ONE], 4);
    check(&["web:9"], 3);
    check(&["web:9", ONE], 4);
    check(&["web:9", ONE, TWO], 1);
}

#[test]
fn a_second_answer_reports_the_first_decision_and_its_author() {
    let harness = ScriptHarness::new();
    let _helper = harness.start_verdict_helper("");
    let _serve = harness.start_shared_hub();
    harness.report(&["one.example"]);
    assert_eq!(harness.run(&["deny", ONE]).status, 0);
    let (lines, status) = harness.run_json(&["deny", ONE]);
    assert_eq!(status, 4);
    let already = &lines[0];
    assert_eq!(
        (&already["event"], &already["action"]),
        (&json!("already"), &json!("deny"))
    );
    assert!(already["by"].as_str().unwrap().starts_with("uid "));
    let output = harness.run(&["deny", ONE]);
    assert!(
        output.stderr.contains("it was denied already by uid "),
        "{}",
        output.stderr
    );
    assert_eq!(harness.orders().len(), 1);
    // Another answer changes it.
    let output = harness.run(&["allow", ONE]);
    assert_eq!((output.stderr.as_str(), output.status), ("", 0));
    assert!(
        output.stdout.contains(", now allowed: EVERY port"),
        "{output:?}"
    );
    let orders = [
        format!("deny {SANDBOX} one.example"),
        format!("allow {SANDBOX} one.example"),
    ];
    assert_eq!(harness.orders(), orders);
}

#[test]
fn of_two_concurrent_answers_one_is_applied_and_the_other_reports_it() {
    let harness = ScriptHarness::new();
    // The order of the first answer lasts until the second answer has its reply.
    let gate = harness.path("gate");
    rustix::fs::mkfifoat(rustix::fs::CWD, &gate, rustix::fs::Mode::RWXU).unwrap();
    let wait = format!("read -r _ < {}", gate.display());
    let _helper = harness.start_verdict_helper(&wait);
    let _serve = harness.start_shared_hub();
    harness.report(&["one.example"]);
    let start = |verb: &str| {
        let mut command = harness.command(&[verb, ONE, "--json"]);
        let piped = Stdio::piped;
        command.stdout(piped()).stderr(piped()).spawn().unwrap()
    };
    let first = start("allow");
    while harness.orders().is_empty() {
        std::thread::yield_now();
    }
    let second = ProgramOutput::of(start("deny").wait_with_output().unwrap());
    let already = crate::schema::line(&second.stdout);
    assert_eq!((second.status, &already["event"]), (4, &json!("already")));
    assert_eq!(
        (&already["action"], &already["ok"]),
        (&json!("allow"), &json!(false))
    );
    std::fs::write(&gate, "go\n").unwrap();
    let first = ProgramOutput::of(first.wait_with_output().unwrap());
    assert_eq!(first.status, 0);
    assert_eq!(crate::schema::line(&first.stdout)["event"], "decided");
    assert_eq!(harness.orders(), [format!("allow {SANDBOX} one.example")]);
}

#[test]
fn an_id_at_two_hubs_is_refused_and_both_are_named() {
    let harness = ScriptHarness::new();
    let _helper = harness.start_verdict_helper("");
    let path = |sandbox: &str| harness.path(&format!("terok/clearance/{sandbox}/hub.sock"));
    let asks = |dest: &'static str| {
        move |_: &str, _: &serde_json::Value| {
            CallReply::events(&[pending("web:1", dest), Event::Synced])
        }
    };
    let one = HubThread::start(&path("web"), CLEARANCE2_ONLY, asks("one.example"));
    let two = HubThread::start(&path("db"), CLEARANCE2_ONLY, asks("two.example"));
    let (lines, status) = harness.run_json(&["allow", "web:1"]);
    assert_eq!((&lines[0]["event"], status), (&json!("refused"), 1));
    let reason = lines[0]["reason"].as_str().unwrap();
    for part in [
        &*path("web").to_string_lossy(),
        "/db/",
        "one.example",
        "two.example",
    ] {
        assert!(reason.contains(part), "{reason}");
    }
    for hub in [one, two] {
        assert_eq!(
            hub.calls
                .try_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>(),
            ["Subscribe"]
        );
    }
}

#[test]
fn an_answer_without_a_hub_is_an_error() {
    let harness = ScriptHarness::new();
    let output = harness.run(&["allow", "web:1"]);
    assert_eq!(
        (output.status, output.stderr.as_str()),
        (69, "web:1: no hub is running\n")
    );
    let nowhere = harness.path("none.sock");
    let args = ["deny", "web:1", "--socket", nowhere.to_str().unwrap()];
    let (lines, status) = harness.run_json(&args);
    assert_eq!((&lines[0]["event"], status), (&json!("unheard"), 69));
    let (lines, status) = harness.run_json(&["list", "--socket", nowhere.to_str().unwrap()]);
    assert_eq!((&lines[0]["state"], status), (&json!("unreachable"), 69));
}

#[test]
fn a_hub_that_ends_during_an_answer_leaves_its_result_unknown() {
    let harness = ScriptHarness::new();
    let classic = harness.path("terok-clearance.sock");
    let _hub = HubThread::start(&classic, CLEARANCE2_ONLY, |method, _| match method {
        "Subscribe" => CallReply::events(&[pending("web:1", "one.example"), Event::Synced]),
        _ => CallReply::Disconnected,
    });
    let (lines, status) = harness.run_json(&["allow", "web:1"]);
    assert_eq!((&lines[0]["event"], status), (&json!("unsure"), 1));
    let output = harness.run(&["allow", "web:1"]);
    let unsure = "web:1: allow may or may not have taken effect: ";
    assert!(output.stderr.starts_with(unsure), "{}", output.stderr);
}

#[test]
fn a_withdrawn_question_is_reported_missing() {
    let harness = ScriptHarness::new();
    let classic = harness.path("terok-clearance.sock");
    let _hub = HubThread::start(&classic, CLEARANCE2_ONLY, |method, _| match method {
        "Subscribe" => CallReply::events(&[pending("web:1", "one.example"), Event::Synced]),
        _ => CallReply::message(&json!({
            "error": "org.terok.Clearance2.NoSuchRequest", "parameters": {"request": "web:1"},
        })),
    });
    let (lines, status) = harness.run_json(&["allow", "web:1"]);
    assert_eq!((&lines[0]["event"], status), (&json!("missing"), 3));
}

#[test]
fn a_clearance1_hub_is_answered_with_an_expected_destination() {
    let harness = ScriptHarness::new();
    let classic = harness.path("terok-clearance.sock");
    let hub = HubThread::start(&classic, CLEARANCE1_ONLY, |method, _| match method {
        "Subscribe" => CallReply::Frames(Vec::new()),
        _ => CallReply::parameters(&json!({"ok": true})),
    });
    let output = harness.run(&["list"]);
    assert_eq!((output.status, output.stdout.as_str()), (5, ""));
    assert!(!output.stderr.contains("no pending questions"));
    assert!(
        output.stderr.contains("does not list its questions"),
        "{}",
        output.stderr
    );
    let (lines, status) = harness.run_json(&["list"]);
    assert_eq!(status, 5);
    assert_eq!(lines[0]["interface"], "org.terok.Clearance1");
    let output = harness.run(&["allow", "web:1"]);
    assert_eq!(output.status, 1);
    assert!(output.stderr.contains("--expect DEST"), "{}", output.stderr);
    assert!(hub.calls.try_iter().all(|(name, _)| name == "Subscribe"));
    let output = harness.run(&["allow", "web:1", "--expect", "one.example"]);
    assert_eq!((output.status, output.stderr.as_str()), (0, ""));
    assert!(
        output
            .stdout
            .contains("EVERY port and protocol of one.example")
    );
    let (_, verdict) = hub
        .calls
        .try_iter()
        .find(|(name, _)| name == "Verdict")
        .unwrap();
    let expected = json!({
        "container": "web", "request_id": "web:1", "dest": "one.example", "action": "allow",
    });
    assert_eq!(verdict, expected);
}
