// SPDX-License-Identifier: Apache-2.0
//! The last decisions, so that a late operator learns whose answer was first.

use std::collections::VecDeque;

use terok_clearance::{Decision, RequestId};

/// A bounded list of the last decisions.
#[derive(Debug)]
pub(super) struct DecisionHistory {
    max_decisions: usize,
    /// Oldest first, each with the ids of its question.
    decisions: VecDeque<(Decision, Vec<RequestId>)>,
}

impl DecisionHistory {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            max_decisions: limit,
            decisions: VecDeque::new(),
        }
    }

    /// Adds a decision on the question with these ids.
    pub(super) fn push(&mut self, decision: Decision, ids: Vec<RequestId>) {
        while self.decisions.len() >= self.max_decisions {
            self.decisions.pop_front();
        }
        self.decisions.push_back((decision, ids));
    }

    /// Adds ids under which the newest decision on `request` is found.
    pub(super) fn add_ids(&mut self, request: &RequestId, ids: Vec<RequestId>) {
        let mut newest_first = self.decisions.iter_mut().rev();
        if let Some((_, known)) = newest_first.find(|(decision, _)| decision.request == *request) {
            known.extend(ids);
        }
    }

    /// Returns the newest effective decision on a question with this id.
    pub(super) fn find_applied(&self, id: &str) -> Option<&Decision> {
        self.decisions
            .iter()
            .rev()
            .filter(|(decision, _)| decision.ok)
            .find(|(decision, ids)| {
                decision.request.as_str() == id || ids.iter().any(|n| n.as_str() == id)
            })
            .map(|(decision, _)| decision)
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().rev().map(|(decision, _)| decision)
    }

    /// Returns the number of ids of each decision.
    #[cfg(test)]
    pub(super) fn id_counts(&self) -> impl Iterator<Item = usize> {
        self.decisions.iter().map(|(_, ids)| ids.len())
    }
}
