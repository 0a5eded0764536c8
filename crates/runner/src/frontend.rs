// SPDX-License-Identifier: Apache-2.0
//! The user interfaces for the questions of the sandbox.

use desktop::{NotifierLock, PopupDesktop};

use crate::{
    NetworkChoice, PopupChoice, PopupSource, RunConfig, RunError, RunNotice, RunRules, RunScreen,
};

/// The user interfaces for the questions of the sandbox.
#[derive(Debug)]
pub(crate) struct RunFrontend {
    pub(crate) popups: RunPopups,
    pub(crate) screen: Option<RunScreen>,
}

/// The popups for the questions of the sandbox.
#[derive(Debug)]
pub(crate) enum RunPopups {
    /// Popups of this process.
    Own(Box<PopupDesktop>),
    /// Popups of the operator's notifier.
    Notifier,
    /// None.
    Off,
}

impl RunFrontend {
    /// Selects the user interfaces. A sandbox without a connection has no questions and so needs
    /// none.
    ///
    /// Fails if no desktop shows required popups.
    pub(crate) async fn select(config: &RunConfig) -> Result<Self, RunError> {
        if config.network == NetworkChoice::None {
            return Ok(Self {
                popups: RunPopups::Off,
                screen: None,
            });
        }
        // Popups of this process in addition to the notifier's would show each question twice.
        let is_notifier_running = || NotifierLock::is_held(&config.runtime_dir);
        let popups = match &config.popups {
            PopupChoice::Off => RunPopups::Off,
            PopupChoice::IfRunning(_) | PopupChoice::Required(_) if is_notifier_running() => {
                RunPopups::Notifier
            }
            PopupChoice::IfRunning(desktop) => {
                let desktop = PopupDesktop::connect_if_running((**desktop).clone()).await;
                desktop.map_or(RunPopups::Off, |desktop| RunPopups::Own(Box::new(desktop)))
            }
            PopupChoice::Required(desktop) => {
                RunPopups::Own(Box::new(PopupDesktop::connect((**desktop).clone()).await?))
            }
        };
        Ok(Self {
            popups,
            screen: config.screen.clone(),
        })
    }

    /// Returns the message at the start about the user interfaces.
    pub(crate) const fn start_notice<'a>(&self, rules: &'a RunRules) -> RunNotice<'a> {
        RunNotice::Started {
            rules,
            popups: match self.popups {
                RunPopups::Own(_) => PopupSource::Own,
                RunPopups::Notifier => PopupSource::Notifier,
                RunPopups::Off => PopupSource::Off,
            },
            has_screen: self.screen.is_some(),
        }
    }
}
