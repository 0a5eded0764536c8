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

use super::frames::Frames;
use super::terminal;

/// How long Escape may be the beginning of something longer: what a terminal sends in one piece
/// comes in two over a network.
const ESCAPE: Duration = Duration::from_millis(50);

/// The terminal that standard input is, for reading.
#[derive(Debug)]
pub(super) struct Input {
    /// No pipe, but it is waited for and read alike.
    tty: pipe::Receiver,
    frames: Frames,
    /// Until when the rest of what is not whole is waited for.
    patience: Option<Instant>,
    resized: Signal,
}

impl Input {
    /// Starts to read; what was typed before does not count.
    pub(super) fn new() -> io::Result<Self> {
        let tty = terminal::open_anew(stdin(), OFlags::RDONLY)?;
        tcflush(&tty, QueueSelector::IFlush)?;
        Ok(Self {
            tty: pipe::Receiver::from_owned_fd_unchecked(tty)?,
            frames: Frames::default(),
            patience: None,
            resized: signal(SignalKind::window_change())?,
        })
    }

    /// Says whether more came together with what was returned last: nobody types so fast.
    pub(super) fn more(&self) -> bool {
        self.frames.more()
    }

    /// Returns the next thing that happens; of a new size, nothing but that it is new. Fails when
    /// the terminal is gone.
    ///
    /// A call that is dropped before it is done loses nothing.
    pub(super) async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.frames.next() {
                return Ok(event);
            }
            let patience = self.frames.waits().then_some(self.patience).flatten();
            let mut bytes = [0; 1024];
            tokio::select! {
                biased;
                _ = self.resized.recv() => return Ok(Event::Resize(0, 0)),
                count = self.tty.read(&mut bytes) => match count? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => {
                        self.frames.push(bytes.get(..count).unwrap_or_default());
                        self.patience = Instant::now().checked_add(ESCAPE);
                    }
                },
                () = sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => {
                    self.patience = None;
                    if let Some(event) = self.frames.flush() {
                        return Ok(event);
                    }
                }
            }
        }
    }
}
