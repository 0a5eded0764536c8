// SPDX-License-Identifier: Apache-2.0
//! Relays bytes between the operator's terminal and the command's.
//!
//! The relay reads from a side only after the other side has accepted the previous bytes, so
//! neither side can fill the memory. The relay never blocks: a stalled terminal stops the command,
//! but not the questions.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use netns::PollableFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::time::{Instant, sleep_until};
use tui::TerminalStateTracker;

/// Maximum bytes between a read from one side and the write to the other side.
const CHUNK_BYTES: usize = 16 * 1024;

/// Time for which a message waits for the end of the line that the command is writing.
const LINE_END_TIMEOUT: Duration = Duration::from_millis(400);
/// Maximum messages that wait for their place; a further one replaces the oldest.
const MAX_WAITING_MESSAGES: usize = 64;

/// Relays bytes between the operator's terminal and the command's.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "both sides pause, end and resume on their own"
)]
pub(crate) struct PtyRelay {
    /// The operator's terminal.
    tty: OperatorTty,
    /// The master side of the command's terminal, while a process has the other side open.
    master: Option<PollableFd>,
    to_tty: Vec<u8>,
    to_master: Vec<u8>,
    /// The buffer for output. A wait for output allocates nothing.
    read_buffer: Box<[u8]>,
    /// The command's output is not read.
    output_paused: bool,
    /// The operator's terminal is used by the full screen.
    tty_detached: bool,
    /// The operator's terminal is gone.
    hung_up: bool,
    /// The caller does not know yet that the terminal is gone.
    reports_hang_up: bool,
    /// The state in which the output leaves the operator's terminal.
    state: TerminalStateTracker,
    size: Winsize,
    /// Messages that wait for a place between lines of the output.
    messages: VecDeque<RelayMessage>,
    /// The time from which messages go above an unfinished line.
    messages_due: Option<Instant>,
    /// The terminal can move lines: messages need not wait for the end of a line.
    moves_lines: bool,
    /// The terminal was taken over from the command.
    is_taken_over: bool,
}

/// A message that waits for its place in the output.
#[derive(Debug)]
struct RelayMessage {
    sign: String,
    text: String,
}

impl PtyRelay {
    /// Returns a relay between the operator's terminal, of this size, and the master side of the
    /// command's. Messages go above unfinished lines if the terminal can move lines.
    pub(crate) fn new(
        tty: OperatorTty,
        master: OwnedFd,
        size: Winsize,
        moves_lines: bool,
    ) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&master, true)?;
        Ok(Self {
            tty,
            master: Some(PollableFd::new(master)?),
            to_tty: Vec::new(),
            to_master: Vec::new(),
            read_buffer: vec![0; CHUNK_BYTES].into(),
            output_paused: false,
            tty_detached: false,
            hung_up: false,
            reports_hang_up: false,
            state: TerminalStateTracker::default(),
            size,
            messages: VecDeque::new(),
            messages_due: None,
            moves_lines,
            is_taken_over: false,
        })
    }

    /// Relays the command's output until the operator types, and returns the typed bytes; none when
    /// the terminal is gone. The operator's input is read only if `listen` is set.
    ///
    /// Cancel safe.
    pub(crate) async fn read_keys(&mut self, listen: bool) -> io::Result<Vec<u8>> {
        loop {
            if std::mem::take(&mut self.reports_hang_up) {
                return Ok(Vec::new());
            }
            self.place_messages();
            let mut keys = [0; 256];
            let due = self
                .messages_due
                .filter(|_| self.moves_lines && !self.tty_detached);
            let read_output = !self.output_paused && self.to_tty.is_empty();
            let read_input =
                listen && !self.hung_up && !self.tty_detached && self.to_master.is_empty();
            let write_output = !self.tty_detached && !self.to_tty.is_empty();
            tokio::select! {
                biased;
                wrote = self.tty.write(&self.to_tty), if write_output => {
                    match wrote {
                        Ok(count) => drop(self.to_tty.drain(..count)),
                        // The terminal is gone.
                        Err(_) => self.hang_up(),
                    }
                }
                wrote = write_if_open(self.master.as_ref(), &self.to_master),
                    if !self.to_master.is_empty() =>
                {
                    match wrote {
                        Ok(count) => drop(self.to_master.drain(..count)),
                        Err(_) => self.to_master.clear(),
                    }
                }
                read = self.tty.read(&mut keys), if read_input => match read {
                    Ok(0) | Err(_) => self.hang_up(),
                    Ok(count) => return Ok(keys.get(..count).unwrap_or_default().to_vec()),
                },
                read = read_if_open(self.master.as_ref(), &mut self.read_buffer),
                    if read_output =>
                {
                    match read {
                        // EIO: no process has the command's side open.
                        Ok(0) | Err(_) => self.master = None,
                        Ok(count) => self.take_output(count),
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                // Nothing to relay: wait until the call is cancelled.
                else => std::future::pending().await,
            }
        }
    }

    /// Sends keys to the command.
    pub(crate) fn forward_keys(&mut self, keys: &[u8]) {
        self.to_master.extend(keys);
    }

    /// Shows a message on the operator's terminal: between two lines of the output, or above a line
    /// that the command does not end within [`LINE_END_TIMEOUT`].
    pub(crate) fn print(&mut self, text: &str) {
        self.print_signed("", text);
    }

    /// Shows a message as [`Self::print`] does, with control characters that show nothing, such as
    /// a bell.
    pub(crate) fn print_signed(&mut self, sign: &str, text: &str) {
        if self.hung_up {
            return;
        }
        if self.messages.len() == MAX_WAITING_MESSAGES {
            self.messages.pop_front();
        }
        self.messages.push_back(RelayMessage {
            sign: sign.to_owned(),
            text: text.to_owned(),
        });
        if self.messages_due.is_none() {
            self.messages_due = Instant::now().checked_add(LINE_END_TIMEOUT);
        }
    }

    /// Appends the messages to the output, if it has come to a place for messages.
    fn place_messages(&mut self) {
        let is_late = self.messages_due.is_some_and(|due| due <= Instant::now());
        let has_place = self.state.is_notice_place() || (is_late && self.moves_lines);
        if !self.tty_detached && has_place {
            self.append_messages();
        }
    }

    fn append_messages(&mut self) {
        self.messages_due = None;
        for RelayMessage { sign, text } in std::mem::take(&mut self.messages) {
            let shown = self.state.signed_notice_sequence(&sign, &text, self.size);
            self.to_tty.extend(shown);
        }
    }

    /// Appends output in the read buffer to the bytes for the operator's terminal.
    fn take_output(&mut self, count: usize) {
        let buffer = std::mem::take(&mut self.read_buffer);
        let output = buffer.get(..count).unwrap_or_default();
        // Messages that wait have their place after the last whole line.
        let lines = output.iter().rposition(|byte| *byte == b'\n');
        let (lines, rest) = match lines {
            Some(end) if !self.messages.is_empty() => output.split_at(end.saturating_add(1)),
            _ => (output, &[][..]),
        };
        for part in [lines, rest] {
            self.state.observe_output(part, self.size);
            if !self.hung_up {
                self.to_tty.extend(part);
            }
            self.place_messages();
        }
        self.read_buffer = buffer;
    }

    /// Writes the remaining output to the operator's terminal and takes the terminal over from the
    /// command, and then neither reads nor writes it until [`Self::reattach_tty`]. Later messages
    /// are kept.
    ///
    /// Cancel safe.
    pub(crate) async fn detach_tty(&mut self) {
        self.output_paused = true;
        if !self.is_taken_over {
            self.is_taken_over = true;
            let takeover = self.state.takeover_sequence(self.size);
            self.to_tty.extend(takeover.bytes());
        }
        while !self.to_tty.is_empty() && !self.hung_up {
            match self.tty.write(&self.to_tty).await {
                Ok(count) => drop(self.to_tty.drain(..count)),
                Err(_) => self.hang_up(),
            }
        }
        self.tty_detached = true;
    }

    /// Uses the operator's terminal again, in the state in which the output left it.
    pub(crate) fn reattach_tty(&mut self) {
        self.tty_detached = false;
        self.output_paused = false;
        if std::mem::take(&mut self.is_taken_over) && !self.hung_up {
            self.to_tty.extend(self.state.restore_sequence());
        }
    }

    /// Returns `true` if the operator's terminal is gone.
    pub(crate) const fn is_hung_up(&self) -> bool {
        self.hung_up
    }

    /// Sets the size of the command's terminal.
    pub(crate) fn resize(&mut self, size: Winsize) {
        self.size = size;
        if let Some(master) = &self.master {
            // Fails only if the terminal is gone.
            if let Err(error) = tcsetwinsize(master, size) {
                tracing::debug!(%error, "the command's terminal keeps its size");
            }
        }
    }

    /// Makes the command redraw the screen: changes the size of the terminal and restores the size.
    pub(crate) fn force_redraw(&mut self, size: Winsize) {
        let smaller = Winsize {
            ws_row: size.ws_row.saturating_sub(1).max(1),
            ..size
        };
        self.resize(smaller);
        self.resize(size);
    }

    /// Writes the rest of the command's output to the operator's terminal, after the command's end.
    pub(crate) async fn drain(&mut self) {
        self.reattach_tty();
        if self.master.is_none() {
            self.end_output();
        }
        while (self.master.is_some() || !self.to_tty.is_empty()) && !self.hung_up {
            if !self.to_tty.is_empty() {
                match self.tty.write(&self.to_tty).await {
                    Ok(count) => drop(self.to_tty.drain(..count)),
                    Err(_) => self.hang_up(),
                }
            } else if let Some(master) = &self.master {
                // No process of the sandbox is left, so no output will be added.
                match rustix::io::read(master, &mut *self.read_buffer) {
                    Ok(0) | Err(_) => {
                        self.master = None;
                        self.end_output();
                    }
                    Ok(count) => self.take_output(count),
                }
            }
        }
    }

    /// Appends the messages that still wait, and makes later text readable.
    fn end_output(&mut self) {
        if !self.messages.is_empty() && !self.moves_lines && !self.state.is_notice_place() {
            self.to_tty.extend(b"\r\n");
            self.state.observe_output(b"\r\n", self.size);
        }
        self.append_messages();
        self.to_tty.extend(self.state.end_sequence().bytes());
    }

    fn hang_up(&mut self) {
        self.reports_hang_up = !self.hung_up;
        self.hung_up = true;
        // No operator can resume the output.
        self.output_paused = false;
        self.to_tty.clear();
    }
}

/// The operator's terminal, of which a read or write waits without blocking the thread.
#[derive(Debug)]
pub(crate) struct OperatorTty {
    fd: PollableFd,
    /// The open file is shared with other processes, which need it to block.
    is_shared: bool,
}

impl OperatorTty {
    /// Maximum bytes of one write to a shared terminal. A terminal that is ready accepts some
    /// bytes, and a write of more would wait for all.
    const SHARED_WRITE_BYTES: usize = 64;

    /// Returns the terminal. Unless shared, `fd` is in non-blocking mode.
    pub(crate) fn new(fd: OwnedFd, is_shared: bool) -> io::Result<Self> {
        Ok(Self {
            fd: PollableFd::new(fd)?,
            is_shared,
        })
    }

    async fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        let read = |fd: BorrowedFd<'_>| {
            self.require_ready(fd, PollFlags::IN)?;
            Ok(retry_on_intr(|| rustix::io::read(fd, &mut *into))?)
        };
        self.fd.read_with(read).await
    }

    async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let limit = if self.is_shared {
            Self::SHARED_WRITE_BYTES
        } else {
            usize::MAX
        };
        let bytes = bytes.get(..limit.min(bytes.len())).unwrap_or_default();
        let write = |fd: BorrowedFd<'_>| {
            self.require_ready(fd, PollFlags::OUT)?;
            Ok(retry_on_intr(|| rustix::io::write(fd, bytes))?)
        };
        self.fd.write_with(write).await
    }

    /// Fails with `WouldBlock` if a blocking terminal is not ready.
    fn require_ready(&self, fd: BorrowedFd<'_>, events: PollFlags) -> io::Result<()> {
        if self.is_shared {
            let mut ready = [PollFd::from_borrowed_fd(fd, events)];
            if poll(&mut ready, Some(&Timespec::default()))? == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        Ok(())
    }
}

async fn read_nonblocking(from: &PollableFd, into: &mut [u8]) -> io::Result<usize> {
    from.read_with(|fd: BorrowedFd<'_>| Ok(retry_on_intr(|| rustix::io::read(fd, &mut *into))?))
        .await
}

async fn write_nonblocking(to: &PollableFd, bytes: &[u8]) -> io::Result<usize> {
    to.write_with(|fd: BorrowedFd<'_>| Ok(retry_on_intr(|| rustix::io::write(fd, bytes))?))
        .await
}

async fn read_if_open(from: Option<&PollableFd>, into: &mut [u8]) -> io::Result<usize> {
    match from {
        Some(from) => read_nonblocking(from, into).await,
        None => std::future::pending().await,
    }
}

async fn write_if_open(to: Option<&PollableFd>, bytes: &[u8]) -> io::Result<usize> {
    match to {
        Some(to) => write_nonblocking(to, bytes).await,
        None => Err(Errno::IO.into()),
    }
}
