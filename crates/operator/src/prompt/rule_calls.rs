// SPDX-License-Identifier: Apache-2.0
//! Calls about rules that a prompt waits for, while questions go on.

use terok_clearance::DisplayText;
use terok_clearance::client::Client;
use tokio::task::JoinSet;

use crate::inbox::HubId;
use crate::join_result;
use crate::rules::{RevokeOutcome, RuleSurvey};

/// The calls without a reply.
#[derive(Debug, Default)]
pub(super) struct PendingRuleCalls(JoinSet<RuleCallReply>);

/// The reply to a call.
#[derive(Debug)]
pub(super) enum RuleCallReply {
    /// The rules in force.
    Listed(RuleSurvey),
    /// The result of a revocation, with the name that was typed.
    Revoked(DisplayText, RevokeOutcome),
}

impl PendingRuleCalls {
    /// Reads the rules of all hubs.
    pub(super) fn list(&mut self, hubs: Vec<(HubId, Client)>) {
        self.0
            .spawn(async { RuleCallReply::Listed(RuleSurvey::read(hubs).await) });
    }

    /// Revokes a rule of one of the hubs.
    pub(super) fn revoke(&mut self, hubs: Vec<(HubId, Client)>, rule: DisplayText) {
        self.0.spawn(async {
            let survey = RuleSurvey::read(hubs).await;
            let outcome = survey.revoke(rule.as_str()).await;
            RuleCallReply::Revoked(rule, outcome)
        });
    }

    /// Returns the next reply; waits forever if none is due.
    ///
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> RuleCallReply {
        while let Some(replied) = self.0.join_next().await {
            if let Some(replied) = join_result(replied) {
                return replied;
            }
        }
        std::future::pending().await
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
