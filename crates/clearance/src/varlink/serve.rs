// SPDX-License-Identifier: Apache-2.0
//! The accept loop: one task per connection, and nothing a client does reaches another.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::standard::{self, SERVICE_INTERFACE};
use super::{
    CallParseError, ConnectionClosed, FrameError, FrameReader, MAX_CALL_BYTES, ReplyWriter,
    StandardError, VarlinkCall, VarlinkInterface,
};
use crate::DisplayText;
use crate::socket::{PeerCredentials, SameUserListener};

/// What a service says about itself.
#[derive(Debug, Clone, Copy)]
pub struct ServiceInfo {
    /// Who made it.
    pub vendor: &'static str,
    /// What it is.
    pub product: &'static str,
    /// Its release.
    pub version: &'static str,
    /// Where to read about it.
    pub url: &'static str,
    /// Its interfaces, but for `org.varlink.service`, which [`serve`] answers for all.
    pub interfaces: &'static [VarlinkInterface],
}

/// Something that answers calls.
pub trait VarlinkService: Send + Sync + 'static {
    /// Returns what the service says about itself.
    fn info(&self) -> ServiceInfo;

    /// Answers a call of one of the interfaces in [`Service::info`].
    ///
    /// The connection goes on after `Ok`, and is closed after an error. A call in progress is not
    /// cancelled when its client leaves or the service stops, only when the time to stop is over:
    /// a stream has to poll [`super::HangUp::wait`].
    fn call(
        &self,
        call: VarlinkCall<'_>,
        peer: PeerCredentials,
        replies: &mut ReplyWriter<'_>,
    ) -> impl Future<Output = Result<(), ConnectionClosed>> + Send;
}

/// How much a server takes from its clients.
#[derive(Debug, Clone, Copy)]
pub struct ServiceLimits {
    /// Connections at once; one more is closed at once.
    pub max_connections: usize,
    /// Bytes of a call.
    pub max_call_bytes: usize,
    /// How long a client may take nothing of what is written to it.
    pub write_timeout: Duration,
    /// How long calls in progress may take once the service is to stop.
    pub drain_timeout: Duration,
}

impl Default for ServiceLimits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_call_bytes: MAX_CALL_BYTES,
            write_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(2),
        }
    }
}

/// Why a server ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum VarlinkServeError {
    /// The task of a connection panicked: something is wrong with the program itself.
    #[error("the task of a connection panicked: {0}")]
    Panicked(DisplayText),
}

/// Serves `service` on `listener` until `stop`, with the usual [`Limits`].
pub async fn serve<S: VarlinkService>(
    listener: SameUserListener,
    service: Arc<S>,
    stop: CancellationToken,
) -> Result<(), VarlinkServeError> {
    serve_with_limits(listener, service, ServiceLimits::default(), stop).await
}

/// Serves `service` on `listener` until `stop`.
///
/// A client that breaks a rule is closed with a logged reason. Nothing that a client does, and no
/// lack of descriptors, ends the server; a panic does.
pub async fn serve_with_limits<S: VarlinkService>(
    listener: SameUserListener,
    service: Arc<S>,
    limits: ServiceLimits,
    stop: CancellationToken,
) -> Result<(), VarlinkServeError> {
    let mut connections = JoinSet::new();
    let mut log = ConnectionCloseLog::default();
    let mut backoff = AcceptBackoff::default();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => log.log_ended(ended)?,
            accepted = backoff.run_after_delay(listener.accept()) => match accepted {
                Ok((stream, peer)) => {
                    backoff = AcceptBackoff::default();
                    if connections.len() >= limits.max_connections {
                        log.log_closed(peer, &ConnectionError::TooManyConnections(limits.max_connections));
                    } else {
                        let (service, stop) = (Arc::clone(&service), stop.clone());
                        connections.spawn(async move {
                            (peer, serve_connection(stream, peer, &*service, limits, &stop).await)
                        });
                    }
                }
                Err(error) => {
                    log.log_accept_failure(&error);
                    backoff = backoff.increase();
                }
            },
        }
    }
    // Whoever connects now is told that nobody listens.
    drop(listener);
    let drained = timeout(limits.drain_timeout, async {
        while let Some(ended) = connections.join_next().await {
            log.log_ended(ended)?;
        }
        Ok(())
    });
    drained.await.unwrap_or_else(|_elapsed| {
        let connections = connections.len();
        tracing::warn!(connections, "calls went on when the time to stop was over");
        Ok(())
    })
}

/// Why a connection was closed.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("there are {0} connections already")]
    TooManyConnections(usize),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    MalformedCall(#[from] CallParseError),
    #[error(transparent)]
    Closed(#[from] ConnectionClosed),
}

/// Answers the calls of one client, one after the other, until it leaves or breaks a rule.
async fn serve_connection<S: VarlinkService>(
    stream: UnixStream,
    peer: PeerCredentials,
    service: &S,
    limits: ServiceLimits,
    stop: &CancellationToken,
) -> Result<(), ConnectionError> {
    let stream = Arc::new(stream);
    let mut frames = FrameReader::new(Arc::clone(&stream), limits.max_call_bytes);
    loop {
        let frame = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            frame = frames.next() => frame?,
        };
        let Some(frame) = frame else { return Ok(()) };
        let call = VarlinkCall::parse(&frame)?;
        let mut replies = ReplyWriter {
            stream: &stream,
            frames: &frames,
            write_timeout: limits.write_timeout,
            stop,
            oneway: call.oneway,
        };
        dispatch_call(service, call, peer, &mut replies).await?;
    }
}

async fn dispatch_call<S: VarlinkService>(
    service: &S,
    call: VarlinkCall<'_>,
    peer: PeerCredentials,
    replies: &mut ReplyWriter<'_>,
) -> Result<(), ConnectionClosed> {
    let info = service.info();
    if call.upgrade {
        let method = call.method().to_owned();
        let error = StandardError::MethodNotImplemented { method };
        replies.send_error(&error).await
    } else if call.interface() == SERVICE_INTERFACE.name {
        standard::answer_service_call(&info, &call, replies).await
    } else if info
        .interfaces
        .iter()
        .any(|known| known.name == call.interface())
    {
        service.call(call, peer, replies).await
    } else {
        let interface = call.interface().to_owned();
        let error = StandardError::InterfaceNotFound { interface };
        replies.send_error(&error).await
    }
}

/// Waits longer after each failure, so that a lack of descriptors is no busy loop.
#[derive(Debug, Clone, Copy, Default)]
struct AcceptBackoff {
    retry_at: Option<Instant>,
    delay: Duration,
}

impl AcceptBackoff {
    const MIN_DELAY: Duration = Duration::from_millis(10);
    const MAX_DELAY: Duration = Duration::from_secs(1);

    fn increase(self) -> Self {
        let wait = self
            .delay
            .saturating_mul(2)
            .clamp(Self::MIN_DELAY, Self::MAX_DELAY);
        Self {
            retry_at: Instant::now().checked_add(wait),
            delay: wait,
        }
    }

    async fn run_after_delay<T>(self, accept: impl Future<Output = T>) -> T {
        if let Some(until) = self.retry_at {
            sleep(until.saturating_duration_since(Instant::now())).await;
        }
        accept.await
    }
}

/// Logs why connections were closed, a few a second, and counts the others.
#[derive(Debug, Default)]
struct ConnectionCloseLog {
    window_end: Option<Instant>,
    lines_in_window: u32,
    suppressed: u64,
}

impl ConnectionCloseLog {
    const MAX_LINES_PER_WINDOW: u32 = 5;
    const RATE_WINDOW: Duration = Duration::from_secs(1);

    fn log_ended(
        &mut self,
        ended: Result<(PeerCredentials, Result<(), ConnectionError>), JoinError>,
    ) -> Result<(), VarlinkServeError> {
        match ended {
            Ok((peer, Err(reason))) => self.log_closed(peer, &reason),
            Err(error) if error.is_panic() => return Err(panic_error(error)),
            Ok((_, Ok(()))) | Err(_) => {}
        }
        Ok(())
    }

    fn log_closed(&mut self, peer: PeerCredentials, reason: &ConnectionError) {
        if let ConnectionError::Closed(ConnectionClosed::HungUp | ConnectionClosed::Stopping) =
            reason
        {
            tracing::debug!(pid = peer.pid, %reason, "a connection ended");
        } else if let Some(unsaid) = self.admit_line() {
            let reason = DisplayText::new(&reason.to_string());
            tracing::warn!(pid = peer.pid, uid = peer.uid, %reason, unsaid, "closed a connection");
        }
    }

    fn log_accept_failure(&mut self, error: &io::Error) {
        if let Some(unsaid) = self.admit_line() {
            tracing::warn!(%error, unsaid, "could not accept a connection, trying again");
        }
    }

    /// Returns how many lines were left out before this one, `None` if it is to be left out too.
    fn admit_line(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.window_end.is_none_or(|until| now >= until) {
            self.window_end = now.checked_add(Self::RATE_WINDOW);
            self.lines_in_window = 0;
        }
        if self.lines_in_window >= Self::MAX_LINES_PER_WINDOW {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.lines_in_window = self.lines_in_window.saturating_add(1);
        Some(std::mem::take(&mut self.suppressed))
    }
}

fn panic_error(error: JoinError) -> VarlinkServeError {
    let payload = error.into_panic();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    VarlinkServeError::Panicked(DisplayText::new(text))
}
