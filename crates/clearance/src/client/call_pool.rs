// SPDX-License-Identifier: Apache-2.0
//! Answers on their way to the hub: none is lost in silence, none waits for another.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use super::clearance1_translator::{self, now_micros};
use super::{HubEndpoint, HubError, ProtocolVersion, ReconnectBackoff};
use crate::varlink::{CallError, ErrorReply, NoParameters, VarlinkConnection};
use crate::wire::clearance1;
use crate::wire::clearance2::{self, DecideError, DecideParameters, Request};
use crate::{Decision, DecisionAction, DisplayText, RequestId, Scope};

/// Why an answer has no effect, or nobody knows whether it has.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The hub did not return in time: the answer was not sent.
    #[error("there is no hub: the answer was not sent")]
    NoHub(#[source] HubError),
    /// The answer was sent, and the hub was gone or silent before it said what became of it.
    #[error("the hub did not say what became of the answer")]
    Unanswered(#[source] CallError),
    /// The answer was sent, and the hub did not answer in time.
    #[error("the hub did not say within {0:?} what became of the answer")]
    TimedOut(Duration),
    /// The hub refused the answer, and nothing was opened.
    #[error(transparent)]
    Refused(DecideError),
    /// The hub refused the answer for a reason that is not its interface's.
    #[error("the hub refused: {0}")]
    Other(ErrorReply),
    /// The hub speaks Clearance1 only, which has no such thing.
    #[error("the hub is an older one, which cannot do this: {0}")]
    TooOld(&'static str),
}

impl AnswerError {
    /// How long a client waits for a hub that is away.
    pub const HUB_WAIT_TIMEOUT: Duration = Duration::from_secs(5);
    /// How long a hub may take to say what became of an answer: the firewall's 10 s, and some.
    pub const REPLY_TIMEOUT: Duration = Duration::from_secs(15);
}

/// Connections for answers: each answer has one of its own, so a slow firewall delays no other.
#[derive(Debug)]
pub(super) struct HubCallPool {
    endpoint: Arc<HubEndpoint>,
    idle_connections: Mutex<Vec<(VarlinkConnection, ProtocolVersion)>>,
    permits: Semaphore,
}

impl HubCallPool {
    /// The connections for answers that a client opens at most.
    const MAX_CONNECTIONS: usize = 16;

    pub(super) fn new(hub: Arc<HubEndpoint>) -> Self {
        Self {
            endpoint: hub,
            idle_connections: Mutex::new(Vec::new()),
            permits: Semaphore::new(Self::MAX_CONNECTIONS),
        }
    }

    pub(super) async fn decide(&self, answer: DecideParameters) -> Result<Decision, AnswerError> {
        self.with_connection(async |connection, speaks| match speaks {
            ProtocolVersion::Clearance2 => {
                let decided: clearance2::DecideReply = call_method(
                    connection,
                    clearance2::DECIDE,
                    &answer,
                    Some(&answer.request),
                )
                .await?;
                Ok(decided.decision)
            }
            ProtocolVersion::Clearance1 => decide_via_clearance1(connection, &answer).await,
        })
        .await
    }

    pub(super) async fn verdict(
        &self,
        verdict: &clearance1::VerdictParameters,
    ) -> Result<(), AnswerError> {
        self.with_connection(async |connection, _| {
            let request = verdict.request_id.parse().ok();
            call_method(connection, clearance1::VERDICT, verdict, request.as_ref())
                .await
                .map(|clearance1::Clearance1VerdictReply { .. }| ())
        })
        .await
    }

    pub(super) async fn list(&self) -> Result<Vec<Arc<Request>>, AnswerError> {
        self.with_connection(async |connection, speaks| {
            require_clearance2(speaks, "listing what is pending")?;
            let list: clearance2::ListReply =
                call_method(connection, clearance2::LIST, &NoParameters {}, None).await?;
            Ok(list.requests)
        })
        .await
    }

    pub(super) async fn history(
        &self,
        limit: Option<u32>,
    ) -> Result<Vec<Arc<Decision>>, AnswerError> {
        #[derive(Serialize)]
        struct HistoryParameters {
            limit: Option<u32>,
        }
        self.with_connection(async |connection, speaks| {
            require_clearance2(speaks, "the history of decisions")?;
            let parameters = HistoryParameters { limit };
            let history: clearance2::HistoryReply =
                call_method(connection, clearance2::HISTORY, &parameters, None).await?;
            Ok(history.decisions)
        })
        .await
    }

    /// Runs `ask` on a connection that nobody else uses, within the time limits.
    async fn with_connection<T>(
        &self,
        ask: impl AsyncFnOnce(&mut VarlinkConnection, ProtocolVersion) -> Result<T, AnswerError>,
    ) -> Result<T, AnswerError> {
        // Never closed, so there is always a permit in the end.
        let _permit = self.permits.acquire().await;
        let (mut connection, speaks) = self
            .acquire_connection()
            .await
            .map_err(AnswerError::NoHub)?;
        let limit = AnswerError::REPLY_TIMEOUT;
        let result = tokio::time::timeout(limit, ask(&mut connection, speaks))
            .await
            .unwrap_or(Err(AnswerError::TimedOut(limit)));
        if connection.is_idle() {
            self.lock_idle_connections().push((connection, speaks));
        }
        result
    }

    /// Returns a connection that was alive a moment ago, waiting for the hub where it has to.
    async fn acquire_connection(&self) -> Result<(VarlinkConnection, ProtocolVersion), HubError> {
        let idle = std::mem::take(&mut *self.lock_idle_connections());
        let mut alive: Vec<_> = idle
            .into_iter()
            .filter(|(idle, _)| idle.is_idle())
            .collect();
        let taken = alive.pop();
        self.lock_idle_connections().append(&mut alive);
        if let Some(taken) = taken {
            return Ok(taken);
        }
        let start = Instant::now();
        let deadline = start
            .checked_add(AnswerError::HUB_WAIT_TIMEOUT)
            .unwrap_or(start);
        let mut backoff = ReconnectBackoff::default();
        loop {
            let silent = || HubError::TimedOut {
                path: self.endpoint.path.clone(),
            };
            let attempt = timeout_at(deadline, self.endpoint.connect()).await;
            let error = match attempt.unwrap_or_else(|_elapsed| Err(silent())) {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            if timeout_at(deadline, sleep(backoff.next_delay()))
                .await
                .is_err()
            {
                return Err(error);
            }
        }
    }

    fn lock_idle_connections(
        &self,
    ) -> std::sync::MutexGuard<'_, Vec<(VarlinkConnection, ProtocolVersion)>> {
        self.idle_connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

const fn require_clearance2(
    speaks: ProtocolVersion,
    what: &'static str,
) -> Result<(), AnswerError> {
    match speaks {
        ProtocolVersion::Clearance2 => Ok(()),
        ProtocolVersion::Clearance1 => Err(AnswerError::TooOld(what)),
    }
}

/// Answers through Clearance1, which knows whole destinations only.
async fn decide_via_clearance1(
    connection: &mut VarlinkConnection,
    answer: &DecideParameters,
) -> Result<Decision, AnswerError> {
    let whole = Scope::whole_dest(answer.dest.clone());
    if answer.scope.as_ref().is_some_and(|scope| *scope != whole) {
        return Err(AnswerError::TooOld(
            "an answer for less than the destination",
        ));
    }
    let action = match answer.action {
        DecisionAction::Allow => Some(crate::Action::Allow),
        DecisionAction::Deny => Some(crate::Action::Deny),
        // Nobody has to know: the hub keeps the question, and the next packet asks again.
        DecisionAction::Dismiss => None,
    };
    if let Some(action) = action {
        let verdict = clearance1::VerdictParameters {
            container: answer.container.to_string(),
            request_id: answer.request.to_string(),
            dest: answer.dest.to_string(),
            action: action.to_string(),
        };
        let clearance1::Clearance1VerdictReply { ok: _ } = call_method(
            connection,
            clearance1::VERDICT,
            &verdict,
            Some(&answer.request),
        )
        .await?;
    }
    Ok(Decision {
        request: answer.request.clone(),
        container: answer.container.clone(),
        dest: answer.dest.clone(),
        action: answer.action,
        scope: action.map(|_| whole),
        by: DisplayText::new("us"),
        at: now_micros(),
        ok: true,
        reason: None,
    })
}

/// Calls `method`; a refusal is about `request`, where the call is about one.
async fn call_method<P: Serialize, R: DeserializeOwned>(
    connection: &mut VarlinkConnection,
    method: &str,
    parameters: &P,
    request: Option<&RequestId>,
) -> Result<R, AnswerError> {
    let reply = match connection.call(method, parameters).await {
        Ok(reply) => return Ok(reply),
        Err(CallError::Refused(reply)) => reply,
        Err(error) => return Err(AnswerError::Unanswered(error)),
    };
    let old = || clearance1_translator::translate_error(reply.decode()?, request?);
    match reply.decode().or_else(old) {
        Some(refusal) => Err(AnswerError::Refused(refusal)),
        None => Err(AnswerError::Other(reply)),
    }
}
