// SPDX-License-Identifier: Apache-2.0
//! Calls to hubs about their rules, and the replies.

use std::collections::VecDeque;

use operator::inbox::HubId;
use terok_clearance::client::{AnswerError, Client};
use terok_clearance::wire::clearance2::{ListedRule, RevokeReply};
use terok_clearance::{DisplayText, error_chain};
use tokio::task::JoinSet;

use crate::model::TuiMessage;

/// Maximum number of concurrent calls that list rules.
const MAX_CONCURRENT_LISTINGS: usize = 16;

/// The calls that were made or are queued. The model asks each hub for one list at a time.
#[derive(Debug, Default)]
pub(crate) struct HubRuleCalls {
    queued: VecDeque<(HubId, Option<Client>)>,
    listings: JoinSet<(HubId, Result<Vec<ListedRule>, AnswerError>)>,
    revokes: JoinSet<(HubId, DisplayText, Result<RevokeReply, AnswerError>)>,
}

impl HubRuleCalls {
    /// Asks a hub for its rules.
    pub(crate) fn list(&mut self, hub: HubId, client: Option<Client>) {
        self.queued.push_back((hub, client));
        self.start_queued();
    }

    /// Ends a rule.
    pub(crate) fn revoke(&mut self, hub: HubId, rule: DisplayText, client: Option<Client>) {
        self.revokes.spawn(async move {
            let result = match client {
                Some(client) => client.revoke(rule.clone()).await,
                None => Err(AnswerError::TooOld("a call about rules")),
            };
            (hub, rule, result)
        });
    }

    /// Returns the next reply; waits forever if none is due.
    ///
    /// Cancel safe.
    pub(crate) async fn next_reply(&mut self) -> TuiMessage {
        loop {
            tokio::select! {
                Some(revoked) = self.revokes.join_next() => {
                    if let Some((hub, rule, result)) = operator::join_result(revoked) {
                        let result = result.map_err(|error| error_chain(&error));
                        return TuiMessage::RuleRevoked { hub, rule, result };
                    }
                }
                Some(listed) = self.listings.join_next() => {
                    self.start_queued();
                    if let Some((hub, rules)) = operator::join_result(listed) {
                        let rules = rules.map_err(|error| error_chain(&error));
                        return TuiMessage::RulesListed(hub, rules);
                    }
                }
                else => std::future::pending().await,
            }
        }
    }

    fn start_queued(&mut self) {
        while self.listings.len() < MAX_CONCURRENT_LISTINGS
            && let Some((hub, client)) = self.queued.pop_front()
        {
            self.listings.spawn(async move {
                let rules = match client {
                    Some(client) => client.rules().await,
                    None => Err(AnswerError::TooOld("a call about rules")),
                };
                (hub, rules)
            });
        }
    }
}
