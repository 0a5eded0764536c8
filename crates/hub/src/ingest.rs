// SPDX-License-Identifier: Apache-2.0
//! The ingester socket: one JSON object on each line, as the Python stack's readers write them.
//!
//! Nothing that comes in ends a reader's connection: what is no event is logged, a few lines a
//! second, and dropped, and the next line is read.

mod fields;
mod line;
mod lines;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use terok_clearance::DisplayText;
use terok_clearance::socket::{PeerCredentials, SameUserListener};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use line::{LineError, Parser};
pub use lines::{Line, Lines};

use crate::hub::{Enforcer, Hub};

/// The most bytes a line may have, its newline not counted.
pub const LINE_LIMIT: usize = 64 << 10;
/// The most readers at once.
const READERS: usize = 1024;

/// Why the ingester ended without being asked to.
#[derive(Debug, thiserror::Error)]
#[error("the task of a reader panicked: {0}")]
pub struct IngestError(DisplayText);

/// Reads events from everybody who connects to `listener` and reports them to `hub`, until `stop`.
///
/// The events of one connection are reported in its order.
pub async fn ingest<E: Enforcer>(
    hub: Arc<Hub<E>>,
    listener: SameUserListener,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    /// How long it waits after it could not accept: descriptors may be short.
    const RETRY: Duration = Duration::from_millis(100);
    let mut readers = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            Some(ended) = readers.join_next() => {
                if let Err(error) = ended {
                    return Err(IngestError(DisplayText::new(&error.to_string())));
                }
            }
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if readers.len() >= READERS => {
                    tracing::warn!(pid = peer.pid, "closed a reader's connection: too many");
                }
                Ok((stream, peer)) => {
                    let hub = Arc::clone(&hub);
                    readers.spawn(async move {
                        if let Err(error) = read(&hub, stream, peer).await {
                            tracing::debug!(pid = peer.pid, %error, "a reader's socket failed");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a reader, trying again");
                    sleep(RETRY).await;
                }
            },
        }
    }
}

/// Reports the events of one connection until its end.
async fn read<E: Enforcer>(
    hub: &Hub<E>,
    mut stream: UnixStream,
    peer: PeerCredentials,
) -> io::Result<()> {
    let mut lines = Lines::new();
    let mut parser = Parser::default();
    let mut dropped = Dropped::default();
    loop {
        let (buffer, room) = lines.room();
        let read = stream.read_buf(buffer).await?;
        if read == 0 {
            lines.end();
        }
        hub.report_all(std::iter::from_fn(|| {
            loop {
                match lines.take()? {
                    Line::Whole(line) => match parser.parse(line) {
                        Ok(Some(event)) => return Some(event),
                        Ok(None) => {}
                        Err(error) => dropped.note(&error, line, peer),
                    },
                    Line::TooLong(head) => dropped.note(&LineError::TooLong, head, peer),
                }
            }
        }));
        if read == 0 {
            return Ok(());
        }
        if read >= room {
            // There is more to read at once; those who have to take it come first.
            tokio::task::yield_now().await;
        }
    }
}

/// Logs dropped lines, a few a second, and counts the others.
#[derive(Debug, Default)]
struct Dropped {
    until: Option<Instant>,
    logged: u32,
    unsaid: u64,
}

impl Dropped {
    const LOGGED: u32 = 5;
    const WINDOW: Duration = Duration::from_secs(1);
    const SHOWN: usize = 120;

    fn note(&mut self, error: &LineError, line: &[u8], peer: PeerCredentials) {
        if matches!(error, LineError::UnknownKind) {
            tracing::debug!(pid = peer.pid, "dropped an event of an unknown type");
            return;
        }
        let now = Instant::now();
        if self.until.is_none_or(|until| now >= until) {
            self.until = now.checked_add(Self::WINDOW);
            self.logged = 0;
        }
        if self.logged >= Self::LOGGED {
            self.unsaid = self.unsaid.saturating_add(1);
            return;
        }
        self.logged = self.logged.saturating_add(1);
        let head = line.get(..Self::SHOWN).unwrap_or(line);
        let text = DisplayText::new(&String::from_utf8_lossy(head));
        let unsaid = std::mem::take(&mut self.unsaid);
        tracing::warn!(pid = peer.pid, %error, %text, unsaid, "dropped a reader's line");
    }
}
