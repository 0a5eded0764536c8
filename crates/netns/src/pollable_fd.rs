// SPDX-License-Identifier: Apache-2.0
//! A pollable descriptor: tokio's `AsyncFd` behind a safe interface.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// An owned descriptor (socket, pty, pidfd), registered with the current tokio runtime.
#[derive(Debug)]
pub struct PollableFd(AsyncFd<OwnedFd>);

impl PollableFd {
    /// Registers `fd` for reading and writing. The caller sets non-blocking mode for I/O.
    ///
    /// Fails with `EPERM` for a regular file, which is always ready.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(sys::register_async_fd(
            fd,
            Interest::READABLE | Interest::WRITABLE,
        )?))
    }

    /// Registers `fd` for reading only, as suits a pidfd or a pipe end.
    pub fn new_readable(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(sys::register_async_fd(fd, Interest::READABLE)?))
    }

    /// Calls `operation` whenever the descriptor may be readable, until the result is not
    /// `WouldBlock`, and returns that result.
    pub async fn read_with<R>(
        &self,
        mut operation: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        self.0
            .async_io(Interest::READABLE, |fd| operation(fd.as_fd()))
            .await
    }

    /// Calls `operation` once if the descriptor may be readable: after
    /// [`PollableFd::wait_readable`] has returned, and until `operation` fails with `WouldBlock`.
    pub fn try_read_with<R>(
        &self,
        operation: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        self.0
            .try_io(Interest::READABLE, |fd| operation(fd.as_fd()))
    }

    /// As [`PollableFd::read_with`], for writing.
    pub async fn write_with<R>(
        &self,
        mut operation: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        self.0
            .async_io(Interest::WRITABLE, |fd| operation(fd.as_fd()))
            .await
    }

    /// Resolves when data can be read or the peer has hung up.
    pub async fn wait_readable(&self) -> io::Result<()> {
        self.0.readable().await?.retain_ready();
        Ok(())
    }
}

impl AsFd for PollableFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}
