// SPDX-License-Identifier: Apache-2.0
//! The accept loop: retries after a failed accept, and binds a removed path again.

use std::io;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until};

use super::path_watch::PathWatch;
use super::{PeerCredentials, SameUserListener};
use crate::{Backoff, LogLimiter, error_chain};

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
    /// The watch on the path of a listener that binds it again.
    watch: Option<PathWatch>,
    /// Whether the path leads to something else, which was logged.
    displaced: bool,
    /// Connections that were made before the path was bound again.
    earlier: Vec<UnixStream>,
}

impl ConnectionAcceptor {
    const MIN_RETRY_DELAY: Duration = Duration::from_millis(10);
    const MAX_RETRY_DELAY: Duration = Duration::from_secs(1);

    /// Creates an acceptor. Dropping it closes the listener.
    pub fn new(listener: SameUserListener) -> Self {
        let watch = listener.rebinds().then(|| PathWatch::new(listener.path()));
        let watch = watch.and_then(|watch| match watch {
            Ok(watch) => Some(watch),
            Err(error) => {
                let path = listener.path().display();
                tracing::warn!(%path, %error, "cannot notice the removal of a socket");
                None
            }
        });
        Self {
            watch,
            displaced: false,
            earlier: Vec::new(),
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
            if let Some(stream) = self.earlier.pop() {
                match self.listener.admit(stream) {
                    Some(accepted) => return accepted,
                    None => continue,
                }
            }
            let changed = async {
                match &self.watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            let accepted = tokio::select! {
                biased;
                () = changed => None,
                accepted = self.listener.accept() => Some(accepted),
            };
            let Some(accepted) = accepted else {
                self.restore_path();
                continue;
            };
            match accepted {
                Ok(accepted) => {
                    self.backoff.reset();
                    return accepted;
                }
                Err(error) => self.schedule_retry(&error),
            }
        }
    }

    /// Binds the path again if it does not lead to the listener.
    fn restore_path(&mut self) {
        if let Some(watch) = &self.watch {
            watch.update();
        }
        if self.listener.is_at_path() {
            self.displaced = false;
            return;
        }
        match self.listener.rebind() {
            Ok(waiting) => {
                self.earlier.extend(waiting);
                self.displaced = false;
                let path = self.listener.path().display();
                tracing::info!(%path, "the socket was removed; it is bound anew");
            }
            Err(error) if self.displaced => {
                tracing::debug!(error = %error_chain(&error), "the socket is still missing");
            }
            Err(error) => {
                self.displaced = true;
                let path = self.listener.path().display();
                tracing::warn!(
                    %path,
                    error = %error_chain(&error),
                    "the socket was removed and cannot be bound anew yet; nobody can connect"
                );
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
