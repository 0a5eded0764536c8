// SPDX-License-Identifier: Apache-2.0
//! Which UI the questions of one sandbox get.

use anyhow::anyhow;
use clap::ValueEnum;

use crate::commands::{notifier, tui};
use crate::desktop::PopupDesktop;
use crate::{CommandContext, CommandFailure, ErrorExt as _};

/// Where questions are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RunUiChoice {
    /// On popups if somebody shows them, else here if there is a terminal.
    Auto,
    /// On popups.
    Desktop,
    /// On the whole screen of this terminal.
    Tui,
    /// At this terminal.
    Prompt,
    /// Elsewhere.
    None,
}

/// What shows the questions of this sandbox.
#[derive(Debug)]
pub(super) enum RunFrontend {
    /// Popups of our own, and the prompt where there is a terminal; aloud, if nobody said that
    /// they look at that desktop: they may be at the end of a long wire.
    Popups {
        desktop: Box<PopupDesktop>,
        aloud: bool,
    },
    /// Those of the person's notifier, and the prompt likewise.
    Notifier { aloud: bool },
    /// The whole screen.
    FullScreen,
    /// The prompt.
    Prompt,
    /// Nothing here.
    Detached,
}

impl RunUiChoice {
    /// Refuses what cannot be had here; `terminal` says whether there is one.
    pub(super) fn require_terminal(
        self,
        terminal: bool,
        context: &CommandContext,
    ) -> Result<(), CommandFailure> {
        match self {
            Self::Prompt if !terminal => Err(anyhow!("there is no terminal to ask at"))
                .with_hint("--ui none, and `terok-clearance clearance` in a terminal"),
            Self::Tui => tui::require_screen_terminal(context),
            _ => Ok(()),
        }
    }

    /// Chooses; `connected` says whether anything can be asked at all. Fails where popups are
    /// asked for and there is no desktop to show them on.
    pub(super) async fn select_frontend(
        self,
        connected: bool,
        terminal: bool,
        context: &CommandContext,
    ) -> Result<RunFrontend, CommandFailure> {
        let wants_popups = matches!(self, Self::Auto | Self::Desktop);
        let aloud = self == Self::Auto;
        if !connected {
            return Ok(RunFrontend::Detached);
        }
        // Two would ask everything twice.
        if wants_popups && notifier::is_running(context.environment.private_runtime_dir()?) {
            return Ok(RunFrontend::Notifier { aloud });
        }
        let popups = match self {
            Self::Desktop => Some(PopupDesktop::connect(context, false).await?),
            Self::Auto => PopupDesktop::connect_if_running(context).await,
            _ => None,
        };
        Ok(match (popups, self) {
            (Some(desktop), _) => RunFrontend::Popups {
                desktop: Box::new(desktop),
                aloud,
            },
            (None, Self::Tui) => RunFrontend::FullScreen,
            (None, Self::Auto | Self::Prompt) if terminal => RunFrontend::Prompt,
            (None, _) => RunFrontend::Detached,
        })
    }
}

impl RunFrontend {
    /// Returns what to say about it at the start; `terminal` says whether the command runs at one.
    pub(super) fn start_message(&self, terminal: bool) -> String {
        let how = match self {
            Self::Popups { .. } if terminal => "popups ask; Ctrl-] answers here, too",
            Self::Popups { .. } => "popups ask",
            Self::Notifier { .. } if terminal => {
                "your `terok-clearance notifier` asks; Ctrl-] answers here, too"
            }
            Self::Notifier { .. } => "your `terok-clearance notifier` asks",
            Self::FullScreen => "Ctrl-] shows the questions",
            Self::Prompt => "Ctrl-] answers questions",
            Self::Detached => {
                "answer questions with `terok-clearance clearance` in another terminal"
            }
        };
        format!("terok-clearance: nothing is open but what was allowed; {how}")
    }
}
