// SPDX-License-Identifier: Apache-2.0
//! Terminal input: keys, mouse, pasted text and changes of the window size.
//!
//! Bytes are read on this thread, and only while the caller waits for input, so that later keys are
//! left to the next user of the terminal. (crossterm's own reader keeps a thread, which reads keys
//! even after its end, and loops when the terminal is closed.)

use std::io;
use std::time::Duration;

use crossterm::event::Event;
use rustix::fs::OFlags;
use rustix::stdio::stdin;
use rustix::termios::{QueueSelector, tcflush};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::decoder::InputDecoder;
use crate::tty_file::reopen_tty;

/// How long Escape may be the start of a sequence: a network may deliver one sequence in two
/// parts.
const ESCAPE_TIMEOUT: Duration = Duration::from_millis(50);

/// The terminal that standard input is, for reading.
#[derive(Debug)]
pub(crate) struct TerminalInput {
    /// A terminal, which tokio polls and reads like a pipe.
    tty: pipe::Receiver,
    decoder: InputDecoder,
    /// The time until which the rest of an incomplete sequence may arrive.
    escape_deadline: Option<Instant>,
    resized: Signal,
}

impl TerminalInput {
    /// Starts reading; keys typed before are discarded.
    pub(crate) fn new() -> io::Result<Self> {
        let tty = reopen_tty(stdin(), OFlags::RDONLY)?;
        tcflush(&tty, QueueSelector::IFlush)?;
        Ok(Self {
            tty: pipe::Receiver::from_owned_fd_unchecked(tty)?,
            decoder: InputDecoder::default(),
            escape_deadline: None,
            resized: signal(SignalKind::window_change())?,
        })
    }

    /// Returns `true` if further bytes arrived together with the last returned event, faster than
    /// typing.
    pub(crate) fn has_buffered_bytes(&self) -> bool {
        self.decoder.has_buffered_bytes()
    }

    /// Returns the next event; a resize event does not contain the size. An error means that the
    /// terminal was closed.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.decoder.next() {
                return Ok(event);
            }
            let deadline = self
                .decoder
                .is_incomplete()
                .then_some(self.escape_deadline)
                .flatten();
            let mut bytes = [0; 1024];
            tokio::select! {
                biased;
                _ = self.resized.recv() => return Ok(Event::Resize(0, 0)),
                count = self.tty.read(&mut bytes) => match count? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => {
                        self.decoder.push(bytes.get(..count).unwrap_or_default());
                        self.escape_deadline = Instant::now().checked_add(ESCAPE_TIMEOUT);
                    }
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.escape_deadline = None;
                    if let Some(event) = self.decoder.flush() {
                        return Ok(event);
                    }
                }
            }
        }
    }
}
