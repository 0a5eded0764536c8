// SPDX-License-Identifier: Apache-2.0
//! Compares answers with the text that was read on the screen.

use operator::inbox::{OperatorAnswer, Row};
use operator::phrases;
use terok_clearance::wire::clearance2::Request;
use terok_clearance::{Action, Decision, Scope};

use super::read::{number, said};
use crate::harness::NOON;

/// Returns the text about an answer to the row, with the scope that another text promises.
pub(super) fn effect(words: &str, row: &Row, action: Action) -> String {
    let (scope, _) = said(words).unwrap();
    let effect = phrases::describe_effect(row, action, &scope);
    let addresses = row.addresses();
    match action {
        Action::Deny => format!("refuses {effect}"),
        Action::Allow if scope.dest.is_some() => format!("opens {effect}"),
        Action::Allow => match addresses.len() {
            1 => format!("opens {effect} (now {})", addresses[0]),
            count => format!(
                "opens {effect} (now {} and {} more)",
                addresses[0],
                count - 1
            ),
        },
    }
}

/// Asserts that the answers to one row match the text of the screen.
pub(super) fn assert_matches_text(
    words: &str,
    answers: &[&OperatorAnswer],
    row: &Row,
    action: Action,
) {
    let first = answers[0];
    let (scope, addresses) = said(words).unwrap_or_else(|| panic!("{words:?} is cut off"));
    for answer in answers {
        assert_eq!(answer.action, action);
        assert_eq!((&answer.hub, &answer.scope), (&first.hub, &first.scope));
        let own = &answer.request.scope;
        let dest = scope.dest.as_ref().unwrap_or(&own.dest);
        let promised = Scope {
            dest: dest.clone(),
            keep: scope.keep,
            seconds: scope.seconds,
            ..own.clone()
        };
        assert_eq!(answer.scope, promised, "{words}");
        if scope.dest.is_none() {
            let verb = if action == Action::Allow {
                "opens"
            } else {
                "refuses"
            };
            let says = format!("{verb} {} port 443/tcp, ", own.dest);
            assert!(words.starts_with(&says), "{answer:?} is not {words:?}");
        }
    }
    assert_eq!(answers.len(), row.addresses().len(), "{words}");
    if !addresses.is_empty() {
        let more = addresses
            .split_once(" and ")
            .and_then(|(_, more)| number(more));
        let count = usize::try_from(more.unwrap_or(0)).unwrap() + 1;
        assert_eq!(answers.len(), count, "{words}");
        let at = |answer: &&OperatorAnswer| addresses.starts_with(answer.request.address.as_str());
        assert!(answers.iter().any(at), "{words:?}");
    }
}

pub(super) fn elsewhere(request: &Request, ok: bool) -> Decision {
    Decision {
        request: request.id.clone(),
        container: request.container.clone(),
        dest: request.dest.clone(),
        action: Action::Allow.into(),
        scope: Some(request.scope.clone()),
        by: "uid 1001".into(),
        at: terok_clearance::Timestamp::from_micros(NOON),
        ok,
        reason: None,
    }
}
