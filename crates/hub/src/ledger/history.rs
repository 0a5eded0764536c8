// SPDX-License-Identifier: Apache-2.0
//! The last decisions, so that a second operator learns who was first.

use std::collections::VecDeque;

use terok_clearance::{Decision, RequestId};

/// The last decisions, at most as many as its limit.
#[derive(Debug)]
pub(super) struct DecisionHistory {
    max_decisions: usize,
    /// Oldest first, each with the ids its question went by.
    decisions: VecDeque<(Decision, Vec<RequestId>)>,
}

impl DecisionHistory {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            max_decisions: limit,
            decisions: VecDeque::new(),
        }
    }

    /// Adds a decision on the question that went by `names`.
    pub(super) fn push(&mut self, decision: Decision, names: Vec<RequestId>) {
        while self.decisions.len() >= self.max_decisions {
            self.decisions.pop_front();
        }
        self.decisions.push_back((decision, names));
    }

    /// Adds names under which the newest decision on this question is found.
    pub(super) fn add_ids(&mut self, request: &RequestId, names: Vec<RequestId>) {
        let mut newest_first = self.decisions.iter_mut().rev();
        if let Some((_, known)) = newest_first.find(|(decision, _)| decision.request == *request) {
            known.extend(names);
        }
    }

    /// Returns the newest decision that took effect on a question of this name.
    pub(super) fn find_applied(&self, name: &str) -> Option<&Decision> {
        self.decisions
            .iter()
            .rev()
            .filter(|(decision, _)| decision.ok)
            .find(|(decision, names)| {
                decision.request.as_str() == name || names.iter().any(|n| n.as_str() == name)
            })
            .map(|(decision, _)| decision)
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter().rev().map(|(decision, _)| decision)
    }

    /// Returns under how many ids each decision is remembered.
    #[cfg(test)]
    pub(super) fn id_counts(&self) -> impl Iterator<Item = usize> {
        self.decisions.iter().map(|(_, names)| names.len())
    }
}
