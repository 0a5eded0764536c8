// SPDX-License-Identifier: Apache-2.0
//! The server: one task per connection, so that clients do not affect each other.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::standard::{self, SERVICE_INTERFACE};
use super::{
    CallParseError, ConnectionClosed, FrameError, FrameReader, MAX_CALL_BYTES, ReplyWriter,
    StandardError, VarlinkCall, VarlinkInterface,
};
use crate::socket::{ConnectionAcceptor, PeerCredentials, SameUserListener, SandboxListener};
use crate::{DisplayText, LogLimiter};

/// The reply of a service to `GetInfo`.
#[derive(Debug, Clone, Copy)]
pub struct ServiceInfo {
    /// The vendor.
    pub vendor: &'static str,
    /// The product.
    pub product: &'static str,
    /// The version.
    pub version: &'static str,
    /// The address of the project.
    pub url: &'static str,
    /// The interfaces, without `org.varlink.service`, which [`serve`] answers itself.
    pub interfaces: &'static [VarlinkInterface],
}

/// A service that answers calls.
pub trait VarlinkService: Send + Sync + 'static {
    /// Returns the service's description.
    fn info(&self) -> ServiceInfo;

    /// Answers a call of one of the interfaces in [`VarlinkService::info`].
    ///
    /// An error closes the connection. A call in progress is cancelled only at the end of
    /// [`ServiceLimits::drain_timeout`], not when its client disconnects or the service stops: a
    /// stream must poll [`HangUpWatcher::wait`](super::HangUpWatcher::wait).
    fn call(
        &self,
        call: VarlinkCall<'_>,
        peer: PeerCredentials,
        replies: &mut ReplyWriter<'_>,
    ) -> impl Future<Output = Result<(), ConnectionClosed>> + Send;
}

/// Limits of a server.
#[derive(Debug, Clone, Copy)]
pub struct ServiceLimits {
    /// Maximum concurrent connections; a further one is closed.
    pub max_connections: usize,
    /// Maximum bytes of a call.
    pub max_call_bytes: usize,
    /// Maximum duration of a write during which the client reads nothing.
    pub write_timeout: Duration,
    /// Time for calls in progress after the stop of the service.
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

/// An error that ends a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VarlinkServeError {
    /// The task of a connection panicked: a defect of the program.
    #[error("the task of a connection panicked: {0}")]
    Panicked(DisplayText),
}

/// Serves `service` on `listener` until `stop`, with the default [`ServiceLimits`].
pub async fn serve<S: VarlinkService>(
    listener: SameUserListener,
    service: Arc<S>,
    stop: CancellationToken,
) -> Result<(), VarlinkServeError> {
    serve_with_limits(listener, service, ServiceLimits::default(), stop).await
}

/// Serves `service` on `listener` until `stop`.
///
/// A client that violates the protocol or a limit is disconnected, and the reason logged. Neither
/// a client nor a lack of descriptors ends the server; a panic does.
pub async fn serve_with_limits<S: VarlinkService>(
    listener: SameUserListener,
    service: Arc<S>,
    limits: ServiceLimits,
    stop: CancellationToken,
) -> Result<(), VarlinkServeError> {
    let log = ConnectionCloseLog::default();
    serve_accepted(
        ConnectionAcceptor::new(listener),
        service,
        limits,
        log,
        stop,
    )
    .await
}

/// Serves `service` to the programs of a sandbox until `stop`, as [`serve_with_limits`] does.
///
/// Why a connection was closed is logged as detail only: a workload chooses how often.
pub async fn serve_sandbox<S: VarlinkService>(
    listener: SandboxListener,
    service: Arc<S>,
    limits: ServiceLimits,
    stop: CancellationToken,
) -> Result<(), VarlinkServeError> {
    let log = ConnectionCloseLog {
        is_detail: true,
        ..ConnectionCloseLog::default()
    };
    serve_accepted(listener, service, limits, log, stop).await
}

/// Accepts the connections of a server.
trait AcceptPeer {
    /// Accepts the next connection. Cancel safe.
    fn accept_peer(&mut self) -> impl Future<Output = (UnixStream, PeerCredentials)> + Send;
}

impl AcceptPeer for ConnectionAcceptor {
    async fn accept_peer(&mut self) -> (UnixStream, PeerCredentials) {
        self.accept().await
    }
}

impl AcceptPeer for SandboxListener {
    async fn accept_peer(&mut self) -> (UnixStream, PeerCredentials) {
        self.accept().await
    }
}

async fn serve_accepted<A: AcceptPeer, S: VarlinkService>(
    mut acceptor: A,
    service: Arc<S>,
    limits: ServiceLimits,
    mut log: ConnectionCloseLog,
    stop: CancellationToken,
) -> Result<(), VarlinkServeError> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => log.log_ended(ended)?,
            (stream, peer) = acceptor.accept_peer() => {
                if connections.len() >= limits.max_connections {
                    let error = ConnectionError::TooManyConnections(limits.max_connections);
                    log.log_closed(peer, &error);
                } else {
                    let (service, stop) = (Arc::clone(&service), stop.clone());
                    connections.spawn(async move {
                        (peer, serve_connection(stream, peer, &*service, limits, &stop).await)
                    });
                }
            }
        }
    }
    // Later connections are refused.
    drop(acceptor);
    let drained = timeout(limits.drain_timeout, async {
        while let Some(ended) = connections.join_next().await {
            log.log_ended(ended)?;
        }
        Ok(())
    });
    drained.await.unwrap_or_else(|_elapsed| {
        let connections = connections.len();
        tracing::warn!(
            connections,
            "calls were cancelled at the end of the drain time-out"
        );
        Ok(())
    })
}

/// The reason why a connection was closed.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("the limit of {0} connections is reached")]
    TooManyConnections(usize),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    MalformedCall(#[from] CallParseError),
    #[error(transparent)]
    Closed(#[from] ConnectionClosed),
}

/// Answers the calls of one client in turn, until the client disconnects or violates a rule.
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

/// Logs the reasons of closed connections, with a limit on the rate.
#[derive(Debug, Default)]
struct ConnectionCloseLog {
    limiter: LogLimiter,
    /// The reasons are logged as detail only.
    is_detail: bool,
}

impl ConnectionCloseLog {
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
            tracing::debug!(pid = peer.pid, %reason, "connection ended");
        } else if self.is_detail {
            tracing::debug!(pid = peer.pid, %reason, "closed a connection");
        } else if let Some(suppressed) = self.limiter.admit(Instant::now()) {
            let reason = DisplayText::new(&reason.to_string());
            let PeerCredentials { pid, uid, .. } = peer;
            tracing::warn!(pid, uid, %reason, suppressed, "closed a connection");
        }
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
