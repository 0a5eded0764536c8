// SPDX-License-Identifier: Apache-2.0
//! What an answer opens or closes, in the words of the screen. The answer guard compares these
//! words with those that were drawn.

use operator::inbox::Row;
use operator::{AnswerScope, phrases};
use terok_clearance::Action;

/// Returns what an answer opens or closes, and for how long:
/// `opens api.example.com port 443/tcp, for this run (now 203.0.113.7)`.
pub(crate) fn answer_effect(row: &Row, action: Action, scope: &AnswerScope) -> String {
    let effect = phrases::describe_effect(row, action, scope);
    match action {
        Action::Allow if scope.dest.is_none() => {
            let addresses = phrases::describe_present_addresses(row);
            let addresses = addresses.map_or_else(String::new, |now| format!(" ({now})"));
            format!("opens {effect}{addresses}")
        }
        Action::Allow => format!("opens {effect}"),
        Action::Deny => format!("refuses {effect}"),
    }
}

/// Returns everything that an operator must have read before an answer with this scope.
pub(crate) fn guarded_text(row: &Row, scope: &AnswerScope) -> String {
    let [opens, refuses] =
        [Action::Allow, Action::Deny].map(|action| answer_effect(row, action, scope));
    format!("{opens}\n{refuses}")
}
