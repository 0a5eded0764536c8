// SPDX-License-Identifier: Apache-2.0
//! The plain line prompt: questions as lines, answers by number, on any terminal or through a pipe.
//!
//! Nothing but `a N` and `d N` writes a rule: not the end of the input, not `q`, not a signal, and
//! not a hub that goes away.

mod command;
mod rate_limit;
pub(crate) mod view;

use std::io::{self, Write};

use terok_clearance::{Action, DisplayText, RequestId};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

use crate::discovery::{AnswerDispatcher, Hubs};
use crate::inbox::{Inbox, InboxChange, RowNumber};

use command::PromptCommand;
use rate_limit::PromptRateLimiter;
use view::{PromptMessage, render};

/// How a prompt talks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PromptOptions {
    /// What is said.
    pub format: OutputFormat,
    /// Colours, in words.
    pub color: bool,
}

/// What a prompt says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputFormat {
    /// Words for a person.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
    /// The words of the Python stack's terminal tool, and what its lines leave out.
    Compat,
}

/// Why a prompt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptEnd<T> {
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
pub async fn run_prompt<T>(
    hubs: Hubs,
    place: &str,
    input: impl AsyncRead + Unpin,
    output: impl Write,
    options: PromptOptions,
    stop: impl Future<Output = T>,
) -> io::Result<PromptEnd<T>> {
    let prompt = PromptSession {
        hubs,
        inbox: Inbox::new(),
        output,
        options,
        answers: AnswerDispatcher::default(),
        rate_limiter: PromptRateLimiter::default(),
        synced: false,
    };
    tokio::select! {
        biased;
        stopped = stop => Ok(PromptEnd::Stopped(stopped)),
        done = prompt.run(place, input) => done.map(|()| PromptEnd::Done),
    }
}

struct PromptSession<W> {
    hubs: Hubs,
    inbox: Inbox,
    output: W,
    options: PromptOptions,
    answers: AnswerDispatcher,
    rate_limiter: PromptRateLimiter,
    /// Whether every hub that was there at the start has been heard.
    synced: bool,
}

impl<W: Write> PromptSession<W> {
    async fn run(mut self, place: &str, input: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut lines = BufReader::new(input).lines();
        let mut open = true;
        self.write_message(&PromptMessage::Greeting(place))?;
        self.announce_ready()?;
        while open || !self.answers.is_empty() {
            tokio::select! {
                biased;
                (answer, reply) = self.answers.next_reply() => {
                    let changes = self.inbox.apply_reply(&answer, reply);
                    self.show_changes(&changes)?;
                }
                line = lines.next_line(), if open && self.synced => {
                    open = match line? {
                        Some(line) => self.execute_line(&line)?,
                        None => false,
                    };
                    if !open && !self.answers.is_empty() {
                        self.write_message(&PromptMessage::WaitingForReplies(self.answers.len()))?;
                    }
                }
                rows = self.rate_limiter.next_suppressed_count() => self.write_message(&PromptMessage::Suppressed(rows))?,
                (hub, news) = self.hubs.next_event() => {
                    let changes = self.inbox.apply_event(&hub, news);
                    self.show_changes(&changes)?;
                    self.announce_ready()?;
                }
            }
        }
        Ok(())
    }

    /// Does what a line says, and returns whether there may be more of them.
    fn execute_line(&mut self, line: &str) -> io::Result<bool> {
        match PromptCommand::parse(line, self.options.format == OutputFormat::Json) {
            Ok(PromptCommand::Quit) => return Ok(false),
            Ok(PromptCommand::Empty) => {}
            Ok(PromptCommand::Help) => self.write_message(&PromptMessage::Help)?,
            Ok(PromptCommand::List) => {
                self.hubs.retry_now();
                self.rate_limiter.reset();
                self.write_message(&PromptMessage::List)?;
            }
            Ok(PromptCommand::Answer {
                action,
                rows,
                request,
            }) => {
                for row in rows {
                    self.answer_row(row, action, request.as_ref())?;
                }
            }
            Err(error) => self.write_message(&PromptMessage::InvalidCommand(line, &error))?,
        }
        Ok(true)
    }

    fn answer_row(
        &mut self,
        row: RowNumber,
        action: Action,
        request: Option<&RequestId>,
    ) -> io::Result<()> {
        if let (Some(request), Some(found)) = (request, self.inbox.row(row))
            && self.inbox.find_row(found.hub(), request.as_str()) != Some(row)
        {
            let reason = format!("row {row} does not ask {request}; nothing was answered");
            return self.write_message(&PromptMessage::Refused(row, DisplayText::new(&reason)));
        }
        let answers = match self.inbox.answer(row, action) {
            Ok(answers) => answers,
            Err(refusal) => {
                return self.write_message(&PromptMessage::NotSent(row, &refusal));
            }
        };
        self.answers.send(&self.hubs, answers);
        self.write_message(&PromptMessage::Sent(row, action))
    }

    fn show_changes(&mut self, changes: &[InboxChange]) -> io::Result<()> {
        for change in changes {
            // A person is shown everything at once when the start is over.
            let quiet = !self.synced
                && matches!(
                    change,
                    InboxChange::Up(..) | InboxChange::Added(_) | InboxChange::Container { .. }
                );
            let person = self.options.format != OutputFormat::Json;
            let shown = !(person && quiet);
            let asked = matches!(change, InboxChange::Added(_));
            if shown && !(person && asked && self.rate_limiter.should_suppress()) {
                self.write_message(&PromptMessage::Change(change))?;
            }
        }
        Ok(())
    }

    /// Says that the start is over, when it is.
    fn announce_ready(&mut self) -> io::Result<()> {
        if !self.synced && self.hubs.is_synced() {
            self.synced = true;
            self.write_message(&PromptMessage::Ready)?;
        }
        Ok(())
    }

    fn write_message(&mut self, say: &PromptMessage<'_>) -> io::Result<()> {
        let text = render(say, &self.inbox, self.options, now_micros());
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
pub fn now_micros() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    })
}
