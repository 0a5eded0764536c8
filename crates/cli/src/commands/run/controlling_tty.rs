// SPDX-License-Identifier: Apache-2.0
//! The operator's terminal: taken over while the command has one of its own, and always given back.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::Context as _;
use netns::sandbox::TerminalSpec;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Signal, getpgrp, kill_current_process_group};
use rustix::termios::{
    OptionalActions, Termios, Winsize, isatty, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
    ttyname,
};

/// The operator's terminal. Dropping it gives it back as it was found, whatever happens.
#[derive(Debug)]
pub(super) struct ControllingTty {
    tty: OwnedFd,
    original_attributes: Termios,
    is_raw: bool,
    /// Whether others write there while we have it: the rest of a pipeline.
    shares_output: bool,
}

impl ControllingTty {
    /// Returns the terminal that standard input, output or error is, and what the command gets in
    /// its place; none if none of them is one.
    pub(super) fn find() -> anyhow::Result<Option<(Self, TerminalSpec)>> {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let three = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let replaces = three.map(isatty);
        let Some((one, _)) = three
            .into_iter()
            .zip(replaces)
            .find(|(_, terminal)| *terminal)
        else {
            return Ok(None);
        };
        // Opened anew: that it does not block is then true for nobody else who has it open.
        let name = ttyname(one, Vec::new()).context("finding the terminal")?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let tty = open(c"/dev/tty", flags, Mode::empty())
            .or_else(|_none_of_ours| open(name.as_c_str(), flags, Mode::empty()))
            .context("opening the terminal")?;
        let found = tcgetattr(&tty).context("asking the terminal for its settings")?;
        let size = tcgetwinsize(&tty).context("asking the terminal for its size")?;
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

    /// Returns a second handle, to read and write by.
    pub(super) fn try_clone_fd(&self) -> std::io::Result<OwnedFd> {
        self.tty.try_clone()
    }

    /// Returns the size of its window.
    pub(super) fn size(&self) -> std::io::Result<Winsize> {
        Ok(tcgetwinsize(&self.tty)?)
    }

    /// Says whether what is typed there is for us: not if a shell has put us into the background.
    pub(super) fn is_foreground(&self) -> bool {
        // A terminal that controls nobody, or not us, has no background.
        tcgetpgrp(&self.tty).map_or(true, |foreground| foreground == getpgrp())
    }

    /// Has every key passed on as it is, if what is typed is for us.
    pub(super) fn enter_raw_mode(&mut self) -> std::io::Result<()> {
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

    /// Makes it as it was found.
    pub(super) fn restore(&mut self) {
        if self.is_raw {
            self.is_raw = false;
            if !self.is_foreground() {
                return; // a shell has taken it back already; to touch it would stop us
            }
            if let Err(error) =
                tcsetattr(&self.tty, OptionalActions::Drain, &self.original_attributes)
            {
                tracing::debug!(%error, "the terminal is gone");
            }
        }
    }

    /// Stops us together with the rest of the shell's job, as Ctrl-Z does, and returns when the
    /// shell lets us go on; at once if there is no shell that would.
    pub(super) fn suspend(&mut self) -> std::io::Result<()> {
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
