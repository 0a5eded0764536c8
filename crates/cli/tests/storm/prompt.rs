// SPDX-License-Identifier: Apache-2.0
//! The line prompt: questions without a line of their own are counted and listed.

use std::collections::BTreeMap;

use test_support::directory::private_directory;

use crate::crowd::{Crowd, QUESTIONS, SANDBOXES, Share, last, names, orders, questions};
use crate::program::{RunningProgram, command};

/// A prompt, and the questions in its output.
struct Prompt {
    program: RunningProgram,
    /// The number of questions that were shown or counted.
    reported: usize,
    /// The lines about ended questions.
    ended: Vec<String>,
}

impl Prompt {
    /// Reads the next line, and returns it.
    fn line(&mut self) -> String {
        let line = self.program.line();
        if line.contains("] BLOCKED  ") {
            self.reported += 1;
        } else if let Some(more) = line.strip_suffix(" more; l lists them\n") {
            let more: usize = more.strip_prefix("... and ").unwrap().parse().unwrap();
            self.reported += more;
        } else if line.starts_with('[') {
            self.ended.push(line.clone());
        }
        line
    }

    fn until(&mut self, text: &str) {
        while !self.line().contains(text) {}
    }

    fn until_reported(&mut self, questions: usize) {
        while self.reported < questions {
            self.line();
        }
        assert_eq!(self.reported, questions);
    }

    /// Lists the questions, and returns the row number of each name.
    fn list(&mut self) -> BTreeMap<String, String> {
        self.program.type_line("l");
        self.program.type_line("no-command");
        let mut rows = BTreeMap::new();
        loop {
            let line = self.program.line();
            if line.contains("no-command") {
                return rows;
            }
            if let Some((number, asked)) = line.split_once("] BLOCKED  ") {
                let name = asked.split_whitespace().next().unwrap().to_owned();
                let number = number.trim_start_matches('[').to_owned();
                assert_eq!(rows.insert(name, number), None, "repeated: {line}");
            }
        }
    }
}

#[test]
fn the_prompt_shows_each_question_and_each_answer_once() {
    let directory = private_directory();
    let crowd = Crowd::serve(directory.path());
    let mut prompt = Prompt {
        program: RunningProgram::start(command(directory.path(), &["clearance"])),
        reported: 0,
        ended: Vec::new(),
    };
    prompt.until(&format!("({SANDBOXES} hubs, no questions)"));
    crowd.ask();
    prompt.until_reported(QUESTIONS);

    let rows = prompt.list();
    let listed: Vec<_> = rows.keys().cloned().collect();
    assert_eq!(listed, names(&questions(), |_| true));
    for (verb, share) in [("a", Share::Allow), ("d", Share::Deny)] {
        let selected = names(&questions(), |question| question.share == share);
        let numbers: Vec<_> = selected.iter().map(|name| rows[name].as_str()).collect();
        prompt
            .program
            .type_line(&format!("{verb} {}", numbers.join(" ")));
    }
    while prompt.ended.len() < 400 {
        prompt.line();
    }
    // A repeated event would come before the last questions.
    crowd.ask_the_last();
    prompt.until_reported(QUESTIONS + SANDBOXES);

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
