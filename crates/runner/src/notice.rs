// SPDX-License-Identifier: Apache-2.0
//! The messages of a run to the person at the terminal.

use std::io;

use supervisor::SupervisorServeError;
use terok_clearance::DomainName;

use crate::{NetworkHelperExit, RunSummary};

/// A message to the person at the terminal.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunNotice<'a> {
    /// The resolver did not answer for an allowed name. The name opens once the command looks it
    /// up.
    NameNotResolved(&'a DomainName),
    /// The command was started in a connected sandbox.
    Started {
        /// The program that shows popups.
        popups: PopupSource,
        /// The hotkey opens the full screen.
        has_screen: bool,
    },
    /// Questions are pending, one of them new, and the hotkey opens the screen.
    QuestionsPending(usize),
    /// The full screen failed and is closed.
    ScreenFailed(&'a io::Error),
    /// The network helper ended: the sandbox is no longer connected.
    NetworkLost(&'a NetworkHelperExit),
    /// The supervisor failed: no question can be answered any more.
    SupervisorFailed(&'a SupervisorServeError),
    /// The command ended.
    Ended(&'a RunSummary),
}

/// The program that shows the questions of the sandbox as popups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PopupSource {
    /// This process.
    Own,
    /// The operator's notifier.
    Notifier,
    /// No program.
    Off,
}

/// Words the messages of a run, and prints them while the command has no terminal of its own.
pub trait RunReporter {
    /// Returns the text of a message, one line or more; `None` suppresses the message.
    fn message(&self, notice: &RunNotice<'_>) -> Option<String>;

    /// Prints the text of a message with a line end.
    fn print(&self, text: &str);
}
