// SPDX-License-Identifier: Apache-2.0
//! Where the questions of one sandbox are asked.

use anyhow::anyhow;
use clap::ValueEnum;

use super::console::ScreenMode;
use crate::commands::{notifier, tui};
use crate::desktop::PopupDesktop;
use crate::{CommandContext, CommandFailure, CommandStatus, ErrorExt as _};

/// Where questions are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RunUiChoice {
    /// On popups if a program of this session shows them, else on the screen of this terminal.
    Auto,
    /// On popups.
    Desktop,
    /// On the screen of this terminal.
    Tui,
    /// Nowhere: answer with another command of this program.
    None,
    /// Refused: the line prompt of earlier versions.
    #[value(hide = true)]
    Prompt,
}

/// The user interfaces that ask the questions of this sandbox.
#[derive(Debug)]
pub(super) struct RunFrontend {
    pub(super) popups: RunPopups,
    /// The screen over the command; none where the terminal cannot show one.
    pub(super) screen: Option<ScreenMode>,
}

/// The popups for the questions of this sandbox.
#[derive(Debug)]
pub(super) enum RunPopups {
    /// Popups of this process.
    Own(Box<PopupDesktop>),
    /// Popups of the operator's notifier.
    Notifier,
    /// None.
    Off,
}

impl RunUiChoice {
    /// Fails where this choice cannot work, whatever the desktop says.
    pub(super) fn check(self, context: &CommandContext) -> Result<(), CommandFailure> {
        match self {
            Self::Prompt => Err(anyhow!("`run` has no `--ui prompt`"))
                .with_hint("`--ui tui` asks on the screen of this terminal")
                .with_hint("`--ui none`, and `terok-clearance clearance` in another terminal")
                .with_status(CommandStatus::USAGE),
            Self::Tui => {
                tui::require_screen_terminal(context).with_status(CommandStatus::RUN_FAILED)
            }
            Self::Auto | Self::Desktop | Self::None => Ok(()),
        }
    }

    /// Chooses the user interfaces. Nothing can be asked unless the sandbox is `connected`.
    ///
    /// Fails if popups are required and no desktop shows them.
    pub(super) async fn select_frontend(
        self,
        connected: bool,
        context: &CommandContext,
    ) -> Result<RunFrontend, CommandFailure> {
        let mut frontend = RunFrontend {
            popups: RunPopups::Off,
            screen: None,
        };
        if !connected || matches!(self, Self::None | Self::Prompt) {
            return Ok(frontend);
        }
        if tui::require_screen_terminal(context).is_ok() {
            frontend.screen = Some(ScreenMode {
                opens_without_question: self == Self::Tui,
                // An operator who did not ask for popups may not see this desktop (ssh).
                announces_questions: self != Self::Desktop,
            });
        }
        if self == Self::Tui {
            return Ok(frontend);
        }
        // Own popups beside the notifier's would ask every question twice.
        frontend.popups = if notifier::is_running(context.environment.private_runtime_dir()?) {
            RunPopups::Notifier
        } else {
            let desktop = if self == Self::Desktop {
                Some(PopupDesktop::connect(context, false).await?)
            } else {
                PopupDesktop::connect_if_running(context).await
            };
            desktop.map_or(RunPopups::Off, |desktop| RunPopups::Own(Box::new(desktop)))
        };
        Ok(frontend)
    }
}

impl RunFrontend {
    /// Returns the line that says at the start where questions are asked.
    pub(super) fn start_message(&self) -> String {
        let how = match (&self.popups, self.screen) {
            (RunPopups::Own(_), Some(_)) => "popups ask; Ctrl-] shows the questions here too",
            (RunPopups::Own(_), None) => "popups ask",
            (RunPopups::Notifier, Some(_)) => {
                "`terok-clearance notifier` asks; Ctrl-] shows the questions here too"
            }
            (RunPopups::Notifier, None) => "`terok-clearance notifier` asks",
            (RunPopups::Off, Some(_)) => "Ctrl-] shows the questions",
            (RunPopups::Off, None) => {
                "answer questions with `terok-clearance clearance` in another terminal"
            }
        };
        format!("terok-clearance: only what --allow names is open; {how}")
    }
}
