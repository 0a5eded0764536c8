// SPDX-License-Identifier: Apache-2.0
//! The terminal for writing: one that takes nothing holds up a frame, not the UI.
//!
//! A connection that stands still, or a terminal whose program has stopped, takes no more bytes. A
//! write that waits for it would keep every signal waiting, too.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::stdio::stdout;

use super::terminal;

/// What is to be painted; nothing of it is sent before it is flushed, and nothing when it is dropped.
#[derive(Debug)]
pub(super) struct Paper {
    tty: OwnedFd,
    bytes: Vec<u8>,
    patience: Timespec,
}

impl Paper {
    /// Opens the terminal that standard output is, which may take so long to take anything.
    pub(super) fn new(patience: Duration) -> io::Result<Self> {
        let tty = match terminal::open_anew(stdout(), OFlags::WRONLY) {
            Ok(tty) => tty,
            // It may block, then.
            Err(_) => fcntl_dupfd_cloexec(stdout(), 3)?,
        };
        Ok(Self {
            tty,
            bytes: Vec::new(),
            patience: patience.try_into().map_err(io::Error::other)?,
        })
    }
}

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Sends it. Fails with [`io::ErrorKind::TimedOut`] where the terminal takes nothing for
    /// that long; what it took until then is gone.
    fn flush(&mut self) -> io::Result<()> {
        while !self.bytes.is_empty() {
            match rustix::io::write(&self.tty, &self.bytes) {
                Ok(count) => drop(self.bytes.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let mut ready = [PollFd::new(&self.tty, PollFlags::OUT)];
                    match poll(&mut ready, Some(&self.patience)) {
                        Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
