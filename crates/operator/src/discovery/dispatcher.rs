// SPDX-License-Identifier: Apache-2.0
//! Sends answers to their hubs, for every user interface.

use std::collections::VecDeque;

use terok_clearance::client::{AnswerError, Client};
use tokio::task::JoinSet;

use crate::inbox::{HubId, OperatorAnswer, OperatorReply};
use crate::join_result;

/// Maximum number of concurrent answers, each of which needs a connection.
const MAX_IN_FLIGHT_ANSWERS: usize = 64;

/// Answers that were sent or are queued.
///
/// Dropping the dispatcher drops queued answers and pending replies; sent answers stay valid.
#[derive(Debug, Default)]
pub(crate) struct AnswerDispatcher {
    queued: VecDeque<(OperatorAnswer, Option<Client>)>,
    in_flight: JoinSet<(OperatorAnswer, OperatorReply)>,
}

impl AnswerDispatcher {
    /// Sends answers, each to the hub of its question and with the scope that its row showed.
    /// `client_of` returns the client for a hub.
    ///
    /// Must be called within a tokio runtime.
    pub(crate) fn send(
        &mut self,
        answers: impl IntoIterator<Item = OperatorAnswer>,
        client_of: impl Fn(&HubId) -> Option<Client>,
    ) {
        let answers = answers.into_iter().map(|answer| {
            let client = client_of(&answer.hub);
            (answer, client)
        });
        self.queued.extend(answers);
        self.send_queued();
    }

    /// Returns the next answer with its reply; waits forever if none is in flight.
    ///
    /// Cancel safe.
    pub(crate) async fn next_reply(&mut self) -> (OperatorAnswer, OperatorReply) {
        while let Some(replied) = self.in_flight.join_next().await {
            self.send_queued();
            if let Some(replied) = join_result(replied) {
                return replied;
            }
        }
        std::future::pending().await
    }

    /// Returns the number of answers without a reply.
    pub(crate) fn len(&self) -> usize {
        self.queued.len() + self.in_flight.len()
    }

    fn send_queued(&mut self) {
        while self.in_flight.len() < MAX_IN_FLIGHT_ANSWERS
            && let Some((answer, client)) = self.queued.pop_front()
        {
            self.in_flight.spawn(async move {
                let Some(client) = client else {
                    // The hub is gone, and its questions with it.
                    let error = AnswerError::TooOld("answering");
                    return (answer, OperatorReply::from(Err(error)));
                };
                let scope = Some(answer.scope.clone());
                let action = answer.action.into();
                let decided = client.decide(&answer.request, action, scope).await;
                (answer, OperatorReply::from(decided))
            });
        }
    }
}
