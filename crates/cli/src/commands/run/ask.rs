// SPDX-License-Identifier: Apache-2.0
//! Asks at the terminal that the command uses too, so that neither an accident nor the command can
//! answer.
//!
//! Keys go to the command until Ctrl-] is pressed while a question waits. Then the command's output
//! waits, and only the keys that are listed count: one at a time, as a person types them, not what
//! a terminal sends in a burst when it is asked something (which a command can make it do) or when
//! text is pasted; and not before the question has stood there for a moment, so that nobody answers
//! what was not read.

use std::time::Duration;

use operator::inbox::{Answer, Change, End, HubId, Inbox, News, Reply, Row, RowNumber};
use operator::words;
use terok_clearance::{Action, Resolution};
use tokio::time::Instant;

/// Ctrl-].
const HOTKEY: u8 = 0x1d;
/// How long a question stands there before a key counts.
const READING: Duration = Duration::from_millis(400);
/// The least time between two notices.
const QUIET: Duration = Duration::from_secs(5);

/// The questions at this terminal.
#[derive(Debug, Default)]
pub(super) struct Ask {
    inbox: Inbox,
    /// The question that is shown, and since when; none while the command has the terminal.
    shown: Option<(RowNumber, Instant)>,
    noticed: Option<Instant>,
}

/// What is to be done about a key, or about news.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Pass what was typed on to the command.
    Pass,
    /// Nothing.
    Nothing,
    /// Take the terminal and say this; the command waits.
    Open(String),
    /// Say this.
    Say(String),
    /// Give the terminal back to the command, after these words.
    Close(String),
    /// Send these answers.
    Send(Vec<Answer>),
    /// Tell, in passing, that there are so many questions.
    Notice(usize),
}

impl Ask {
    /// Takes in what was typed, `now`.
    pub(super) fn typed(&mut self, keys: &[u8], now: Instant) -> Act {
        let Some((row, since)) = self.shown else {
            return match keys {
                [HOTKEY] if self.inbox.rows().len() > 0 => Act::Open(self.open(now)),
                _ => Act::Pass,
            };
        };
        let [key] = keys else { return Act::Nothing };
        match *key {
            b'q' | HOTKEY => self.close("back to the command\n"),
            b'n' => match self.after(row) {
                Some(next) => Act::Say(self.show(next, now)),
                None => Act::Nothing,
            },
            b'a' | b'd' if now.duration_since(since) >= READING => {
                let action = if key == &b'a' {
                    Action::Allow
                } else {
                    Action::Deny
                };
                match self.inbox.answer(row, action) {
                    Ok(answers) => Act::Send(answers),
                    Err(refusal) => Act::Say(format!("  {refusal}\n")),
                }
            }
            _ => Act::Nothing,
        }
    }

    /// Takes in what our hub says.
    pub(super) fn hear(&mut self, hub: &HubId, news: News, now: Instant) -> Vec<Act> {
        let changes = self.inbox.hear(hub, news);
        self.changed(changes, now)
    }

    /// Takes in what became of an answer.
    pub(super) fn settle(&mut self, answer: &Answer, reply: Reply, now: Instant) -> Vec<Act> {
        let changes = self.inbox.settle(answer, reply);
        self.changed(changes, now)
    }

    fn changed(&mut self, changes: Vec<Change>, now: Instant) -> Vec<Act> {
        let mut acts = Vec::new();
        for change in changes {
            let shown = self.shown.map(|(row, _)| row);
            match change {
                Change::Asked(_) if shown.is_none() => {
                    let quiet = self
                        .noticed
                        .is_some_and(|at| now.duration_since(at) < QUIET);
                    if self.inbox.rows().len() == 1 || !quiet {
                        self.noticed = Some(now);
                        acts.push(Act::Notice(self.inbox.rows().len()));
                    }
                }
                Change::Ended(row, end) if shown == Some(row.number()) => {
                    let said = format!("  {}: {}\n", row.dest(), ended(&end));
                    acts.push(match self.after(row.number()) {
                        Some(next) => Act::Say(said + &self.show(next, now)),
                        None => self.close(&said),
                    });
                }
                Change::Failed {
                    row,
                    action,
                    reason,
                } if shown == Some(row) => {
                    acts.push(Act::Say(format!("  {action} failed: {reason}\n")));
                }
                _ => {}
            }
        }
        acts
    }

    fn open(&mut self, now: Instant) -> String {
        let first = self.inbox.rows().next().map(Row::number);
        first.map_or_else(String::new, |first| self.show(first, now))
    }

    fn close(&mut self, words: &str) -> Act {
        self.shown = None;
        Act::Close(words.to_owned())
    }

    /// The row after `row`, the first after the last.
    fn after(&self, row: RowNumber) -> Option<RowNumber> {
        let numbers = || self.inbox.rows().map(Row::number);
        numbers()
            .find(|number| *number > row)
            .or_else(|| numbers().next())
    }

    fn show(&mut self, number: RowNumber, now: Instant) -> String {
        self.shown = Some((number, now));
        let Some(row) = self.inbox.row(number) else {
            return String::new();
        };
        let position = self
            .inbox
            .rows()
            .take_while(|row| row.number() != number)
            .count()
            + 1;
        let count = self.inbox.rows().len();
        let process = words::process(row).map(|words| format!("  asked by {words}\n"));
        let process = process.unwrap_or_default();
        let more = if count > 1 { "   [n] next" } else { "" };
        format!(
            "\n-- terok-clearance: question {position} of {count} --\n  blocked: {what}\n{process}  \
             [a] allow: {opens}\n  [d] deny{more}   [q] back to the command\n",
            what = words::what(row),
            opens = words::opens(row),
        )
    }
}

fn ended(end: &End) -> String {
    let End::Decided(decision) = end else {
        return words::why(end);
    };
    match decision.action {
        Resolution::Allow => "allowed".to_owned(),
        Resolution::Deny => "denied".to_owned(),
        Resolution::Dismiss => "put away".to_owned(),
    }
}
