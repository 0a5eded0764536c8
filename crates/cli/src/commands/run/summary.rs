// SPDX-License-Identifier: Apache-2.0
//! Formats the summary at the end of `run`.

use runner::RunSummary;
use terok_clearance::Dest;

/// Maximum destinations that are listed for each kind of answer.
const MAX_LISTED_DESTS: usize = 20;

/// Returns the summary as text, one line or more; `None` if nothing was asked.
pub(super) fn text(summary: &RunSummary) -> Option<String> {
    let kinds = [
        ("allowed", &summary.allowed),
        ("denied", &summary.denied),
        ("unanswered", &summary.unanswered),
    ];
    let total: usize = kinds.iter().map(|(_, dests)| dests.len()).sum();
    if total == 0 {
        return None;
    }
    let counts: Vec<_> = kinds
        .iter()
        .map(|(word, dests)| format!("{} {word}", dests.len()))
        .collect();
    let mut lines = vec![format!("asked about {total}: {}", counts.join(", "))];
    for (word, dests) in kinds {
        let listed = dests.iter().take(MAX_LISTED_DESTS);
        lines.extend(listed.map(|dest| format!("  {word:<10}  {dest}")));
        let more = dests.len().saturating_sub(MAX_LISTED_DESTS);
        if more > 0 {
            lines.push(format!("  {word:<10}  and {more} more"));
        }
    }
    Some(lines.join("\n"))
}

/// Returns the summary as one JSON object.
pub(super) fn json(summary: &RunSummary) -> serde_json::Value {
    let texts = |dests: &[Dest]| dests.iter().map(Dest::to_string).collect::<Vec<_>>();
    serde_json::json!({
        "step": "summary",
        "allowed": texts(&summary.allowed),
        "denied": texts(&summary.denied),
        "unanswered": texts(&summary.unanswered),
    })
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_names_what_was_asked_and_what_became_of_it() {
        assert_eq!(text(&RunSummary::default()), None);
        let dests = |text: &str| vec![text.parse().unwrap()];
        let summary = RunSummary {
            allowed: dests("a.example"),
            denied: dests("b.example"),
            unanswered: dests("203.0.113.7"),
        };
        insta::assert_snapshot!(text(&summary).unwrap(), @r"
        asked about 3: 1 allowed, 1 denied, 1 unanswered
          allowed     a.example
          denied      b.example
          unanswered  203.0.113.7
        ");
    }

    #[test]
    fn a_workload_that_tries_everything_does_not_fill_the_screen() {
        let dest = |n| format!("h{n}.example").parse().unwrap();
        let summary = RunSummary {
            unanswered: (0..10_000).map(dest).collect(),
            ..RunSummary::default()
        };
        let text = text(&summary).unwrap();
        assert_eq!(text.lines().count(), 1 + MAX_LISTED_DESTS + 1);
        assert!(text.contains("asked about 10000"));
    }
}
