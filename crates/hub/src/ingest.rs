// SPDX-License-Identifier: Apache-2.0
//! The ingester socket: one JSON object per line, as the Python stack's readers write events.
//!
//! No input ends a reader's connection. A malformed line is dropped, with a rate-limited log line,
//! and reading continues with the next line.

mod fast_parser;
mod line_error;
mod line_fields;
mod line_parser;
mod line_splitter;

use std::io;
use std::sync::Arc;

use terok_clearance::socket::{ConnectionAcceptor, PeerCredentials, SameUserListener};
use terok_clearance::{DisplayText, LogLimiter};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use line_error::EventLineError;
pub use line_parser::EventLineParser;
pub use line_splitter::{LineSplitter, SplitLine};

use crate::hub::{DecisionEnforcer, Hub};

/// Maximum bytes of a line, without its newline.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// Maximum concurrent readers.
const MAX_READERS: usize = 1024;

/// A fatal error of the ingester.
#[derive(Debug, thiserror::Error)]
#[error("the task of a reader panicked: {0}")]
#[non_exhaustive]
pub struct IngestError(DisplayText);

/// Reads events from every connection to `listener` and reports them to `hub`, until `stop`.
///
/// The events of one connection are reported in order.
pub async fn ingest<E: DecisionEnforcer>(
    hub: Arc<Hub<E>>,
    listener: SameUserListener,
    stop: CancellationToken,
) -> Result<(), IngestError> {
    let mut acceptor = ConnectionAcceptor::new(listener);
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
            (stream, peer) = acceptor.accept() => {
                if readers.len() >= MAX_READERS {
                    tracing::warn!(
                        pid = peer.pid,
                        "closed a reader's connection: too many readers"
                    );
                } else {
                    let hub = Arc::clone(&hub);
                    readers.spawn(async move {
                        if let Err(error) = read_events(&hub, stream, peer).await {
                            tracing::debug!(pid = peer.pid, %error, "a reader's socket failed");
                        }
                    });
                }
            }
        }
    }
}

/// Reports the events of one connection until its end.
async fn read_events<E: DecisionEnforcer>(
    hub: &Hub<E>,
    mut stream: UnixStream,
    peer: PeerCredentials,
) -> io::Result<()> {
    let mut lines = LineSplitter::new();
    let mut parser = EventLineParser::default();
    let mut dropped = DroppedLineLog::default();
    loop {
        let (buffer, room) = lines.read_buffer();
        let read = stream.read_buf(buffer).await?;
        if read == 0 {
            lines.finish();
        }
        hub.report_all(std::iter::from_fn(|| {
            loop {
                match lines.next_line()? {
                    SplitLine::Complete(line) => match parser.parse(line) {
                        Ok(Some(event)) => return Some(event),
                        Ok(None) => {}
                        Err(error) => dropped.log_dropped(&error, line, peer),
                    },
                    SplitLine::TooLong(head) => {
                        dropped.log_dropped(&EventLineError::TooLong, head, peer);
                    }
                }
            }
        }));
        if read == 0 {
            return Ok(());
        }
        if read >= room {
            // More input is ready; other tasks run first, so that a flood of events does not starve
            // them.
            tokio::task::yield_now().await;
        }
    }
}

/// Logs dropped lines, with a rate limit.
#[derive(Debug, Default)]
struct DroppedLineLog {
    limiter: LogLimiter,
}

impl DroppedLineLog {
    const MAX_SHOWN_BYTES: usize = 120;

    fn log_dropped(&mut self, error: &EventLineError, line: &[u8], peer: PeerCredentials) {
        if matches!(error, EventLineError::UnknownType) {
            tracing::debug!(pid = peer.pid, "dropped an event of an unknown type");
        } else if let Some(suppressed) = self.limiter.admit(Instant::now()) {
            let head = line.get(..Self::MAX_SHOWN_BYTES).unwrap_or(line);
            let text = DisplayText::new(&String::from_utf8_lossy(head));
            let pid = peer.pid;
            tracing::warn!(pid, %error, %text, suppressed, "dropped a malformed line of a reader");
        }
    }
}
