// SPDX-License-Identifier: Apache-2.0
//! Where the answers come from: the command line, a person at a terminal, lines on standard input,
//! or a UI that answers at the hub. Whatever is no answer opens nothing.

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::path::Path;

use anyhow::Context as _;
use operator::discovery::Hubs;
use operator::tui::{FullScreenUi, UiEvent};
use rustix::process::{Signal, getpid, kill_process};
use terok_clearance::Action;

use super::clock::now_us;
use super::page::{AGAIN, Page};
use crate::commands::tui;
use crate::desktop::{Desktop, Popups};
use crate::{Context, Failure, Output};

/// The longest line that is looked at.
const LIMIT: u64 = 4096;

/// What the demo answers itself, by turns: with these a run shows both an open and a shut host.
const OWN: [Action; 3] = [Action::Allow, Action::Allow, Action::Deny];

/// Who answers the questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Answer {
    /// Allow everything that is asked
    Allow,
    /// Deny everything that is asked
    Deny,
    /// Ask you: at the terminal, else by lines on standard input (a or d)
    Ask,
}

/// Where a person is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Where {
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
pub(super) enum Front {
    /// Popups.
    Desktop(Popups),
    /// The whole screen.
    Screen(Box<FullScreenUi>),
}

impl Front {
    /// Returns its name, as `--ui` has it.
    const fn name(&self) -> &'static str {
        match self {
            Self::Desktop(_) => "desktop",
            Self::Screen(_) => "tui",
        }
    }

    /// Shows it until the person leaves it, or for as long as this is waited for.
    pub(super) async fn show(&mut self) -> anyhow::Result<()> {
        let ui = match self {
            Self::Desktop(popups) => {
                popups.ask().await;
                return Ok(());
            }
            Self::Screen(ui) => ui,
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
    pub(super) fn rest(&mut self) {
        if let Self::Screen(ui) = self {
            ui.close();
        }
    }
}

/// The source of the answers.
pub(super) enum Answers {
    /// Always the same, by `--answer`.
    Always(Action),
    /// The demo's own, [`OWN`] by turns: there is nobody to ask.
    Own(std::iter::Cycle<std::slice::Iter<'static, Action>>),
    /// A person, or a script.
    Ask {
        /// At a terminal.
        terminal: bool,
        /// Whether there is nobody any more.
        ended: bool,
    },
    /// A UI of ours.
    At(Front),
    /// Nobody any more.
    Nobody,
}

/// One answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answered {
    /// What it is; nothing: nobody answered.
    pub(super) action: Option<Action>,
    /// Who gave it.
    pub(super) by: &'static str,
    /// How long it took to come, in microseconds.
    pub(super) took_us: u64,
}

impl Answers {
    /// Returns the source that `wanted` and `place` name. Without any: a person, on popups if
    /// somebody shows them, or if there is a terminal to ask at, else the demo itself, so that it
    /// shows the whole way wherever it runs.
    pub(super) async fn new(
        wanted: Option<Answer>,
        place: Where,
        hub: &Path,
        context: &Context,
    ) -> Result<Self, Failure> {
        if wanted.is_some() {
            return Ok(Self::at_the_prompt(wanted));
        }
        let hubs = || Hubs::at_socket(hub.to_owned()).context("listening to the hub");
        let desktop = match place {
            Where::Desktop => Some(Desktop::reach(context, false).await?),
            Where::Auto => Desktop::at_hand(context).await,
            Where::Tui => {
                let ui = FullScreenUi::new(hubs()?, "the demo", tui::options(context, false));
                return Ok(Self::At(Front::Screen(Box::new(ui))));
            }
            Where::Prompt => None,
        };
        Ok(match desktop {
            Some(desktop) => Self::At(Front::Desktop(desktop.start(hubs()?))),
            None => Self::at_the_prompt(None),
        })
    }

    fn at_the_prompt(wanted: Option<Answer>) -> Self {
        let terminal = std::io::stdin().is_terminal();
        let ended = false;
        match wanted {
            Some(Answer::Allow) => Self::Always(Action::Allow),
            Some(Answer::Deny) => Self::Always(Action::Deny),
            Some(Answer::Ask) => Self::Ask { terminal, ended },
            None if terminal => Self::Ask { terminal, ended },
            None => Self::Own(OWN.iter().cycle()),
        }
    }

    /// Says whether the person who answers sees the line on which he does.
    pub(super) const fn echoed(&self) -> bool {
        matches!(
            self,
            Self::Ask {
                terminal: true,
                ended: false
            }
        )
    }

    /// Returns the UI that answers at the hub, if it is one.
    pub(super) fn front(&mut self) -> Option<(&mut Front, &'static str)> {
        match self {
            Self::At(front) => {
                let name = front.name();
                Some((front, name))
            }
            _ => None,
        }
    }

    /// Has nobody answer any more, and takes away what is shown.
    pub(super) async fn end(&mut self) {
        if let Self::At(Front::Desktop(popups)) = std::mem::replace(self, Self::Nobody) {
            popups.end().await;
        }
    }

    /// Returns the next answer. `prompt` is where to ask for it, if somebody reads that.
    pub(super) async fn next(
        &mut self,
        prompt: Option<(Output, Page)>,
    ) -> anyhow::Result<Answered> {
        let asked_at = now_us();
        let (action, by) = match self {
            Self::Always(action) => (Some(*action), "--answer"),
            Self::Own(answers) => (answers.next().copied(), "the demo"),
            Self::At(_) | Self::Nobody => (None, "nobody"),
            Self::Ask { terminal, ended } => {
                let by = if *terminal { "terminal" } else { "stdin" };
                let action = if *ended {
                    None
                } else {
                    ask(prompt.filter(|_| *terminal)).await?
                };
                *ended = action.is_none();
                (action, by)
            }
        };
        let took_us = now_us() - asked_at;
        Ok(Answered {
            action,
            by,
            took_us,
        })
    }
}

async fn ask(prompt: Option<(Output, Page)>) -> anyhow::Result<Option<Action>> {
    loop {
        if let Some((output, page)) = prompt {
            output.text(&page.prompt())?;
        }
        let read = tokio::task::spawn_blocking(read_line).await;
        let line = read
            .context("reading an answer")?
            .context("reading an answer")?;
        match (meaning(&line), prompt) {
            (Meaning::Action(action), _) => return Ok(Some(action)),
            (Meaning::End, prompt) => {
                if let Some((output, _)) = prompt {
                    output.line("")?;
                }
                return Ok(None);
            }
            (Meaning::Nothing, Some((output, _))) => output.line(AGAIN)?,
            (Meaning::Nothing, None) => {}
        }
    }
}

/// Reads a line; empty: there is none any more.
fn read_line() -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    std::io::stdin()
        .lock()
        .take(LIMIT)
        .read_until(b'\n', &mut line)?;
    Ok(line)
}

#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    Action(Action),
    Nothing,
    End,
}

fn meaning(line: &[u8]) -> Meaning {
    match line.trim_ascii() {
        _ if line.is_empty() => Meaning::End,
        b"a" | b"allow" => Meaning::Action(Action::Allow),
        b"d" | b"deny" => Meaning::Action(Action::Deny),
        b"q" | b"quit" => Meaning::End,
        _ => Meaning::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_words_for_it_are_an_answer() {
        for (line, expected) in [
            (&b"a\n"[..], Meaning::Action(Action::Allow)),
            (b" allow \r\n", Meaning::Action(Action::Allow)),
            (b"d", Meaning::Action(Action::Deny)),
            (b"deny\n", Meaning::Action(Action::Deny)),
            (b"q\n", Meaning::End),
            (b"", Meaning::End),
            (b"\n", Meaning::Nothing),
            (b"y\n", Meaning::Nothing),
            (b"A\n", Meaning::Nothing),
            (b"allow everything\n", Meaning::Nothing),
            (b"\xff\n", Meaning::Nothing),
        ] {
            assert_eq!(meaning(line), expected, "{line:?}");
        }
    }

    #[tokio::test]
    async fn who_is_gone_is_not_asked_again() {
        let mut gone = Answers::Ask {
            terminal: false,
            ended: true,
        };
        assert_eq!(gone.next(None).await.unwrap().action, None);
    }
}
