// SPDX-License-Identifier: Apache-2.0
//! Answers with a wider name, which end the other rows that they cover.

use std::sync::Arc;

use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{Event, Request};
use terok_clearance::{Action, Decision, RuleLifetime};
use terok_clearance_operator::inbox::{InboxEvent, OperatorReply};
use terok_clearance_operator::{ScopeChoice, phrases};

use crate::{InboxHarness, describe, number, request};

/// Returns a question that offers `*.example.com`.
fn offering(id: &str, dest: &str, address: &str) -> Arc<Request> {
    let mut question = Request::clone(&request(id, dest, address, 443));
    question.wider = vec!["*.example.com".parse().unwrap()];
    question.lifetimes = vec![RuleLifetime::Once, RuleLifetime::Sandbox];
    Arc::new(question)
}

/// Row 1 has two questions, row 2 one that the answer to row 1 covers, row 3 one that it does not.
fn three_rows() -> (InboxHarness, Vec<Arc<Request>>) {
    let mut harness = InboxHarness::connected(ProtocolVersion::Clearance2);
    let questions = vec![
        offering("web:1", "a.example.com", "203.0.113.1"),
        offering("web:2", "a.example.com", "203.0.113.2"),
        offering("web:3", "b.example.com", "203.0.113.3"),
        offering("web:4", "c.example.net", "203.0.113.4"),
    ];
    for question in &questions {
        harness.receive(Event::Pending(Arc::clone(question)));
    }
    assert_eq!(harness.inbox.rows().len(), 3);
    (harness, questions)
}

/// Answers row 1 with the wider name, and checks the changes for each order of the hub's events (0)
/// and the replies to the answers (1).
fn check(order: &[usize], expected: &[&str]) {
    let (mut harness, questions) = three_rows();
    let wide = ScopeChoice::OneHour.scope();
    let wide = wide.with_dest(Some("*.example.com".parse().unwrap()));
    let answers = harness.inbox.answer_with(number(1), Action::Allow, &wide);
    let answers = answers.unwrap();
    let decision = |request: &Request| Decision {
        request: request.id.clone(),
        dest: questions[0].dest.clone(), // that of the answered question
        scope: Some(answers[0].scope.clone()),
        ..Decision::clone(&crate::decision(request, Action::Allow, true))
    };
    let mut replies = answers.iter().zip([
        OperatorReply::Decided(decision(&questions[0])),
        OperatorReply::AlreadyDecided(decision(&questions[1])),
    ]);
    let mut events = questions.iter().take(3);
    let mut changes = Vec::new();
    for source in order {
        if *source == 0 {
            let decided = Event::Decided(Arc::new(decision(events.next().unwrap())));
            let decided = InboxEvent::Received(decided);
            changes.extend(harness.inbox.apply_event(&harness.hub, decided));
        } else {
            let (answer, reply) = replies.next().unwrap();
            changes.extend(harness.inbox.apply_reply(answer, reply));
        }
    }
    assert_eq!(describe(&changes), expected, "{order:?}");
    let rows: Vec<_> = harness.inbox.rows().map(|row| row.number().get()).collect();
    assert_eq!(rows, [3], "{order:?}");
    let lines = changes.iter().filter_map(phrases::describe_change);
    let lines: Vec<_> = lines.map(|line| line.text).collect();
    let reach = "every name below example.com (not example.com itself) port 443/tcp, for 1 hour";
    assert_eq!(lines.len(), 2);
    assert!(lines.contains(&format!("{reach}  in web")), "{lines:?}");
    let covered =
        format!("b.example.com port 443/tcp, by the answer about a.example.com: {reach}  in web");
    assert!(lines.contains(&covered), "{lines:?}");
}

#[test]
fn each_covered_row_ends_once_in_every_order() {
    check(
        &[1, 0, 0, 1, 0],
        &["updated 1", "ended 1 Allow", "ended 2 Allow"],
    );
    check(
        &[1, 1, 0, 0, 0],
        &["updated 1", "ended 1 Allow", "ended 2 Allow"],
    );
    check(
        &[0, 0, 0, 1, 1],
        &["updated 1", "ended 1 Allow", "ended 2 Allow"],
    );
    check(
        &[0, 1, 1, 0, 0],
        &["updated 1", "ended 1 Allow", "ended 2 Allow"],
    );
}
