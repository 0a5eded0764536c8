// SPDX-License-Identifier: Apache-2.0
//! A pipe through which a bulk transfer passes without a copy into this process.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Maximum bytes of one `splice`. A pipe of default size holds 16 page fragments, of up to 32 KiB.
pub(super) const SPLICE_BYTES: usize = 256 * 1024;

/// Maximum pipes of the process; further bulk transfers are copied. Pipe pages are counted by user,
/// and the sandbox is the same user.
pub(super) const MAX_PIPES: usize = 32;

/// Maximum pipes without bytes that a thread keeps.
const MAX_IDLE_PIPES: usize = 2;

static PIPES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IDLE_PIPES: RefCell<Vec<SplicePipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe of default size; a direction has one while bytes wait in it.
pub(super) struct SplicePipe {
    output: OwnedFd,
    input: OwnedFd,
    held: usize,
}

impl SplicePipe {
    /// Returns an empty pipe; `None` if there are too many, or no descriptors.
    pub(super) fn take() -> Option<Self> {
        IDLE_PIPES.with_borrow_mut(Vec::pop).or_else(Self::open)
    }

    /// Keeps an empty pipe for the next transfer.
    pub(super) fn give_back(self) {
        IDLE_PIPES.with_borrow_mut(|idle| {
            if self.is_empty() && idle.len() < MAX_IDLE_PIPES {
                idle.push(self);
            }
        });
    }

    fn open() -> Option<Self> {
        if PIPES.fetch_add(1, Ordering::Relaxed) >= MAX_PIPES {
            PIPES.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        match pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) {
            Ok((output, input)) => Some(Self {
                output,
                input,
                held: 0,
            }),
            Err(error) => {
                tracing::debug!(%error, "no pipe for a bulk transfer; copying");
                PIPES.fetch_sub(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Returns `true` if no byte waits in the pipe.
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Moves bytes of `source` into the empty pipe. Returns 0 at the end of the stream, if the
    /// source has no bytes, and on errors: only a read tells these apart.
    pub(super) fn fill(&mut self, source: &TcpStream) -> usize {
        let flags = SpliceFlags::NONBLOCK;
        self.held = splice(source, None, &self.input, None, SPLICE_BYTES, flags).unwrap_or(0);
        self.held
    }

    /// Moves bytes to `sink` and returns their number; fails with `WouldBlock` as a write does.
    pub(super) fn write_to(&mut self, sink: &TcpStream) -> io::Result<usize> {
        let written = sink.try_io(Interest::WRITABLE, || {
            let flags = SpliceFlags::NONBLOCK;
            Ok(splice(&self.output, None, sink, None, self.held, flags)?)
        })?;
        self.held = self.held.saturating_sub(written);
        Ok(written)
    }
}

#[cfg(test)]
impl SplicePipe {
    pub(super) fn held(&self) -> usize {
        self.held
    }
}

impl Drop for SplicePipe {
    fn drop(&mut self) {
        PIPES.fetch_sub(1, Ordering::Relaxed);
    }
}
