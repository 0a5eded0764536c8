// SPDX-License-Identifier: Apache-2.0
//! Answers of this operator: which rows can be answered, and what is sent.

use std::sync::Arc;

use terok_clearance::Action;
use terok_clearance::client::ProtocolVersion;

use super::row::{FailureNotice, PendingAnswer, RowEntry};
use super::{Inbox, OperatorAnswer, RowNumber, RowRefusal};
use crate::answer_scope::AnswerScope;

impl Inbox {
    /// Returns the reason for which the row `number` cannot be answered now, if any.
    pub fn check_answerable(&self, number: RowNumber) -> Result<(), RowRefusal> {
        let Some(row) = self.rows.get(&number) else {
            return Err(self.refusal(number));
        };
        if let Some(answer) = &row.answering {
            return Err(RowRefusal::AlreadyAnswering(number, answer.action));
        }
        if !self.is_connected(row.hub()) {
            return Err(RowRefusal::HubDisconnected(number, row.hub().clone()));
        }
        if row.forgotten_by_hub {
            return Err(RowRefusal::ForgottenByHub(number));
        }
        Ok(())
    }

    /// Returns the answers to send for `action` on the row `number`, with the row's own scope.
    ///
    /// The row counts as being answered until [`Inbox::apply_reply`] is called for each answer.
    pub fn answer(
        &mut self,
        number: RowNumber,
        action: Action,
    ) -> Result<Vec<OperatorAnswer>, RowRefusal> {
        let Some(row) = self.rows.get(&number) else {
            return Err(self.refusal(number));
        };
        let scope = AnswerScope::default_of(row);
        self.answer_with(number, action, &scope)
    }

    /// Returns the answers to send like [`Inbox::answer`], with a scope that the row offers.
    ///
    /// An error changes nothing.
    pub fn answer_with(
        &mut self,
        number: RowNumber,
        action: Action,
        scope: &AnswerScope,
    ) -> Result<Vec<OperatorAnswer>, RowRefusal> {
        self.check_answerable(number)?;
        let Some(row) = self.rows.get_mut(&number) else {
            return Err(self.refusal(number));
        };
        let scope = row
            .scope_with(scope)
            .map_err(|refusal| RowRefusal::Scope(number, refusal))?;
        let answer = |entry: &RowEntry| OperatorAnswer {
            row: number,
            hub: row.key.hub.clone(),
            request: Arc::clone(&entry.request),
            action,
            scope: scope.clone(),
        };
        let answers: Vec<_> = match row.protocol_version {
            // A verdict applies to the whole destination, so one verdict settles all questions.
            ProtocolVersion::Clearance1 => row
                .entries
                .get(&row.newest)
                .map(answer)
                .into_iter()
                .collect(),
            ProtocolVersion::Clearance2 => row.entries.values().map(answer).collect(),
        };
        for entry in row.entries.values_mut() {
            entry.failure_notice = FailureNotice::None;
        }
        row.answering = Some(PendingAnswer {
            action,
            scope,
            missing_replies: answers.len(),
        });
        Ok(answers)
    }

    /// Counts a reply to the pending answer of the row.
    pub(super) fn count_reply(&mut self, row: RowNumber) {
        if let Some(row) = self.rows.get_mut(&row)
            && let Some(answer) = &mut row.answering
        {
            answer.missing_replies = answer.missing_replies.saturating_sub(1);
            if answer.missing_replies == 0 {
                row.answering = None;
            }
        }
    }

    pub(super) fn refusal(&self, number: RowNumber) -> RowRefusal {
        if self.last_number.is_none_or(|last| number > last) {
            return RowRefusal::NoSuchRow(number);
        }
        match self.recent_ends.iter().rfind(|(ended, _)| *ended == number) {
            Some((_, end)) => RowRefusal::Ended(number, end.clone()),
            None => RowRefusal::EndedLongAgo(number),
        }
    }
}
