// SPDX-License-Identifier: Apache-2.0
//! The texts of the messages of `run`.

use runner::{PopupSource, RunNotice, RunReporter};
use terok_clearance::error_chain;

use super::summary;
use crate::StandardStreams;

/// Words the messages of `run`, and prints them to standard error.
#[derive(Debug)]
pub(super) struct TerminalReporter {
    pub(super) output: StandardStreams,
    pub(super) json: bool,
    pub(super) quiet: bool,
}

impl RunReporter for TerminalReporter {
    fn message(&self, notice: &RunNotice<'_>) -> Option<String> {
        let text = match notice {
            RunNotice::Started { .. } if self.quiet => return None,
            RunNotice::Started { popups, has_screen } => {
                let how = describe_answering(*popups, *has_screen);
                format!("only what --allow names is open; {how}")
            }
            RunNotice::NameNotResolved(name) => {
                format!("{name} could not be looked up yet: it opens when the command has")
            }
            RunNotice::QuestionsPending(1) => "1 question; Ctrl-] to answer".to_owned(),
            RunNotice::QuestionsPending(count) => format!("{count} questions; Ctrl-] to answer"),
            RunNotice::ScreenFailed(error) => format!("the screen failed: {error}"),
            RunNotice::NetworkLost(exit) => format!("the sandbox lost its network: {exit}"),
            RunNotice::SupervisorFailed(error) => format!(
                "{}: nothing new can be answered; what was denied stays denied",
                error_chain(error)
            ),
            RunNotice::Ended(run) if self.json => return Some(summary::json(run).to_string()),
            RunNotice::Ended(_) if self.quiet => return None,
            RunNotice::Ended(run) => summary::text(run)?,
            _ => return None,
        };
        Some(format!("terok-clearance: {text}"))
    }

    fn print(&self, text: &str) {
        self.output.print_error_line(text);
    }
}

const fn describe_answering(popups: PopupSource, has_screen: bool) -> &'static str {
    match (popups, has_screen) {
        (PopupSource::Own, true) => "popups ask; Ctrl-] shows the questions here too",
        (PopupSource::Own, false) => "popups ask",
        (PopupSource::Notifier, true) => {
            "`terok-clearance notifier` asks; Ctrl-] shows the questions here too"
        }
        (PopupSource::Notifier, false) => "`terok-clearance notifier` asks",
        (PopupSource::Off, true) => "Ctrl-] shows the questions",
        (PopupSource::Off, false) => {
            "answer questions with `terok-clearance clearance` in another terminal"
        }
    }
}
