// SPDX-License-Identifier: Apache-2.0
//! `watch --json`, `list --json`, `allow` and `deny`.

use serde_json::Value;
use test_support::directory::private_directory;

use crate::crowd::{Crowd, QUESTIONS, SANDBOXES, Share, last, names, orders, questions};
use crate::program::{RunningProgram, answer, command, run_json};

fn text(line: &Value, key: &str) -> String {
    line[key].as_str().unwrap().to_owned()
}

/// Answers all questions with a planned answer.
fn answer_all(runtime: &std::path::Path) {
    for share in [Share::Allow, Share::Deny] {
        let mut selected = questions();
        selected.retain(|question| question.share == share);
        answer(runtime, share, &selected);
    }
}

#[test]
fn watch_prints_each_question_and_each_answer_once() {
    let directory = private_directory();
    let crowd = Crowd::serve(directory.path());
    let mut watch = RunningProgram::start(command(directory.path(), &["watch", "--json"]));
    let mut seen: Vec<Value> = Vec::new();
    let mut until = |event: &str, count: usize| {
        let received = |seen: &[Value]| seen.iter().filter(|line| line["event"] == event).count();
        while received(&seen) < count {
            seen.push(serde_json::from_str(&watch.line()).unwrap());
        }
        std::mem::take(&mut seen)
    };
    let start = until("ready", 1);
    assert_eq!(start.last().unwrap()["hubs"], SANDBOXES);

    crowd.ask();
    let mut reported = until("pending", QUESTIONS);
    answer_all(directory.path());
    reported.extend(until("decided", 400));
    // A repeated event would come before the last questions.
    crowd.ask_the_last();
    reported.extend(until("pending", SANDBOXES));

    let of = |event: &str, keys: &[&str]| {
        let lines = reported.iter().filter(|line| line["event"] == event);
        let mut of: Vec<_> = lines
            .map(|line| keys.iter().map(|key| text(line, key)).collect::<Vec<_>>())
            .collect();
        of.sort();
        of.concat()
    };
    let all = [questions(), last()].concat();
    assert_eq!(of("pending", &["domain"]), names(&all, |_| true));
    let answers = orders(&questions()).into_iter();
    let mut answers: Vec<_> = answers
        .map(|(name, action)| [name, action.to_string()])
        .collect();
    answers.sort();
    assert_eq!(of("decided", &["dest", "action"]), answers.concat());
    assert_eq!(reported.len(), all.len() + answers.len(), "no other event");
    crowd.were_told(orders(&questions()));
}

#[test]
fn list_has_each_question_once_until_it_is_answered() {
    let directory = private_directory();
    let crowd = Crowd::serve(directory.path());
    crowd.ask();
    let list = || {
        let lines = run_json(directory.path(), &["list"]);
        let listed = lines.iter().filter(|line| line["event"] == "listed");
        let mut listed: Vec<_> = listed.map(|line| text(line, "domain")).collect();
        listed.sort();
        let end = lines.last().unwrap();
        assert_eq!(end["rows"], listed.len());
        assert_eq!(lines.len(), listed.len() + 1, "every hub responded");
        listed
    };
    // No question is listed twice at any time.
    let listed = loop {
        let listed = list();
        assert!(listed.windows(2).all(|two| two[0] != two[1]), "{listed:?}");
        if listed.len() >= QUESTIONS {
            break listed;
        }
    };
    assert_eq!(listed, names(&questions(), |_| true));
    answer_all(directory.path());
    let left = names(&questions(), |question| question.share == Share::Wait);
    assert_eq!(list(), left);
    crowd.were_told(orders(&questions()));
}
