// SPDX-License-Identifier: Apache-2.0
//! A relay that passes the first bytes of the sandbox on only after a look at their server name.
//!
//! Bytes of the server pass meanwhile, so protocols in which the server speaks first work, and a
//! program that waits before its first bytes gains nothing. First bytes that stay undecided for
//! [`PATIENCE`] are passed on, but are still watched: a name that is refused later resets the
//! connection before the bytes that complete the name are passed on.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use terok_clearance::DisplayText;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{RelaySide, RelayStats, RelaySummary, SocketPair, end_of, relay_pair};
use crate::flow_activity::wait_until;
use crate::server_name::{FirstBytes, MAX_FIRST_BYTES};

/// Maximum time that undecided bytes are held back.
const PATIENCE: Duration = Duration::from_secs(10);
/// Maximum reads until the decision: no program cuts its first bytes into more pieces, and each
/// piece costs a search of the bytes so far.
const MAX_PIECES: usize = 256;
/// Maximum bytes of the server that wait for the sandbox during the check.
const GREETING_BYTES: usize = 4096;
/// Maximum undecided bytes of all connections; over it new undecided connections are reset.
const MAX_UNDECIDED_BYTES: usize = 32 << 20;

/// The undecided bytes of all connections of the process.
static UNDECIDED_BYTES: AtomicUsize = AtomicUsize::new(0);

/// A connection was reset because its first bytes name another server, or none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the first bytes name {found}")]
pub struct ServerNameRefusal {
    /// The name, or the reason why there is none.
    pub found: DisplayText,
}

impl ServerNameRefusal {
    fn new(found: impl fmt::Display) -> Self {
        Self {
            found: DisplayText::new(&found.to_string()),
        }
    }
}

/// Relays two connections like [`relay_tcp`](super::relay_tcp), if `accepts` returns `true` for
/// each server name in the first bytes from inside. Otherwise both are reset.
///
/// Bytes that are neither TLS nor HTTP have no server name and pass.
pub async fn relay_tcp_checked(
    inside: TcpStream,
    outside: TcpStream,
    stats: &RelayStats,
    accepts: impl Fn(&str) -> bool,
) -> Result<RelaySummary, ServerNameRefusal> {
    let sockets = SocketPair::new(inside, outside);
    let gate = FirstBytesGate {
        sockets: &sockets,
        stats,
        accepts,
        read: UndecidedBytes::default(),
        pieces: 0,
        greeting: Vec::new(),
    };
    match gate.check().await {
        Ok(()) => Ok(relay_pair(sockets, stats).await),
        Err(GateEnd::Refused(refusal)) => Err(refusal),
        Err(GateEnd::Broken(side, errno)) => Ok(RelaySummary {
            bytes_out: stats.bytes_out(),
            bytes_in: stats.bytes_in(),
            end: end_of(side, errno),
        }),
    }
}

enum GateEnd {
    Refused(ServerNameRefusal),
    Broken(RelaySide, Errno),
}

/// The check of one connection.
struct FirstBytesGate<'a, A> {
    sockets: &'a SocketPair,
    stats: &'a RelayStats,
    accepts: A,
    read: UndecidedBytes,
    pieces: usize,
    /// Bytes of the server that the sandbox has not taken yet.
    greeting: Vec<u8>,
}

/// The outcome of the look at the bytes so far.
enum GateVerdict {
    Pass,
    Undecided,
}

impl<A: Fn(&str) -> bool> FirstBytesGate<'_, A> {
    /// Returns once all bytes read from inside are passed on and the rest needs no check.
    async fn check(mut self) -> Result<(), GateEnd> {
        let SocketPair {
            inside,
            outside,
            closed: _,
        } = self.sockets;
        let mut patience_ends = None;
        let mut has_patience = true;
        let mut greets = true;
        loop {
            tokio::select! {
                biased;
                ready = inside.readable() => {
                    ready.map_err(broken(RelaySide::Inside))?;
                    let Some(verdict) = self.read_inside()? else {
                        continue;
                    };
                    if matches!(verdict, GateVerdict::Pass) || !has_patience {
                        self.pass_on().await?;
                    }
                    if matches!(verdict, GateVerdict::Pass) {
                        return self.finish_greeting().await;
                    }
                    patience_ends = patience_ends.or_else(|| Instant::now().checked_add(PATIENCE));
                }
                ready = inside.writable(), if !self.greeting.is_empty() => {
                    ready.map_err(broken(RelaySide::Inside))?;
                    self.write_greeting()?;
                }
                ready = outside.readable(), if greets && self.greeting.is_empty() => {
                    ready.map_err(broken(RelaySide::Outside))?;
                    greets = self.read_greeting()?;
                    if !greets && self.read.bytes.is_empty() {
                        return Ok(()); // the relay passes the end of the stream on
                    }
                }
                () = wait_until(patience_ends), if has_patience => {
                    has_patience = false;
                    self.pass_on().await?;
                }
            }
        }
    }

    /// Reads once from inside and looks at the bytes so far; `None` if there was nothing to read.
    fn read_inside(&mut self) -> Result<Option<GateVerdict>, GateEnd> {
        let mut buffer = [0; MAX_FIRST_BYTES];
        let room = MAX_FIRST_BYTES.saturating_sub(self.read.bytes.len());
        let buffer = buffer.get_mut(..room).unwrap_or_default();
        let count = match self.sockets.inside.try_read(buffer) {
            Ok(count) => count,
            Err(error) if would_block(&error) => return Ok(None),
            Err(error) => return Err(broken(RelaySide::Inside)(error)),
        };
        if count == 0 {
            let found = FirstBytes::inspect_at_end(&self.read.bytes);
            self.judge(found)?;
            return Ok(Some(GateVerdict::Pass)); // nothing follows that could complete a name
        }
        self.pieces = self.pieces.saturating_add(1);
        self.read
            .extend(buffer.get(..count).unwrap_or_default())
            .map_err(GateEnd::Refused)?;
        if self.read.bytes.len() < self.read.needed {
            return Ok(Some(GateVerdict::Undecided));
        }
        let found = FirstBytes::inspect(&self.read.bytes);
        if let FirstBytes::Incomplete { needed } = found {
            self.read.needed = needed;
        }
        let verdict = self.judge(found)?;
        if matches!(verdict, GateVerdict::Undecided) && self.pieces >= MAX_PIECES {
            let refusal = ServerNameRefusal::new("a greeting in too many pieces");
            return Err(GateEnd::Refused(refusal));
        }
        Ok(Some(verdict))
    }

    fn judge(&self, found: FirstBytes) -> Result<GateVerdict, GateEnd> {
        let refusal = match found {
            FirstBytes::Incomplete { .. } => return Ok(GateVerdict::Undecided),
            FirstBytes::OtherProtocol => return Ok(GateVerdict::Pass),
            FirstBytes::Names(names) => match names.iter().find(|name| !(self.accepts)(name)) {
                None => return Ok(GateVerdict::Pass),
                Some(name) if name.is_empty() => ServerNameRefusal::new("an empty name"),
                Some(name) => ServerNameRefusal::new(name),
            },
            FirstBytes::Unnamed(reason) => ServerNameRefusal::new(reason),
        };
        Err(GateEnd::Refused(refusal))
    }

    /// Writes the bytes from inside that were held back.
    async fn pass_on(&mut self) -> Result<(), GateEnd> {
        let outside = &self.sockets.outside;
        while let Some(held) = self.read.bytes.get(self.read.passed..)
            && !held.is_empty()
        {
            let written = write_once(outside, held).await;
            let written = written.map_err(broken(RelaySide::Outside))?;
            self.read.passed = self.read.passed.saturating_add(written);
            count(&self.stats.bytes_out, written);
        }
        Ok(())
    }

    /// Reads once from the server. Returns `false` at the end of the stream.
    fn read_greeting(&mut self) -> Result<bool, GateEnd> {
        let mut buffer = [0; GREETING_BYTES];
        match self.sockets.outside.try_read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                self.greeting = buffer.get(..count).unwrap_or_default().to_vec();
                self.write_greeting()?;
            }
            Err(error) if would_block(&error) => {}
            Err(error) => return Err(broken(RelaySide::Outside)(error)),
        }
        Ok(true)
    }

    /// Writes once of the server's bytes.
    fn write_greeting(&mut self) -> Result<(), GateEnd> {
        match self.sockets.inside.try_write(&self.greeting) {
            Ok(written) => {
                self.greeting.drain(..written.min(self.greeting.len()));
                if self.greeting.is_empty() {
                    self.greeting = Vec::new();
                }
                count(&self.stats.bytes_in, written);
                Ok(())
            }
            Err(error) if would_block(&error) => Ok(()),
            Err(error) => Err(broken(RelaySide::Inside)(error)),
        }
    }

    async fn finish_greeting(&mut self) -> Result<(), GateEnd> {
        while !self.greeting.is_empty() {
            let ready = self.sockets.inside.writable().await;
            ready.map_err(broken(RelaySide::Inside))?;
            self.write_greeting()?;
        }
        Ok(())
    }
}

/// The bytes from inside until the decision, counted over all connections.
#[derive(Default)]
struct UndecidedBytes {
    bytes: Vec<u8>,
    /// The number of bytes that were passed on.
    passed: usize,
    /// The smallest number of bytes that may decide.
    needed: usize,
}

impl UndecidedBytes {
    fn extend(&mut self, bytes: &[u8]) -> Result<(), ServerNameRefusal> {
        self.bytes.extend_from_slice(bytes);
        let total = UNDECIDED_BYTES.fetch_add(bytes.len(), Ordering::Relaxed);
        if total > MAX_UNDECIDED_BYTES {
            return Err(ServerNameRefusal::new(
                "nothing yet, as in too many other connections",
            ));
        }
        Ok(())
    }
}

impl Drop for UndecidedBytes {
    fn drop(&mut self) {
        UNDECIDED_BYTES.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

async fn write_once(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        socket.writable().await?;
        match socket.try_write(bytes) {
            Err(error) if would_block(&error) => {}
            written => return written,
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

fn broken(side: RelaySide) -> impl Fn(io::Error) -> GateEnd {
    move |error| GateEnd::Broken(side, Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

fn count(counter: &std::sync::atomic::AtomicU64, bytes: usize) {
    counter.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
}

#[cfg(test)]
mod tests;
