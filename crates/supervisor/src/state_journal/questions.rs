// SPDX-License-Identifier: Apache-2.0
//! The pending questions in the journal.

use hub::ledger::{QuestionChange, StoredQuestion};
use hub::{QuestionJournal, RestoredQuestions};
use terok_clearance::Dossier;

use super::{JournalChange, OpenedJournal, SharedJournal};

impl OpenedJournal {
    /// Returns the questions of the earlier supervisor that are questions still. The others end:
    /// the earlier supervisor was killed after their answer had become a rule.
    pub(crate) fn to_questions(
        &self,
        still_asks: impl Fn(&StoredQuestion) -> bool,
        dossier: Dossier,
    ) -> RestoredQuestions {
        let questions = self.state.questions.iter();
        let (pending, answered): (Vec<_>, Vec<_>) =
            questions.partition(|(_, question)| still_asks(question));
        let ended = answered.into_iter().map(|(number, _)| {
            let number = *number;
            JournalChange::QuestionEnded { number }
        });
        self.journal.record(ended.collect());
        let pending = pending.into_iter();
        RestoredQuestions {
            questions: pending
                .map(|(number, question)| (*number, question.clone()))
                .collect(),
            dossier,
            journal: Box::new(self.journal.clone()),
        }
    }
}

impl QuestionJournal for SharedJournal {
    fn store(&mut self, changes: Vec<QuestionChange>) {
        let changes = changes.into_iter().map(|change| match change {
            QuestionChange::Pending { number, question } => {
                JournalChange::Question { number, question }
            }
            QuestionChange::Ended { number } => JournalChange::QuestionEnded { number },
        });
        self.record(changes.collect());
    }
}
