// SPDX-License-Identifier: Apache-2.0
//! Lines on their way to a hub that may be away, and come back as another.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reader::{DedupWindow, ReaderOutbox};
use terok_clearance::Dest;
use terok_clearance::socket::connect;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// What is to be told to a hub, and what it was told.
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
    /// Returns an empty one for the hub that listens at one of `hubs`.
    pub(super) fn new(hubs: Vec<PathBuf>) -> Self {
        Self {
            hub_paths: hubs,
            state: Mutex::default(),
            line_queued: Notify::new(),
        }
    }

    /// Says whether a question about `dest` is news at `now`: the hub was not asked lately, and
    /// it is not about to be.
    pub(super) fn should_ask(&self, dest: &Dest, now: Instant) -> bool {
        let state = self.lock_state();
        state.recently_asked.permits(dest, now) && !state.outbox.has_question(dest)
    }

    /// Adds a line, and what it asks about.
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
        // Nothing in it is left half done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a hub may take for one line: one that stands still is no hub.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The shortest and the longest pause before a hub that is away is looked for again.
const RECONNECT_BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long the last lines may take after the end. A hook waits two seconds before it kills.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Delivers what comes into `mailbox`, until `told` is cancelled and all of it is delivered, or
/// has had its time.
pub(super) async fn deliver_lines(mailbox: &HubDeliveryQueue, told: &CancellationToken) {
    let all = async {
        told.cancelled().await;
        sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        () = run_delivery_loop(mailbox, told) => {}
        () = all => {
            let left = mailbox.lock_state().outbox.len();
            if left > 0 {
                tracing::warn!(left, "no hub took the last lines");
            }
        }
    }
}

async fn run_delivery_loop(mailbox: &HubDeliveryQueue, told: &CancellationToken) {
    let mut hub: Option<UnixStream> = None;
    let mut pause = RECONNECT_BACKOFF.0;
    let mut warned = false;
    loop {
        let Some(line) = mailbox.peek_line() else {
            if told.is_cancelled() {
                return;
            }
            tokio::select! {
                () = mailbox.line_queued.notified() => {}
                () = told.cancelled() => {}
                error = wait_for_hangup(&mut hub) => disconnect_hub(mailbox, &mut hub, &error),
            }
            continue;
        };
        let Some(stream) = &mut hub else {
            hub = connect_first_hub(mailbox, &mut warned).await;
            if hub.is_none() {
                sleep(pause).await;
                pause = pause.saturating_mul(2).min(RECONNECT_BACKOFF.1);
            }
            continue;
        };
        pause = RECONNECT_BACKOFF.0;
        match write_line(stream, &line).await {
            Ok(()) => mailbox.mark_delivered(Instant::now()),
            Err(error) => disconnect_hub(mailbox, &mut hub, &error),
        }
    }
}

/// Writes a line, unless the hub has hung up: then it would never be read.
async fn write_line(stream: &mut UnixStream, line: &[u8]) -> io::Result<()> {
    let mut byte = [0];
    match stream.try_read(&mut byte) {
        Ok(0) => return Err(io::ErrorKind::ConnectionReset.into()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
        // A hub says nothing; one that does is not asked why.
        Ok(_) | Err(_) => {}
    }
    match timeout(WRITE_TIMEOUT, stream.write_all(line)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Waits for the hub to hang up, if there is one.
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

/// Takes note of a hub that is gone. Its successor knows nothing of what it was asked: so the next
/// packet to any destination asks again.
fn disconnect_hub(mailbox: &HubDeliveryQueue, hub: &mut Option<UnixStream>, error: &io::Error) {
    tracing::info!(%error, "the hub is gone");
    *hub = None;
    mailbox.lock_state().recently_asked.clear();
}

/// Connects to the first hub that listens.
async fn connect_first_hub(mailbox: &HubDeliveryQueue, warned: &mut bool) -> Option<UnixStream> {
    let mut reasons = Vec::new();
    for path in &mailbox.hub_paths {
        match connect(path).await {
            Ok((stream, _)) => {
                let lost = mailbox.lock_state().outbox.take_dropped();
                if lost > 0 {
                    tracing::warn!(lost, "questions lost while no hub was there");
                }
                tracing::info!(path = %path.display(), "telling a hub");
                *warned = false;
                return Some(stream);
            }
            Err(error) => reasons.push(error),
        }
    }
    if !*warned {
        *warned = true;
        for error in reasons {
            tracing::warn!(%error, "the hub cannot be reached; what there is to tell waits");
        }
    }
    None
}
