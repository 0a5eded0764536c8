// SPDX-License-Identifier: Apache-2.0
//! What is left after `kill -9`, and that nobody waits for it.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;
use test_support::child::ChildGuard;

use super::harness::UserSession;

#[test]
fn questions_of_a_killed_run_end_and_its_files_go_with_the_next_one() {
    let session = UserSession::new();
    let mut web = session.sandbox("web", &["one.example"]);
    let mut command = session.command(&["--json", "watch"]);
    let mut watch = ChildGuard::spawn(command.stdout(Stdio::piped()));
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert!(lines.any(|line| line["event"] == "ready"));
    web.kill().unwrap();
    web.wait().unwrap();
    let withdrawn = lines.find(|line| line["event"] == "withdrawn").unwrap();
    assert_eq!(withdrawn["reason"], "the hub is gone");
    let gone = lines.find(|line| line["state"] == "gone").unwrap();
    assert!(gone["hub"].as_str().unwrap().ends_with("hub.sock"));

    for args in [
        &["list"][..],
        &["list", "--container", "web"],
        &["clearance"],
    ] {
        let output = session.run(args);
        let said = output.stdout + &output.stderr;
        assert!(!said.contains("cannot reach"), "{args:?}: {said}");
        assert!(said.contains("no hub"), "{args:?}: {said}");
    }
    let left = |kind: &str| {
        let directory = session.path("terok").join(kind);
        std::fs::read_dir(directory).unwrap().count()
    };
    assert_eq!((left("clearance"), left("events")), (1, 1));
    let next = session.run(&["run", "--ui", "none", "--quiet", "--", "true"]);
    assert_eq!((next.status, next.stderr.as_str()), (Some(0), ""));
    assert_eq!((left("clearance"), left("events")), (0, 0));
}

#[test]
fn many_killed_runs_delay_no_command() {
    let session = UserSession::new();
    for name in ["a", "b", "c", "d"] {
        let mut run = session.sandbox(name, &["one.example"]);
        run.kill().unwrap();
        run.wait().unwrap();
    }
    let _live = session.sandbox("live", &["two.example"]);
    let listed = session.run(&["list"]);
    assert_eq!((listed.status, listed.stderr.as_str()), (Some(0), ""));
    assert!(listed.stdout.contains("live:"), "{listed:?}");
    let prompt = session.run(&["clearance"]).stdout;
    assert!(prompt.contains("(1 hub, 1 question)"), "{prompt}");
}
