// SPDX-License-Identifier: Apache-2.0
//! Relays bytes between the operator's terminal and the command's.
//!
//! The relay reads from a side only after the other side has accepted the previous bytes, so
//! neither side can fill the memory. The relay never blocks: a stalled terminal stops the command,
//! but not the questions.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use netns::PollableFd;
use rustix::io::Errno;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::terminal_modes::TerminalModes;

/// Maximum bytes between a read from one side and the write to the other side.
const CHUNK_BYTES: usize = 16 * 1024;

/// Relays bytes between the operator's terminal and the command's.
#[derive(Debug)]
pub(crate) struct PtyRelay {
    /// The operator's terminal.
    tty: PollableFd,
    /// The master side of the command's terminal, while a process has the other side open.
    master: Option<PollableFd>,
    to_tty: Vec<u8>,
    to_master: Vec<u8>,
    /// The buffer for output. A wait for output allocates nothing.
    read_buffer: Box<[u8]>,
    /// The command's output is not read.
    output_paused: bool,
    /// The operator's terminal is used by the full screen.
    tty_detached: bool,
    /// The operator's terminal is gone.
    hung_up: bool,
    modes: TerminalModes,
}

impl PtyRelay {
    /// Returns a relay between the operator's terminal and the master side of the command's.
    pub(crate) fn new(tty: OwnedFd, master: OwnedFd) -> io::Result<Self> {
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

    /// Relays the command's output until the operator types, and returns the typed bytes. The
    /// operator's input is read only if `listen` is set.
    ///
    /// Cancel safe.
    pub(crate) async fn read_keys(&mut self, listen: bool) -> io::Result<Vec<u8>> {
        loop {
            let mut keys = [0; 256];
            let read_output = !self.output_paused && self.to_tty.is_empty();
            let read_input =
                listen && !self.hung_up && !self.tty_detached && self.to_master.is_empty();
            let write_output = !self.tty_detached && !self.to_tty.is_empty();
            tokio::select! {
                biased;
                wrote = write_nonblocking(&self.tty, &self.to_tty), if write_output => {
                    match wrote {
                        Ok(count) => drop(self.to_tty.drain(..count)),
                        // The terminal is gone.
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
                read = read_nonblocking(&self.tty, &mut keys), if read_input => match read {
                    Ok(0) | Err(_) => self.hang_up(),
                    Ok(count) => return Ok(keys.get(..count).unwrap_or_default().to_vec()),
                },
                read = read_if_open(self.master.as_ref(), &mut self.read_buffer),
                    if read_output =>
                {
                    match read {
                        // EIO: no process has the command's side open.
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
                // Nothing to relay: wait until the call is cancelled.
                else => std::future::pending().await,
            }
        }
    }

    /// Sends keys to the command.
    pub(crate) fn forward_keys(&mut self, keys: &[u8]) {
        self.to_master.extend(keys);
    }

    /// Writes a message on the operator's terminal, with the line ends of a raw terminal.
    pub(crate) fn print(&mut self, text: &str) {
        if !self.hung_up {
            self.to_tty.extend(text.replace('\n', "\r\n").bytes());
        }
    }

    /// Writes the remaining output to the operator's terminal, and then neither reads nor writes it
    /// until [`Self::reattach_tty`]. Later messages are kept.
    ///
    /// Cancel safe.
    pub(crate) async fn detach_tty(&mut self) {
        self.output_paused = true;
        while !self.to_tty.is_empty() && !self.hung_up {
            match write_nonblocking(&self.tty, &self.to_tty).await {
                Ok(count) => drop(self.to_tty.drain(..count)),
                Err(_) => self.hang_up(),
            }
        }
        self.tty_detached = true;
    }

    /// Uses the operator's terminal again.
    pub(crate) fn reattach_tty(&mut self) {
        self.tty_detached = false;
        self.output_paused = false;
    }

    /// Returns `true` if the command uses the alternate screen.
    pub(crate) fn is_full_screen(&self) -> bool {
        self.modes.is_alternate_screen()
    }

    /// Sets the command's modes on the operator's terminal again.
    pub(crate) fn restore_modes(&mut self) {
        if !self.hung_up {
            let restore = self.modes.restore_sequence();
            self.to_tty.extend(restore.bytes());
        }
    }

    /// Sets the size of the command's terminal.
    pub(crate) fn resize(&self, size: Winsize) {
        if let Some(master) = &self.master {
            // Fails only if the terminal is gone.
            if let Err(error) = tcsetwinsize(master, size) {
                tracing::debug!(%error, "the command's terminal keeps its size");
            }
        }
    }

    /// Makes the command redraw the screen: changes the size of the terminal and restores the size.
    pub(crate) fn force_redraw(&self, size: Winsize) {
        let smaller = Winsize {
            ws_row: size.ws_row.saturating_sub(1).max(1),
            ..size
        };
        self.resize(smaller);
        self.resize(size);
    }

    /// Writes the rest of the command's output to the operator's terminal, after the command's end.
    pub(crate) async fn drain(&mut self) {
        self.reattach_tty();
        while (self.master.is_some() || !self.to_tty.is_empty()) && !self.hung_up {
            if !self.to_tty.is_empty() {
                match write_nonblocking(&self.tty, &self.to_tty).await {
                    Ok(count) => drop(self.to_tty.drain(..count)),
                    Err(_) => self.hang_up(),
                }
            } else if let Some(master) = &self.master {
                // No process of the sandbox is left, so no output will be added.
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
        // No operator can resume the output.
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
