// SPDX-License-Identifier: Apache-2.0
//! One direction of a relay: reads from one socket and writes to the other. While reads fill the
//! whole buffer, bytes pass through a pipe instead.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::Shutdown;
use tokio::net::TcpStream;

use super::splice::SplicePipe;

/// Size of the buffer that all relays of a thread share.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Length of a spliced chunk below which the next one is copied.
const MIN_SPLICE_BYTES: usize = 16 * 1024;

/// Maximum chunks moved in one turn of a direction; then other tasks run.
const CHUNKS_PER_TURN: usize = 4;

/// Maximum chunks moved at the end of a broken connection: 64 MiB exceed a receive buffer.
const MAX_DRAIN_CHUNKS: usize = 1024;

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
    /// The pipe, while bytes wait in it.
    pipe: Option<SplicePipe>,
    /// The last chunk was large, so the next one goes through a pipe.
    is_bulk: bool,
    done: bool,
}

impl<'a> Direction<'a> {
    pub(super) fn new(source: &'a TcpStream, sink: &'a TcpStream, written: &'a AtomicU64) -> Self {
        Self {
            source,
            sink,
            written,
            remainder: Remainder::default(),
            pipe: None,
            is_bulk: false,
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
            while self.has_unwritten() {
                ready!(self.sink.poll_write_ready(cx)).map_err(|error| write_error(&error))?;
                self.write_kept()?;
            }
            ready!(self.source.poll_read_ready(cx)).map_err(|error| read_error(&error))?;
            if self.is_bulk && self.splice_chunk()? {
                continue;
            }
            match self.move_chunk()? {
                Moved::Nothing => {}
                // After a full read, more is likely to follow.
                Moved::Bytes(count) => self.is_bulk = count == BUFFER_BYTES,
                Moved::EndOfStream => self.pass_end()?,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Moves what both sockets take without blocking, but not the end of the stream: the source
    /// broke, so its end is a reset.
    pub(super) fn drain(&mut self) {
        for _ in 0..MAX_DRAIN_CHUNKS {
            if self.done || self.write_kept().is_err() || self.has_unwritten() {
                return;
            }
            let Ok(Moved::Bytes(_)) = self.move_chunk() else {
                return;
            };
        }
    }

    fn has_unwritten(&self) -> bool {
        !self.remainder.is_empty() || self.pipe.is_some()
    }

    /// Moves bytes through a pipe. Returns `false` if that is not possible now.
    fn splice_chunk(&mut self) -> Result<bool, DirectionError> {
        let Some(mut pipe) = SplicePipe::take() else {
            return Ok(false);
        };
        let count = pipe.fill(self.source);
        if count == 0 {
            pipe.give_back();
            return Ok(false);
        }
        self.is_bulk = count >= MIN_SPLICE_BYTES;
        self.pipe = Some(pipe);
        self.write_kept()?;
        Ok(true)
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

    /// Writes once of what was read earlier.
    fn write_kept(&mut self) -> Result<(), DirectionError> {
        if !self.remainder.is_empty() {
            let written = try_write(self.sink, self.remainder.bytes())?;
            self.count(written);
            self.remainder.advance(written);
        } else if let Some(pipe) = &mut self.pipe {
            let written = written_now(pipe.write_to(self.sink))?;
            if pipe.is_empty()
                && let Some(pipe) = self.pipe.take()
            {
                pipe.give_back();
            }
            self.count(written);
        }
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
        self.remainder.bytes().len() + self.pipe.as_ref().map_or(0, SplicePipe::held)
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

/// Reads once; `None` if the socket would block. A short read does not prove that the socket is
/// empty: reads stop at urgent data.
fn try_read(socket: &TcpStream, buffer: &mut [u8]) -> Result<Option<usize>, DirectionError> {
    match socket.try_read(buffer) {
        Ok(count) => Ok(Some(count)),
        Err(error) if would_block(&error) => Ok(None),
        Err(error) => Err(read_error(&error)),
    }
}

/// Writes once; 0 if the socket would block.
fn try_write(socket: &TcpStream, bytes: &[u8]) -> Result<usize, DirectionError> {
    written_now(socket.try_write(bytes))
}

fn written_now(result: io::Result<usize>) -> Result<usize, DirectionError> {
    match result {
        Ok(count) => Ok(count),
        Err(error) if would_block(&error) => Ok(0),
        Err(error) => Err(write_error(&error)),
    }
}

/// Returns `true` also for an interrupted call, which is repeated in the same way.
fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
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
