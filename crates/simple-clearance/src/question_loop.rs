// SPDX-License-Identifier: Apache-2.0
//! The question loop, until a signal, the end of input or the end of the reader.

use terok_clearance::{Action, DisplayText};

use crate::bounded_lines::BoundedLines;
use crate::container::ShieldContainer;
use crate::firewall::ContainerFirewall;
use crate::question_queue::{
    QuestionQueue, QueueMessage, QueuedQuestion, TypedAnswer, render_message,
};
use crate::reader_process::ReaderProcess;
use crate::{QuestionOutput, SimpleClearanceError};

/// The reason for the end.
enum QuestionLoopEnd {
    /// Ctrl-C, SIGTERM, or the end of input.
    Stopped,
    /// The reader closed its output.
    ReaderExited,
}

/// Asks about the reports of `reader` and applies the answers to `firewall`. Ends the reader.
pub(crate) async fn run_question_loop(
    container: &ShieldContainer,
    reader: ReaderProcess,
    firewall: ContainerFirewall,
    next_stop: impl AsyncFnMut(),
    output: &dyn QuestionOutput,
    json: bool,
) -> Result<(), SimpleClearanceError> {
    let mut question_loop = QuestionLoop {
        container,
        reader,
        firewall,
        next_stop,
        queue: QuestionQueue::default(),
        output,
        json,
    };
    let ended = question_loop.run().await;
    let QuestionLoop { reader, queue, .. } = question_loop;
    let asked = queue.len();
    match ended {
        Ok(QuestionLoopEnd::Stopped) => {
            reader.terminate().await?;
            if asked > 0 && !json {
                let were = if asked == 1 {
                    "question was"
                } else {
                    "questions were"
                };
                output.print_note(&format!(
                    "\n{asked} {were} not answered: nothing was opened"
                ));
            }
            Ok(())
        }
        Ok(QuestionLoopEnd::ReaderExited) => {
            let status = reader.wait_for_exit().await?;
            if !status.success() {
                return Err(SimpleClearanceError::ReaderFailed(status));
            }
            if !json {
                output.print_note("\nthe reader has ended");
            }
            Ok(())
        }
        Err(error) => {
            reader.terminate().await?;
            Err(error)
        }
    }
}

struct QuestionLoop<'a, S> {
    container: &'a ShieldContainer,
    reader: ReaderProcess,
    firewall: ContainerFirewall,
    next_stop: S,
    queue: QuestionQueue,
    output: &'a dyn QuestionOutput,
    json: bool,
}

impl<S: AsyncFnMut()> QuestionLoop<'_, S> {
    async fn run(&mut self) -> Result<QuestionLoopEnd, SimpleClearanceError> {
        let mut typed = BoundedLines::new(tokio::io::stdin());
        self.print_messages(&[QueueMessage::Watching])?;
        loop {
            tokio::select! {
                biased;
                () = (self.next_stop)() => return Ok(QuestionLoopEnd::Stopped),
                line = self.reader.next_line() => {
                    match line.map_err(SimpleClearanceError::ReadReports)? {
                        Some(line) => self.handle_reader_line(&line)?,
                        None => return Ok(QuestionLoopEnd::ReaderExited),
                    }
                }
                line = typed.next_line() => match line.map_err(SimpleClearanceError::ReadAnswers)? {
                    Some(line) => if self.handle_input_line(&line).await? {
                        return Ok(QuestionLoopEnd::Stopped);
                    },
                    None => return Ok(QuestionLoopEnd::Stopped),
                },
            }
        }
    }

    fn handle_reader_line(&mut self, line: &str) -> Result<(), SimpleClearanceError> {
        match QueuedQuestion::parse(line) {
            Ok(Some(question)) => {
                let messages = self.queue.push(question);
                self.print_messages(&messages)
            }
            Ok(None) => Ok(()),
            Err(error) => {
                let line = DisplayText::new(line);
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, %line, "a line of the reader was skipped");
                Ok(())
            }
        }
    }

    /// Handles a line of input. Returns `true` if a signal came meanwhile.
    ///
    /// The first Ctrl-C does not interrupt an answer that is being applied; the second one does.
    async fn handle_input_line(&mut self, line: &str) -> Result<bool, SimpleClearanceError> {
        let (question, action) = match self
            .queue
            .resolve_input(TypedAnswer::parse(line, self.json))
        {
            Ok(answer) => answer,
            Err(messages) => {
                self.print_messages(&messages)?;
                return Ok(false);
            }
        };
        let mut was_stopped = false;
        let result = {
            let mut applied = std::pin::pin!(self.firewall.apply(
                self.container.name(),
                &question,
                action
            ));
            loop {
                tokio::select! {
                    biased;
                    result = &mut applied => break result,
                    () = (self.next_stop)() => {
                        if std::mem::replace(&mut was_stopped, true) {
                            break Err(DisplayText::new("stopped before it was applied"));
                        }
                    }
                }
            }
        };
        self.record_outcome(action, result)?;
        Ok(was_stopped)
    }

    fn record_outcome(
        &mut self,
        action: Action,
        result: Result<(), DisplayText>,
    ) -> Result<(), SimpleClearanceError> {
        let messages = self.queue.apply_result(action, result);
        self.print_messages(&messages)
    }

    fn print_messages(&self, messages: &[QueueMessage]) -> Result<(), SimpleClearanceError> {
        for message in messages {
            let text = render_message(message, self.json);
            if !text.is_empty() {
                let written = self.output.write(&text);
                written.map_err(SimpleClearanceError::WriteOutput)?;
            }
            if let (QueueMessage::Failed(_, _, reason), false) = (message, self.json) {
                self.output.print_note(&format!("    {reason}"));
            }
        }
        Ok(())
    }
}
