// SPDX-License-Identifier: Apache-2.0
//! The plain line prompt: questions as lines, answers by number, on any terminal or through a pipe.
//!
//! Nothing but `a N` and `d N` writes a rule: not the end of the input, not `q`, not a signal, and
//! not a hub that goes away.

mod command;
mod hush;
pub(crate) mod view;

use std::io::{self, Write};

use terok_clearance::{Action, DisplayText, RequestId};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use crate::hubs::{Answers, Hubs};
use crate::inbox::{Change, Inbox, RowNumber};

use command::Command;
use hush::Hush;
use view::{Say, show};

/// How a prompt talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// What is said.
    pub manner: Manner,
    /// Colours, in words.
    pub color: bool,
}

/// What a prompt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    /// Words for a person.
    #[default]
    Words,
    /// One JSON object per line.
    Json,
    /// The words of the Python stack's terminal tool, and what its lines leave out.
    Classic,
}

/// Why a prompt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended<T> {
    /// The person said so, or the input is at its end.
    Done,
    /// It was stopped.
    Stopped(T),
}

/// Asks at a prompt until the input ends or `stop` resolves.
///
/// `place` says where it listens. Lines are taken from `input` once every hub that was there at
/// the start has said what is pending, so `echo l | …` lists that. Answers that are on their way
/// at the end of the input are waited for; `stop` waits for nothing.
///
/// Fails when `output` does.
pub async fn converse<T>(
    hubs: Hubs,
    place: &str,
    input: impl AsyncRead + Unpin,
    output: impl Write,
    options: Options,
    stop: impl Future<Output = T>,
) -> io::Result<Ended<T>> {
    let prompt = Prompt {
        hubs,
        inbox: Inbox::new(),
        output,
        options,
        answers: Answers::default(),
        hush: Hush::default(),
        settled: false,
    };
    tokio::select! {
        biased;
        stopped = stop => Ok(Ended::Stopped(stopped)),
        done = prompt.run(place, input) => done.map(|()| Ended::Done),
    }
}

struct Prompt<W> {
    hubs: Hubs,
    inbox: Inbox,
    output: W,
    options: Options,
    answers: Answers,
    hush: Hush,
    /// Whether every hub that was there at the start has been heard.
    settled: bool,
}

impl<W: Write> Prompt<W> {
    async fn run(mut self, place: &str, input: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut lines = BufReader::new(input).lines();
        let mut open = true;
        self.say(&Say::Hello(place))?;
        self.settle()?;
        while open || !self.answers.is_empty() {
            tokio::select! {
                biased;
                (answer, reply) = self.answers.next() => {
                    let changes = self.inbox.settle(&answer, reply);
                    self.changed(&changes)?;
                }
                line = lines.next_line(), if open && self.settled => {
                    open = match line? {
                        Some(line) => self.take(&line)?,
                        None => false,
                    };
                    if !open && !self.answers.is_empty() {
                        self.say(&Say::Ending(self.answers.len()))?;
                    }
                }
                rows = self.hush.over() => self.say(&Say::Hushed(rows))?,
                (hub, news) = self.hubs.next() => {
                    let changes = self.inbox.hear(&hub, news);
                    self.changed(&changes)?;
                    self.settle()?;
                }
            }
        }
        Ok(())
    }

    /// Does what a line says, and returns whether there may be more of them.
    fn take(&mut self, line: &str) -> io::Result<bool> {
        match Command::parse(line, self.options.manner == Manner::Json) {
            Ok(Command::Quit) => return Ok(false),
            Ok(Command::Nothing) => {}
            Ok(Command::Help) => self.say(&Say::Help)?,
            Ok(Command::List) => {
                self.hubs.poke();
                self.hush.forget();
                self.say(&Say::List)?;
            }
            Ok(Command::Answer {
                action,
                rows,
                request,
            }) => {
                for row in rows {
                    self.answer(row, action, request.as_ref())?;
                }
            }
            Err(error) => self.say(&Say::Misunderstood(line, &error))?,
        }
        Ok(true)
    }

    fn answer(
        &mut self,
        row: RowNumber,
        action: Action,
        request: Option<&RequestId>,
    ) -> io::Result<()> {
        if let (Some(request), Some(found)) = (request, self.inbox.row(row))
            && self.inbox.find(found.hub(), request.as_str()) != Some(row)
        {
            let reason = format!("row {row} does not ask {request}; nothing was answered");
            return self.say(&Say::Refused(row, DisplayText::new(&reason)));
        }
        let answers = match self.inbox.answer(row, action) {
            Ok(answers) => answers,
            Err(refusal) => {
                return self.say(&Say::NotSent(row, &refusal));
            }
        };
        self.answers.send(&self.hubs, answers);
        self.say(&Say::Sent(row, action))
    }

    fn changed(&mut self, changes: &[Change]) -> io::Result<()> {
        for change in changes {
            // A person is shown everything at once when the start is over.
            let quiet = !self.settled
                && matches!(
                    change,
                    Change::Up(..) | Change::Asked(_) | Change::Container { .. }
                );
            let person = self.options.manner != Manner::Json;
            let shown = !(person && quiet);
            let asked = matches!(change, Change::Asked(_));
            if shown && !(person && asked && self.hush.takes_another()) {
                self.say(&Say::Change(change))?;
            }
        }
        Ok(())
    }

    /// Says that the start is over, when it is.
    fn settle(&mut self) -> io::Result<()> {
        if !self.settled && self.hubs.is_settled() {
            self.settled = true;
            self.say(&Say::Settled)?;
        }
        Ok(())
    }

    fn say(&mut self, say: &Say<'_>) -> io::Result<()> {
        let text = show(say, &self.inbox, self.options, now());
        if text.is_empty() {
            return Ok(());
        }
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }
}

/// Returns the time in microseconds since the epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge: a person is told how long ago it was"
)]
pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}
