// SPDX-License-Identifier: Apache-2.0
//! Terminal output with a time limit.
//!
//! A stalled connection, or a stopped terminal emulator, accepts no bytes. A write without a time
//! limit would then delay signals too.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::stdio::stdout;

use crate::tty_file::reopen_tty;

/// A buffered writer. Bytes are sent only by a flush; dropping the writer discards them.
#[derive(Debug)]
pub(crate) struct TtyWriter {
    tty: OwnedFd,
    buffer: Vec<u8>,
    write_timeout: Timespec,
    is_released: Arc<AtomicBool>,
}

impl TtyWriter {
    /// Opens the terminal of standard output; a flush waits at most `timeout` for each part. Once
    /// `is_released` is set, nothing is sent any more.
    pub(crate) fn new(timeout: Duration, is_released: Arc<AtomicBool>) -> io::Result<Self> {
        Ok(Self {
            tty: reopen_tty(stdout(), OFlags::WRONLY)?,
            buffer: Vec::new(),
            write_timeout: timeout.try_into().map_err(io::Error::other)?,
            is_released,
        })
    }
}

impl Write for TtyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Sends the buffered bytes. [`io::ErrorKind::TimedOut`] means that the terminal accepted no
    /// bytes for the time limit, possibly after a part.
    fn flush(&mut self) -> io::Result<()> {
        if self.is_released.load(Ordering::Relaxed) {
            self.buffer.clear();
        }
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
