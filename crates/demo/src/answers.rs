// SPDX-License-Identifier: Apache-2.0
//! The sources of answers: a fixed answer, an operator at a terminal, lines on standard input, or
//! a user interface connected to the hub. Without an answer, nothing opens.

use std::fmt;
use std::io::{self, BufRead as _, Read as _};
use std::pin::Pin;

use terok_clearance::Action;

use crate::clock::now_us;
use crate::error::{DemoError, UiFailure};
use crate::output::DemoOutput;
use crate::render::{INVALID_ANSWER_HINT, StepRenderer};

/// Maximum length of an input line.
const MAX_LINE_BYTES: u64 = 4096;

/// The demo's own answers, in turn. A demo then shows both allowed and denied hosts.
const DEFAULT_ANSWERS: [Action; 3] = [Action::Allow, Action::Allow, Action::Deny];

/// A future returned by a user interface.
pub type UiFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A user interface that connects to the hub's socket and sends answers.
pub trait AnsweringUi {
    /// Returns the name as in `--ui`.
    fn name(&self) -> &'static str;

    /// Returns a hint for the operator while a question waits, such as where to answer.
    fn hint(&self) -> Option<&'static str> {
        None
    }

    /// Shows the questions until the operator leaves. Cancel safe.
    fn run(&mut self) -> UiFuture<'_, Result<(), UiFailure>>;

    /// Releases the terminal until the next [`AnsweringUi::run`].
    fn hide(&mut self) {}

    /// Closes the user interface and removes its windows or popups.
    fn close(self: Box<Self>) -> UiFuture<'static, ()>;
}

impl fmt::Debug for dyn AnsweringUi + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The choice of a source of answers.
#[derive(Debug)]
pub enum DemoAnswers {
    /// The same answer for each question.
    Fixed(Action),
    /// The demo's own answers: two questions allowed, one denied, and so on.
    Alternating,
    /// Lines on standard input.
    StandardInput {
        /// Whether standard input is a terminal; each question then prints a prompt.
        is_terminal: bool,
    },
    /// A user interface.
    Ui(Box<dyn AnsweringUi>),
}

/// The source of answers, with its state.
pub(crate) enum AnswerSource {
    /// The same answer for each question.
    Fixed(Action),
    /// The demo's own answers.
    Alternating(std::iter::Cycle<std::slice::Iter<'static, Action>>),
    /// Lines on standard input.
    StandardInput {
        /// Whether standard input is a terminal.
        is_terminal: bool,
        /// Whether the input has ended.
        ended: bool,
    },
    /// A user interface.
    Ui(Box<dyn AnsweringUi>),
    /// No source.
    Closed,
}

impl From<DemoAnswers> for AnswerSource {
    fn from(choice: DemoAnswers) -> Self {
        match choice {
            DemoAnswers::Fixed(action) => Self::Fixed(action),
            DemoAnswers::Alternating => Self::Alternating(DEFAULT_ANSWERS.iter().cycle()),
            DemoAnswers::StandardInput { is_terminal } => Self::StandardInput {
                is_terminal,
                ended: false,
            },
            DemoAnswers::Ui(ui) => Self::Ui(ui),
        }
    }
}

/// An answer, or its absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DemoAnswer {
    /// The answer, if any.
    pub(crate) action: Option<Action>,
    /// Name of the source.
    pub(crate) by: &'static str,
    /// Time until the answer, in microseconds.
    pub(crate) took_us: u64,
}

impl AnswerSource {
    /// Returns `true` if the operator types the answer into the demo's output.
    pub(crate) const fn is_echoed(&self) -> bool {
        matches!(
            self,
            Self::StandardInput {
                is_terminal: true,
                ended: false
            }
        )
    }

    /// Returns the user interface, if the source is a user interface.
    pub(crate) fn ui(&mut self) -> Option<&mut dyn AnsweringUi> {
        match self {
            Self::Ui(ui) => Some(&mut **ui),
            _ => None,
        }
    }

    /// Ends the source and closes a user interface.
    pub(crate) async fn close(&mut self) {
        if let Self::Ui(ui) = std::mem::replace(self, Self::Closed) {
            ui.close().await;
        }
    }

    /// Returns the next answer. Prints a prompt to `page` if the source is a terminal.
    pub(crate) async fn next_answer(
        &mut self,
        page: Option<(DemoOutput<'_>, StepRenderer)>,
    ) -> Result<DemoAnswer, DemoError> {
        let asked_at = now_us();
        let (action, by) = match self {
            Self::Fixed(action) => (Some(*action), "--answer"),
            Self::Alternating(answers) => (answers.next().copied(), "the demo"),
            Self::Ui(_) | Self::Closed => (None, "nobody"),
            Self::StandardInput { is_terminal, ended } => {
                let by = if *is_terminal { "terminal" } else { "stdin" };
                let action = if *ended {
                    None
                } else {
                    read_answer(page.filter(|_| *is_terminal)).await?
                };
                *ended = action.is_none();
                (action, by)
            }
        };
        let took_us = now_us() - asked_at;
        Ok(DemoAnswer {
            action,
            by,
            took_us,
        })
    }
}

async fn read_answer(
    page: Option<(DemoOutput<'_>, StepRenderer)>,
) -> Result<Option<Action>, DemoError> {
    loop {
        if let Some((output, renderer)) = page {
            output.print(&renderer.render_prompt())?;
        }
        let line = tokio::task::spawn_blocking(read_line).await;
        let line = line.unwrap_or_else(|ended| Err(io::Error::other(ended)));
        match (parse_answer(&line.map_err(DemoError::ReadAnswer)?), page) {
            (DemoAnswerInput::Action(action), _) => return Ok(Some(action)),
            (DemoAnswerInput::End, page) => {
                if let Some((output, _)) = page {
                    output.print("\n")?;
                }
                return Ok(None);
            }
            (DemoAnswerInput::Unrecognized, Some((output, _))) => {
                output.print(&format!("{INVALID_ANSWER_HINT}\n"))?;
            }
            (DemoAnswerInput::Unrecognized, None) => {}
        }
    }
}

/// Reads a line. An empty result means the end of the input.
fn read_line() -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_LINE_BYTES)
        .read_until(b'\n', &mut line)?;
    Ok(line)
}

#[derive(Debug, PartialEq, Eq)]
enum DemoAnswerInput {
    Action(Action),
    Unrecognized,
    End,
}

fn parse_answer(line: &[u8]) -> DemoAnswerInput {
    match line.trim_ascii() {
        _ if line.is_empty() => DemoAnswerInput::End,
        b"a" | b"allow" => DemoAnswerInput::Action(Action::Allow),
        b"d" | b"deny" => DemoAnswerInput::Action(Action::Deny),
        b"q" | b"quit" => DemoAnswerInput::End,
        _ => DemoAnswerInput::Unrecognized,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_listed_words_are_answers() {
        for (line, expected) in [
            (&b"a\n"[..], DemoAnswerInput::Action(Action::Allow)),
            (b" allow \r\n", DemoAnswerInput::Action(Action::Allow)),
            (b"d", DemoAnswerInput::Action(Action::Deny)),
            (b"deny\n", DemoAnswerInput::Action(Action::Deny)),
            (b"q\n", DemoAnswerInput::End),
            (b"", DemoAnswerInput::End),
            (b"\n", DemoAnswerInput::Unrecognized),
            (b"y\n", DemoAnswerInput::Unrecognized),
            (b"A\n", DemoAnswerInput::Unrecognized),
            (b"allow everything\n", DemoAnswerInput::Unrecognized),
            (b"\xff\n", DemoAnswerInput::Unrecognized),
        ] {
            assert_eq!(parse_answer(line), expected, "{line:?}");
        }
    }

    #[tokio::test]
    async fn ended_input_is_not_read_again() {
        let mut ended = AnswerSource::StandardInput {
            is_terminal: false,
            ended: true,
        };
        assert_eq!(ended.next_answer(None).await.unwrap().action, None);
    }
}
