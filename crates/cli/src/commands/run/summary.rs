// SPDX-License-Identifier: Apache-2.0
//! What was asked in the course of a run, and what became of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use supervisor::{TraceEvent, TraceObserver};
use terok_clearance::{Action, Dest};

/// How many destinations are remembered; a workload may try any number.
const MAX_RECORDED_DESTS: usize = 10_000;
/// How many of them are named in the end.
const MAX_LISTED_DESTS: usize = 20;

/// Takes notes; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct RunSummary(Arc<Mutex<BTreeMap<Dest, Option<Action>>>>);

impl RunSummary {
    /// Returns what the supervisor calls at each step.
    pub(super) fn observer(&self) -> TraceObserver {
        let notes = self.clone();
        Box::new(move |step| match step {
            TraceEvent::Asked(blocked) => notes.record(blocked.dest(), None),
            TraceEvent::Enforced { dest, action, .. } => notes.record(dest, Some(action)),
            _ => {}
        })
    }

    fn record(&self, dest: &Dest, action: Option<Action>) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = notes.get_mut(dest) {
            // A later question about the same destination (another port) leaves the answer be.
            *known = action.or(*known);
        } else if notes.len() < MAX_RECORDED_DESTS {
            notes.insert(dest.clone(), action);
        }
    }

    /// Returns the notes in words, one line or more; none if nothing was asked.
    pub(super) fn text(&self) -> Option<String> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.is_empty() {
            return None;
        }
        let kinds = [
            (Some(Action::Allow), "allowed"),
            (Some(Action::Deny), "denied"),
            (None, "unanswered"),
        ];
        let count = |kind| notes.values().filter(|action| **action == kind).count();
        let counts: Vec<_> = kinds
            .iter()
            .map(|&(kind, word)| format!("{} {word}", count(kind)))
            .collect();
        let mut lines = vec![format!(
            "terok-clearance: asked about {}: {}",
            notes.len(),
            counts.join(", ")
        )];
        for (kind, word) in kinds {
            let of_kind = notes.iter().filter(|(_, action)| **action == kind);
            lines.extend(
                of_kind
                    .take(MAX_LISTED_DESTS)
                    .map(|(dest, _)| format!("  {word:<10}  {dest}")),
            );
            if let Some(more) = count(kind)
                .checked_sub(MAX_LISTED_DESTS)
                .filter(|more| *more > 0)
            {
                lines.push(format!("  {word:<10}  and {more} more"));
            }
        }
        Some(lines.join("\n"))
    }

    /// Returns the notes as one JSON object.
    pub(super) fn json(&self) -> serde_json::Value {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |kind| {
            let of_kind = notes.iter().filter(|(_, action)| **action == kind);
            of_kind.map(|(dest, _)| dest.as_str()).collect::<Vec<_>>()
        };
        serde_json::json!({
            "step": "summary",
            "allowed": of(Some(Action::Allow)),
            "denied": of(Some(Action::Deny)),
            "unanswered": of(None),
        })
    }
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_what_was_asked_and_what_became_of_it() {
        let summary = RunSummary::default();
        assert_eq!(summary.text(), None);
        for (dest, action) in [
            ("a.example", None),
            ("a.example", Some(Action::Allow)),
            ("a.example", None),
            ("b.example", Some(Action::Deny)),
            ("203.0.113.7", None),
        ] {
            summary.record(&dest.parse().unwrap(), action);
        }
        insta::assert_snapshot!(summary.text().unwrap(), @r"
        terok-clearance: asked about 3: 1 allowed, 1 denied, 1 unanswered
          allowed     a.example
          denied      b.example
          unanswered  203.0.113.7
        ");
    }

    #[test]
    fn a_workload_that_tries_everything_does_not_fill_the_screen() {
        let summary = RunSummary::default();
        for n in 0..(MAX_RECORDED_DESTS + 10) {
            summary.record(&format!("h{n}.example").parse().unwrap(), None);
        }
        let words = summary.text().unwrap();
        assert_eq!(words.lines().count(), 1 + MAX_LISTED_DESTS + 1);
        assert!(words.contains(&format!("asked about {MAX_RECORDED_DESTS}")));
    }
}
