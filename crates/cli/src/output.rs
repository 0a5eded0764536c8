// SPDX-License-Identifier: Apache-2.0
//! Standard output and standard error. No other module prints.
//!
//! An output that is closed early is no failure: the write returns [`OutputError::Closed`], which
//! ends the command, and [`crate::exit`] reports success without a message.

use std::io::{self, ErrorKind, Write as _};

/// The use of colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamColors {
    /// On standard output.
    pub stdout: bool,
    /// On standard error.
    pub stderr: bool,
}

/// Standard output was not written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Standard output was closed early.
    #[error("standard output was closed")]
    Closed,
    /// The write failed.
    #[error("cannot write to standard output")]
    Write(#[source] io::Error),
}

impl OutputError {
    /// Returns the error of a failed write.
    pub fn from_write(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Write(error),
        }
    }
}

/// Standard output and standard error.
#[derive(Debug, Clone, Copy)]
pub struct StandardStreams {
    colors: StreamColors,
}

impl StandardStreams {
    /// Returns both streams with these colours.
    pub const fn new(colors: StreamColors) -> Self {
        Self { colors }
    }

    /// Returns the use of colours.
    pub const fn colors(&self) -> StreamColors {
        self.colors
    }

    /// Writes `text` to standard output unchanged.
    pub fn write(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Prints `text` unchanged.
    pub fn print(&self, text: &str) -> Result<(), OutputError> {
        self.write(text).map_err(OutputError::from_write)
    }

    /// Prints a line.
    pub fn print_line(&self, line: &str) -> Result<(), OutputError> {
        self.print(&format!("{line}\n"))
    }

    /// Returns a writer to standard output. Writing to a closed output fails with
    /// [`ErrorKind::BrokenPipe`].
    pub fn stdout_writer(&self) -> impl io::Write + use<> {
        io::stdout()
    }

    /// Prints a line to standard error. Failures are ignored, because no stream is left to report
    /// a failure.
    pub fn print_error_line(&self, line: &str) {
        drop(
            io::stderr()
                .lock()
                .write_all(format!("{line}\n").as_bytes()),
        );
    }

    /// Prints an error and hints to standard error.
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
