// SPDX-License-Identifier: Apache-2.0
//! The line prompt during the storm: questions not shown as lines are counted, and listed on
//! request.

use std::collections::BTreeMap;

use test_support::directory::private_directory;

use crate::crowd::{Crowd, QUESTIONS, SANDBOXES, Share, last, names, orders, questions};
use crate::program::{Running, command};

/// A prompt, and the questions in its output.
struct Prompt {
    program: Running,
    /// The number of questions shown or counted on arrival.
    told: usize,
    /// The lines about ended questions.
    ended: Vec<String>,
}

impl Prompt {
    /// Reads and records the next line.
    fn line(&mut self) -> String {
        let line = self.program.line();
        if line.contains("] BLOCKED  ") {
            self.told += 1;
        } else if let Some(more) = line.strip_suffix(" more; l lists them\n") {
            let more: usize = more.strip_prefix("... and ").unwrap().parse().unwrap();
            self.told += more;
        } else if line.starts_with('[') {
            self.ended.push(line.clone());
        }
        line
    }

    fn until(&mut self, text: &str) {
        while !self.line().contains(text) {}
    }

    fn until_told(&mut self, questions: usize) {
        while self.told < questions {
            self.line();
        }
        assert_eq!(self.told, questions);
    }

    /// Lists the pending questions; returns each name with the row number.
    fn list(&mut self) -> BTreeMap<String, String> {
        self.program.say("l");
        self.program.say("no-command");
        let mut rows = BTreeMap::new();
        loop {
            let line = self.program.line();
            if line.contains("no-command") {
                return rows;
            }
            if let Some((number, asked)) = line.split_once("] BLOCKED  ") {
                let name = asked.split_whitespace().next().unwrap().to_owned();
                let number = number.trim_start_matches('[').to_owned();
                assert_eq!(rows.insert(name, number), None, "doubled: {line}");
            }
        }
    }
}

#[test]
fn the_prompt_tells_each_question_and_each_answer_once() {
    let place = private_directory();
    let crowd = Crowd::serve(place.path());
    let mut prompt = Prompt {
        program: Running::start(command(place.path(), &["clearance"])),
        told: 0,
        ended: Vec::new(),
    };
    prompt.until(&format!("({SANDBOXES} hubs, no questions)"));
    crowd.ask();
    prompt.until_told(QUESTIONS);

    let rows = prompt.list();
    let listed: Vec<_> = rows.keys().cloned().collect();
    assert_eq!(listed, names(&questions(), |_| true));
    for (verb, share) in [("a", Share::Allow), ("d", Share::Deny)] {
        let theirs = names(&questions(), |question| question.share == share);
        let numbers: Vec<_> = theirs.iter().map(|name| rows[name].as_str()).collect();
        prompt.program.say(&format!("{verb} {}", numbers.join(" ")));
    }
    while prompt.ended.len() < 400 {
        prompt.line();
    }
    // A duplicate would come before the last question of each hub.
    crowd.ask_the_last();
    prompt.until_told(QUESTIONS + SANDBOXES);

    let mut ended: Vec<_> = prompt
        .ended
        .iter()
        .map(|line| {
            let (head, rest) = line.split_once(']').unwrap();
            let verb = rest.split_whitespace().next().unwrap();
            (head.trim_start_matches('[').to_owned(), verb.to_owned())
        })
        .collect();
    ended.sort();
    let mut wanted: Vec<_> = questions()
        .into_iter()
        .filter_map(|question| {
            let verb = match question.share {
                Share::Allow => "ALLOWED",
                Share::Deny => "DENIED",
                Share::Wait => return None,
            };
            Some((rows[&question.name].clone(), verb.to_owned()))
        })
        .collect();
    wanted.sort();
    assert_eq!(ended, wanted);
    let left = [questions(), last()].concat();
    let left = names(&left, |question| question.share == Share::Wait);
    assert_eq!(prompt.list().into_keys().collect::<Vec<_>>(), left);
    crowd.were_told(orders(&questions()));
}
