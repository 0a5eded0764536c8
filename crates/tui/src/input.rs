// SPDX-License-Identifier: Apache-2.0
//! Terminal input: keys, mouse, pasted text and changes of the window size.
//!
//! Bytes are read on this thread, and only while the caller waits for input, so that later keys are
//! left to the next user of the terminal. (crossterm's own reader keeps a thread, which reads keys
//! even after its end, and loops when the terminal is closed.)

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::stdio::stdin;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::decoder::{InputDecoder, InputFrame};
use crate::tty_file::reopen_tty;

/// How long Escape may be the start of a sequence: a network may deliver one sequence in two
/// parts.
const ESCAPE_TIMEOUT: Duration = Duration::from_millis(50);

/// Bytes within a reply that follow the previous ones after this time may be keys of a person, who
/// should learn why they do nothing.
const REPLY_PAUSE: Duration = Duration::from_millis(100);

/// An event of the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TtyEvent {
    /// Input.
    Frame(InputFrame),
    /// Bytes arrived that belong to an unfinished reply or to a pasted text.
    InsideString,
    /// The size of the window changed.
    Resized,
}

/// The terminal that standard input is, for reading.
#[derive(Debug)]
pub(crate) struct TerminalInput {
    /// A terminal, which tokio polls and reads like a pipe.
    tty: pipe::Receiver,
    decoder: InputDecoder,
    /// The time until which ESC may be the start of a sequence that arrives together with it.
    escape_deadline: Option<Instant>,
    last_read: Option<Instant>,
    resized: Signal,
}

impl TerminalInput {
    /// Starts reading after `decoder` has decoded earlier input. Keys typed before are discarded.
    ///
    /// They are read for that: the start of a reply must not be discarded without its rest.
    pub(crate) fn new(decoder: InputDecoder) -> io::Result<Self> {
        let tty = reopen_tty(stdin(), OFlags::RDONLY)?;
        let mut input = Self {
            tty: pipe::Receiver::from_owned_fd_unchecked(tty)?,
            decoder,
            escape_deadline: None,
            last_read: None,
            resized: signal(SignalKind::window_change())?,
        };
        input.discard_typed()?;
        Ok(input)
    }

    /// Returns the decoder, with the state of the last frame.
    pub(crate) fn into_decoder(self) -> InputDecoder {
        self.decoder
    }

    /// Discards the keys that were typed so far.
    fn discard_typed(&mut self) -> io::Result<()> {
        let mut bytes = [0; 1024];
        // A terminal that could not be opened again may block.
        while is_readable(&self.tty)? {
            match rustix::io::read(&self.tty, &mut bytes) {
                // The terminal was closed; the next read says so.
                Ok(0) | Err(Errno::AGAIN | Errno::IO) => return Ok(()),
                Ok(count) => {
                    self.decoder.push(bytes.get(..count).unwrap_or_default());
                    while self.decoder.next_frame().is_some() {}
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Returns `true` if further bytes arrived together with the last returned event, or directly
    /// after it: faster than typing.
    pub(crate) fn has_more_bytes(&self) -> bool {
        self.decoder.has_buffered_bytes() || !self.decoder.pending_bytes().is_empty()
    }

    /// Records that a status report was requested.
    pub(crate) fn expect_report(&mut self) {
        self.decoder.expect_report();
    }

    /// Returns `true` if every requested report has arrived.
    pub(crate) fn has_all_reports(&self) -> bool {
        self.decoder.expected_reports() == 0
    }

    /// Returns `true` within a pasted text.
    pub(crate) fn is_inside_paste(&self) -> bool {
        self.decoder.is_inside_paste()
    }

    /// Returns the next event. An error means that the terminal was closed.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> io::Result<TtyEvent> {
        loop {
            if let Some(frame) = self.decoder.next_frame() {
                return Ok(TtyEvent::Frame(frame));
            }
            let deadline = self
                .escape_deadline
                .filter(|_| self.decoder.awaits_escape());
            let mut bytes = [0; 1024];
            tokio::select! {
                biased;
                _ = self.resized.recv() => return Ok(TtyEvent::Resized),
                count = self.tty.read(&mut bytes) => match count? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => {
                        let now = Instant::now();
                        let paused = self
                            .last_read
                            .replace(now)
                            .is_none_or(|before| now.duration_since(before) >= REPLY_PAUSE);
                        let was_inside = self.decoder.is_inside_string();
                        self.decoder.push(bytes.get(..count).unwrap_or_default());
                        self.escape_deadline = now.checked_add(ESCAPE_TIMEOUT);
                        if let Some(frame) = self.decoder.next_frame() {
                            return Ok(TtyEvent::Frame(frame));
                        }
                        if was_inside && paused {
                            return Ok(TtyEvent::InsideString);
                        }
                    }
                },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    self.escape_deadline = None;
                    if let Some(frame) = self.decoder.flush_escape() {
                        return Ok(TtyEvent::Frame(frame));
                    }
                }
            }
        }
    }
}

fn is_readable(tty: impl AsFd) -> io::Result<bool> {
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(&tty, PollFlags::IN)];
    match poll(&mut fds, Some(&at_once)) {
        Ok(count) => Ok(count > 0),
        Err(Errno::INTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
