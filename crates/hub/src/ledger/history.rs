// SPDX-License-Identifier: Apache-2.0
//! The last decisions, so that a late operator learns whose answer was first.

use std::collections::VecDeque;

use terok_clearance::{BlockedPacket, Decision, RequestId};

/// A bounded list of the last decisions.
#[derive(Debug)]
pub(super) struct DecisionHistory {
    max_decisions: usize,
    /// Oldest first.
    decisions: VecDeque<PastDecision>,
}

/// A decision with its question.
#[derive(Debug)]
pub(super) struct PastDecision {
    pub(super) decision: Decision,
    /// The ids of the question, and of those that the same rule answered.
    pub(super) ids: Vec<RequestId>,
    /// The question; `None` if it was withdrawn during the answer.
    pub(super) question: Option<BlockedPacket>,
}

impl DecisionHistory {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            max_decisions: limit,
            decisions: VecDeque::new(),
        }
    }

    /// Adds a decision.
    pub(super) fn push(&mut self, decision: PastDecision) {
        while self.decisions.len() >= self.max_decisions {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decision);
    }

    /// Adds ids under which the newest decision on `request` is found.
    pub(super) fn add_ids(&mut self, request: &RequestId, ids: Vec<RequestId>) {
        let mut newest_first = self.decisions.iter_mut().rev();
        if let Some(known) = newest_first.find(|past| past.decision.request == *request) {
            known.ids.extend(ids);
        }
    }

    /// Returns the newest effective decision on a question with this id.
    pub(super) fn find_applied(&self, id: &str) -> Option<&PastDecision> {
        let mut newest_first = self.decisions.iter().rev().filter(|past| past.decision.ok);
        newest_first.find(|past| {
            past.decision.request.as_str() == id || past.ids.iter().any(|n| n.as_str() == id)
        })
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().rev().map(|past| &past.decision)
    }

    /// Returns the number of ids of each decision.
    #[cfg(test)]
    pub(super) fn id_counts(&self) -> impl Iterator<Item = usize> {
        self.decisions.iter().map(|past| past.ids.len())
    }
}
