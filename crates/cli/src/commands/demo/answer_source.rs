// SPDX-License-Identifier: Apache-2.0
//! Where the answers come from: the command line, a person at a terminal, lines on standard input,
//! or a UI that answers at the hub. Whatever is no answer opens nothing.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;

use anyhow::Context as _;
use operator::Session;
use operator::discovery::Hubs;
use operator::tui::{FullScreenUi, UiEvent};
use rustix::process::{Signal, getpid, kill_process};
use terok_clearance::Action;

use super::clock::now_us;
use super::render::{INVALID_ANSWER_HINT, StepRenderer};
use crate::commands::tui;
use crate::desktop::{BackgroundPopups, PopupDesktop};
use crate::{CommandContext, CommandFailure, StandardStreams};

/// The longest line that is looked at.
const MAX_LINE_BYTES: u64 = 4096;

/// What the demo answers itself, by turns: with these a run shows both an open and a shut host.
const DEFAULT_ANSWERS: [Action; 3] = [Action::Allow, Action::Allow, Action::Deny];

/// Who answers the questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum DemoAnswerPolicy {
    /// Allow everything that is asked
    Allow,
    /// Deny everything that is asked
    Deny,
    /// Ask you: at the terminal, else by lines on standard input (a or d)
    Ask,
}

/// Where a person is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum DemoUiChoice {
    /// On popups if a program of this session shows them, else at the prompt
    Auto,
    /// On popups of your desktop
    Desktop,
    /// On the whole screen of this terminal
    Tui,
    /// At a prompt, if there is a terminal
    Prompt,
}

/// A UI that answers at the hub's socket, as it would any hub.
pub(super) enum DemoFrontend {
    /// Popups.
    Popups(BackgroundPopups),
    /// The whole screen.
    FullScreen(Box<FullScreenUi>),
}

impl DemoFrontend {
    /// Returns its name, as `--ui` has it.
    const fn name(&self) -> &'static str {
        match self {
            Self::Popups(_) => "desktop",
            Self::FullScreen(_) => "tui",
        }
    }

    /// Shows it until the person leaves it, or for as long as this is waited for.
    pub(super) async fn run_until_closed(&mut self) -> anyhow::Result<()> {
        let ui = match self {
            Self::Popups(popups) => {
                popups.run().await;
                return Ok(());
            }
            Self::FullScreen(ui) => ui,
        };
        let screen = "using the terminal";
        ui.open().context(screen)?;
        loop {
            match ui.next().await.context(screen)? {
                UiEvent::Handled => {}
                UiEvent::SuspendRequested => ui.suspend().context(screen)?,
                UiEvent::QuitRequested => return Ok(()),
                // The terminal is raw, and makes no signal of the key.
                UiEvent::Interrupted => {
                    ui.close();
                    kill_process(getpid(), Signal::INT).context("ending")?;
                    return Ok(());
                }
            }
        }
    }

    /// Gives the screen back until the next question.
    pub(super) fn hide(&mut self) {
        if let Self::FullScreen(ui) = self {
            ui.close();
        }
    }
}

/// The source of the answers.
pub(super) enum DemoAnswerSource {
    /// Always the same, by `--answer`.
    Always(Action),
    /// The demo's own, [`OWN`] by turns: there is nobody to ask.
    Alternating(std::iter::Cycle<std::slice::Iter<'static, Action>>),
    /// A person, or a script.
    Ask {
        /// At a terminal.
        is_terminal: bool,
        /// Whether there is nobody any more.
        ended: bool,
    },
    /// A UI of ours.
    Frontend(DemoFrontend),
    /// Nobody any more.
    Closed,
}

/// One answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DemoAnswer {
    /// What it is; nothing: nobody answered.
    pub(super) action: Option<Action>,
    /// Who gave it.
    pub(super) by: &'static str,
    /// How long it took to come, in microseconds.
    pub(super) took_us: u64,
}

impl DemoAnswerSource {
    /// Returns the source that `wanted` and `place` name. Without any: a person, on popups if
    /// somebody shows them, or if there is a terminal to ask at, else the demo itself, so that it
    /// shows the whole way wherever it runs.
    pub(super) async fn new(
        wanted: Option<DemoAnswerPolicy>,
        place: DemoUiChoice,
        hub: &Path,
        context: &CommandContext,
    ) -> Result<Self, CommandFailure> {
        if wanted.is_some() {
            return Ok(Self::without_frontend(wanted));
        }
        let hubs = || Hubs::at_socket(hub.to_owned()).context("listening to the hub");
        let desktop = match place {
            DemoUiChoice::Desktop => Some(PopupDesktop::connect(context, false).await?),
            DemoUiChoice::Auto => PopupDesktop::connect_if_running(context).await,
            DemoUiChoice::Tui => {
                let ui = FullScreenUi::new(hubs()?, "the demo", tui::tui_options(context, false));
                return Ok(Self::Frontend(DemoFrontend::FullScreen(Box::new(ui))));
            }
            DemoUiChoice::Prompt => None,
        };
        Ok(match desktop {
            Some(desktop) => {
                let session = Session::at_socket(hub.to_owned());
                let session = session.context("listening to the hub")?;
                Self::Frontend(DemoFrontend::Popups(desktop.start_popups(session)))
            }
            None => Self::without_frontend(None),
        })
    }

    fn without_frontend(wanted: Option<DemoAnswerPolicy>) -> Self {
        let terminal = std::io::stdin().is_terminal();
        let ended = false;
        match wanted {
            Some(DemoAnswerPolicy::Allow) => Self::Always(Action::Allow),
            Some(DemoAnswerPolicy::Deny) => Self::Always(Action::Deny),
            Some(DemoAnswerPolicy::Ask) => Self::Ask {
                is_terminal: terminal,
                ended,
            },
            None if terminal => Self::Ask {
                is_terminal: terminal,
                ended,
            },
            None => Self::Alternating(DEFAULT_ANSWERS.iter().cycle()),
        }
    }

    /// Says whether the person who answers sees the line on which he does.
    pub(super) const fn is_echoed(&self) -> bool {
        matches!(
            self,
            Self::Ask {
                is_terminal: true,
                ended: false
            }
        )
    }

    /// Returns the UI that answers at the hub, if it is one.
    pub(super) fn frontend(&mut self) -> Option<(&mut DemoFrontend, &'static str)> {
        match self {
            Self::Frontend(front) => {
                let name = front.name();
                Some((front, name))
            }
            _ => None,
        }
    }

    /// Has nobody answer any more, and takes away what is shown.
    pub(super) async fn close(&mut self) {
        if let Self::Frontend(DemoFrontend::Popups(popups)) = std::mem::replace(self, Self::Closed)
        {
            popups.close().await;
        }
    }

    /// Returns the next answer. `prompt` is where to ask for it, if somebody reads that.
    pub(super) async fn next_answer(
        &mut self,
        prompt: Option<(StandardStreams, StepRenderer)>,
    ) -> anyhow::Result<DemoAnswer> {
        let asked_at = now_us();
        let (action, by) = match self {
            Self::Always(action) => (Some(*action), "--answer"),
            Self::Alternating(answers) => (answers.next().copied(), "the demo"),
            Self::Frontend(_) | Self::Closed => (None, "nobody"),
            Self::Ask {
                is_terminal: terminal,
                ended,
            } => {
                let by = if *terminal { "terminal" } else { "stdin" };
                let action = if *ended {
                    None
                } else {
                    read_answer(prompt.filter(|_| *terminal)).await?
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
    prompt: Option<(StandardStreams, StepRenderer)>,
) -> anyhow::Result<Option<Action>> {
    loop {
        if let Some((output, page)) = prompt {
            output.print(&page.render_prompt())?;
        }
        let read = tokio::task::spawn_blocking(read_line).await;
        let line = read
            .context("reading an answer")?
            .context("reading an answer")?;
        match (parse_answer(&line), prompt) {
            (DemoAnswerInput::Action(action), _) => return Ok(Some(action)),
            (DemoAnswerInput::End, prompt) => {
                if let Some((output, _)) = prompt {
                    output.print_line("")?;
                }
                return Ok(None);
            }
            (DemoAnswerInput::Unrecognized, Some((output, _))) => {
                output.print_line(INVALID_ANSWER_HINT)?;
            }
            (DemoAnswerInput::Unrecognized, None) => {}
        }
    }
}

/// Reads a line; empty: there is none any more.
fn read_line() -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    std::io::stdin()
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
    fn only_the_words_for_it_are_an_answer() {
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
    async fn who_is_gone_is_not_asked_again() {
        let mut gone = DemoAnswerSource::Ask {
            is_terminal: false,
            ended: true,
        };
        assert_eq!(gone.next_answer(None).await.unwrap().action, None);
    }
}
