// SPDX-License-Identifier: Apache-2.0
//! Misleading text of a sandbox is harmless in the text output, the JSON output and the errors of
//! `list`, `watch`, `allow` and `deny`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use test_support::child::ChildGuard;
use test_support::fake_hub::{CLEARANCE1_ONLY, CLEARANCE2_ONLY, CallReply};
use test_support::hub_thread::HubThread;

use crate::harmless::{Harmless, all_tame};
use crate::harness::{ProgramOutput, ScriptHarness};
use crate::hub;
use crate::schema;
use crate::texts;

/// Starts a hub whose sandboxes have these texts.
#[must_use]
fn hostile_hub(path: &Path, texts: &[String]) -> HubThread {
    let frames: String = hub::events(texts).iter().map(hub::frame).collect();
    let known = |(at, text): (usize, &String)| {
        let question = hub::question(hub::number(at, "known"), text);
        hub::decision(&question, text, true)
    };
    // The questions that have an answer already.
    let decisions: Vec<_> = texts.iter().enumerate().map(known).collect();
    let texts = texts.to_owned();
    HubThread::start(path, CLEARANCE2_ONLY, move |method, call| match method {
        "Subscribe" => CallReply::Frames(frames.clone().into_bytes()),
        "History" => CallReply::parameters(&json!({ "decisions": decisions })),
        _ => {
            let number = number(&call["request"]);
            CallReply::message(&hub::reply(number, &texts[hub::place_of(number).0]))
        }
    })
}

/// Starts a Clearance1 hub whose sandboxes have these texts.
#[must_use]
fn hostile_clearance1_hub(path: &Path, texts: &[String]) -> HubThread {
    let frames: String = hub::older_events(texts).iter().map(hub::frame).collect();
    let texts = texts.to_owned();
    HubThread::start(path, CLEARANCE1_ONLY, move |method, call| {
        if method == "Subscribe" {
            return CallReply::Frames(frames.clone().into_bytes());
        }
        let number = number(&call["request_id"]);
        CallReply::message(&hub::older_reply(number, &texts[hub::place_of(number).0]))
    })
}

/// Starts a hub that replies to every call with an error that has this text.
#[must_use]
fn refusing_hub(path: &Path, text: &str) -> HubThread {
    let refusal = json!({"error": text, "parameters": {text: text}});
    HubThread::start(path, CLEARANCE2_ONLY, move |_, _| {
        CallReply::message(&refusal)
    })
}

fn number(id: &Value) -> usize {
    let (_, number) = id.as_str().unwrap().rsplit_once(':').unwrap();
    number.parse().unwrap()
}

/// Returns the ids of the questions with the text in one of these places, for each text.
fn ids(texts: &[String], places: &[&str]) -> Vec<String> {
    let of = |text| {
        places
            .iter()
            .map(move |place| hub::id(hub::number(text, place)))
    };
    (0..texts.len()).flat_map(of).collect()
}

/// The commands, each with one of its outputs.
type Outputs = Vec<(&'static str, String)>;

/// Runs a command with text and with JSON output, and adds the outputs without local paths.
fn run(harness: &ScriptHarness, output: &mut Outputs, name: &'static str, args: &[&str]) {
    let here = harness.path("");
    let plain = |text: String| text.replace(here.to_str().unwrap(), "/");
    let mut command = harness.command(args);
    let text = ProgramOutput::of(command.env("COLUMNS", "100").output().unwrap());
    output.push((name, plain(text.stdout)));
    output.push((name, plain(without_log(&text.stderr))));
    let json = harness.run(&[&["--json"], args].concat());
    assert_eq!(without_log(&json.stderr), "", "{name}");
    schema::lines(&json.stdout);
    output.push((name, plain(json.stdout)));
}

/// Returns the errors without log lines, which have times. All of it has to be plain text.
fn without_log(errors: &str) -> String {
    let is_log = |line: &&str| line.contains(" WARN terok_clearance::client");
    let plain = |c: char| c == '\n' || (' '..='~').contains(&c);
    assert!(errors.chars().all(plain), "{errors:?}");
    errors
        .lines()
        .filter(|line| !is_log(line))
        .fold(String::new(), |all, line| all + line + "\n")
}

/// Returns the output of `watch` up to the last event.
fn watch_output(harness: &ScriptHarness, args: &[&str]) -> String {
    let mut command = harness.command(args);
    let mut watch = ChildGuard::spawn(command.stdout(Stdio::piped()));
    let mut lines = BufReader::new(watch.stdout.take().unwrap());
    let mut output = String::new();
    while !output.contains(hub::LAST) {
        assert_ne!(lines.read_line(&mut output).unwrap(), 0, "{output}");
    }
    let here = harness.path("");
    output.replace(here.to_str().unwrap(), "/")
}

/// Compares the outputs for tame texts with those for hostile texts. The outputs have to contain
/// each text of `expected`.
fn check_all_texts(collect: impl Fn(&ScriptHarness, &[String]) -> Outputs, expected: &[&str]) {
    let texts = texts::texts();
    let harmless = Harmless::new(&texts);
    let plain = collect(&ScriptHarness::new(), &all_tame(&texts));
    let shown = collect(&ScriptHarness::new(), &texts);
    assert_eq!(plain.len(), shown.len());
    for ((name, plain), (_, shown)) in plain.iter().zip(&shown) {
        let checked = if plain.starts_with('{') {
            harmless.json(plain, shown)
        } else {
            harmless.text(plain, shown)
        };
        assert_eq!(checked, Ok(()), "{name}");
    }
    for what in expected {
        assert!(
            shown.iter().any(|(_, output)| output.contains(what)),
            "{what}"
        );
    }
}

#[test]
fn messages_of_a_hub_are_harmless() {
    let collect = |harness: &ScriptHarness, texts: &[String]| {
        let mut output = Outputs::new();
        let _hub = hostile_hub(&harness.path("terok-clearance.sock"), texts);
        run(harness, &mut output, "list", &["list"]);
        output.push(("watch", watch_output(harness, &["watch"])));
        output.push(("watch --json", watch_output(harness, &["watch", "--json"])));
        // The questions with the text in place `known` have an answer already.
        for (verb, places) in [("allow", hub::ANSWERED), ("deny", &["known"])] {
            let ids = ids(texts, places);
            let ids: Vec<_> = ids.iter().map(String::as_str).collect();
            run(harness, &mut output, verb, &[&[verb], &*ids].concat());
        }
        output
    };
    check_all_texts(collect, &["took no effect", "already by ", "opens"]);
}

#[test]
fn refused_answers_are_harmless() {
    let collect = |harness: &ScriptHarness, texts: &[String]| {
        let mut output = Outputs::new();
        let _hub = hostile_hub(&harness.path("terok-clearance.sock"), texts);
        let ids = ids(texts, &["dest", "address", "all"]);
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let args = ["allow", "--expect", "x.example"];
        run(harness, &mut output, "expect", &[&args, &*ids].concat());
        // A second hub with the same questions.
        let _second = hostile_hub(&harness.path("terok/clearance/web/hub.sock"), texts);
        run(harness, &mut output, "twice", &[&["deny"], &*ids].concat());
        // Hubs that refuse every call.
        let refuse = |(at, text): (usize, &String)| {
            let path = format!("terok/clearance/no{at:03}/hub.sock");
            refusing_hub(&harness.path(&path), text)
        };
        let _refusing: Vec<_> = texts.iter().enumerate().map(refuse).collect();
        run(
            harness,
            &mut output,
            "refusing",
            &["list", "--container", "no001"],
        );
        run(harness, &mut output, "all refusing", &["list"]);
        run(harness, &mut output, "one refusing", &["deny", "no:1"]);
        output
    };
    let expected = [
        "refused: the question is for ",
        "refused: 2 questions have this id: ",
        "did not respond: ",
    ];
    check_all_texts(collect, &expected);
}

#[test]
fn messages_of_a_clearance1_hub_are_harmless() {
    let collect = |harness: &ScriptHarness, texts: &[String]| {
        let mut output = Outputs::new();
        let _hub = hostile_clearance1_hub(&harness.path("terok-clearance.sock"), texts);
        run(harness, &mut output, "list", &["list"]);
        let ids = ids(texts, &[hub::ANSWERED, &["known"]].concat());
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let args = ["deny", "--expect", "x.example"];
        run(harness, &mut output, "deny", &[&args, &*ids].concat());
        output.push(("watch", watch_output(harness, &["watch"])));
        output.push(("watch --json", watch_output(harness, &["watch", "--json"])));
        output
    };
    check_all_texts(collect, &["took no effect"]);
}

/// A real hub sanitises the reports of readers.
#[test]
fn reports_of_readers_are_harmless() {
    const PLACES: [&str; 6] = ["domain", "project", "task", "name", "key", "ts"];
    let collect = |harness: &ScriptHarness, texts: &[String]| {
        let _serve = harness.start_shared_hub();
        // One text per line, because the length of a line is limited.
        let reported = |at: usize| {
            let (text, place) = (&texts[at / PLACES.len()], PLACES[at % PLACES.len()]);
            let of = |here, usual| if here == place { text.as_str() } else { usual };
            json!({
                "type": "pending", "container": format!("web{at}"), "id": format!("web{at}:1"),
                "dest": "203.0.113.7", "port": at + 1, "proto": 6,
                "domain": of("domain", "a.example"), "ts": of("ts", ""),
                "dossier": {
                    "project": of("project", "warp"), "task": of("task", "build"),
                    "name": of("name", "web"), of("key", "key"): "value",
                },
            })
        };
        let count = texts.len() * PLACES.len();
        let events: Vec<_> = (0..count).map(reported).collect();
        harness.report_events("terok-shield-events.sock", &events);
        while harness.run_json(&["list"]).0.len() <= count {}
        // Line breaks depend on the age of a question.
        let mut command = harness.command(&["list"]);
        let text = ProgramOutput::of(command.env("COLUMNS", "9999").output().unwrap());
        let ageless = text
            .stdout
            .lines()
            .map(|line| match line.split_once(" ago; ") {
                Some((_, rest)) => format!("{rest}\n"),
                None => format!("{line}\n"),
            });
        let json = harness.run(&["list", "--json"]).stdout;
        vec![
            ("list", ageless.collect()),
            (
                "list --json",
                json.replace(harness.path("").to_str().unwrap(), "/"),
            ),
        ]
    };
    check_all_texts(collect, &["opens"]);
}

/// Asserts that every line of the log begins with a time and is plain text.
fn check_log(log: &str) {
    let plain = |c: char| (' '..='~').contains(&c);
    for line in log.lines() {
        assert!(
            line.chars().all(plain) && line.starts_with("20"),
            "{line:?}"
        );
    }
}

#[test]
fn log_lines_are_harmless() {
    let harness = ScriptHarness::new();
    let mut serve = harness.command(&["serve"]);
    serve.env("RUST_LOG", "trace").stderr(Stdio::piped());
    let mut serve = ChildGuard::spawn(&mut serve);
    let mut log = BufReader::new(serve.stderr.take().unwrap());
    let mut logged = String::new();
    while !logged.contains("the hub listens") {
        assert_ne!(log.read_line(&mut logged).unwrap(), 0, "{logged}");
    }
    let log = std::thread::spawn(move || {
        log.read_to_string(&mut logged).unwrap();
        logged
    });
    let line = |kind: &str, of: &str, text: &str| {
        let mut line = json!({
            "type": kind, "container": "web", "id": "web:1", "dest": "203.0.113.7", "port": 443,
            "proto": 6, "domain": "a.example", "dossier": {}, "reason": "", "ts": "",
        });
        line[of] = text.into();
        line
    };
    let report = |events: &[Value]| harness.report_events("terok-shield-events.sock", events);
    let texts = texts::texts();
    for text in &texts {
        // The log has a rate limit per reader connection.
        report(&[Value::from(text.as_str()), line(text, "domain", text)]);
        for of in [
            "container",
            "id",
            "dest",
            "port",
            "proto",
            "domain",
            "dossier",
            text,
        ] {
            report(&[line("pending", of, text)]);
        }
        report(&[
            line("container_exited", "reason", text),
            line("shield_up", "container", text),
        ]);
    }
    // The hub may read this connection before others: no event for `web` changes its question.
    let mut final_event = line("pending", "id", "last:1");
    final_event["container"] = "last".into();
    report(&[final_event]);
    let is_last = |line: &Value| line["id"] == "last:1";
    while !harness.run_json(&["list"]).0.iter().any(is_last) {}
    drop(serve);
    let log = log.join().unwrap();
    assert!(log.matches("dropped a malformed line of a reader").count() > 5 * texts.len());
    check_log(&log);
    // The log of a client about invalid messages of a hub.
    let harness = ScriptHarness::new();
    let _hub = hostile_hub(&harness.path("terok-clearance.sock"), &texts);
    let mut list = harness.command(&["list"]);
    let list = ProgramOutput::of(list.env("RUST_LOG", "trace").output().unwrap());
    assert!(
        list.stderr.contains("skipped an invalid event"),
        "{}",
        list.stderr
    );
    check_log(&list.stderr);
}
