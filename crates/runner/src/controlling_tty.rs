// SPDX-License-Identifier: Apache-2.0
//! The operator's terminal, in raw mode while the command has a separate one.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use netns::sandbox::TerminalSpec;
use rustix::fs::{Mode, OFlags, fcntl_getfl, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Signal, getpgrp, kill_current_process_group};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, Termios, Winsize, isatty, tcgetattr,
    tcgetpgrp, tcgetwinsize, tcsetattr, ttyname,
};

use crate::pty_relay::OperatorTty;

/// The operator's terminal. Dropping the value restores the original settings.
#[derive(Debug)]
pub(crate) struct ControllingTty {
    tty: OwnedFd,
    /// The open file is shared with other processes: the terminal cannot be opened by its name.
    is_shared: bool,
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
        let (tty, is_shared) = open_tty(stream, &three)?;
        let mut found = tcgetattr(&tty).map_err(ControllingTtyError::ReadSettings)?;
        if !is_foreground(&tty) {
            // The settings are those of the shell that reads its next line.
            set_line_mode(&mut found);
        }
        let size = tcgetwinsize(&tty).map_err(ControllingTtyError::ReadSize)?;
        let terminal = TerminalSpec {
            attributes: found.clone(),
            window_size: size,
            replaces_stdio: replaces,
        };
        Ok(Some((
            Self {
                tty,
                is_shared,
                original_attributes: found,
                is_raw: false,
                shares_output: !replaces[1],
            },
            terminal,
        )))
    }

    /// Returns the terminal for reading and writing.
    pub(crate) fn operator_tty(&self) -> io::Result<OperatorTty> {
        OperatorTty::new(self.tty.try_clone()?, self.is_shared)
    }

    /// Returns the size of the terminal.
    pub(crate) fn size(&self) -> io::Result<Winsize> {
        Ok(tcgetwinsize(&self.tty)?)
    }

    /// Returns `true` if this process may read the terminal: not in a shell's background.
    pub(crate) fn is_foreground(&self) -> bool {
        is_foreground(&self.tty)
    }

    /// Returns `true` if the terminal is to be put into raw mode: the shell brought the job to the
    /// foreground, of which it tells a running job nothing.
    pub(crate) fn was_brought_to_front(&self) -> bool {
        !self.is_raw && self.is_foreground()
    }

    /// Puts the terminal into raw mode again after a stop, during which a shell has set its own
    /// mode.
    pub(crate) fn reenter_raw_mode(&mut self) -> io::Result<()> {
        self.is_raw = false;
        self.enter_raw_mode()
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

/// Opens the terminal of `stream`, and returns `false` with it; `true` with one of `streams` if the
/// terminal cannot be opened.
///
/// A new open file may be non-blocking, a flag that processes with the same file share. A terminal
/// of another user can be opened by name only by that user (su, runuser, `docker exec -u`).
fn open_tty(
    stream: BorrowedFd<'_>,
    streams: &[BorrowedFd<'_>],
) -> Result<(OwnedFd, bool), ControllingTtyError> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let named = || {
        let name = ttyname(stream, Vec::new()).map_err(ControllingTtyError::Find)?;
        open(name.as_c_str(), flags, Mode::empty()).map_err(ControllingTtyError::Open)
    };
    let opened = open(c"/dev/tty", flags, Mode::empty()).or_else(|_not_controlling| named());
    let error = match opened {
        Ok(tty) => return Ok((tty, false)),
        Err(error) => error,
    };
    let is_usable = |fd: &&BorrowedFd<'_>| {
        let access = fcntl_getfl(**fd).map(|flags| flags & OFlags::RWMODE);
        isatty(**fd) && access == Ok(OFlags::RDWR)
    };
    let shared = streams.iter().find(is_usable).ok_or(error)?;
    let shared = fcntl_dupfd_cloexec(shared, 3).map_err(ControllingTtyError::Open)?;
    Ok((shared, true))
}

fn is_foreground(tty: &OwnedFd) -> bool {
    // A terminal that does not control this process has no background.
    tcgetpgrp(tty).map_or(true, |foreground| foreground == getpgrp())
}

/// Sets the modes in which a shell starts a command: whole lines, echo, keys that send signals.
fn set_line_mode(attributes: &mut Termios) {
    attributes.input_modes |= InputModes::ICRNL | InputModes::IXON;
    attributes.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
    attributes.local_modes |= LocalModes::ICANON
        | LocalModes::ECHO
        | LocalModes::ECHOE
        | LocalModes::ECHOK
        | LocalModes::ISIG
        | LocalModes::IEXTEN;
}

impl Drop for ControllingTty {
    fn drop(&mut self) {
        self.restore();
    }
}
