// SPDX-License-Identifier: Apache-2.0
//! The one way of an answer to its hub, whichever UI it was given at.

use std::collections::VecDeque;

use terok_clearance::client::{AnswerError, Client};
use tokio::task::JoinSet;

use super::Hubs;
use crate::inbox::{Answer, Reply};
use crate::unless_panicked;

/// The most answers that are on their way at the same time: answering a thousand rows at once
/// needs no thousand connections.
const IN_FLIGHT: usize = 64;

/// The answers that are on their way to their hubs, and those that wait for their turn.
///
/// Dropping it gives up waiting for the replies. It takes back no answer that was sent.
#[derive(Debug, Default)]
pub struct Answers {
    waiting: VecDeque<(Answer, Option<Client>)>,
    going: JoinSet<(Answer, Reply)>,
}

impl Answers {
    /// Sends answers, each to the hub that asks, with exactly the reach that its row showed.
    ///
    /// Call it within a tokio runtime.
    pub fn send(&mut self, hubs: &Hubs, answers: impl IntoIterator<Item = Answer>) {
        let answers = answers.into_iter().map(|answer| {
            let client = hubs.client(&answer.hub);
            (answer, client)
        });
        self.waiting.extend(answers);
        self.start();
    }

    /// Returns the next answer that was replied to, and the reply; does not end where none is on
    /// its way.
    ///
    /// A call that is dropped before it is done loses nothing.
    pub async fn next(&mut self) -> (Answer, Reply) {
        while let Some(replied) = self.going.join_next().await {
            self.start();
            if let Some(replied) = unless_panicked(replied) {
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
        self.waiting.len() + self.going.len()
    }

    fn start(&mut self) {
        while self.going.len() < IN_FLIGHT
            && let Some((answer, client)) = self.waiting.pop_front()
        {
            self.going.spawn(async move {
                let Some(client) = client else {
                    // Its hub is gone since, and with it the question.
                    let error = AnswerError::TooOld("answering");
                    return (answer, Reply::from(Err(error)));
                };
                let scope = Some(answer.scope.clone());
                let action = answer.action.into();
                let decided = client.decide(&answer.request, action, scope).await;
                (answer, Reply::from(decided))
            });
        }
    }
}
