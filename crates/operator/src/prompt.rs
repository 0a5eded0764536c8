// SPDX-License-Identifier: Apache-2.0
//! The line prompt: questions as lines and answers by number, on any terminal or through a pipe.
//!
//! On a terminal, lines are broken between words, and messages do not mix with the line that is
//! being typed.
//!
//! Only an answer (`a N`, `d N` or a JSON answer) writes a rule, and only `revoke` ends one. The
//! end of the input, `q`, a signal and a lost hub write none.

mod command;
mod input;
mod line_editor;
mod rate_limit;
mod rule_calls;
pub(crate) mod view;

use std::collections::BTreeSet;
use std::io::{self, Write};

use terok_clearance::{Action, DisplayText, RequestId, Timestamp};
use tokio::io::AsyncRead;
use tokio::time::Instant;

use crate::Session;
use crate::answer_scope::{ScopeChoice, ScopeOverride};
use crate::bell::{BellChoice, QuestionBell};
use crate::inbox::{InboxChange, Row, RowNumber};
use crate::text_wrap::wrap_lines;

use command::PromptCommand;
use input::{PromptInput, TypedInput};
use line_editor::{EditorStep, LineEditor};
use rate_limit::PromptRateLimiter;
use rule_calls::PendingRuleCalls;
use view::text::MAX_ROWS_AT_START;
use view::{PromptMessage, render};

/// Options of a prompt.
#[derive(Debug, Clone, Copy, Default)]
pub struct PromptOptions {
    /// The output format.
    pub format: OutputFormat,
    /// Whether text output has colours.
    pub color: bool,
    /// Returns the columns of the terminal that shows the output; `None` for a pipe or a file. Only
    /// text is broken into lines.
    pub columns: Option<fn() -> usize>,
    /// Whether the input is a terminal that passes each key on at once without showing it. The
    /// prompt then shows the typed line itself, which needs `columns`.
    pub shows_typed_line: bool,
    /// The sign of a new question.
    pub bell: BellChoice,
}

/// Indentation of the further lines of a long line.
const WRAP_INDENT: usize = 6;

/// The output format of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
    /// The lines of the Python stack's terminal tool, with additional lines of the same form.
    Compat,
}

/// The reason for the end of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptEnd<T> {
    /// The operator quit, or the input ended.
    Done,
    /// `stop` resolved to this value.
    Stopped(T),
}

/// Runs a prompt until the input ends or `stop` resolves.
///
/// `place` names the source of the questions. Lines are read from `input` once the session is
/// synced, so `echo l | …` lists all pending questions. At the end of the input the prompt waits
/// for the replies to its answers. After `stop` the prompt ends without waiting.
///
/// Fails if `output` fails.
pub async fn run_prompt<T>(
    session: Session,
    place: &str,
    input: impl AsyncRead + Unpin,
    output: impl Write,
    options: PromptOptions,
    stop: impl Future<Output = T>,
) -> io::Result<PromptEnd<T>> {
    let prompt = LinePrompt {
        session,
        output,
        options,
        rate_limiter: PromptRateLimiter::default(),
        synced: false,
        editor: options.shows_typed_line.then(LineEditor::default),
        unshown: BTreeSet::new(),
        bell: QuestionBell::new(options.bell),
        start: Instant::now(),
        rule_calls: PendingRuleCalls::default(),
    };
    tokio::select! {
        biased;
        stopped = stop => Ok(PromptEnd::Stopped(stopped)),
        done = prompt.run(place, input) => done.map(|()| PromptEnd::Done),
    }
}

struct LinePrompt<W> {
    session: Session,
    output: W,
    options: PromptOptions,
    rate_limiter: PromptRateLimiter,
    /// Whether readiness was announced.
    synced: bool,
    /// The line that is being typed, if the prompt shows it.
    editor: Option<LineEditor>,
    /// The rows that people were not shown, because too many came at once.
    unshown: BTreeSet<RowNumber>,
    bell: QuestionBell,
    start: Instant,
    rule_calls: PendingRuleCalls,
}

impl<W: Write> LinePrompt<W> {
    async fn run(mut self, place: &str, input: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut input = PromptInput::new(input, self.editor.is_some());
        let mut open = true;
        self.write_message(&PromptMessage::Greeting(place))?;
        self.announce_ready()?;
        while open || self.session.unanswered() > 0 || !self.rule_calls.is_empty() {
            tokio::select! {
                biased;
                typed = input.next(), if open && self.synced => {
                    open = match typed? {
                        TypedInput::Line(line) => self.execute_line(&line)?,
                        TypedInput::Bytes(bytes) => self.type_bytes(&bytes)?,
                        TypedInput::End => self.end_input()?,
                    };
                    let unanswered = self.session.unanswered();
                    if !open && unanswered > 0 {
                        self.write_message(&PromptMessage::WaitingForReplies(unanswered))?;
                    }
                }
                rows = self.rate_limiter.next_suppressed_count() => {
                    self.write_message(&PromptMessage::Suppressed(rows))?;
                }
                reply = self.rule_calls.next() => {
                    self.write_message(&PromptMessage::Rules(&reply))?;
                }
                changes = self.session.next() => {
                    self.show_changes(&changes)?;
                    self.announce_ready()?;
                }
            }
        }
        self.hide_typed_line()
    }

    /// Edits the typed line, and runs each completed one. Returns `false` if the prompt ends.
    fn type_bytes(&mut self, bytes: &[u8]) -> io::Result<bool> {
        for &byte in bytes {
            let Some(editor) = &mut self.editor else {
                return Ok(true);
            };
            match editor.type_byte(byte) {
                EditorStep::Edited => {}
                EditorStep::End => return Ok(false),
                EditorStep::Line(line) => {
                    // The completed line stays above its result.
                    let columns = self.options.columns.map_or(80, |columns| columns());
                    let shown = LineEditor::draw_line(&line, columns);
                    self.output.write_all(format!("{shown}\n").as_bytes())?;
                    if !self.execute_line(&line)? {
                        return Ok(false);
                    }
                }
            }
        }
        self.show_typed_line()?;
        Ok(true)
    }

    /// Runs what was typed at the end of the input. Always returns `false`.
    fn end_input(&mut self) -> io::Result<bool> {
        let rest = self.editor.as_mut().map(LineEditor::take_line);
        if let Some(line) = rest.filter(|line| !line.is_empty()) {
            self.execute_line(&line)?;
        }
        Ok(false)
    }

    fn show_typed_line(&mut self) -> io::Result<()> {
        let Some(editor) = self.editor.as_ref().filter(|_| self.synced) else {
            return Ok(());
        };
        let columns = self.options.columns.map_or(80, |columns| columns());
        self.output.write_all(editor.draw(columns).as_bytes())?;
        self.output.flush()
    }

    fn hide_typed_line(&mut self) -> io::Result<()> {
        if self.editor.is_some() {
            self.output.write_all(LineEditor::CLEAR.as_bytes())?;
            self.output.flush()?;
        }
        Ok(())
    }

    /// Runs the command of a line. Returns `false` if the prompt ends.
    fn execute_line(&mut self, line: &str) -> io::Result<bool> {
        match PromptCommand::parse(line, self.options.format == OutputFormat::Json) {
            Ok(PromptCommand::Quit) => return Ok(false),
            Ok(PromptCommand::Empty) => {}
            Ok(PromptCommand::Help) => self.write_message(&PromptMessage::Help)?,
            Ok(PromptCommand::List) => {
                self.session.retry_now();
                self.rate_limiter.reset();
                self.unshown.clear();
                self.write_message(&PromptMessage::List)?;
            }
            Ok(PromptCommand::Answer {
                action,
                rows,
                request,
                scope,
            }) => {
                for row in rows {
                    self.answer_row(row, action, request.as_ref(), &scope)?;
                }
            }
            Ok(PromptCommand::Rules) => self.rule_calls.list(self.session.clients()),
            Ok(PromptCommand::Revoke(rule)) => {
                self.rule_calls.revoke(self.session.clients(), rule);
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
        scope: &ScopeOverride,
    ) -> io::Result<()> {
        if let (Some(request), Some(found)) = (request, self.session.inbox().row(row))
            && self.session.inbox().find_row(found.hub(), request.as_str()) != Some(row)
        {
            let reason = format!("row {row} is not request {request}; nothing was sent");
            return self.write_message(&PromptMessage::Refused(row, DisplayText::new(&reason)));
        }
        if self.unshown.contains(&row) && self.session.inbox().row(row).is_some() {
            let reason = format!("row {row} was not shown yet; l lists it; nothing was sent");
            return self.write_message(&PromptMessage::Refused(row, DisplayText::new(&reason)));
        }
        let scope = self.session.inbox().row(row).map_or_else(
            || ScopeChoice::Run.scope(), // such a row is refused anyway
            |row| scope.scope_for(row),
        );
        match self.session.answer_with(row, action, &scope) {
            Ok(()) => self.write_message(&PromptMessage::Sent(row, action, &scope)),
            Err(refusal) => self.write_message(&PromptMessage::NotSent(row, &refusal)),
        }
    }

    fn show_changes(&mut self, changes: &[InboxChange]) -> io::Result<()> {
        for change in changes {
            // People see a single list once the session is synced, not a line per question.
            let quiet = !self.synced
                && matches!(
                    change,
                    InboxChange::Up(..) | InboxChange::Added(_) | InboxChange::Container { .. }
                );
            let person = self.options.format != OutputFormat::Json;
            // A sandbox chooses how many of these lines there are.
            let is_within_limit = |limiter: &mut PromptRateLimiter| match change {
                InboxChange::Added(_) => !limiter.should_suppress(),
                InboxChange::ProcessFound(_) | InboxChange::WaitingGrew(_) => limiter.admit(),
                _ => true,
            };
            if !person || (!quiet && is_within_limit(&mut self.rate_limiter)) {
                self.ring_bell(change)?;
                self.write_message(&PromptMessage::Change(change))?;
            } else if let InboxChange::Added(row) = change
                && self.synced
            {
                self.unshown.insert(*row);
            }
            if let InboxChange::Ended(row, _) = change {
                self.unshown.remove(&row.number());
            }
        }
        Ok(())
    }

    /// Announces readiness once all hubs have synced.
    fn announce_ready(&mut self) -> io::Result<()> {
        if !self.synced && self.session.is_synced() {
            self.synced = true;
            if self.options.format == OutputFormat::Text {
                let rows = self.session.inbox().rows().skip(MAX_ROWS_AT_START);
                self.unshown.extend(rows.map(Row::number));
            }
            self.write_message(&PromptMessage::Ready)?;
        }
        Ok(())
    }

    fn ring_bell(&mut self, change: &InboxChange) -> io::Result<()> {
        let count = self.session.inbox().rows().len();
        if change.is_new_question()
            && let Some(sign) = self.bell.ring(count, self.start.elapsed())
        {
            self.output.write_all(sign.as_bytes())?;
        }
        Ok(())
    }

    fn write_message(&mut self, message: &PromptMessage<'_>) -> io::Result<()> {
        let text = render(
            message,
            self.session.inbox(),
            self.options,
            Timestamp::now(),
        );
        if text.is_empty() {
            return Ok(());
        }
        let text = match self.options.columns {
            Some(columns) if self.options.format == OutputFormat::Text => {
                wrap_lines(&text, columns(), WRAP_INDENT)
            }
            _ => text,
        };
        if self.editor.is_some() {
            self.output.write_all(LineEditor::CLEAR.as_bytes())?;
        }
        self.output.write_all(text.as_bytes())?;
        self.output.flush()?;
        self.show_typed_line()
    }
}
