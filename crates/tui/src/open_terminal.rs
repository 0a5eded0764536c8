// SPDX-License-Identifier: Apache-2.0
//! The terminal while the user interface is open, and what it has shown.
//!
//! A pseudo-terminal accepts some 20 KB that its emulator has not read. Where the terminal sends
//! status reports, a report tells that it has processed a frame.

use std::io::{self, Write as _};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::input::TerminalInput;
use crate::tty::RawTerminal;

/// Requests a status report of the terminal, which comes after all earlier output was processed.
const REQUEST_REPORT: &[u8] = b"\x1b[5n";
/// How long answers wait for a report of a terminal that has sent one before.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long answers wait for the first report. Until then, the rest of a reply to another program
/// may arrive, whose start that program has read.
const FIRST_REPORT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the end waits for a requested report, which would otherwise reach the next program.
const LAST_REPORT_TIMEOUT: Duration = Duration::from_millis(200);

/// The terminal while the user interface is open.
pub(crate) struct OpenTerminal {
    pub(crate) terminal: RawTerminal,
    pub(crate) input: TerminalInput,
    /// Whether this terminal sends status reports; unknown until the first one.
    sends_reports: Option<bool>,
    last_request: Instant,
    /// Whether the caller has decoded all earlier input.
    continues_input: bool,
}

impl OpenTerminal {
    pub(crate) fn new(terminal: RawTerminal, input: TerminalInput, continues_input: bool) -> Self {
        Self {
            terminal,
            input,
            sends_reports: None,
            last_request: Instant::now(),
            continues_input,
        }
    }

    /// Records a report. Returns `true` if the terminal has processed everything.
    pub(crate) fn record_report(&mut self) -> bool {
        self.sends_reports = Some(true);
        self.input.has_all_reports()
    }

    /// Waits a moment for requested reports, which would otherwise be a few characters at the
    /// shell's prompt. Other input is discarded.
    pub(crate) async fn receive_reports(&mut self) {
        let receive = async {
            while self.sends_reports == Some(true) && !self.input.has_all_reports() {
                if self.input.next().await.is_err() {
                    return;
                }
            }
        };
        drop(timeout(LAST_REPORT_TIMEOUT, receive).await);
    }

    /// Requests a report on the frame that was drawn last, unless the terminal sends none.
    pub(crate) fn request_report(&mut self) -> io::Result<()> {
        let is_first = self.sends_reports.is_none() && self.input.has_all_reports();
        if !is_first && self.sends_reports != Some(true) {
            return Ok(());
        }
        let backend = self.terminal.screen.backend_mut();
        backend.write_all(REQUEST_REPORT)?;
        backend.flush()?;
        self.input.expect_report();
        self.last_request = Instant::now();
        Ok(())
    }

    /// Returns `true` if the terminal may still show an earlier frame, or send an old reply.
    pub(crate) fn is_behind(&mut self) -> bool {
        let waited = self.last_request.elapsed();
        if self.input.has_all_reports() {
            return false;
        }
        match self.sends_reports {
            Some(true) if waited >= REPORT_TIMEOUT => {
                self.sends_reports = Some(false);
                false
            }
            Some(sends) => sends,
            None => !self.continues_input && waited < FIRST_REPORT_TIMEOUT,
        }
    }
}
