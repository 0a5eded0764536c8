// SPDX-License-Identifier: Apache-2.0
//! The accept loop: one task per connection, and nothing a client does reaches another.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::standard::{self, SERVICE};
use super::{
    Call, Closed, FRAME_LIMIT, FrameError, Frames, Interface, Replies, StandardError, Violation,
};
use crate::DisplayText;
use crate::socket::{Listener, Peer};

/// What a service says about itself.
#[derive(Debug, Clone, Copy)]
pub struct Info {
    /// Who made it.
    pub vendor: &'static str,
    /// What it is.
    pub product: &'static str,
    /// Its release.
    pub version: &'static str,
    /// Where to read about it.
    pub url: &'static str,
    /// Its interfaces, but for `org.varlink.service`, which [`serve`] answers for all.
    pub interfaces: &'static [Interface],
}

/// Something that answers calls.
pub trait Service: Send + Sync + 'static {
    /// Returns what the service says about itself.
    fn info(&self) -> Info;

    /// Answers a call of one of the interfaces in [`Service::info`].
    ///
    /// The connection goes on after `Ok`, and is closed after an error. A call in progress is not
    /// cancelled when its client leaves or the service stops, only when the time to stop is over:
    /// a stream has to poll [`super::HangUp::wait`].
    fn call(
        &self,
        call: Call<'_>,
        peer: Peer,
        replies: &mut Replies<'_>,
    ) -> impl Future<Output = Result<(), Closed>> + Send;
}

/// How much a server takes from its clients.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; one more is closed at once.
    pub connections: usize,
    /// Bytes of a call.
    pub frame: usize,
    /// How long a client may take nothing of what is written to it.
    pub write: Duration,
    /// How long calls in progress may take once the service is to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            frame: FRAME_LIMIT,
            write: Duration::from_secs(5),
            drain: Duration::from_secs(2),
        }
    }
}

/// Why a server ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The task of a connection panicked: something is wrong with the program itself.
    #[error("the task of a connection panicked: {0}")]
    Panicked(DisplayText),
}

/// Serves `service` on `listener` until `stop`, with the usual [`Limits`].
pub async fn serve<S: Service>(
    listener: Listener,
    service: Arc<S>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    serve_within(listener, service, Limits::default(), stop).await
}

/// Serves `service` on `listener` until `stop`.
///
/// A client that breaks a rule is closed with a logged reason. Nothing that a client does, and no
/// lack of descriptors, ends the server; a panic does.
pub async fn serve_within<S: Service>(
    listener: Listener,
    service: Arc<S>,
    limits: Limits,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let mut connections = JoinSet::new();
    let mut log = ClosedLog::default();
    let mut backoff = Backoff::default();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => log.ended(ended)?,
            accepted = backoff.then(listener.accept()) => match accepted {
                Ok((stream, peer)) => {
                    backoff = Backoff::default();
                    if connections.len() >= limits.connections {
                        log.closed(peer, &Reason::Full(limits.connections));
                    } else {
                        let (service, stop) = (Arc::clone(&service), stop.clone());
                        connections.spawn(async move {
                            (peer, converse(stream, peer, &*service, limits, &stop).await)
                        });
                    }
                }
                Err(error) => {
                    log.accept_failed(&error);
                    backoff = backoff.next();
                }
            },
        }
    }
    // Whoever connects now is told that nobody listens.
    drop(listener);
    let drained = timeout(limits.drain, async {
        while let Some(ended) = connections.join_next().await {
            log.ended(ended)?;
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
enum Reason {
    #[error("there are {0} connections already")]
    Full(usize),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// Answers the calls of one client, one after the other, until it leaves or breaks a rule.
async fn converse<S: Service>(
    stream: UnixStream,
    peer: Peer,
    service: &S,
    limits: Limits,
    stop: &CancellationToken,
) -> Result<(), Reason> {
    let stream = Arc::new(stream);
    let mut frames = Frames::new(Arc::clone(&stream), limits.frame);
    loop {
        let frame = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            frame = frames.next() => frame?,
        };
        let Some(frame) = frame else { return Ok(()) };
        let call = Call::parse(&frame)?;
        let mut replies = Replies {
            stream: &stream,
            frames: &frames,
            patience: limits.write,
            stop,
            oneway: call.oneway,
        };
        answer(service, call, peer, &mut replies).await?;
    }
}

async fn answer<S: Service>(
    service: &S,
    call: Call<'_>,
    peer: Peer,
    replies: &mut Replies<'_>,
) -> Result<(), Closed> {
    let info = service.info();
    if call.upgrade {
        let method = call.method().to_owned();
        let error = StandardError::MethodNotImplemented { method };
        replies.error(&error).await
    } else if call.interface() == SERVICE.name {
        standard::answer(&info, &call, replies).await
    } else if info
        .interfaces
        .iter()
        .any(|known| known.name == call.interface())
    {
        service.call(call, peer, replies).await
    } else {
        let interface = call.interface().to_owned();
        let error = StandardError::InterfaceNotFound { interface };
        replies.error(&error).await
    }
}

/// Waits longer after each failure, so that a lack of descriptors is no busy loop.
#[derive(Debug, Clone, Copy, Default)]
struct Backoff {
    until: Option<Instant>,
    wait: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(10);
    const LAST: Duration = Duration::from_secs(1);

    fn next(self) -> Self {
        let wait = self.wait.saturating_mul(2).clamp(Self::FIRST, Self::LAST);
        Self {
            until: Instant::now().checked_add(wait),
            wait,
        }
    }

    async fn then<T>(self, accept: impl Future<Output = T>) -> T {
        if let Some(until) = self.until {
            sleep(until.saturating_duration_since(Instant::now())).await;
        }
        accept.await
    }
}

/// Logs why connections were closed, a few a second, and counts the others.
#[derive(Debug, Default)]
struct ClosedLog {
    until: Option<Instant>,
    lines: u32,
    unsaid: u64,
}

impl ClosedLog {
    const LINES: u32 = 5;
    const WINDOW: Duration = Duration::from_secs(1);

    fn ended(
        &mut self,
        ended: Result<(Peer, Result<(), Reason>), JoinError>,
    ) -> Result<(), ServeError> {
        match ended {
            Ok((peer, Err(reason))) => self.closed(peer, &reason),
            Err(error) if error.is_panic() => return Err(panicked(error)),
            Ok((_, Ok(()))) | Err(_) => {}
        }
        Ok(())
    }

    fn closed(&mut self, peer: Peer, reason: &Reason) {
        if let Reason::Closed(Closed::HungUp | Closed::Stopping) = reason {
            tracing::debug!(pid = peer.pid, %reason, "a connection ended");
        } else if let Some(unsaid) = self.has_room() {
            let reason = DisplayText::new(&reason.to_string());
            tracing::warn!(pid = peer.pid, uid = peer.uid, %reason, unsaid, "closed a connection");
        }
    }

    fn accept_failed(&mut self, error: &io::Error) {
        if let Some(unsaid) = self.has_room() {
            tracing::warn!(%error, unsaid, "could not accept a connection, trying again");
        }
    }

    /// Returns how many lines were left out before this one, `None` if it is to be left out too.
    fn has_room(&mut self) -> Option<u64> {
        let now = Instant::now();
        if self.until.is_none_or(|until| now >= until) {
            self.until = now.checked_add(Self::WINDOW);
            self.lines = 0;
        }
        if self.lines >= Self::LINES {
            self.unsaid = self.unsaid.saturating_add(1);
            return None;
        }
        self.lines = self.lines.saturating_add(1);
        Some(std::mem::take(&mut self.unsaid))
    }
}

fn panicked(error: JoinError) -> ServeError {
    let payload = error.into_panic();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    ServeError::Panicked(DisplayText::new(text))
}
