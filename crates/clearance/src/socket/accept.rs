// SPDX-License-Identifier: Apache-2.0
//! The accept loop's retry after a failed accept.

use std::io;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};

use super::{PeerCredentials, SameUserListener};
use crate::{Backoff, LogLimiter};

/// Accepts connections from a listener, and retries with a back-off after a failure.
///
/// An accept fails while the process is out of descriptors: retrying at once would be a busy
/// loop, and giving up would end the service.
#[derive(Debug)]
pub struct ConnectionAcceptor {
    listener: SameUserListener,
    backoff: Backoff,
    retry_at: Option<Instant>,
    log: LogLimiter,
}

impl ConnectionAcceptor {
    const MIN_RETRY_DELAY: Duration = Duration::from_millis(10);
    const MAX_RETRY_DELAY: Duration = Duration::from_secs(1);

    /// Creates an acceptor. Dropping it closes the listener.
    pub const fn new(listener: SameUserListener) -> Self {
        Self {
            listener,
            backoff: Backoff::new(Self::MIN_RETRY_DELAY, Self::MAX_RETRY_DELAY),
            retry_at: None,
            log: LogLimiter::new(),
        }
    }

    /// Accepts the next connection of the listener's user. Cancel safe.
    pub async fn accept(&mut self) -> (UnixStream, PeerCredentials) {
        loop {
            if let Some(retry_at) = self.retry_at {
                sleep_until(retry_at).await;
                self.retry_at = None;
            }
            match self.listener.accept().await {
                Ok(accepted) => {
                    self.backoff.reset();
                    return accepted;
                }
                Err(error) => self.schedule_retry(&error),
            }
        }
    }

    fn schedule_retry(&mut self, error: &io::Error) {
        let now = Instant::now();
        let delay = self.backoff.record_failure();
        self.retry_at = now.checked_add(delay);
        if let Some(suppressed) = self.log.admit(now) {
            let path = self.listener.path().display();
            tracing::warn!(%path, %error, ?delay, suppressed, "cannot accept a connection");
        }
    }
}
