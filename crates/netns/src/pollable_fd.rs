// SPDX-License-Identifier: Apache-2.0
//! A descriptor that a task can wait for: tokio's `AsyncFd` without its unsafe door.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// An owned descriptor (socket, pty, pidfd), registered with the runtime it was made in.
#[derive(Debug)]
pub struct PollableFd(AsyncFd<OwnedFd>);

impl PollableFd {
    /// Registers `fd`, for which the caller has set non-blocking mode if it reads or writes it.
    ///
    /// Fails with `EPERM` for a regular file, which is never waited for.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(sys::register_async_fd(
            fd,
            Interest::READABLE | Interest::WRITABLE,
        )?))
    }

    /// Registers `fd` for reading only, as a pidfd and one end of a pipe want it.
    pub fn new_readable(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self(sys::register_async_fd(fd, Interest::READABLE)?))
    }

    /// Returns what `act` does, called again each time the descriptor may have become readable for
    /// as long as it answers `WouldBlock`.
    pub async fn read_with<R>(
        &self,
        mut act: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        self.0
            .async_io(Interest::READABLE, |fd| act(fd.as_fd()))
            .await
    }

    /// Returns what `act` does, called once and only if the descriptor may be readable: after
    /// [`Pollable::read`] has returned, and until `act` answers `WouldBlock`.
    pub fn try_read_with<R>(
        &self,
        act: impl FnOnce(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        self.0.try_io(Interest::READABLE, |fd| act(fd.as_fd()))
    }

    /// As [`Pollable::read`], for writing.
    pub async fn write_with<R>(
        &self,
        mut act: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> io::Result<R> {
        self.0
            .async_io(Interest::WRITABLE, |fd| act(fd.as_fd()))
            .await
    }

    /// Resolves when there is something to read, or the other side has hung up.
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
