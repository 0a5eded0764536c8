// SPDX-License-Identifier: Apache-2.0
//! A person at a terminal who answers questions.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::Value;

use super::machine::PATIENCE;

/// `terok-clearance --json clearance`, and its events that no wait has consumed yet.
pub(crate) struct Operator {
    child: Child,
    lines: Receiver<Value>,
    events: Vec<Value>,
}

impl Operator {
    /// Starts `terok-clearance --json clearance` by this command, and waits until it knows all
    /// questions.
    pub(crate) fn start(mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        let mut operator = Self {
            child,
            lines,
            events: Vec::new(),
        };
        operator.until("ready", |event| event["event"] == "ready");
        operator
    }

    /// Waits for an event and consumes it.
    fn until(&mut self, what: &str, is_awaited: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.events.iter().position(&is_awaited) {
            return self.events.remove(at);
        }
        loop {
            let event = self.lines.recv_timeout(PATIENCE);
            let Ok(event) = event else {
                panic!("no event {what} after {:#?}", self.events);
            };
            if is_awaited(&event) {
                return event;
            }
            self.events.push(event);
        }
    }

    /// Waits for a question about `dest`.
    pub(crate) fn asked(&mut self, dest: &str) -> Value {
        self.until(dest, |event| {
            event["event"] == "pending" && event["dest"] == dest
        })
    }

    /// Waits for any question.
    pub(crate) fn asked_anything(&mut self) -> Value {
        self.until("pending", |event| event["event"] == "pending")
    }

    /// Answers a question, and waits for the decision.
    pub(crate) fn decide(&mut self, question: &Value, answer: char) {
        let row = &question["row"];
        writeln!(self.child.stdin.as_mut().unwrap(), "{answer} {row}").unwrap();
        self.until("decided", |event| {
            event["event"] == "decided" && event["row"] == *row
        });
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
        drop(self.child.stdin.take());
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
