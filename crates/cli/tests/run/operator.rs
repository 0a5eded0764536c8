// SPDX-License-Identifier: Apache-2.0
//! A person at a second terminal who answers questions.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// `terok-clearance --json clearance`, and its events that no wait has consumed yet.
pub(crate) struct Operator {
    child: Child,
    output: BufReader<ChildStdout>,
    events: Vec<Value>,
}

impl Operator {
    /// Starts `terok-clearance --json clearance` by this command, and waits until it knows all
    /// questions.
    pub(crate) fn start(mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut operator = Self {
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
            events: Vec::new(),
        };
        operator.until(|event| event["event"] == "ready");
        operator
    }

    /// Waits for an event and consumes it.
    pub(crate) fn until(&mut self, is_awaited: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.events.iter().position(&is_awaited) {
            return self.events.remove(at);
        }
        loop {
            let mut said = String::new();
            self.output.read_line(&mut said).unwrap();
            assert_ne!(said, "", "the prompt ended after {:#?}", self.events);
            let event: Value = serde_json::from_str(&said).unwrap();
            if is_awaited(&event) {
                return event;
            }
            self.events.push(event);
        }
    }

    /// Waits for a question about `dest`.
    pub(crate) fn asked(&mut self, dest: &str) -> Value {
        self.until(|event| event["event"] == "pending" && event["dest"] == dest)
    }

    /// Waits until so many connections wait for an answer about `dest`.
    pub(crate) fn waiting(&mut self, dest: &str, count: u32) -> Value {
        self.until(|event| event["dest"] == dest && event["waiting"] == count)
    }

    /// Answers a question, waits for the decision and returns it.
    pub(crate) fn decide(&mut self, question: &Value, answer: char) -> Value {
        writeln!(
            self.child.stdin.as_mut().unwrap(),
            "{answer} {}",
            question["row"]
        )
        .unwrap();
        self.until(|event| event["event"] == "decided" && event["row"] == question["row"])
    }

    /// Answers a question with a scope, such as `a 3 5m`: the text after the row is `scope`.
    pub(crate) fn decide_with(&mut self, question: &Value, answer: char, scope: &str) -> Value {
        writeln!(
            self.child.stdin.as_mut().unwrap(),
            "{answer} {} {scope}",
            question["row"]
        )
        .unwrap();
        self.until(|event| event["event"] == "decided" && event["row"] == question["row"])
    }

    /// Waits for the question about `dest` and answers it; returns the question.
    pub(crate) fn answer(&mut self, dest: &str, answer: char) -> Value {
        let question = self.asked(dest);
        self.decide(&question, answer);
        question
    }

    /// Forgets the events that were received and not consumed.
    pub(crate) fn forget_events(&mut self) {
        self.events.clear();
    }

    /// Returns the destinations of the questions that were received and not consumed.
    pub(crate) fn other_questions(&self) -> Vec<&str> {
        let pending = self.events.iter();
        pending
            .filter(|event| event["event"] == "pending")
            .map(|event| event["dest"].as_str().unwrap())
            .collect()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
