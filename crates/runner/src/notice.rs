// SPDX-License-Identifier: Apache-2.0
//! The messages of a run to the person at the terminal.

use std::io;
use std::path::Path;

use record::RecordNotice;
use supervisor::{EgressNotice, PublishedPort, SupervisorServeError};
use terok_clearance::DisplayText;

use crate::{LearntDests, RunRules, RunSummary};

/// A message to the person at the terminal.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunNotice<'a> {
    /// The command was started in a connected sandbox.
    Started {
        /// The rules.
        rules: &'a RunRules,
        /// The source of popups.
        popups: PopupSource,
        /// The hotkey opens the full screen.
        has_screen: bool,
    },
    /// The command may connect to a socket of the operator's side.
    SharedSocket(&'a Path),
    /// A port of the sandbox is published.
    Published(&'a PublishedPort),
    /// The number of pending questions, after a new question. The hotkey opens the screen.
    QuestionsPending(usize),
    /// The full screen failed and is closed.
    ScreenFailed(&'a io::Error),
    /// A packet of the sandbox was refused without a question.
    Egress(&'a EgressNotice),
    /// The record cannot be written, or is written again.
    Record(&'a RecordNotice),
    /// A file of kept answers was changed and cannot be read; its old rules count.
    KeptUnreadable(&'a DisplayText),
    /// The run learns: the internet is open, except for what rules deny.
    Learning,
    /// What a run that learns has reached.
    Learnt(&'a LearntDests),
    /// The end of the record could not be written.
    RecordIncomplete,
    /// The supervisor failed: no question can be answered any more.
    SupervisorFailed(&'a SupervisorServeError),
    /// The command ended.
    Ended(&'a RunSummary),
}

/// The source of popups for the questions of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PopupSource {
    /// This process.
    Own,
    /// The operator's notifier.
    Notifier,
    /// None: there are no popups.
    Off,
}

/// Words and prints the messages of a run.
pub trait RunReporter {
    /// Returns the text of a message, possibly of several lines; `None` suppresses the message.
    fn message(&self, notice: &RunNotice<'_>) -> Option<String>;

    /// Prints the text of a message with a line end. Not called while the command has a terminal
    /// of its own, where the run shows the text.
    fn print(&self, text: &str);
}
