// SPDX-License-Identifier: Apache-2.0
//! Carries bytes between the operator's terminal and the command's, and stops when told to.
//!
//! It reads no more than it has passed on, so neither side can fill our memory, and waits for
//! nobody: a terminal that does not read stops its command, not the questions.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use netns::PollableFd;
use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};

use super::terminal_modes::TerminalModes;

/// The most that is read before it is passed on.
const CHUNK_BYTES: usize = 16 * 1024;

/// Both terminals.
#[derive(Debug)]
pub(super) struct PtyRelay {
    /// The operator's.
    tty: PollableFd,
    /// The command's, until nobody has it open any more.
    master: Option<PollableFd>,
    to_tty: Vec<u8>,
    to_master: Vec<u8>,
    /// Where output is read to: kept, so that waiting for it needs no room of its own.
    read_buffer: Box<[u8]>,
    /// Whether the command's output waits.
    output_paused: bool,
    /// Whether the operator's terminal is somebody else's for now.
    tty_detached: bool,
    /// Whether the operator's terminal is at its end.
    hung_up: bool,
    modes: TerminalModes,
}

impl PtyRelay {
    /// Returns the relay between the operator's terminal and the command's master side.
    pub(super) fn new(tty: OwnedFd, master: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self {
            tty: PollableFd::new(tty)?,
            master: Some(PollableFd::new(master)?),
            to_tty: Vec::new(),
            to_master: Vec::new(),
            read_buffer: vec![0; CHUNK_BYTES].into(),
            output_paused: false,
            tty_detached: false,
            hung_up: false,
            modes: TerminalModes::default(),
        })
    }

    /// Carries the command's output, and returns with what the operator typed at once; does not
    /// read what is typed unless `listen`. A call that is dropped loses nothing.
    pub(super) async fn read_keys(&mut self, listen: bool) -> io::Result<Vec<u8>> {
        loop {
            let mut keys = [0; 256];
            let take_output = !self.output_paused && self.to_tty.is_empty();
            let take_keys =
                listen && !self.hung_up && !self.tty_detached && self.to_master.is_empty();
            let give_output = !self.tty_detached && !self.to_tty.is_empty();
            tokio::select! {
                biased;
                wrote = write_nonblocking(&self.tty, &self.to_tty), if give_output => {
                    match wrote {
                        Ok(count) => drop(self.to_tty.drain(..count)),
                        // The terminal is gone: its output has nowhere to go.
                        Err(_) => self.hang_up(),
                    }
                }
                wrote = write_if_open(self.master.as_ref(), &self.to_master),
                    if !self.to_master.is_empty() =>
                {
                    match wrote {
                        Ok(count) => drop(self.to_master.drain(..count)),
                        Err(_) => self.to_master.clear(),
                    }
                }
                read = read_nonblocking(&self.tty, &mut keys), if take_keys => match read {
                    Ok(0) | Err(_) => self.hang_up(),
                    Ok(count) => return Ok(keys.get(..count).unwrap_or_default().to_vec()),
                },
                read = read_if_open(self.master.as_ref(), &mut self.read_buffer), if take_output => {
                    match read {
                        // EIO: nobody has the command's side open any more.
                        Ok(0) | Err(_) => self.master = None,
                        Ok(count) => {
                            let output = self.read_buffer.get(..count).unwrap_or_default();
                            self.modes.observe_output(output);
                            if !self.hung_up {
                                self.to_tty.extend(output);
                            }
                        }
                    }
                }
                // Held, and nobody types: until the call is dropped.
                else => std::future::pending().await,
            }
        }
    }

    /// Passes keys on to the command.
    pub(super) fn forward_keys(&mut self, keys: &[u8]) {
        self.to_master.extend(keys);
    }

    /// Writes our own words on the operator's terminal. Line ends become what a raw terminal wants.
    pub(super) fn print(&mut self, text: &str) {
        if !self.hung_up {
            self.to_tty.extend(text.replace('\n', "\r\n").bytes());
        }
    }

    /// Writes what is left for the operator's terminal, and then leaves it alone. What is said
    /// meanwhile waits. A call that is dropped loses nothing.
    pub(super) async fn detach_tty(&mut self) {
        self.output_paused = true;
        while !self.to_tty.is_empty() && !self.hung_up {
            match write_nonblocking(&self.tty, &self.to_tty).await {
                Ok(count) => drop(self.to_tty.drain(..count)),
                Err(_) => self.hang_up(),
            }
        }
        self.tty_detached = true;
    }

    /// Has the operator's terminal again.
    pub(super) fn reattach_tty(&mut self) {
        self.tty_detached = false;
        self.output_paused = false;
    }

    /// Whether the command draws on the whole screen.
    pub(super) fn is_full_screen(&self) -> bool {
        self.modes.is_alternate_screen()
    }

    /// Makes the operator's terminal again what the command has made of it, after it was lent.
    pub(super) fn restore_modes(&mut self) {
        if !self.hung_up {
            let restore = self.modes.restore_sequence();
            self.to_tty.extend(restore.bytes());
        }
    }

    /// Gives the command's terminal a size.
    pub(super) fn resize(&self, size: Winsize) {
        if let Some(master) = &self.master {
            // It fails only when the terminal is gone.
            if let Err(error) = tcsetwinsize(master, size) {
                tracing::debug!(%error, "the command's terminal keeps its size");
            }
        }
    }

    /// Has the command draw everything anew, by a change of its window and back.
    pub(super) fn force_redraw(&self, size: Winsize) {
        let smaller = Winsize {
            ws_row: size.ws_row.saturating_sub(1).max(1),
            ..size
        };
        self.resize(smaller);
        self.resize(size);
    }

    /// Carries what the command has still written, after its end, until all is on the operator's
    /// terminal.
    pub(super) async fn drain(&mut self) {
        self.reattach_tty();
        while (self.master.is_some() || !self.to_tty.is_empty()) && !self.hung_up {
            if !self.to_tty.is_empty() {
                match write_nonblocking(&self.tty, &self.to_tty).await {
                    Ok(count) => drop(self.to_tty.drain(..count)),
                    Err(_) => self.hang_up(),
                }
            } else if let Some(master) = &self.master {
                // Nothing of the sandbox lives: what is there is there, and the rest is the end.
                match rustix::io::read(master, &mut *self.read_buffer) {
                    Ok(0) | Err(_) => self.master = None,
                    Ok(count) => self
                        .to_tty
                        .extend(self.read_buffer.get(..count).unwrap_or_default()),
                }
            }
        }
    }

    fn hang_up(&mut self) {
        self.hung_up = true;
        // Nobody is there who could let the command go on.
        self.output_paused = false;
        self.to_tty.clear();
    }
}

async fn read_nonblocking(from: &PollableFd, into: &mut [u8]) -> io::Result<usize> {
    from.read_with(|fd: BorrowedFd<'_>| retry_interrupted(|| rustix::io::read(fd, &mut *into)))
        .await
}

async fn write_nonblocking(to: &PollableFd, bytes: &[u8]) -> io::Result<usize> {
    to.write_with(|fd: BorrowedFd<'_>| retry_interrupted(|| rustix::io::write(fd, bytes)))
        .await
}

async fn read_if_open(from: Option<&PollableFd>, into: &mut [u8]) -> io::Result<usize> {
    match from {
        Some(from) => read_nonblocking(from, into).await,
        None => std::future::pending().await,
    }
}

async fn write_if_open(to: Option<&PollableFd>, bytes: &[u8]) -> io::Result<usize> {
    match to {
        Some(to) => write_nonblocking(to, bytes).await,
        None => Err(Errno::IO.into()),
    }
}

fn retry_interrupted(mut act: impl FnMut() -> Result<usize, Errno>) -> io::Result<usize> {
    loop {
        match act() {
            Err(Errno::INTR) => {}
            done => return Ok(done?),
        }
    }
}
