// SPDX-License-Identifier: Apache-2.0
//! Connections for answers: each answer has an outcome, and none waits for another.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use super::clearance1_translator;
use super::{HubEndpoint, HubError, ProtocolVersion, reconnect_backoff};
use crate::varlink::{CallError, ErrorReply, NoParameters, VarlinkConnection};
use crate::wire::clearance1;
use crate::wire::clearance2::{self, DecideError, DecideParameters, Request, RuleCallError};
use crate::{Decision, DecisionAction, DisplayText, RequestId, Scope, Timestamp};

/// An error of an answer: no effect, or an unknown effect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// No hub was reached before the time-out: the answer was not sent.
    #[error("no hub is running: the answer was not sent")]
    NoHub(#[source] HubError),
    /// The answer was sent, and the connection failed before the reply: the effect is unknown.
    #[error("the hub did not confirm the answer")]
    Unanswered(#[source] CallError),
    /// The answer was sent, and no reply arrived before the time-out: the effect is unknown.
    #[error("the hub did not confirm the answer within {0:?}")]
    TimedOut(Duration),
    /// The hub refused the answer; nothing was opened.
    #[error(transparent)]
    Refused(DecideError),
    /// The hub refused a call about rules; nothing was changed.
    #[error(transparent)]
    RuleRefused(RuleCallError),
    /// The hub refused the answer with an error of another interface.
    #[error("the hub refused the answer: {0}")]
    Other(ErrorReply),
    /// The operation needs Clearance2, and the hub has Clearance1 only.
    #[error("the hub is too old for {0}")]
    TooOld(&'static str),
}

impl AnswerError {
    /// Maximum wait for a disconnected hub.
    pub const HUB_WAIT_TIMEOUT: Duration = Duration::from_secs(5);
    /// Time-out of a reply: longer than the firewall's time-out of 10 s.
    pub const REPLY_TIMEOUT: Duration = Duration::from_secs(15);
}

/// Connections for answers. Each answer has a connection of its own, so that a slow firewall delays
/// no other answer.
#[derive(Debug)]
pub(super) struct HubCallPool {
    endpoint: Arc<HubEndpoint>,
    idle_connections: Mutex<Vec<(VarlinkConnection, ProtocolVersion)>>,
    permits: Semaphore,
}

impl HubCallPool {
    /// Maximum connections of a client.
    const MAX_CONNECTIONS: usize = 16;

    pub(super) fn new(endpoint: Arc<HubEndpoint>) -> Self {
        Self {
            endpoint,
            idle_connections: Mutex::new(Vec::new()),
            permits: Semaphore::new(Self::MAX_CONNECTIONS),
        }
    }

    pub(super) async fn decide(&self, answer: DecideParameters) -> Result<Decision, AnswerError> {
        self.with_connection(async |connection, version| match version {
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
        self.with_connection(async |connection, version| {
            require_clearance2(version, "a list of the pending requests")?;
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
        self.with_connection(async |connection, version| {
            require_clearance2(version, "the history of decisions")?;
            let parameters = HistoryParameters { limit };
            let history: clearance2::HistoryReply =
                call_method(connection, clearance2::HISTORY, &parameters, None).await?;
            Ok(history.decisions)
        })
        .await
    }

    /// Runs `call` on an exclusive connection, within the time-outs.
    pub(super) async fn with_connection<T>(
        &self,
        call: impl AsyncFnOnce(&mut VarlinkConnection, ProtocolVersion) -> Result<T, AnswerError>,
    ) -> Result<T, AnswerError> {
        // The semaphore is never closed.
        let _permit = self.permits.acquire().await;
        let (mut connection, version) = self
            .acquire_connection()
            .await
            .map_err(AnswerError::NoHub)?;
        let limit = AnswerError::REPLY_TIMEOUT;
        let result = tokio::time::timeout(limit, call(&mut connection, version))
            .await
            .unwrap_or(Err(AnswerError::TimedOut(limit)));
        if connection.is_idle() {
            self.lock_idle_connections().push((connection, version));
        }
        result
    }

    /// Returns an idle or a new connection, and waits for a disconnected hub.
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
        let mut backoff = reconnect_backoff();
        loop {
            let timed_out = || HubError::TimedOut {
                path: self.endpoint.path.clone(),
            };
            let attempt = timeout_at(deadline, self.endpoint.connect()).await;
            let error = match attempt.unwrap_or_else(|_elapsed| Err(timed_out())) {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            if timeout_at(deadline, sleep(backoff.record_failure()))
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

pub(super) const fn require_clearance2(
    version: ProtocolVersion,
    operation: &'static str,
) -> Result<(), AnswerError> {
    match version {
        ProtocolVersion::Clearance2 => Ok(()),
        ProtocolVersion::Clearance1 => Err(AnswerError::TooOld(operation)),
    }
}

/// Answers through Clearance1, for whole destinations only.
async fn decide_via_clearance1(
    connection: &mut VarlinkConnection,
    answer: &DecideParameters,
) -> Result<Decision, AnswerError> {
    let whole = Scope::until_removed(answer.dest.clone());
    if answer.scope.as_ref().is_some_and(|scope| *scope != whole) {
        return Err(AnswerError::TooOld(
            "an answer for a part of the destination",
        ));
    }
    let action = match answer.action {
        DecisionAction::Allow => Some(crate::Action::Allow),
        DecisionAction::Deny => Some(crate::Action::Deny),
        // Clearance1 has no such call: the hub keeps the question, and the next packet asks again.
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
        by: DisplayText::new("this client"),
        at: Timestamp::now(),
        ok: true,
        reason: None,
    })
}

/// Calls `method`. A refusal refers to `request`.
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
