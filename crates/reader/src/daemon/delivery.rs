// SPDX-License-Identifier: Apache-2.0
//! Delivers lines to a hub, across its absence and restarts.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use terok_clearance::Dest;
use terok_clearance::socket::connect;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{DedupWindow, ReaderOutbox};

/// The lines to deliver to a hub, and the recent questions.
#[derive(Debug)]
pub(super) struct HubDeliveryQueue {
    hub_paths: Vec<PathBuf>,
    state: Mutex<HubDeliveryState>,
    line_queued: Notify,
}

#[derive(Debug, Default)]
struct HubDeliveryState {
    outbox: ReaderOutbox,
    recently_asked: DedupWindow,
}

impl HubDeliveryQueue {
    /// Creates an empty queue for the hub that listens at one of `hubs`.
    pub(super) fn new(hubs: Vec<PathBuf>) -> Self {
        Self {
            hub_paths: hubs,
            state: Mutex::default(),
            line_queued: Notify::new(),
        }
    }

    /// Returns `true` unless a question about `dest` is queued or was delivered recently.
    pub(super) fn should_ask(&self, dest: &Dest, now: Instant) -> bool {
        let state = self.lock_state();
        state.recently_asked.permits(dest, now) && !state.outbox.has_question(dest)
    }

    /// Queues a line, with its destination if the line is a question.
    pub(super) fn enqueue(&self, about: Option<Dest>, line: Vec<u8>) {
        self.lock_state().outbox.push(about, line);
        self.line_queued.notify_one();
    }

    fn peek_line(&self) -> Option<Vec<u8>> {
        self.lock_state().outbox.front().map(<[u8]>::to_vec)
    }

    fn mark_delivered(&self, now: Instant) {
        let mut state = self.lock_state();
        if let Some(dest) = state.outbox.pop_delivered() {
            state.recently_asked.record(dest, now);
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, HubDeliveryState> {
        // A panic leaves no partial update.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Timeout for one line; a stalled hub counts as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Minimum and maximum pause between attempts to connect.
const RECONNECT_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Timeout for the last lines after the end. The hook kills the reader after two seconds.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Delivers the lines of `queue` until `reported` is cancelled and the queue is empty or the drain
/// timeout has passed.
pub(super) async fn deliver_lines(queue: &HubDeliveryQueue, reported: &CancellationToken) {
    let all = async {
        reported.cancelled().await;
        sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        () = run_delivery_loop(queue, reported) => {}
        () = all => {
            let left = queue.lock_state().outbox.len();
            if left > 0 {
                tracing::warn!(left, "the last lines could not be delivered: no hub is running");
            }
        }
    }
}

async fn run_delivery_loop(queue: &HubDeliveryQueue, reported: &CancellationToken) {
    let mut hub: Option<UnixStream> = None;
    let mut pause = RECONNECT_BACKOFF.0;
    let mut warned = false;
    loop {
        let Some(line) = queue.peek_line() else {
            if reported.is_cancelled() {
                return;
            }
            tokio::select! {
                () = queue.line_queued.notified() => {}
                () = reported.cancelled() => {}
                error = wait_for_hangup(&mut hub) => disconnect_hub(queue, &mut hub, &error),
            }
            continue;
        };
        let Some(stream) = &mut hub else {
            hub = connect_first_hub(queue, &mut warned).await;
            if hub.is_none() {
                sleep(pause).await;
                pause = pause.saturating_mul(2).min(RECONNECT_BACKOFF.1);
            }
            continue;
        };
        pause = RECONNECT_BACKOFF.0;
        match write_line(stream, &line).await {
            Ok(()) => queue.mark_delivered(Instant::now()),
            Err(error) => disconnect_hub(queue, &mut hub, &error),
        }
    }
}

/// Writes a line, unless the hub has hung up and would never read it.
async fn write_line(stream: &mut UnixStream, line: &[u8]) -> io::Result<()> {
    let mut byte = [0];
    match stream.try_read(&mut byte) {
        Ok(0) => return Err(io::ErrorKind::ConnectionReset.into()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
        // Hubs send nothing; unexpected bytes are ignored.
        Ok(_) | Err(_) => {}
    }
    match timeout(WRITE_TIMEOUT, stream.write_all(line)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Waits for the hub to hang up; never resolves without a connection.
async fn wait_for_hangup(hub: &mut Option<UnixStream>) -> io::Error {
    let Some(stream) = hub else {
        return std::future::pending().await;
    };
    let mut bytes = [0; 64];
    loop {
        match stream.read(&mut bytes).await {
            Ok(0) => return io::ErrorKind::ConnectionReset.into(),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

/// Closes the connection and forgets recent questions: the next hub does not know them, so the next
/// packet to each destination must ask again.
fn disconnect_hub(queue: &HubDeliveryQueue, hub: &mut Option<UnixStream>, error: &io::Error) {
    tracing::info!(%error, "the hub has closed the connection");
    *hub = None;
    queue.lock_state().recently_asked.clear();
}

/// Connects to the first hub that listens.
async fn connect_first_hub(queue: &HubDeliveryQueue, warned: &mut bool) -> Option<UnixStream> {
    let mut reasons = Vec::new();
    for path in &queue.hub_paths {
        match connect(path).await {
            Ok((stream, _)) => {
                let lost = queue.lock_state().outbox.take_dropped();
                if lost > 0 {
                    tracing::warn!(lost, "questions were lost while no hub was running");
                }
                tracing::info!(path = %path.display(), "connected to a hub");
                *warned = false;
                return Some(stream);
            }
            Err(error) => reasons.push(error),
        }
    }
    if !*warned {
        *warned = true;
        for error in reasons {
            tracing::warn!(%error, "the hub cannot be reached; events wait for it");
        }
    }
    None
}
