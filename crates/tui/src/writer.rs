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

use crate::tty;

/// What is to be painted; nothing of it is sent before it is flushed, and nothing when it is dropped.
#[derive(Debug)]
pub(crate) struct TtyWriter {
    tty: OwnedFd,
    buffer: Vec<u8>,
    write_timeout: Timespec,
}

impl TtyWriter {
    /// Opens the terminal that standard output is, which may take so long to take anything.
    pub(crate) fn new(patience: Duration) -> io::Result<Self> {
        let tty = match tty::reopen_tty(stdout(), OFlags::WRONLY) {
            Ok(tty) => tty,
            // It may block, then.
            Err(_) => fcntl_dupfd_cloexec(stdout(), 3)?,
        };
        Ok(Self {
            tty,
            buffer: Vec::new(),
            write_timeout: patience.try_into().map_err(io::Error::other)?,
        })
    }
}

impl Write for TtyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Sends it. Fails with [`io::ErrorKind::TimedOut`] where the terminal takes nothing for
    /// that long; what it took until then is gone.
    fn flush(&mut self) -> io::Result<()> {
        while !self.buffer.is_empty() {
            match rustix::io::write(&self.tty, &self.buffer) {
                Ok(count) => drop(self.buffer.drain(..count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let mut ready = [PollFd::new(&self.tty, PollFlags::OUT)];
                    match poll(&mut ready, Some(&self.write_timeout)) {
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
