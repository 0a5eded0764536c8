// SPDX-License-Identifier: Apache-2.0
//! A hub's client: what happens, as a stream that outlives the hub, and answers to it.
//!
//! It speaks `org.terok.Clearance2` with a hub that has it, and else `org.terok.Clearance1`, so a
//! program written with it works with the Python stack's hub too, and sees the same events.
//!
//! No task and no queue of its own: [`Events::next`] drives everything. What a program is too slow
//! to take stays in the socket, and a hub of ours then skips ahead for that program alone, loses
//! no pending question, and says that it skipped ([`Event::Lost`]).
//!
//! ```no_run
//! use terok_clearance::client::{Client, Update};
//! use terok_clearance::wire::clearance2::Event;
//! use terok_clearance::Resolution;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let (client, mut events) = Client::start("/run/user/1000/terok-clearance.sock").await?;
//! loop {
//!     if let Update::Event(Event::Pending(request)) = events.next().await {
//!         client.decide(&request, Resolution::Deny, None).await?;
//!     }
//! }
//! # }
//! ```

mod call_pool;
mod clearance1_translator;
mod event_stream;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::socket::SocketConnectError;
use crate::varlink::{CallError, NoParameters, VarlinkConnection};
use crate::wire::{clearance1, clearance2};
use crate::{Decision, DecisionAction, DisplayText, Scope};

pub use call_pool::AnswerError;
pub use event_stream::{EventStream, StreamUpdate};

#[cfg(doc)]
use crate::wire::clearance2::Event;

use call_pool::HubCallPool;
use event_stream::ReconnectSignal;

/// Gives answers to a hub, and asks what it knows; clones are the same client.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Arc<HubEndpoint>,
    calls: Arc<HubCallPool>,
    reconnect: Arc<ReconnectSignal>,
}

/// Which interface a hub is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProtocolVersion {
    /// `org.terok.Clearance1`: nothing is said again after a reconnect, answers open whole
    /// destinations, and there is neither a list nor a history.
    Clearance1,
    /// `org.terok.Clearance2`.
    Clearance2,
}

/// Why there is no hub to speak to.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] SocketConnectError),
    /// It does not answer as a hub.
    #[error("what listens at {path} does not answer as a hub")]
    Call {
        /// The socket's path.
        path: PathBuf,
        /// What it did.
        #[source]
        source: CallError,
    },
    /// It has neither of the two interfaces.
    #[error("what listens at {path} is no clearance hub but {product:?}")]
    NotAHub {
        /// The socket's path.
        path: PathBuf,
        /// What it says it is.
        product: DisplayText,
    },
    /// It takes too long to say what it is.
    #[error("what listens at {path} does not answer")]
    TimedOut {
        /// The socket's path.
        path: PathBuf,
    },
}

impl Client {
    /// Connects to the hub at `path` and subscribes to what happens there.
    ///
    /// A hub that is down now is an error; one that goes away later is waited for.
    pub async fn start(path: impl Into<PathBuf>) -> Result<(Self, EventStream), HubError> {
        let hub = Arc::new(HubEndpoint { path: path.into() });
        let poke = Arc::new(ReconnectSignal::default());
        let events = EventStream::start(Arc::clone(&hub), Arc::clone(&poke)).await?;
        let client = Self {
            calls: Arc::new(HubCallPool::new(Arc::clone(&hub))),
            endpoint: hub,
            reconnect: poke,
        };
        Ok((client, events))
    }

    /// Returns the path of the hub's socket.
    pub fn path(&self) -> &Path {
        &self.endpoint.path
    }

    /// Makes a lost event stream try again now instead of after its back-off.
    ///
    /// Does nothing while the stream is healthy; calling it often is the same as once.
    pub fn poke_reconnect(&self) {
        self.reconnect.trigger();
    }

    /// Answers a question, and returns the hub's record of the answer.
    ///
    /// Without a scope, the answer reaches as far as `request.scope` says: show that to whoever
    /// decides. With [`Resolution::Dismiss`] nothing is written to any firewall. While the hub is
    /// away it waits for it to return, [`AnswerError::LIMIT`] at most, then fails.
    pub async fn decide(
        &self,
        request: &clearance2::Request,
        action: DecisionAction,
        scope: Option<Scope>,
    ) -> Result<Decision, AnswerError> {
        let answer = clearance2::DecideParameters {
            request: request.id.clone(),
            container: request.container.clone(),
            dest: request.dest.clone(),
            action,
            scope,
        };
        self.calls.decide(answer).await
    }

    /// Answers a question the way the older interface does, by its three parts.
    ///
    /// It opens or closes the whole destination: every port and protocol. For the rest as
    /// [`Client::decide`].
    pub async fn verdict(
        &self,
        verdict: &clearance1::VerdictParameters,
    ) -> Result<(), AnswerError> {
        self.calls.verdict(verdict).await
    }

    /// Returns what is pending, oldest first; only of a hub that speaks Clearance2.
    pub async fn list(&self) -> Result<Vec<Arc<clearance2::Request>>, AnswerError> {
        self.calls.list().await
    }

    /// Returns the newest decisions, newest first, at most `limit` (1000 at most, 100 unless
    /// said); only of a hub that speaks Clearance2.
    pub async fn history(&self, limit: Option<u32>) -> Result<Vec<Arc<Decision>>, AnswerError> {
        self.calls.history(limit).await
    }
}

/// Where a hub is, and how to get to it.
#[derive(Debug)]
struct HubEndpoint {
    path: PathBuf,
}

impl HubEndpoint {
    /// How long a hub may take to accept a connection and say what it is.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// Connects, and asks what the hub speaks.
    async fn connect(&self) -> Result<(VarlinkConnection, ProtocolVersion), HubError> {
        let greeting = timeout(Self::CONNECT_TIMEOUT, self.negotiate_version());
        greeting.await.unwrap_or_else(|_elapsed| {
            let path = self.path.clone();
            Err(HubError::TimedOut { path })
        })
    }

    async fn negotiate_version(&self) -> Result<(VarlinkConnection, ProtocolVersion), HubError> {
        #[derive(Deserialize)]
        struct HubInfoReply {
            product: DisplayText,
            interfaces: Vec<String>,
        }
        let path = || self.path.clone();
        let mut connection = VarlinkConnection::connect(&self.path).await?;
        let info: HubInfoReply = connection
            .call("org.varlink.service.GetInfo", &NoParameters {})
            .await
            .map_err(|source| HubError::Call {
                path: path(),
                source,
            })?;
        let has = |name: &str| info.interfaces.iter().any(|known| known == name);
        if has(clearance2::INTERFACE.name) {
            Ok((connection, ProtocolVersion::Clearance2))
        } else if has(clearance1::INTERFACE.name) {
            Ok((connection, ProtocolVersion::Clearance1))
        } else {
            Err(HubError::NotAHub {
                path: path(),
                product: info.product,
            })
        }
    }
}

/// Waits longer after each failure: 100 ms, then twice as long each time, 10 s at most.
#[derive(Debug, Clone, Copy, Default)]
struct ReconnectBackoff(Duration);

impl ReconnectBackoff {
    const MIN_DELAY: Duration = Duration::from_millis(100);
    const MAX_DELAY: Duration = Duration::from_secs(10);

    /// Returns how long to wait now.
    fn next_delay(&mut self) -> Duration {
        self.0 = self
            .0
            .saturating_mul(2)
            .clamp(Self::MIN_DELAY, Self::MAX_DELAY);
        self.0
    }
}
