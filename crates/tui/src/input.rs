// SPDX-License-Identifier: Apache-2.0
//! What the person does at the terminal: keys, mouse, pasted text, and the window's size.
//!
//! Read on this thread and only while it is waited for, so that whoever lends us the terminal has
//! every key that is pressed afterwards. (crossterm's own reader keeps a thread on the terminal,
//! which takes keys after it was dropped, and turns for ever when the terminal is gone.)

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
use crate::tty;

/// How long Escape may be the beginning of something longer: what a terminal sends in one piece
/// comes in two over a network.
const ESCAPE_TIMEOUT: Duration = Duration::from_millis(50);

/// The terminal that standard input is, for reading.
#[derive(Debug)]
pub(crate) struct TerminalInput {
    /// No pipe, but it is waited for and read alike.
    tty: pipe::Receiver,
    decoder: InputDecoder,
    /// Until when the rest of what is not whole is waited for.
    escape_deadline: Option<Instant>,
    resized: Signal,
}

impl TerminalInput {
    /// Starts to read; what was typed before does not count.
    pub(crate) fn new() -> io::Result<Self> {
        let tty = tty::reopen_tty(stdin(), OFlags::RDONLY)?;
        tcflush(&tty, QueueSelector::IFlush)?;
        Ok(Self {
            tty: pipe::Receiver::from_owned_fd_unchecked(tty)?,
            decoder: InputDecoder::default(),
            escape_deadline: None,
            resized: signal(SignalKind::window_change())?,
        })
    }

    /// Says whether more came together with what was returned last: nobody types so fast.
    pub(crate) fn has_buffered_bytes(&self) -> bool {
        self.decoder.has_buffered_bytes()
    }

    /// Returns the next thing that happens; of a new size, nothing but that it is new. Fails when
    /// the terminal is gone.
    ///
    /// A call that is dropped before it is done loses nothing.
    pub(crate) async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.decoder.next() {
                return Ok(event);
            }
            let patience = self
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
                () = sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => {
                    self.escape_deadline = None;
                    if let Some(event) = self.decoder.flush() {
                        return Ok(event);
                    }
                }
            }
        }
    }
}
