// SPDX-License-Identifier: Apache-2.0
//! Copies the bytes between the caller's sockets and the command, which gets pipes.
//!
//! Node and inetd start programs with sockets as standard streams. The command must not have them:
//! it could connect them elsewhere. Of an input, up to 64 KiB may be read that the command never
//! asks for.

use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use netns::PollableFd;
use netns::sandbox::StreamKind;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::pipe::{PipeFlags, pipe_with};

/// Maximum bytes copied at once.
const CHUNK_BYTES: usize = 16 * 1024;

/// The standard streams that the command gets in place of sockets: input, output, error.
pub(crate) type ReplacedStreams = [Option<Arc<OwnedFd>>; 3];

/// The copies of the standard streams that are sockets, before a runtime exists.
#[derive(Debug, Default)]
pub(crate) struct StreamPipes([Option<StreamPipe>; 3]);

#[derive(Debug)]
struct StreamPipe {
    socket: OwnedFd,
    /// Our end of the command's pipe.
    pipe: OwnedFd,
}

impl StreamPipes {
    /// Replaces the standard streams of this process that are connected sockets.
    pub(crate) fn replace_sockets() -> io::Result<(Self, ReplacedStreams)> {
        let own = [
            rustix::stdio::stdin(),
            rustix::stdio::stdout(),
            rustix::stdio::stderr(),
        ];
        let mut pipes = Self::default();
        let mut streams = ReplacedStreams::default();
        let slots = pipes.0.iter_mut().zip(&mut streams);
        for (number, (fd, (slot, stream))) in own.into_iter().zip(slots).enumerate() {
            if StreamKind::of(fd) != StreamKind::StreamSocket {
                continue;
            }
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            let is_input = number == 0;
            let (ours, theirs) = if is_input {
                (write, read)
            } else {
                (read, write)
            };
            rustix::io::ioctl_fionbio(&ours, true)?;
            let socket = fd.try_clone_to_owned()?;
            *slot = Some(StreamPipe { socket, pipe: ours });
            *stream = Some(Arc::new(theirs));
        }
        Ok((pipes, streams))
    }

    /// Starts to copy. Must be called within a tokio runtime.
    pub(crate) fn start(self) -> io::Result<StreamRelays> {
        let Self([input, output, error]) = self;
        let start = |pipe: Option<StreamPipe>, direction| {
            pipe.map(|pipe| StreamRelay::new(pipe, direction))
                .transpose()
        };
        Ok(StreamRelays([
            start(input, StreamDirection::FromSocket)?,
            start(output, StreamDirection::ToSocket)?,
            start(error, StreamDirection::ToSocket)?,
        ]))
    }
}

/// The copies under way.
#[derive(Debug)]
pub(crate) struct StreamRelays([Option<StreamRelay>; 3]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamDirection {
    FromSocket,
    ToSocket,
}

#[derive(Debug)]
struct StreamRelay {
    socket: PollableFd,
    pipe: PollableFd,
    direction: StreamDirection,
    buffer: Box<[u8]>,
    /// The part of `buffer` that is read but not written.
    unwritten: Range<usize>,
}

impl StreamRelays {
    /// Copies in all directions; never returns. Cancel safe.
    pub(crate) async fn run(&mut self) {
        loop {
            self.step().await;
        }
    }

    /// Copies the rest of the output, after the end of the command.
    pub(crate) async fn drain(&mut self) {
        self.0[0] = None;
        while self.0.iter().any(Option::is_some) {
            self.step().await;
        }
    }

    /// Copies one chunk. Without a relay never returns. Cancel safe.
    async fn step(&mut self) {
        let Self([input, output, error]) = self;
        tokio::select! {
            () = step(input) => {}
            () = step(output) => {}
            () = step(error) => {}
        }
    }
}

/// Copies one chunk, and removes a relay that is over.
async fn step(relay: &mut Option<StreamRelay>) {
    let Some(active) = relay else {
        return std::future::pending().await;
    };
    match active.step().await {
        Ok(true) => {}
        Ok(false) => *relay = None,
        Err(error) => {
            // The reader is gone: the writer learns of it by the end of its pipe or socket.
            tracing::debug!(%error, "a standard stream ended");
            *relay = None;
        }
    }
}

impl StreamRelay {
    fn new(pipe: StreamPipe, direction: StreamDirection) -> io::Result<Self> {
        Ok(Self {
            socket: PollableFd::new(pipe.socket)?,
            pipe: PollableFd::new(pipe.pipe)?,
            direction,
            buffer: vec![0; CHUNK_BYTES].into(),
            unwritten: 0..0,
        })
    }

    /// Reads or writes once. Returns `false` at the end of the input. Cancel safe.
    async fn step(&mut self) -> io::Result<bool> {
        let (socket, pipe) = (&self.socket, &self.pipe);
        if !self.unwritten.is_empty() {
            let rest = self.buffer.get(self.unwritten.clone()).unwrap_or_default();
            let wrote = match self.direction {
                StreamDirection::FromSocket => {
                    pipe.write_with(|fd| Ok(retry_on_intr(|| rustix::io::write(fd, rest))?))
                        .await
                }
                StreamDirection::ToSocket => {
                    socket
                        .write_with(|fd| Ok(retry_on_intr(|| send_now(fd, rest))?))
                        .await
                }
            };
            self.unwritten.start = self.unwritten.start.saturating_add(wrote?);
            return Ok(true);
        }
        let into = &mut *self.buffer;
        let read = match self.direction {
            StreamDirection::FromSocket => {
                socket
                    .read_with(|fd| Ok(retry_on_intr(|| receive_now(fd, &mut *into))?))
                    .await
            }
            StreamDirection::ToSocket => {
                pipe.read_with(|fd| Ok(retry_on_intr(|| rustix::io::read(fd, &mut *into))?))
                    .await
            }
        };
        self.unwritten = 0..read?;
        Ok(!self.unwritten.is_empty())
    }
}

/// As write(2) on a socket that does not block. The flag of the socket itself belongs to all who
/// have it.
fn send_now(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
}

fn receive_now(socket: BorrowedFd<'_>, into: &mut [u8]) -> Result<usize, Errno> {
    let (count, _length) = recv(socket, into, RecvFlags::DONTWAIT)?;
    Ok(count)
}
