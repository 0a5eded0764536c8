// SPDX-License-Identifier: Apache-2.0
//! One direction of a relay: reads from one socket and writes to the other.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Size of the buffer that all relays of a thread share.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Maximum chunks moved in one turn of a direction; then other tasks run.
const CHUNKS_PER_TURN: usize = 4;

/// Total of kept remainders above which reads are [`SMALL_READ_BYTES`] long.
const REMAINDER_BUDGET_BYTES: usize = 16 * 1024 * 1024;

/// Length of a read while the remainders of all relays exceed their budget.
pub(super) const SMALL_READ_BYTES: usize = 4096;

/// Remainders kept by all relays of the process.
static KEPT_BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice());
}

/// The socket operation that failed, with its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DirectionError {
    Read(Errno),
    Write(Errno),
}

/// Outcome of one read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    /// The source has no bytes for now.
    Nothing,
    /// Bytes read; those that the sink did not take are kept.
    Bytes(usize),
    /// The source closed its direction.
    EndOfStream,
}

/// State of one direction.
pub(super) struct Direction<'a> {
    source: &'a TcpStream,
    sink: &'a TcpStream,
    written: &'a AtomicU64,
    remainder: Remainder,
    done: bool,
}

impl<'a> Direction<'a> {
    pub(super) fn new(source: &'a TcpStream, sink: &'a TcpStream, written: &'a AtomicU64) -> Self {
        Self {
            source,
            sink,
            written,
            remainder: Remainder::default(),
            done: false,
        }
    }

    /// Returns `true` once the end of the stream was passed on.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Moves bytes until a socket blocks (`Pending`) or the turn is used up (`Ready`).
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DirectionError>> {
        for _ in 0..CHUNKS_PER_TURN {
            if self.done {
                return Poll::Pending;
            }
            while !self.remainder.is_empty() {
                ready!(self.sink.poll_write_ready(cx)).map_err(|error| write_error(&error))?;
                self.write_remainder()?;
            }
            ready!(self.source.poll_read_ready(cx)).map_err(|error| read_error(&error))?;
            if self.move_chunk()? == Moved::EndOfStream {
                self.pass_end()?;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Moves what both sockets take without blocking, but not the end of the stream: the source
    /// broke, so its end is a reset.
    pub(super) fn drain(&mut self) {
        while !self.done && self.write_remainder().is_ok() && self.remainder.is_empty() {
            let Ok(Moved::Bytes(_)) = self.move_chunk() else {
                return;
            };
        }
    }

    /// Passes a half-close on.
    fn pass_end(&mut self) -> Result<(), DirectionError> {
        self.done = true;
        match rustix::net::shutdown(self.sink, Shutdown::Write) {
            Ok(()) => Ok(()),
            // The sink was reset, and its error was taken already.
            Err(Errno::NOTCONN) => Err(DirectionError::Write(Errno::PIPE)),
            Err(errno) => Err(DirectionError::Write(errno)),
        }
    }

    fn write_remainder(&mut self) -> Result<(), DirectionError> {
        let written = try_write(self.sink, self.remainder.bytes())?;
        self.count(written);
        self.remainder.advance(written);
        Ok(())
    }

    /// Reads once and writes once; keeps what was not written.
    pub(super) fn move_chunk(&mut self) -> Result<Moved, DirectionError> {
        BUFFER.with_borrow_mut(|buffer| {
            let limit = if KEPT_BYTES.load(Ordering::Relaxed) > REMAINDER_BUDGET_BYTES {
                SMALL_READ_BYTES
            } else {
                buffer.len()
            };
            let buffer = buffer.get_mut(..limit).unwrap_or_default();
            let read = match try_read(self.source, buffer)? {
                None => return Ok(Moved::Nothing),
                Some(0) => return Ok(Moved::EndOfStream),
                Some(read) => read,
            };
            let bytes = buffer.get(..read).unwrap_or_default();
            let written = try_write(self.sink, bytes)?;
            self.count(written);
            self.remainder
                .keep(bytes.get(written..).unwrap_or_default());
            Ok(Moved::Bytes(read))
        })
    }

    fn count(&self, written: usize) {
        self.written.fetch_add(
            u64::try_from(written).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }
}

#[cfg(test)]
impl Direction<'_> {
    pub(super) fn kept_bytes(&self) -> usize {
        self.remainder.bytes().len()
    }
}

/// Makes all relays exceed the budget for remainders until the value is dropped.
#[cfg(test)]
pub(super) fn exceed_budget() -> impl Drop {
    let mut remainder = Remainder::default();
    remainder.keep(&vec![0; REMAINDER_BUDGET_BYTES + 1]);
    remainder
}

/// Bytes that were read and that the sink has not taken yet.
#[derive(Default)]
struct Remainder {
    bytes: Vec<u8>,
    start: usize,
}

impl Remainder {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Keeps `bytes`; only for an empty remainder.
    fn keep(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            KEPT_BYTES.fetch_add(bytes.len(), Ordering::Relaxed);
            self.bytes = bytes.to_vec();
            self.start = 0;
        }
    }

    /// Drops `count` bytes from the front, and the allocation with the last one.
    fn advance(&mut self, count: usize) {
        self.start = self.start.saturating_add(count);
        if self.start >= self.bytes.len() {
            self.clear();
        }
    }

    fn clear(&mut self) {
        KEPT_BYTES.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        self.bytes = Vec::new();
        self.start = 0;
    }
}

impl Drop for Remainder {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Reads once; `None` if the socket would block. A short read empties the socket, so readiness is
/// cleared with it and the read that would return `EAGAIN` is saved.
fn try_read(socket: &TcpStream, buffer: &mut [u8]) -> Result<Option<usize>, DirectionError> {
    let mut read = None;
    let result = socket.try_io(Interest::READABLE, || {
        let (_, count) = rustix::net::recv(socket, &mut *buffer, RecvFlags::empty())?;
        read = Some(count);
        if count > 0 && count < buffer.len() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    settle(result).map_err(DirectionError::Read)?;
    Ok(read)
}

/// Writes once; 0 if the socket would block. A short write fills the socket, as in [`try_read`].
fn try_write(socket: &TcpStream, bytes: &[u8]) -> Result<usize, DirectionError> {
    if bytes.is_empty() {
        return Ok(0);
    }
    let mut written = 0;
    let result = socket.try_io(Interest::WRITABLE, || {
        written = rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?;
        if written < bytes.len() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    settle(result).map_err(DirectionError::Write)?;
    Ok(written)
}

/// Turns "would block" and an interrupted call into success: the caller looks at the count.
fn settle(result: io::Result<()>) -> Result<(), Errno> {
    match result {
        Ok(()) => Ok(()),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
            _ => Err(errno_of(&error)),
        },
    }
}

fn read_error(error: &io::Error) -> DirectionError {
    DirectionError::Read(errno_of(error))
}

fn write_error(error: &io::Error) -> DirectionError {
    DirectionError::Write(errno_of(error))
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
