// SPDX-License-Identifier: Apache-2.0
//! The questions that a hub has from an earlier one, and where it keeps its own for a later one.

use std::fmt::Debug;

use terok_clearance::Dossier;

use super::HubState;
use crate::ledger::{Ledger, QuestionChange, StoredQuestion};

/// Keeps the pending questions for the case that the hub is killed.
pub trait QuestionJournal: Debug + Send {
    /// Stores changes, before any subscriber is told of them. Must not block for long.
    fn store(&mut self, changes: Vec<QuestionChange>);
}

/// The questions of an earlier hub.
#[derive(Debug)]
pub struct RestoredQuestions {
    /// The questions with their numbers.
    pub questions: Vec<(u64, StoredQuestion)>,
    /// The present dossier of the sandbox.
    pub dossier: Dossier,
    /// Receives the changes from now on.
    pub journal: Box<dyn QuestionJournal>,
}

impl RestoredQuestions {
    /// Adds the questions to an empty ledger, whose changes then go to the journal.
    pub(super) fn restore(self, ledger: &mut Ledger) -> Box<dyn QuestionJournal> {
        let Self {
            questions,
            dossier,
            mut journal,
        } = self;
        let mut ended = Vec::new();
        for (number, question) in questions {
            if !ledger.restore(number, question, dossier.clone()) {
                ended.push(QuestionChange::Ended { number });
            }
        }
        if !ended.is_empty() {
            journal.store(ended);
        }
        ledger.record_changes();
        journal
    }
}

impl HubState {
    pub(super) fn store_changes(&mut self) {
        if let Some(journal) = &mut self.journal {
            let changes = self.ledger.take_changes();
            if !changes.is_empty() {
                journal.store(changes);
            }
        }
    }
}
