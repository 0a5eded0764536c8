// SPDX-License-Identifier: Apache-2.0
//! Names of sandboxes and ids of questions, as commands show them and take them.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;
use test_support::child::ChildGuard;

use super::harness::UserSession;

#[test]
fn every_command_takes_the_name_that_list_shows() {
    let session = UserSession::new();
    let _web = session.sandbox("web", &["one.example", "two.example", "three.example"]);
    let _other = session.sandbox("my build", &["four.example"]);
    for (name, rows) in [("web", 3), ("my build", 1)] {
        let listed = session.run(&["list", "--container", name]);
        assert_eq!((listed.status, listed.stderr.as_str()), (Some(0), ""));
        let shown = listed
            .stdout
            .lines()
            .filter(|line| line.contains(".example port") && !line.starts_with(' '));
        assert_eq!(shown.count(), rows, "{listed:?}");
        assert!(listed.stdout.contains(name), "{listed:?}");
    }
    let id = session.ids("web").remove(0);
    let container = id.split_once(':').unwrap().0;
    for (name, command, request, status) in [
        ("my build", "allow", &id, 3),
        ("web", "allow", &id, 0),
        ("web", "deny", &session.ids("web").remove(1), 0),
        (container, "deny", &session.ids("web").remove(2), 0),
        ("my build", "deny", &session.ids("my build").remove(0), 0),
    ] {
        let answered = session.run(&[command, "--container", name, request]);
        assert_eq!(
            answered.status,
            Some(status),
            "{name} {command}: {answered:?}"
        );
    }
    assert_eq!(session.questions().len(), 0);
    // The name is known without a question, too.
    let listed = session.run(&["list", "--container", "web"]);
    assert_eq!(listed.stderr, "no pending questions\n");
    assert_eq!(listed.status, Some(0));
}

#[test]
fn a_name_that_no_sandbox_has_is_said() {
    let session = UserSession::new();
    let check = |name: &str, there_are: &str| {
        let listed = session.run(&["list", "--container", name]);
        let expected = format!("no sandbox is called {name}; {there_are}\n");
        assert_eq!((listed.status, listed.stderr), (Some(3), expected));
        assert_eq!(listed.stdout, "");
        let listed = session.run(&["--json", "list", "--container", name]);
        let line: Value = serde_json::from_str(&listed.stdout).unwrap();
        assert_eq!((listed.status, listed.stderr.as_str()), (Some(3), ""));
        assert_eq!(
            (&line["rows"], &line["unmatched"]),
            (&0.into(), &name.into())
        );
        for command in ["allow", "deny"] {
            let answered = session.run(&[command, "--container", name, "web:1"]);
            assert_eq!(answered.status, Some(3), "{answered:?}");
            assert!(
                answered.stderr.contains("no sandbox is called"),
                "{answered:?}"
            );
        }
        let mut command = session.command(&["watch", "--container", name]);
        let mut watch = ChildGuard::spawn(command.stdout(Stdio::piped()));
        let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        let said = format!("no sandbox is called {name}; waiting for one");
        assert!(lines.map(Result::unwrap).any(|line| line == said));
    };
    check("web", "no hub is running");
    let _web = session.sandbox("web", &["one.example"]);
    let _other = session.sandbox("my build", &[]);
    while session.run(&["list", "--container", "my build"]).status != Some(0) {}
    for name in ["we", "webs", "Web", "my", "../web", "0123456789ab"] {
        check(name, "there are: my build, web");
    }
}

#[test]
fn watch_prints_the_events_of_the_named_sandbox_alone() {
    let session = UserSession::new();
    let _web = session.sandbox("web", &["one.example"]);
    let _other = session.sandbox("other", &["two.example"]);
    let mut command = session.command(&["--json", "watch", "--container", "web"]);
    let mut watch = ChildGuard::spawn(command.stdout(Stdio::piped()));
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let ready = lines.find(|line| line["event"] == "ready").unwrap();
    assert_eq!(
        (&ready["rows"], &ready["unmatched"]),
        (&1.into(), &Value::Null)
    );
    let deny = |name: &str| {
        let id = session.ids(name).remove(0);
        assert_eq!(session.run(&["deny", &id]).status, Some(0));
    };
    deny("other");
    deny("web");
    let decided = lines.find(|line| line["event"] == "decided").unwrap();
    assert_eq!(decided["dest"], "one.example");
}

#[test]
fn questions_have_ids_that_a_person_can_type() {
    let session = UserSession::new();
    let _web = session.sandbox("web", &["one.example", "two.example", "three.example"]);
    let ids = session.ids("web");
    let short: Vec<_> = ids
        .iter()
        .map(|id| format!("web:{}", id.split_once(':').unwrap().1))
        .collect();
    let listed = session.run(&["list"]).stdout;
    let shown: Vec<_> = listed
        .lines()
        .filter(|line| line.contains(" port "))
        .filter_map(|line| line.split(' ').next())
        .filter(|word| word.contains(':'))
        .collect();
    assert_eq!(shown, short, "{listed}");
    let mut command = session.command(&["watch"]);
    let mut watch = ChildGuard::spawn(command.stdout(Stdio::piped()));
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let first = lines
        .map(Result::unwrap)
        .find(|line| line.contains("BLOCKED"));
    assert!(
        first
            .as_ref()
            .unwrap()
            .starts_with(&format!("[{}] BLOCKED", short[0]))
    );
    let prompt = session.run(&["clearance"]).stdout;
    assert!(prompt.contains(&format!("id {}", short[0])), "{prompt}");

    let allowed = session.run(&["allow", &short[0], "--expect", "one.example"]);
    assert_eq!(allowed.status, Some(0), "{allowed:?}");
    assert!(
        allowed
            .stdout
            .contains("allowed: one.example port 443/tcp, for this run")
    );
    // The same answer again, by both forms of the id.
    for id in [&short[0], &ids[0]] {
        let again = session.run(&["allow", id]);
        assert_eq!(again.status, Some(4), "{again:?}");
        assert!(again.stderr.contains("allowed already"), "{again:?}");
    }
    let other = session.run(&["deny", &short[1], "--expect", "one.example"]);
    assert_eq!(other.status, Some(1), "{other:?}");
    assert_eq!(session.run(&["deny", &short[1], &ids[2]]).status, Some(0));
    assert_eq!(session.run(&["deny", "web:999"]).status, Some(3));
    assert_eq!(session.run(&["deny", "db:1"]).status, Some(3));
    assert_eq!(session.questions().len(), 0);
}

#[test]
fn an_id_of_two_questions_is_refused_and_neither_is_answered() {
    let session = UserSession::new();
    let one = "1795956692905345";
    let other = "1795956692915345";
    let long = |number: &str| format!("0123456789abcdef:{number}");
    // The names of two sandboxes, and the last digits of one.
    let asked = ["one:17", "two:17", &long(one), &long(other)];
    let _hub = session.shared_hub(&asked);
    let listed = session.run(&["list"]).stdout;
    for id in &asked {
        assert!(listed.contains(id), "{listed}");
    }
    for (typed, several) in [("web:17", &asked[..2]), ("web:5345", &asked[2..])] {
        for action in ["allow", "deny"] {
            let refused = session.run(&[action, typed]);
            assert_eq!((refused.status, refused.stdout.as_str()), (Some(1), ""));
            for id in several {
                assert!(refused.stderr.contains(id), "{refused:?}");
            }
        }
    }
    assert_eq!(session.questions().len(), 4);
    // The first twelve digits of a container, as engines print it, and the last ones of a number.
    let refused = session.run(&["deny", "--expect", "x.example", "0123456789ab:5345"]);
    assert_eq!(refused.status, Some(1), "{refused:?}");
    let narrowed = session.run(&[
        "deny",
        "--container",
        "one",
        "--expect",
        "x.example",
        "web:17",
    ]);
    assert!(
        narrowed.stderr.contains("one.example, not for"),
        "{narrowed:?}"
    );
}

#[test]
fn the_shown_id_of_a_long_number_is_taken() {
    let session = UserSession::new();
    let _hub = session.shared_hub(&["0123456789abcdef:1795956692905345", "0123456789abcdef:17"]);
    let listed = session.run(&["list"]).stdout;
    for shown in ["web:5345 ", "web:17 "] {
        assert!(listed.contains(shown), "{listed}");
        let checked = session.run(&["deny", "--expect", "x.example", shown.trim()]);
        assert!(
            checked.stderr.contains("0123456789abcdef.example, not for"),
            "{checked:?}"
        );
    }
    for none in ["web:345", "web:05345", "web:7", "web:"] {
        assert_eq!(session.run(&["deny", none]).status, Some(3), "{none}");
    }
}
