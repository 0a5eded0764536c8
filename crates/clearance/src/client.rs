// SPDX-License-Identifier: Apache-2.0
//! The client of a hub: a stream of events, and answers.
//!
//! A hub with `org.terok.Clearance2` is spoken to in that interface, every other hub in
//! `org.terok.Clearance1`. A program therefore sees the same events from a hub of the Python stack.
//!
//! The client has no task and no queue: [`EventStream::next`] does the work. Events that a program
//! reads too slowly stay in the socket. A Clearance2 hub then skips events for that program
//! alone, reports the number ([`Event::Lost`]), and repeats every pending question.
//!
//! The page of the crate has an example.

mod call_pool;
mod clearance1_translator;
mod event_stream;
mod rule_calls;
mod unknown_event;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::socket::SocketConnectError;
use crate::varlink::{CallError, NoParameters, VarlinkConnection};
use crate::wire::clearance2::{
    BypassReply, ExplainParameters, ExplainReply, HubStatus, ListedRule, RevokeReply,
};
use crate::wire::{clearance1, clearance2};
use crate::{Action, Backoff, Decision, DecisionAction, DisplayText, Scope};

pub use call_pool::AnswerError;
pub use event_stream::{EventStream, StreamUpdate};
pub use unknown_event::UnknownEvent;

#[cfg(doc)]
use crate::wire::clearance2::Event;

use call_pool::HubCallPool;
use event_stream::ReconnectSignal;

/// A client of one hub, for answers and queries. Clones share the connections.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Arc<HubEndpoint>,
    calls: Arc<HubCallPool>,
    reconnect: Arc<ReconnectSignal>,
}

/// The interface in use with a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProtocolVersion {
    /// `org.terok.Clearance1`: no snapshot after a reconnect, answers for whole destinations only,
    /// neither a list nor a history.
    Clearance1,
    /// `org.terok.Clearance2`.
    Clearance2,
}

/// An error while connecting to a hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The connection failed.
    #[error(transparent)]
    Connect(#[from] SocketConnectError),
    /// The service does not answer like a hub.
    #[error("the service at {path} does not answer like a hub")]
    Call {
        /// The socket's path.
        path: PathBuf,
        /// The error of the call.
        #[source]
        source: CallError,
    },
    /// The service has neither of the two interfaces.
    #[error("the service at {path} is not a clearance hub but {product:?}")]
    NotAHub {
        /// The socket's path.
        path: PathBuf,
        /// The service's product name.
        product: DisplayText,
    },
    /// The service did not answer before the time-out.
    #[error("the service at {path} does not answer")]
    TimedOut {
        /// The socket's path.
        path: PathBuf,
    },
}

impl Client {
    /// Connects to the hub at `path`, and subscribes to the hub's events as an observer.
    ///
    /// A missing hub is an error. After a later disconnect the stream reconnects.
    pub async fn start(path: impl Into<PathBuf>) -> Result<(Self, EventStream), HubError> {
        Self::connect(path.into(), false).await
    }

    /// Connects like [`Client::start`], and tells the hub that an operator is there to answer.
    ///
    /// A hub that holds connections holds them only while such a client is connected. A hub of an
    /// earlier release is not told.
    pub async fn start_answering(
        path: impl Into<PathBuf>,
    ) -> Result<(Self, EventStream), HubError> {
        Self::connect(path.into(), true).await
    }

    async fn connect(path: PathBuf, answers: bool) -> Result<(Self, EventStream), HubError> {
        let endpoint = Arc::new(HubEndpoint { path, answers });
        let reconnect = Arc::new(ReconnectSignal::default());
        let events = EventStream::start(Arc::clone(&endpoint), Arc::clone(&reconnect)).await?;
        let client = Self {
            calls: Arc::new(HubCallPool::new(Arc::clone(&endpoint))),
            endpoint,
            reconnect,
        };
        Ok((client, events))
    }

    /// Returns the path of the hub's socket.
    pub fn path(&self) -> &Path {
        &self.endpoint.path
    }

    /// Makes a disconnected event stream retry now instead of at the end of the back-off.
    ///
    /// Idempotent, and without effect on a connected stream.
    pub fn poke_reconnect(&self) {
        self.reconnect.trigger();
    }

    /// Answers a question, and returns the hub's record of the answer.
    ///
    /// Without a scope the answer has `request.scope`: show this scope to the operator.
    /// [`DecisionAction::Dismiss`] changes no firewall. A disconnected hub is waited for, at most
    /// [`AnswerError::HUB_WAIT_TIMEOUT`].
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
            replace: false,
        };
        self.calls.decide(answer).await
    }

    /// Changes the answer to a question that was answered by `decision`, and returns the new
    /// record. The new rule replaces that of the first answer.
    pub async fn change_decision(
        &self,
        decision: &Decision,
        action: Action,
        scope: Option<Scope>,
    ) -> Result<Decision, AnswerError> {
        let answer = clearance2::DecideParameters {
            request: decision.request.clone(),
            container: decision.container.clone(),
            dest: decision.dest.clone(),
            action: action.into(),
            scope,
            replace: true,
        };
        self.calls.decide(answer).await
    }

    /// Answers a question like `Verdict` of Clearance1, for the whole destination.
    ///
    /// The answer opens or closes every port and protocol; the rest is as in [`Client::decide`].
    pub async fn verdict(
        &self,
        verdict: &clearance1::VerdictParameters,
    ) -> Result<(), AnswerError> {
        self.calls.verdict(verdict).await
    }

    /// Returns the pending requests, oldest first. Needs a Clearance2 hub.
    pub async fn list(&self) -> Result<Vec<Arc<clearance2::Request>>, AnswerError> {
        self.calls.list().await
    }

    /// Returns the newest decisions, newest first. Needs a Clearance2 hub.
    ///
    /// `limit` is 100 by default and at most 1000.
    pub async fn history(&self, limit: Option<u32>) -> Result<Vec<Arc<Decision>>, AnswerError> {
        self.calls.history(limit).await
    }

    /// Returns the rules of the hub's sandbox, in the order of their additions.
    pub async fn rules(&self) -> Result<Vec<ListedRule>, AnswerError> {
        self.calls.rules().await
    }

    /// Ends a rule, named like `r12`, or the rules of the answers to a request, by its id; and the
    /// connections that exist because of them.
    pub async fn revoke(&self, rule: DisplayText) -> Result<RevokeReply, AnswerError> {
        self.calls.revoke(rule).await
    }

    /// Returns what the rules do with a destination.
    pub async fn explain(&self, dest: &ExplainParameters) -> Result<ExplainReply, AnswerError> {
        self.calls.explain(dest).await
    }

    /// Returns what the hub serves. [`AnswerError::TooOld`] from a hub of an earlier release.
    pub async fn status(&self) -> Result<HubStatus, AnswerError> {
        self.calls.status().await
    }

    /// Opens the internet for this number of seconds, except for what rules deny; 0 ends it.
    pub async fn bypass(&self, seconds: u32) -> Result<BypassReply, AnswerError> {
        self.calls.bypass(seconds).await
    }
}

/// The address of a hub.
#[derive(Debug)]
struct HubEndpoint {
    path: PathBuf,
    /// Whether an operator is there to answer.
    answers: bool,
}

impl HubEndpoint {
    /// Time-out for a connection and the reply to `GetInfo`.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    /// Connects, and chooses the interface.
    async fn connect(&self) -> Result<(VarlinkConnection, ProtocolVersion), HubError> {
        let negotiation = timeout(Self::CONNECT_TIMEOUT, self.negotiate_version());
        negotiation.await.unwrap_or_else(|_elapsed| {
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

/// Returns `true` if `Subscribe` of the hub has the parameter `answers`: a hub refuses parameters
/// that it does not know.
async fn supports_answers(connection: &mut VarlinkConnection) -> bool {
    #[derive(Serialize)]
    struct DescriptionParameters {
        interface: &'static str,
    }
    #[derive(Deserialize)]
    struct DescriptionReply {
        description: String,
    }
    let interface = clearance2::INTERFACE.name;
    let reply: Result<DescriptionReply, _> = connection
        .call(
            "org.varlink.service.GetInterfaceDescription",
            &DescriptionParameters { interface },
        )
        .await;
    reply.is_ok_and(|reply| {
        let method = reply.description.split_once("method Subscribe(");
        let parameters = method.and_then(|(_, rest)| rest.split_once(')'));
        parameters.is_some_and(|(parameters, _)| {
            let names = parameters
                .split(',')
                .filter_map(|one| one.split(':').next());
            names.map(str::trim).any(|name| name == "answers")
        })
    })
}

/// Returns the back-off between attempts to reach a hub.
const fn reconnect_backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(10))
}
