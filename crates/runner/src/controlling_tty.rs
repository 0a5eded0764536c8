// SPDX-License-Identifier: Apache-2.0
//! The operator's terminal, in raw mode while the command has a separate one.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use netns::sandbox::TerminalSpec;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::process::{Signal, getpgrp, kill_current_process_group};
use rustix::termios::{
    OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
    ttyname,
};

/// The operator's terminal. Dropping the value restores the original settings.
#[derive(Debug)]
pub(crate) struct ControllingTty {
    tty: OwnedFd,
    original_attributes: Termios,
    is_raw: bool,
    /// Other processes write to the terminal too: the rest of a pipeline.
    shares_output: bool,
}

/// The operator's terminal cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControllingTtyError {
    /// The terminal has no file name.
    #[error("cannot find the terminal")]
    Find(#[source] Errno),
    /// The terminal cannot be opened.
    #[error("cannot open the terminal")]
    Open(#[source] Errno),
    /// The settings of the terminal cannot be read.
    #[error("cannot read the settings of the terminal")]
    ReadSettings(#[source] Errno),
    /// The size of the terminal cannot be read.
    #[error("cannot read the size of the terminal")]
    ReadSize(#[source] Errno),
}

impl ControllingTty {
    /// Returns the terminal at standard input, output or error, and the terminal to create for the
    /// command; `None` if none of the three is a terminal.
    pub(crate) fn find() -> Result<Option<(Self, TerminalSpec)>, ControllingTtyError> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let three = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let replaces = three.map(isatty);
        let Some((stream, _)) = three
            .into_iter()
            .zip(replaces)
            .find(|(_, terminal)| *terminal)
        else {
            return Ok(None);
        };
        // A new open file description: the flag NONBLOCK would otherwise be shared with other
        // processes.
        let name = ttyname(stream, Vec::new()).map_err(ControllingTtyError::Find)?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let tty = open(c"/dev/tty", flags, Mode::empty())
            .or_else(|_not_controlling| open(name.as_c_str(), flags, Mode::empty()))
            .map_err(ControllingTtyError::Open)?;
        let found = tcgetattr(&tty).map_err(ControllingTtyError::ReadSettings)?;
        let size = tcgetwinsize(&tty).map_err(ControllingTtyError::ReadSize)?;
        let terminal = TerminalSpec {
            attributes: found.clone(),
            window_size: size,
            replaces_stdio: replaces,
        };
        Ok(Some((
            Self {
                tty,
                original_attributes: found,
                is_raw: false,
                shares_output: !replaces[1],
            },
            terminal,
        )))
    }

    /// Returns a second descriptor, for reading and writing.
    pub(crate) fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.tty.try_clone()
    }

    /// Returns the size of the terminal.
    pub(crate) fn size(&self) -> io::Result<Winsize> {
        Ok(tcgetwinsize(&self.tty)?)
    }

    /// Returns `true` if this process may read the terminal: not in a shell's background.
    pub(crate) fn is_foreground(&self) -> bool {
        // A terminal that does not control this process has no background.
        tcgetpgrp(&self.tty).map_or(true, |foreground| foreground == getpgrp())
    }

    /// Puts the terminal into raw mode, except in a shell's background.
    pub(crate) fn enter_raw_mode(&mut self) -> io::Result<()> {
        if self.is_foreground() && !self.is_raw {
            let mut raw = self.original_attributes.clone();
            raw.make_raw();
            if self.shares_output {
                raw.output_modes = self.original_attributes.output_modes;
            }
            tcsetattr(&self.tty, OptionalActions::Now, &raw)?;
            self.is_raw = true;
        }
        Ok(())
    }

    /// Restores the original settings.
    pub(crate) fn restore(&mut self) {
        if self.is_raw {
            self.is_raw = false;
            if !self.is_foreground() {
                // A shell has restored the terminal already, and a change would stop this process.
                return;
            }
            if let Err(error) =
                tcsetattr(&self.tty, OptionalActions::Drain, &self.original_attributes)
            {
                tracing::debug!(%error, "the terminal was not restored");
            }
        }
    }

    /// Stops this process and the shell's job, as Ctrl-Z does, and returns when the shell resumes
    /// the job; at once without a shell to resume the job.
    pub(crate) fn suspend(&mut self) -> io::Result<()> {
        self.restore();
        kill_current_process_group(Signal::TSTP)?;
        self.enter_raw_mode()
    }
}

impl Drop for ControllingTty {
    fn drop(&mut self) {
        self.restore();
    }
}
