// SPDX-License-Identifier: Apache-2.0
//! The questioned destinations of a run, and the answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use supervisor::TraceEvent;
use terok_clearance::{Action, Dest};

/// Maximum recorded destinations; a workload may try any number.
const MAX_RECORDED_DESTS: usize = 10_000;

/// The questioned destinations of a run, in order, by answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunSummary {
    /// Destinations with allow as the last answer.
    pub allowed: Vec<Dest>,
    /// Destinations with deny as the last answer.
    pub denied: Vec<Dest>,
    /// Destinations without an answer.
    pub unanswered: Vec<Dest>,
}

/// Records questions and answers; clones share the records.
#[derive(Debug, Clone, Default)]
pub(crate) struct SummaryRecorder(Arc<Mutex<BTreeMap<Dest, Option<Action>>>>);

impl SummaryRecorder {
    /// Records an event of the supervisor.
    pub(crate) fn observe(&self, event: &TraceEvent<'_>) {
        match event {
            TraceEvent::Asked(blocked) => self.record(blocked.dest(), None),
            TraceEvent::Enforced { dest, action, .. } => self.record(dest, Some(*action)),
            _ => {}
        }
    }

    /// Returns the summary of the records.
    pub(crate) fn summary(&self) -> RunSummary {
        let mut summary = RunSummary::default();
        for (dest, action) in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let dests = match action {
                Some(Action::Allow) => &mut summary.allowed,
                Some(Action::Deny) => &mut summary.denied,
                None => &mut summary.unanswered,
            };
            dests.push(dest.clone());
        }
        summary
    }

    fn record(&self, dest: &Dest, action: Option<Action>) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = records.get_mut(dest) {
            // A later question about another port of the destination keeps the answer.
            *known = action.or(*known);
        } else if records.len() < MAX_RECORDED_DESTS {
            records.insert(dest.clone(), action);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_each_destination_once_with_its_last_answer() {
        let recorder = SummaryRecorder::default();
        assert_eq!(recorder.summary(), RunSummary::default());
        for (dest, action) in [
            ("a.example", None),
            ("a.example", Some(Action::Allow)),
            ("a.example", None),
            ("b.example", Some(Action::Deny)),
            ("203.0.113.7", None),
        ] {
            recorder.record(&dest.parse().unwrap(), action);
        }
        let dests = |text: &str| vec![text.parse().unwrap()];
        let expected = RunSummary {
            allowed: dests("a.example"),
            denied: dests("b.example"),
            unanswered: dests("203.0.113.7"),
        };
        assert_eq!(recorder.summary(), expected);
    }

    #[test]
    fn a_workload_that_tries_everything_does_not_fill_the_memory() {
        let recorder = SummaryRecorder::default();
        for n in 0..(MAX_RECORDED_DESTS + 10) {
            recorder.record(&format!("h{n}.example").parse().unwrap(), None);
        }
        assert_eq!(recorder.summary().unanswered.len(), MAX_RECORDED_DESTS);
    }
}
