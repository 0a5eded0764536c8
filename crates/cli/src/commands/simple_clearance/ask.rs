// SPDX-License-Identifier: Apache-2.0
//! Asks, until the reader, the input or the person's patience is at its end.

use anyhow::{Context as _, anyhow};
use operator::queue::{QuestionQueue, QueueMessage, QueuedQuestion, Typed, render_message};
use terok_clearance::{Action, DisplayText};

use super::lines::Lines;
use super::{Container, Firewall, Reading};
use crate::{Context, Failure, Status, Stop};

/// Why it ended.
enum End {
    /// Ctrl-C, SIGTERM, or the end of the input.
    Told,
    /// The reader's output is at its end.
    Reader,
}

/// Asks what `reading` reports and has `firewall` carry the answers out. No reader is left running.
pub(super) async fn ask(
    container: &Container,
    reading: Reading,
    firewall: Firewall,
    stop: Stop,
    context: &Context,
) -> Result<Status, Failure> {
    let mut session = Session {
        container,
        reading,
        firewall,
        stop,
        queue: QuestionQueue::default(),
        context,
    };
    let ended = session.run().await;
    let Session { reading, queue, .. } = session;
    let asked = queue.len();
    match ended {
        Ok(End::Told) => {
            reading.end().await?;
            if asked > 0 && !context.json {
                let were = if asked == 1 {
                    "question was"
                } else {
                    "questions were"
                };
                context.output.error_line(&format!(
                    "\n{asked} {were} not answered: nothing was opened"
                ));
            }
            Ok(Status::OK)
        }
        Ok(End::Reader) => {
            let status = reading.ended().await?;
            if status.success() {
                if !context.json {
                    context.output.error_line("\nthe reader has ended");
                }
                return Ok(Status::OK);
            }
            // Its own words are on standard error already.
            Err(anyhow!("the reader ended: {status}").into())
        }
        Err(error) => {
            reading.end().await?;
            Err(error.into())
        }
    }
}

struct Session<'a> {
    container: &'a Container,
    reading: Reading,
    firewall: Firewall,
    stop: Stop,
    queue: QuestionQueue,
    context: &'a Context,
}

impl Session<'_> {
    async fn run(&mut self) -> anyhow::Result<End> {
        let mut typed = Lines::new(tokio::io::stdin());
        self.show(&[QueueMessage::Watching])?;
        loop {
            tokio::select! {
                biased;
                _ = self.stop.wait() => return Ok(End::Told),
                line = self.reading.next() => match line.context("reading what the reader says")? {
                    Some(line) => self.hear(&line)?,
                    None => return Ok(End::Reader),
                },
                line = typed.next() => match line.context("reading the answers")? {
                    Some(line) => if self.take(&line).await? {
                        return Ok(End::Told);
                    },
                    None => return Ok(End::Told),
                },
            }
        }
    }

    fn hear(&mut self, line: &str) -> anyhow::Result<()> {
        match QueuedQuestion::parse(line) {
            Ok(Some(question)) => {
                let says = self.queue.push(question);
                self.show(&says)
            }
            Ok(None) => Ok(()),
            Err(error) => {
                let line = DisplayText::new(line);
                tracing::warn!(error = &error as &dyn std::error::Error, %line, "a line of the reader was skipped");
                Ok(())
            }
        }
    }

    /// Does what was typed, and says whether that was the end.
    ///
    /// An answer that was given is carried out even if Ctrl-C comes meanwhile; a second one ends
    /// that, too.
    async fn take(&mut self, line: &str) -> anyhow::Result<bool> {
        let (question, action) = match self
            .queue
            .resolve_input(Typed::parse(line, self.context.json))
        {
            Ok(answer) => answer,
            Err(says) => {
                self.show(&says)?;
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
                            break Err(DisplayText::new("stopped before it was carried out"));
                        }
                    }
                }
            }
        };
        self.settle(action, became)?;
        Ok(told)
    }

    fn settle(&mut self, action: Action, became: Result<(), DisplayText>) -> anyhow::Result<()> {
        let says = self.queue.apply_result(action, became);
        self.show(&says)
    }

    fn show(&self, says: &[QueueMessage]) -> anyhow::Result<()> {
        for say in says {
            let text = render_message(say, self.context.json);
            if !text.is_empty() {
                self.context.output.text(&text)?;
            }
            if let (QueueMessage::Failed(_, _, reason), false) = (say, self.context.json) {
                self.context.output.error_line(&format!("    {reason}"));
            }
        }
        Ok(())
    }
}
