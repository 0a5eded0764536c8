// SPDX-License-Identifier: Apache-2.0
//! Text that a sandbox chose to mislead with is harmless in all that `list`, `watch`, `allow` and
//! `deny` say, to persons and to programs, in words and in errors.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harmless::{Harmless, all_tame};
use crate::hub;
use crate::rig::{Act, Process, Session, framed, pretend, reply};
use crate::schema;
use crate::texts;

/// Pretends to be a hub whose sandboxes have these texts.
fn talk(path: &Path, texts: &[String]) {
    let frames: String = hub::events(texts).iter().map(hub::frame).collect();
    let known = |(at, text): (usize, &String)| {
        let question = hub::question(hub::number(at, "known"), text);
        hub::decision(&question, text, true)
    };
    // Those that were answered before.
    let decisions: Vec<_> = texts.iter().enumerate().map(known).collect();
    let told = Arc::new((frames.into_bytes(), decisions, texts.to_owned()));
    pretend(path, "org.terok.Clearance2", move |method, call| {
        let (frames, decisions, texts) = &*told;
        match method {
            "Subscribe" => Act::Say(frames.clone()),
            "History" => reply(&json!({ "decisions": decisions })),
            _ => {
                let number = number(&call["request"]);
                framed(&hub::reply(number, &texts[hub::place_of(number).0]))
            }
        }
    });
}

/// The same of a hub of an older release.
fn talk_as_older(path: &Path, texts: &[String]) {
    let frames: String = hub::older_events(texts).iter().map(hub::frame).collect();
    let told = Arc::new((frames.into_bytes(), texts.to_owned()));
    pretend(path, "org.terok.Clearance1", move |method, call| {
        let (frames, texts) = &*told;
        if method == "Subscribe" {
            return Act::Say(frames.clone());
        }
        let number = number(&call["request_id"]);
        framed(&hub::older_reply(number, &texts[hub::place_of(number).0]))
    });
}

/// Pretends to be a hub that refuses with this text to say anything.
fn refuse(path: &Path, text: &str) {
    let refusal = json!({"error": text, "parameters": {text: text}});
    pretend(path, "org.terok.Clearance2", move |_, _| framed(&refusal));
}

fn number(id: &Value) -> usize {
    let (_, number) = id.as_str().unwrap().rsplit_once(':').unwrap();
    number.parse().unwrap()
}

/// Returns the ids of the questions of these places, for each text.
fn ids(texts: &[String], places: &[&str]) -> Vec<String> {
    let of = |text| {
        places
            .iter()
            .map(move |place| hub::id(hub::number(text, place)))
    };
    (0..texts.len()).flat_map(of).collect()
}

/// What was run, and everything that it said.
type Said = Vec<(&'static str, String)>;

/// Runs a command in both ways, and adds what it says. The ways of this machine are no part of it.
fn run(session: &Session, said: &mut Said, name: &'static str, args: &[&str]) {
    let here = session.path("");
    let plain = |text: String| text.replace(here.to_str().unwrap(), "/");
    let mut command = session.command(args);
    let words = crate::rig::Said::of(command.env("COLUMNS", "100").output().unwrap());
    said.push((name, plain(words.text)));
    said.push((name, plain(without_log(&words.error))));
    let json = session.run(&[&["--json"], args].concat());
    assert_eq!(without_log(&json.error), "", "{name}");
    schema::lines(&json.text);
    said.push((name, plain(json.text)));
}

/// Returns what is said beside the log, whose lines, with their times, are plain, too.
fn without_log(errors: &str) -> String {
    let is_log = |line: &&str| line.contains(" WARN terok_clearance::client");
    let plain = |c: char| c == '\n' || (' '..='~').contains(&c);
    assert!(errors.chars().all(plain), "{errors:?}");
    errors
        .lines()
        .filter(|line| !is_log(line))
        .fold(String::new(), |all, line| all + line + "\n")
}

/// Follows what happens, in words or in JSON, to the last thing that does.
fn watched(session: &Session, args: &[&str]) -> String {
    let mut command = session.command(args);
    let mut watch = Process(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(watch.0.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains(hub::LAST) {
        assert_ne!(lines.read_line(&mut said).unwrap(), 0, "{said}");
    }
    let here = session.path("");
    said.replace(here.to_str().unwrap(), "/")
}

/// Runs what there is to run beside tame texts and beside the hostile ones, and compares. Each of
/// these has to be said.
fn everything_is_harmless(says: impl Fn(&Session, &[String]) -> Said, expected: &[&str]) {
    let texts = texts::texts();
    let harmless = Harmless::new(&texts);
    let plain = says(&Session::new(), &all_tame(&texts));
    let shown = says(&Session::new(), &texts);
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
        assert!(shown.iter().any(|(_, said)| said.contains(what)), "{what}");
    }
}

#[test]
fn everything_that_a_hub_says_is_harmless() {
    let says = |session: &Session, texts: &[String]| {
        let mut said = Said::new();
        talk(&session.path("terok-clearance.sock"), texts);
        run(session, &mut said, "list", &["list"]);
        said.push(("watch", watched(session, &["watch"])));
        said.push(("watch --json", watched(session, &["watch", "--json"])));
        // Those of the last place were answered before.
        for (verb, places) in [("allow", hub::ANSWERED), ("deny", &["known"])] {
            let ids = ids(texts, places);
            let ids: Vec<_> = ids.iter().map(String::as_str).collect();
            run(session, &mut said, verb, &[&[verb], &*ids].concat());
        }
        said
    };
    everything_is_harmless(says, &["took no effect", "already by ", "opens"]);
}

#[test]
fn everything_that_is_said_of_what_is_not_answered_is_harmless() {
    let says = |session: &Session, texts: &[String]| {
        let mut said = Said::new();
        talk(&session.path("terok-clearance.sock"), texts);
        let ids = ids(texts, &["dest", "address", "all"]);
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let expecting = ["allow", "--expect", "x.example"];
        run(
            session,
            &mut said,
            "expecting",
            &[&expecting, &*ids].concat(),
        );
        // Another hub asks the same.
        talk(&session.path("terok/clearance/web/hub.sock"), texts);
        run(session, &mut said, "twice", &[&["deny"], &*ids].concat());
        // And some say nothing.
        for (at, text) in texts.iter().enumerate() {
            refuse(
                &session.path(&format!("terok/clearance/no{at:03}/hub.sock")),
                text,
            );
        }
        run(
            session,
            &mut said,
            "refusing",
            &["list", "--container", "no001"],
        );
        run(session, &mut said, "all refusing", &["list"]);
        run(session, &mut said, "one refusing", &["deny", "no:1"]);
        said
    };
    let expected = [
        "refused: the question is for ",
        "refused: 2 hubs have this question: ",
        "did not respond: ",
    ];
    everything_is_harmless(says, &expected);
}

#[test]
fn everything_that_an_older_hub_says_is_harmless() {
    let says = |session: &Session, texts: &[String]| {
        let mut said = Said::new();
        talk_as_older(&session.path("terok-clearance.sock"), texts);
        run(session, &mut said, "list", &["list"]);
        let ids = ids(texts, &[hub::ANSWERED, &["known"]].concat());
        let ids: Vec<_> = ids.iter().map(String::as_str).collect();
        let expecting = ["deny", "--expect", "x.example"];
        run(session, &mut said, "deny", &[&expecting, &*ids].concat());
        said.push(("watch", watched(session, &["watch"])));
        said.push(("watch --json", watched(session, &["watch", "--json"])));
        said
    };
    everything_is_harmless(says, &["took no effect"]);
}

/// What readers say goes through a hub of ours, which is the first to blank it.
#[test]
fn everything_that_readers_say_is_harmless() {
    const PLACES: [&str; 6] = ["domain", "project", "task", "name", "key", "ts"];
    let says = |session: &Session, texts: &[String]| {
        let _serve = session.serve();
        // A line may be no longer than one of these texts, and some more.
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
        session.say("terok-shield-events.sock", &events);
        while session.json(&["list"]).0.len() <= count {}
        // Where lines are broken depends on how long ago it was.
        let mut command = session.command(&["list"]);
        let words = crate::rig::Said::of(command.env("COLUMNS", "9999").output().unwrap());
        let ageless = words
            .text
            .lines()
            .map(|line| match line.split_once(" ago; ") {
                Some((_, rest)) => format!("{rest}\n"),
                None => format!("{line}\n"),
            });
        let json = session.run(&["list", "--json"]).text;
        vec![
            ("list", ageless.collect()),
            (
                "list --json",
                json.replace(session.path("").to_str().unwrap(), "/"),
            ),
        ]
    };
    everything_is_harmless(says, &["opens"]);
}

/// Every line of the log is one that the program began, of plain text.
fn is_log(log: &str) {
    let plain = |c: char| (' '..='~').contains(&c);
    for line in log.lines() {
        assert!(
            line.chars().all(plain) && line.starts_with("20"),
            "{line:?}"
        );
    }
}

#[test]
fn everything_that_is_logged_is_harmless() {
    let session = Session::new();
    let mut serve = session.command(&["serve"]);
    serve.env("RUST_LOG", "trace").stderr(Stdio::piped());
    let mut serve = Process(serve.spawn().unwrap());
    let mut log = BufReader::new(serve.0.stderr.take().unwrap());
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
    let says = |events: &[Value]| session.say("terok-shield-events.sock", events);
    let texts = texts::texts();
    for text in &texts {
        // Each reader is complained about so often a second.
        says(&[Value::from(text.as_str()), line(text, "domain", text)]);
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
            says(&[line("pending", of, text)]);
        }
        says(&[
            line("container_exited", "reason", text),
            line("shield_up", "container", text),
        ]);
    }
    says(&[line("pending", "id", "web:last")]);
    let is_last = |line: &Value| line["id"] == "web:last";
    while !session.json(&["list"]).0.iter().any(is_last) {}
    drop(serve);
    let log = log.join().unwrap();
    assert!(log.matches("dropped a malformed line of a reader").count() > 5 * texts.len());
    is_log(&log);
    // And what a client says of hubs that say too much.
    let session = Session::new();
    talk(&session.path("terok-clearance.sock"), &texts);
    let mut list = session.command(&["list"]);
    let list = crate::rig::Said::of(list.env("RUST_LOG", "trace").output().unwrap());
    assert!(
        list.error.contains("skipped an invalid event"),
        "{}",
        list.error
    );
    is_log(&list.error);
}
