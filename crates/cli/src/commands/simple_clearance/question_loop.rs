// SPDX-License-Identifier: Apache-2.0
//! The question loop, until a signal, the end of input or the end of the reader.

use anyhow::{Context as _, anyhow};
use terok_clearance::{Action, DisplayText};

use super::bounded_lines::BoundedLines;
use super::question_queue::{
    QuestionQueue, QueueMessage, QueuedQuestion, TypedAnswer, render_message,
};
use super::{ContainerFirewall, ReaderProcess, ShieldContainer};
use crate::{CommandContext, CommandFailure, CommandStatus, StopSignals};

/// The reason for the end.
enum QuestionLoopEnd {
    /// Ctrl-C, SIGTERM, or the end of input.
    Stopped,
    /// The reader closed its output.
    ReaderExited,
}

/// Asks about the reports of `reading` and applies the answers to `firewall`. Ends the reader.
pub(super) async fn run_question_loop(
    container: &ShieldContainer,
    reading: ReaderProcess,
    firewall: ContainerFirewall,
    stop: StopSignals,
    context: &CommandContext,
) -> Result<CommandStatus, CommandFailure> {
    let mut session = QuestionLoop {
        container,
        reading,
        firewall,
        stop,
        queue: QuestionQueue::default(),
        context,
    };
    let ended = session.run().await;
    let QuestionLoop { reading, queue, .. } = session;
    let asked = queue.len();
    match ended {
        Ok(QuestionLoopEnd::Stopped) => {
            reading.terminate().await?;
            if asked > 0 && !context.json {
                let were = if asked == 1 {
                    "question was"
                } else {
                    "questions were"
                };
                context.output.print_error_line(&format!(
                    "\n{asked} {were} not answered: nothing was opened"
                ));
            }
            Ok(CommandStatus::OK)
        }
        Ok(QuestionLoopEnd::ReaderExited) => {
            let status = reading.wait_for_exit().await?;
            if status.success() {
                if !context.json {
                    context.output.print_error_line("\nthe reader has ended");
                }
                return Ok(CommandStatus::OK);
            }
            // The reader has printed the reason to standard error.
            Err(anyhow!("the reader ended: {status}").into())
        }
        Err(error) => {
            reading.terminate().await?;
            Err(error.into())
        }
    }
}

struct QuestionLoop<'a> {
    container: &'a ShieldContainer,
    reading: ReaderProcess,
    firewall: ContainerFirewall,
    stop: StopSignals,
    queue: QuestionQueue,
    context: &'a CommandContext,
}

impl QuestionLoop<'_> {
    async fn run(&mut self) -> anyhow::Result<QuestionLoopEnd> {
        let mut typed = BoundedLines::new(tokio::io::stdin());
        self.print_messages(&[QueueMessage::Watching])?;
        loop {
            tokio::select! {
                biased;
                _ = self.stop.wait() => return Ok(QuestionLoopEnd::Stopped),
                line = self.reading.next_line() => match line.context("cannot read the reports")? {
                    Some(line) => self.handle_reader_line(&line)?,
                    None => return Ok(QuestionLoopEnd::ReaderExited),
                },
                line = typed.next_line() => match line.context("cannot read answers")? {
                    Some(line) => if self.handle_input_line(&line).await? {
                        return Ok(QuestionLoopEnd::Stopped);
                    },
                    None => return Ok(QuestionLoopEnd::Stopped),
                },
            }
        }
    }

    fn handle_reader_line(&mut self, line: &str) -> anyhow::Result<()> {
        match QueuedQuestion::parse(line) {
            Ok(Some(question)) => {
                let says = self.queue.push(question);
                self.print_messages(&says)
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
    /// The first Ctrl-C does not interrupt an answer that is being applied; the second Ctrl-C does.
    async fn handle_input_line(&mut self, line: &str) -> anyhow::Result<bool> {
        let (question, action) = match self
            .queue
            .resolve_input(TypedAnswer::parse(line, self.context.json))
        {
            Ok(answer) => answer,
            Err(says) => {
                self.print_messages(&says)?;
                return Ok(false);
            }
        };
        let mut told = false;
        let became = {
            let mut applied = std::pin::pin!(self.firewall.apply(
                self.container.name(),
                &question,
                action
            ));
            loop {
                tokio::select! {
                    biased;
                    became = &mut applied => break became,
                    _ = self.stop.wait() => {
                        if std::mem::replace(&mut told, true) {
                            break Err(DisplayText::new("stopped before it was applied"));
                        }
                    }
                }
            }
        };
        self.record_outcome(action, became)?;
        Ok(told)
    }

    fn record_outcome(
        &mut self,
        action: Action,
        became: Result<(), DisplayText>,
    ) -> anyhow::Result<()> {
        let says = self.queue.apply_result(action, became);
        self.print_messages(&says)
    }

    fn print_messages(&self, says: &[QueueMessage]) -> anyhow::Result<()> {
        for say in says {
            let text = render_message(say, self.context.json);
            if !text.is_empty() {
                self.context.output.print(&text)?;
            }
            if let (QueueMessage::Failed(_, _, reason), false) = (say, self.context.json) {
                self.context
                    .output
                    .print_error_line(&format!("    {reason}"));
            }
        }
        Ok(())
    }
}
