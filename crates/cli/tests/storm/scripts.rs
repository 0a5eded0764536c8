// SPDX-License-Identifier: Apache-2.0
//! `watch --json`, `list --json`, `allow` and `deny` during the storm.

use serde_json::Value;
use test_support::directory::private_directory;

use crate::crowd::{Crowd, QUESTIONS, SANDBOXES, Share, last, names, orders, questions};
use crate::program::{Running, answer, command, json};

fn text(line: &Value, key: &str) -> String {
    line[key].as_str().unwrap().to_owned()
}

/// Sends all intended answers.
fn answer_all(runtime: &std::path::Path) {
    for share in [Share::Allow, Share::Deny] {
        let mut theirs = questions();
        theirs.retain(|question| question.share == share);
        answer(runtime, share, &theirs);
    }
}

#[test]
fn watch_tells_each_question_and_each_answer_once() {
    let place = private_directory();
    let crowd = Crowd::serve(place.path());
    let mut watch = Running::start(command(place.path(), &["watch", "--json"]));
    let mut seen: Vec<Value> = Vec::new();
    let mut until = |event: &str, count: usize| {
        let said = |seen: &[Value]| seen.iter().filter(|line| line["event"] == event).count();
        while said(&seen) < count {
            seen.push(serde_json::from_str(&watch.line()).unwrap());
        }
        std::mem::take(&mut seen)
    };
    let start = until("ready", 1);
    assert_eq!(start.last().unwrap()["hubs"], SANDBOXES);

    crowd.ask();
    let mut told = until("pending", QUESTIONS);
    answer_all(place.path());
    told.extend(until("decided", 400));
    // A duplicate would come before the last question of each hub.
    crowd.ask_the_last();
    told.extend(until("pending", SANDBOXES));

    let of = |event: &str, keys: &[&str]| {
        let lines = told.iter().filter(|line| line["event"] == event);
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
    assert_eq!(
        told.len(),
        all.len() + answers.len(),
        "nothing else is told"
    );
    crowd.were_told(orders(&questions()));
}

#[test]
fn list_has_each_question_once_until_it_is_answered() {
    let place = private_directory();
    let crowd = Crowd::serve(place.path());
    crowd.ask();
    let list = || {
        let said = json(place.path(), &["list"]);
        let listed = said.iter().filter(|line| line["event"] == "listed");
        let mut listed: Vec<_> = listed.map(|line| text(line, "domain")).collect();
        listed.sort();
        let end = said.last().unwrap();
        assert_eq!(end["rows"], listed.len());
        assert_eq!(said.len(), listed.len() + 1, "every hub was heard");
        listed
    };
    // While questions arrive, no question is listed twice either.
    let listed = loop {
        let listed = list();
        assert!(listed.windows(2).all(|two| two[0] != two[1]), "{listed:?}");
        if listed.len() >= QUESTIONS {
            break listed;
        }
    };
    assert_eq!(listed, names(&questions(), |_| true));
    answer_all(place.path());
    let left = names(&questions(), |question| question.share == Share::Wait);
    assert_eq!(list(), left);
    crowd.were_told(orders(&questions()));
}
