// SPDX-License-Identifier: Apache-2.0
//! A hub with the questions of a killed one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use terok_clearance::Dossier;
use terok_clearance_hub::ledger::{QuestionChange, StoredQuestion};
use terok_clearance_hub::{HubOptions, QuestionJournal, RestoredQuestions};

use crate::harness::HubHarness;

/// The questions that a later hub would find.
#[derive(Debug, Clone, Default)]
struct MemoryJournal(Arc<Mutex<BTreeMap<u64, StoredQuestion>>>);

impl QuestionJournal for MemoryJournal {
    fn store(&mut self, changes: Vec<QuestionChange>) {
        let mut questions = self.0.lock().unwrap();
        for change in changes {
            match change {
                QuestionChange::Pending { number, question } => {
                    questions.insert(number, *question);
                }
                QuestionChange::Ended { number } => {
                    questions.remove(&number).unwrap();
                }
            }
        }
    }
}

impl MemoryJournal {
    fn hub(&self) -> HubHarness {
        let questions = self.0.lock().unwrap().clone();
        let earlier = RestoredQuestions {
            questions: questions.into_iter().collect(),
            dossier: Dossier::new([("project".into(), "web".into())].into()),
            journal: Box::new(self.clone()),
        };
        HubHarness::with_questions(HubOptions::default(), true, Some(earlier))
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

fn pending(events: &[Value]) -> Vec<&str> {
    let pending = events.iter().filter(|event| event["kind"] == "pending");
    pending
        .map(|event| event["request"]["id"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn an_operator_who_reconnects_finds_each_question_once() {
    let journal = MemoryJournal::default();
    let killed = journal.hub();
    let mut reader = killed.reader().await;
    for (number, dest) in [(1, "192.0.2.1"), (2, "192.0.2.2"), (3, "192.0.2.1")] {
        killed.block(&mut reader, number, dest).await;
    }
    while killed.hub.pending_count() < 2 || !killed.hub.is_pending(&"c:3".parse().unwrap()) {
        tokio::task::yield_now().await;
    }
    assert_eq!(journal.len(), 2);
    drop(killed);

    let later = journal.hub();
    assert_eq!(later.hub.pending_count(), 2);
    let mut operator = later.subscribe_clearance2().await;
    let events = operator.events_until("synced").await;
    assert_eq!(pending(&events), ["c:1", "c:2"]);
    assert_eq!(events[0]["request"]["count"], 2);
    assert_eq!(events[0]["request"]["dossier"]["project"], "web");
    // The sandbox repeats its packet.
    let mut reader = later.reader().await;
    later.block(&mut reader, 4, "192.0.2.1").await;
    let events = operator.events_until("repeated").await;
    let repeated = &events.last().unwrap()["request"];
    assert_eq!(
        (&repeated["id"], &repeated["count"]),
        (&"c:1".into(), &3.into())
    );
    // The answer to the question that the operator saw before the kill.
    let mut client = later.client().await;
    let reply = client.verdict("c:1", "192.0.2.1", "allow").await;
    assert_eq!(reply["parameters"]["ok"], true);
    operator.events_until("decided").await;
    assert_eq!(journal.len(), 1);
    drop(later);

    let last = journal.hub();
    let mut operator = last.subscribe_clearance2().await;
    let events = operator.events_until("synced").await;
    assert_eq!(pending(&events), ["c:2"]);
}
