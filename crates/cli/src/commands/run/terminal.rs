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
pub(super) struct Operator {
    tty: OwnedFd,
    found: Termios,
    raw: bool,
    /// Whether others write there while we have it: the rest of a pipeline.
    shared: bool,
}

impl Operator {
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
                found,
                raw: false,
                shared: !replaces[1],
            },
            terminal,
        )))
    }

    /// Returns a second handle, to read and write by.
    pub(super) fn handle(&self) -> std::io::Result<OwnedFd> {
        self.tty.try_clone()
    }

    /// Returns the size of its window.
    pub(super) fn size(&self) -> std::io::Result<Winsize> {
        Ok(tcgetwinsize(&self.tty)?)
    }

    /// Says whether what is typed there is for us: not if a shell has put us into the background.
    pub(super) fn is_ours(&self) -> bool {
        // A terminal that controls nobody, or not us, has no background.
        tcgetpgrp(&self.tty).map_or(true, |foreground| foreground == getpgrp())
    }

    /// Has every key passed on as it is, if what is typed is for us.
    pub(super) fn take(&mut self) -> std::io::Result<()> {
        if self.is_ours() && !self.raw {
            let mut raw = self.found.clone();
            raw.make_raw();
            if self.shared {
                raw.output_modes = self.found.output_modes;
            }
            tcsetattr(&self.tty, OptionalActions::Now, &raw)?;
            self.raw = true;
        }
        Ok(())
    }

    /// Makes it as it was found.
    pub(super) fn give_back(&mut self) {
        if self.raw {
            self.raw = false;
            if !self.is_ours() {
                return; // a shell has taken it back already; to touch it would stop us
            }
            if let Err(error) = tcsetattr(&self.tty, OptionalActions::Drain, &self.found) {
                tracing::debug!(%error, "the terminal is gone");
            }
        }
    }

    /// Stops us together with the rest of the shell's job, as Ctrl-Z does, and returns when the
    /// shell lets us go on; at once if there is no shell that would.
    pub(super) fn suspend(&mut self) -> std::io::Result<()> {
        self.give_back();
        kill_current_process_group(Signal::TSTP)?;
        self.take()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.give_back();
    }
}
