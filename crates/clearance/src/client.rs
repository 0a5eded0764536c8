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

mod answer;
mod events;
mod legacy;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::socket::ConnectError;
use crate::varlink::{CallError, Connection, NoParameters};
use crate::wire::{clearance1, clearance2};
use crate::{Decision, DisplayText, Resolution, Scope};

pub use answer::AnswerError;
pub use events::{Events, Update};

#[cfg(doc)]
use crate::wire::clearance2::Event;

use answer::Answers;
use events::Poke;

/// Gives answers to a hub, and asks what it knows; clones are the same client.
#[derive(Debug, Clone)]
pub struct Client {
    hub: Arc<Hub>,
    answers: Arc<Answers>,
    poke: Arc<Poke>,
}

/// Which interface a hub is spoken to in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Speaks {
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
    Connect(#[from] ConnectError),
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
    NoHub {
        /// The socket's path.
        path: PathBuf,
        /// What it says it is.
        product: DisplayText,
    },
    /// It takes too long to say what it is.
    #[error("what listens at {path} does not answer")]
    Silent {
        /// The socket's path.
        path: PathBuf,
    },
}

impl Client {
    /// Connects to the hub at `path` and subscribes to what happens there.
    ///
    /// A hub that is down now is an error; one that goes away later is waited for.
    pub async fn start(path: impl Into<PathBuf>) -> Result<(Self, Events), HubError> {
        let hub = Arc::new(Hub { path: path.into() });
        let poke = Arc::new(Poke::default());
        let events = Events::start(Arc::clone(&hub), Arc::clone(&poke)).await?;
        let client = Self {
            answers: Arc::new(Answers::new(Arc::clone(&hub))),
            hub,
            poke,
        };
        Ok((client, events))
    }

    /// Returns the path of the hub's socket.
    pub fn path(&self) -> &Path {
        &self.hub.path
    }

    /// Makes a lost event stream try again now instead of after its back-off.
    ///
    /// Does nothing while the stream is healthy; calling it often is the same as once.
    pub fn poke_reconnect(&self) {
        self.poke.poke();
    }

    /// Answers a question, and returns the hub's record of the answer.
    ///
    /// Without a scope, the answer reaches as far as `request.scope` says: show that to whoever
    /// decides. With [`Resolution::Dismiss`] nothing is written to any firewall. While the hub is
    /// away it waits for it to return, [`AnswerError::LIMIT`] at most, then fails.
    pub async fn decide(
        &self,
        request: &clearance2::Request,
        action: Resolution,
        scope: Option<Scope>,
    ) -> Result<Decision, AnswerError> {
        let answer = clearance2::Decide {
            request: request.id.clone(),
            container: request.container.clone(),
            dest: request.dest.clone(),
            action,
            scope,
        };
        self.answers.decide(answer).await
    }

    /// Answers a question the way the older interface does, by its three parts.
    ///
    /// It opens or closes the whole destination: every port and protocol. For the rest as
    /// [`Client::decide`].
    pub async fn verdict(&self, verdict: &clearance1::Verdict) -> Result<(), AnswerError> {
        self.answers.verdict(verdict).await
    }

    /// Returns what is pending, oldest first; only of a hub that speaks Clearance2.
    pub async fn list(&self) -> Result<Vec<Arc<clearance2::Request>>, AnswerError> {
        self.answers.list().await
    }

    /// Returns the newest decisions, newest first, at most `limit` (1000 at most, 100 unless
    /// said); only of a hub that speaks Clearance2.
    pub async fn history(&self, limit: Option<u32>) -> Result<Vec<Arc<Decision>>, AnswerError> {
        self.answers.history(limit).await
    }
}

/// Where a hub is, and how to get to it.
#[derive(Debug)]
struct Hub {
    path: PathBuf,
}

impl Hub {
    /// How long a hub may take to accept a connection and say what it is.
    const GREETING: Duration = Duration::from_secs(5);

    /// Connects, and asks what the hub speaks.
    async fn connect(&self) -> Result<(Connection, Speaks), HubError> {
        let greeting = timeout(Self::GREETING, self.greet());
        greeting.await.unwrap_or_else(|_elapsed| {
            let path = self.path.clone();
            Err(HubError::Silent { path })
        })
    }

    async fn greet(&self) -> Result<(Connection, Speaks), HubError> {
        #[derive(Deserialize)]
        struct Info {
            product: DisplayText,
            interfaces: Vec<String>,
        }
        let path = || self.path.clone();
        let mut connection = Connection::connect(&self.path).await?;
        let info: Info = connection
            .call("org.varlink.service.GetInfo", &NoParameters {})
            .await
            .map_err(|source| HubError::Call {
                path: path(),
                source,
            })?;
        let has = |name: &str| info.interfaces.iter().any(|known| known == name);
        if has(clearance2::INTERFACE.name) {
            Ok((connection, Speaks::Clearance2))
        } else if has(clearance1::INTERFACE.name) {
            Ok((connection, Speaks::Clearance1))
        } else {
            Err(HubError::NoHub {
                path: path(),
                product: info.product,
            })
        }
    }
}

/// Waits longer after each failure: 100 ms, then twice as long each time, 10 s at most.
#[derive(Debug, Clone, Copy, Default)]
struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LAST: Duration = Duration::from_secs(10);

    /// Returns how long to wait now.
    fn next(&mut self) -> Duration {
        self.0 = self.0.saturating_mul(2).clamp(Self::FIRST, Self::LAST);
        self.0
    }
}
