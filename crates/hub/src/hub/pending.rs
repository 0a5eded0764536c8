// SPDX-License-Identifier: Apache-2.0
//! Single pending questions, for the other parts of a supervisor.

use terok_clearance::wire::clearance2::Request;
use terok_clearance::{DisplayText, RequestId};
use tokio::sync::watch;

use super::{DecisionEnforcer, Hub};

impl<E: DecisionEnforcer> Hub<E> {
    /// Returns a pending question, by its id or that of one of its newest packets.
    pub fn pending_request(&self, request: &RequestId) -> Option<Request> {
        let state = self.lock_state();
        let question = state.ledger.find_question(request)?;
        Some(question.to_request())
    }

    /// Returns `true` if a question is pending, by its id or that of one of its newest packets.
    pub fn is_pending(&self, request: &RequestId) -> bool {
        self.lock_state().ledger.find_question(request).is_some()
    }

    /// Sets what an approver says about the question `request`, and tells Clearance2 subscribers if
    /// the value changed. An unknown question is ignored.
    pub fn set_approver_note(&self, request: &RequestId, note: DisplayText) {
        self.change_details(|ledger| ledger.set_approver_note(request, note));
    }

    /// Returns a counter that changes after each end of a question: an answer, a dismissal or a
    /// withdrawal.
    pub fn question_ends(&self) -> watch::Receiver<u64> {
        self.lock_state().question_ends.subscribe()
    }
}
