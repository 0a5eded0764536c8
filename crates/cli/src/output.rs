// SPDX-License-Identifier: Apache-2.0
//! The one door to standard output and standard error.
//!
//! A reader that goes away in the middle is no failure of ours: the write says [`Closed`], the
//! command ends by it, and [`crate::exit`] makes a quiet, successful end of that.

use std::io::{self, ErrorKind, Write as _};

/// Where colours are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamColors {
    /// On standard output.
    pub stdout: bool,
    /// On standard error.
    pub stderr: bool,
}

/// Whoever read our standard output has gone away.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads the output any more")]
pub struct BrokenPipeError;

/// Standard output and standard error.
#[derive(Debug, Clone, Copy)]
pub struct StandardStreams {
    colors: StreamColors,
}

impl StandardStreams {
    /// Returns the door, with colours where they are wanted.
    pub const fn new(colors: StreamColors) -> Self {
        Self { colors }
    }

    /// Returns where colours are wanted.
    pub const fn colors(&self) -> StreamColors {
        self.colors
    }

    /// Prints `text` as it is.
    pub fn print(&self, text: &str) -> anyhow::Result<()> {
        let mut stdout = io::stdout().lock();
        let written = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
        written.map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => BrokenPipeError.into(),
            _ => anyhow::Error::new(error).context("writing to standard output"),
        })
    }

    /// Prints a line.
    pub fn print_line(&self, line: &str) -> anyhow::Result<()> {
        self.print(&format!("{line}\n"))
    }

    /// Returns standard output for somebody who writes more than one thing. A reader that goes
    /// away is [`ErrorKind::BrokenPipe`] there.
    pub fn stdout_writer(&self) -> impl io::Write + use<> {
        io::stdout()
    }

    /// Prints a line to standard error. There is nobody to tell when that fails.
    pub fn print_error_line(&self, line: &str) {
        drop(
            io::stderr()
                .lock()
                .write_all(format!("{line}\n").as_bytes()),
        );
    }

    /// Says what failed and what may help, on standard error.
    pub fn print_error(&self, what: &str, hints: &[String]) {
        let (error, hint, plain) = if self.colors.stderr {
            ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m")
        } else {
            ("", "", "")
        };
        let mut lines = vec![format!("{error}error{plain}: {what}")];
        lines.extend(
            hints
                .iter()
                .map(|line| format!("{hint}hint{plain}: {line}")),
        );
        self.print_error_line(&lines.join("\n"));
    }
}
