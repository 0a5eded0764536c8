// SPDX-License-Identifier: Apache-2.0
//! Calls about the rules and the state of a sandbox.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call_pool::{AnswerError, HubCallPool, require_clearance2};
use crate::DisplayText;
use crate::varlink::{CallError, NoParameters};
use crate::wire::clearance2::{
    self, BypassParameters, BypassReply, ExplainParameters, ExplainReply, HubStatus, ListedRule,
    RevokeParameters, RevokeReply, RulesReply, StatusReply,
};

impl HubCallPool {
    pub(super) async fn rules(&self) -> Result<Vec<ListedRule>, AnswerError> {
        let reply: RulesReply = self
            .call_about_rules(clearance2::RULES, &NoParameters {})
            .await?;
        Ok(reply.rules)
    }

    pub(super) async fn revoke(&self, rule: DisplayText) -> Result<RevokeReply, AnswerError> {
        self.call_about_rules(clearance2::REVOKE, &RevokeParameters { rule })
            .await
    }

    pub(super) async fn explain(
        &self,
        dest: &ExplainParameters,
    ) -> Result<ExplainReply, AnswerError> {
        self.call_about_rules(clearance2::EXPLAIN, dest).await
    }

    pub(super) async fn bypass(&self, seconds: u32) -> Result<BypassReply, AnswerError> {
        self.call_about_rules(clearance2::BYPASS, &BypassParameters { seconds })
            .await
    }

    pub(super) async fn status(&self) -> Result<HubStatus, AnswerError> {
        let reply: StatusReply = self
            .call_about_rules(clearance2::STATUS, &NoParameters {})
            .await?;
        Ok(reply.status)
    }

    async fn call_about_rules<P: Serialize, R: DeserializeOwned>(
        &self,
        method: &str,
        parameters: &P,
    ) -> Result<R, AnswerError> {
        self.with_connection(async |connection, version| {
            require_clearance2(version, "a call about rules")?;
            match connection.call(method, parameters).await {
                Ok(reply) => Ok(reply),
                Err(CallError::Refused(reply)) => Err(match reply.decode() {
                    Some(refusal) => AnswerError::RuleRefused(refusal),
                    None if reply.is_unknown_method() => AnswerError::TooOld("a call about rules"),
                    None => AnswerError::Other(reply),
                }),
                Err(error) => Err(AnswerError::Unanswered(error)),
            }
        })
        .await
    }
}
