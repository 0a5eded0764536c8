// SPDX-License-Identifier: Apache-2.0
//! Answers by a question's id.

use std::process::Stdio;

use serde_json::json;
use terok_clearance::wire::clearance2::Event;

use crate::rig::{Act, SANDBOX, Said, Session, framed, pretend, reply, request, stream};

const ONE: &str = "0123456789ab:0";
const TWO: &str = "0123456789ab:1";
const THREE: &str = "0123456789ab:2";

#[test]
fn what_took_effect_is_said_even_where_standard_output_takes_nothing() {
    let session = Session::new();
    let _helper = session.helper("");
    let _serve = session.serve();
    session.report(&["one.example", "two.example", "three.example"]);
    let into_full = |args: &[&str]| {
        let full = std::fs::File::options().write(true).open("/dev/full");
        let mut command = session.command(args);
        let command = command.stdout(full.unwrap()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        Said::of(child.wait_with_output().unwrap())
    };
    let said = into_full(&["allow", ONE, TWO]);
    assert_eq!(said.status, 1);
    for id in [ONE, TWO] {
        let told = format!("{id}: allowed: EVERY port and protocol of");
        assert!(said.error.contains(&told), "{}", said.error);
    }
    assert!(said.error.contains("No space left"), "{}", said.error);
    let said = into_full(&["--json", "allow", THREE]);
    let (decided, _) = said.error.split_once('\n').unwrap();
    assert_eq!(crate::schema::line(decided)["event"], "decided");
}

#[test]
fn an_answer_opens_what_was_shown_and_says_what_that_was() {
    let session = Session::new();
    let _helper = session.helper("");
    let _serve = session.serve();
    session.report(&["one.example", "two.example", "three.example"]);
    let (listed, _) = session.json(&["list"]);
    let opens = listed[0]["opens"].as_str().unwrap();
    let said = session.run(&["allow", ONE]);
    assert_eq!((said.status, said.error.as_str()), (0, ""));
    assert_eq!(said.text, format!("{ONE}: allowed: {opens}\n"));
    let said = session.run(&[
        "deny",
        TWO,
        "--expect",
        "two.example",
        "--container",
        SANDBOX,
    ]);
    assert_eq!((said.status, said.error.as_str()), (0, ""));
    let reach = "EVERY port and protocol of two.example while the sandbox lives";
    assert_eq!(said.text, format!("{TWO}: denied: {reach}\n"));
    let (lines, status) = session.json(&["allow", THREE]);
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
        session.orders(),
        orders.map(|order| order.replace("{}", SANDBOX))
    );
    assert_eq!(session.json(&["list"]).0.len(), 1);
}

#[test]
fn what_is_not_what_was_expected_is_not_answered() {
    let session = Session::new();
    let _helper = session.helper("");
    let _serve = session.serve();
    session.report(&["one.example"]);
    let said = session.run(&["allow", ONE, "--expect", "other.example"]);
    assert_eq!((said.status, said.text.as_str()), (1, ""));
    let expected =
        format!("{ONE}: refused: the question is for one.example, not for other.example\n");
    assert_eq!(said.error, expected);
    let (lines, status) = session.json(&["allow", ONE, "--container", "web"]);
    assert_eq!((&lines[0]["event"], status), (&json!("missing"), 3));
    assert!(session.orders().is_empty());
    // Spelled otherwise it is the same destination.
    assert_eq!(
        session
            .run(&["allow", ONE, "--expect", "ONE.example."])
            .status,
        0
    );
}

#[test]
fn every_id_has_an_outcome_of_its_own() {
    let session = Session::new();
    let _helper = session.helper("[ $3 != bad.example ] || { echo no such name >&2; exit 3; }");
    let _serve = session.serve();
    session.report(&["one.example", "bad.example", "three.example"]);
    let (lines, status) = session.json(&["deny", ONE, TWO, "web:9", THREE, ONE]);
    assert_eq!(status, 1);
    let events: Vec<_> = lines.iter().map(|line| &line["event"]).collect();
    assert_eq!(
        events,
        ["decided", "failed", "missing", "decided", "decided"]
    );
    assert_eq!(lines[1]["request"], TWO);
    assert_eq!(lines[1]["reason"], "no such name");
    let ones = session
        .orders()
        .into_iter()
        .filter(|order| order.ends_with("one.example"));
    assert_eq!(
        ones.count(),
        1,
        "an id that is there twice is answered once"
    );
    // It is still asked, and can be answered again.
    let (lines, _) = session.json(&["list"]);
    assert_eq!((lines.len(), &lines[0]["id"]), (2, &json!(TWO)));
    let check = |ids: &[&str], expected: i32| {
        assert_eq!(
            session.run(&[&["allow"], ids].concat()).status,
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
fn whoever_comes_second_is_told_by_whom_and_what_was_decided() {
    let session = Session::new();
    let _helper = session.helper("");
    let _serve = session.serve();
    session.report(&["one.example"]);
    assert_eq!(session.run(&["deny", ONE]).status, 0);
    for verb in ["allow", "deny"] {
        let (lines, status) = session.json(&[verb, ONE]);
        assert_eq!(status, 4, "the same answer is not ours, either");
        let already = &lines[0];
        assert_eq!(
            (&already["event"], &already["action"]),
            (&json!("already"), &json!("deny"))
        );
        assert!(already["by"].as_str().unwrap().starts_with("uid "));
    }
    let said = session.run(&["allow", ONE]);
    assert!(
        said.error.contains("it was denied already by uid "),
        "{}",
        said.error
    );
    assert_eq!(session.orders().len(), 1);
}

#[test]
fn of_two_at_once_one_wins_and_the_other_is_told() {
    let session = Session::new();
    // The first one's order is under way until both have had their say.
    let gate = session.path("gate");
    rustix::fs::mkfifoat(rustix::fs::CWD, &gate, rustix::fs::Mode::RWXU).unwrap();
    let wait = format!("read -r _ < {}", gate.display());
    let _helper = session.helper(&wait);
    let _serve = session.serve();
    session.report(&["one.example"]);
    let start = |verb: &str| {
        let mut command = session.command(&[verb, ONE, "--json"]);
        let piped = Stdio::piped;
        command.stdout(piped()).stderr(piped()).spawn().unwrap()
    };
    let first = start("allow");
    while session.orders().is_empty() {
        std::thread::yield_now();
    }
    let second = Said::of(start("deny").wait_with_output().unwrap());
    let already = crate::schema::line(&second.text);
    assert_eq!((second.status, &already["event"]), (4, &json!("already")));
    assert_eq!(
        (&already["action"], &already["ok"]),
        (&json!("allow"), &json!(false))
    );
    std::fs::write(&gate, "go\n").unwrap();
    let first = Said::of(first.wait_with_output().unwrap());
    assert_eq!(first.status, 0);
    assert_eq!(crate::schema::line(&first.text)["event"], "decided");
    assert_eq!(session.orders(), [format!("allow {SANDBOX} one.example")]);
}

#[test]
fn an_id_that_two_hubs_ask_is_refused_with_both() {
    let session = Session::new();
    let _helper = session.helper("");
    let path = |sandbox: &str| session.path(&format!("terok/clearance/{sandbox}/hub.sock"));
    let asks = |dest: &'static str| {
        move |_: &str, _: &serde_json::Value| stream(&[request("web:1", dest), Event::Synced])
    };
    let one = pretend(&path("web"), "org.terok.Clearance2", asks("one.example"));
    let two = pretend(&path("db"), "org.terok.Clearance2", asks("two.example"));
    let (lines, status) = session.json(&["allow", "web:1"]);
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
    for calls in [one, two] {
        assert_eq!(
            calls.try_iter().map(|(name, _)| name).collect::<Vec<_>>(),
            ["Subscribe"]
        );
    }
}

#[test]
fn with_no_hub_nothing_can_be_answered() {
    let session = Session::new();
    let said = session.run(&["allow", "web:1"]);
    assert_eq!(
        (said.status, said.error.as_str()),
        (69, "web:1: no hub is running\n")
    );
    let nowhere = session.path("none.sock");
    let args = ["deny", "web:1", "--socket", nowhere.to_str().unwrap()];
    let (lines, status) = session.json(&args);
    assert_eq!((&lines[0]["event"], status), (&json!("unheard"), 69));
    let (lines, status) = session.json(&["list", "--socket", nowhere.to_str().unwrap()]);
    assert_eq!((&lines[0]["state"], status), (&json!("unreachable"), 69));
}

#[test]
fn a_hub_that_dies_under_an_answer_leaves_it_unsure() {
    let session = Session::new();
    let classic = session.path("terok-clearance.sock");
    let _calls = pretend(&classic, "org.terok.Clearance2", |method, _| match method {
        "Subscribe" => stream(&[request("web:1", "one.example"), Event::Synced]),
        _ => Act::HangUp,
    });
    let (lines, status) = session.json(&["allow", "web:1"]);
    assert_eq!((&lines[0]["event"], status), (&json!("unsure"), 1));
    let said = session.run(&["allow", "web:1"]);
    let unsure = "web:1: allow may or may not have taken effect: ";
    assert!(said.error.starts_with(unsure), "{}", said.error);
}

#[test]
fn a_question_that_is_withdrawn_meanwhile_is_no_such_question() {
    let session = Session::new();
    let classic = session.path("terok-clearance.sock");
    let _calls = pretend(&classic, "org.terok.Clearance2", |method, _| match method {
        "Subscribe" => stream(&[request("web:1", "one.example"), Event::Synced]),
        _ => framed(&json!({
            "error": "org.terok.Clearance2.NoSuchRequest", "parameters": {"request": "web:1"},
        })),
    });
    let (lines, status) = session.json(&["allow", "web:1"]);
    assert_eq!((&lines[0]["event"], status), (&json!("missing"), 3));
}

#[test]
fn an_older_hub_is_answered_when_the_destination_is_said() {
    let session = Session::new();
    let classic = session.path("terok-clearance.sock");
    let calls = pretend(&classic, "org.terok.Clearance1", |method, _| match method {
        "Subscribe" => Act::Say(Vec::new()),
        _ => reply(&json!({"ok": true})),
    });
    let said = session.run(&["list"]);
    assert_eq!((said.status, said.text.as_str()), (0, ""));
    assert!(
        said.error.contains("does not list its questions"),
        "{}",
        said.error
    );
    let (lines, _) = session.json(&["list"]);
    assert_eq!(lines[0]["interface"], "org.terok.Clearance1");
    let said = session.run(&["allow", "web:1"]);
    assert_eq!(said.status, 1);
    assert!(said.error.contains("--expect DEST"), "{}", said.error);
    assert!(calls.try_iter().all(|(name, _)| name == "Subscribe"));
    let said = session.run(&["allow", "web:1", "--expect", "one.example"]);
    assert_eq!((said.status, said.error.as_str()), (0, ""));
    assert!(said.text.contains("EVERY port and protocol of one.example"));
    let (_, verdict) = calls
        .try_iter()
        .find(|(name, _)| name == "Verdict")
        .unwrap();
    let expected = json!({
        "container": "web", "request_id": "web:1", "dest": "one.example", "action": "allow",
    });
    assert_eq!(verdict, expected);
}
