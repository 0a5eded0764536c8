// SPDX-License-Identifier: Apache-2.0
//! The one way of an answer to its hub, whichever UI it was given at.

use std::collections::VecDeque;

use terok_clearance::client::{AnswerError, Client};
use tokio::task::JoinSet;

use super::Hubs;
use crate::inbox::{OperatorAnswer, OperatorReply};
use crate::join_result;

/// The most answers that are on their way at the same time: answering a thousand rows at once
/// needs no thousand connections.
const MAX_IN_FLIGHT_ANSWERS: usize = 64;

/// The answers that are on their way to their hubs, and those that wait for their turn.
///
/// Dropping it gives up waiting for the replies. It takes back no answer that was sent.
#[derive(Debug, Default)]
pub struct AnswerDispatcher {
    queued: VecDeque<(OperatorAnswer, Option<Client>)>,
    in_flight: JoinSet<(OperatorAnswer, OperatorReply)>,
}

impl AnswerDispatcher {
    /// Sends answers, each to the hub that asks, with exactly the reach that its row showed.
    ///
    /// Call it within a tokio runtime.
    pub fn send(&mut self, hubs: &Hubs, answers: impl IntoIterator<Item = OperatorAnswer>) {
        let answers = answers.into_iter().map(|answer| {
            let client = hubs.client(&answer.hub);
            (answer, client)
        });
        self.queued.extend(answers);
        self.send_queued();
    }

    /// Returns the next answer that was replied to, and the reply; does not end where none is on
    /// its way.
    ///
    /// A call that is dropped before it is done loses nothing.
    pub async fn next_reply(&mut self) -> (OperatorAnswer, OperatorReply) {
        while let Some(replied) = self.in_flight.join_next().await {
            self.send_queued();
            if let Some(replied) = join_result(replied) {
                return replied;
            }
        }
        std::future::pending().await
    }

    /// Says whether no reply is waited for.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many replies are waited for.
    pub fn len(&self) -> usize {
        self.queued.len() + self.in_flight.len()
    }

    fn send_queued(&mut self) {
        while self.in_flight.len() < MAX_IN_FLIGHT_ANSWERS
            && let Some((answer, client)) = self.queued.pop_front()
        {
            self.in_flight.spawn(async move {
                let Some(client) = client else {
                    // Its hub is gone since, and with it the question.
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
