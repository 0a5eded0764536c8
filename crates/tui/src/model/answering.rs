// SPDX-License-Identifier: Apache-2.0
//! Answers: to the selected question, or after confirmation to the marked ones.
//!
//! A row is answered only if a frame showed everything that the answer opens, if nothing of that
//! has changed since, and if the answer guard accepts the time.

use std::time::Duration;

use operator::answer_guard::KeyRefusal;
use operator::inbox::{Row, RowNumber, RowRefusal};
use operator::phrases::{self, MessageTone};
use operator::{AnswerScope, ScopeChoice};
use terok_clearance::Action;

use super::{TuiEffect, TuiModel};
use crate::answer_text::{answer_effect, guarded_text};
use crate::confirm_dialog::ConfirmDialog;
use crate::keys::ViewMode;
use crate::view::SessionView;

impl TuiModel {
    /// Answers the selected question, or opens the confirm dialog for the marked ones.
    pub(super) fn answer(
        &mut self,
        action: Action,
        view: SessionView<'_>,
        now: Duration,
    ) -> Option<TuiEffect> {
        if self.mode == ViewMode::Questions && !self.selection.marked().is_empty() {
            let mut confirm = ConfirmDialog::new(action);
            let marked = self.selection.marked().iter();
            for row in marked.filter_map(|number| view.inbox.row(*number)) {
                confirm.add(row, self.scopes.default_scope(row));
            }
            self.confirm = Some(confirm);
            self.mode = ViewMode::Confirm;
            return None;
        }
        let selected = self.selection.selected();
        let Some(number) = selected.filter(|number| view.inbox.row(*number).is_some()) else {
            self.set_status(MessageTone::Quiet, "no question is selected");
            return None;
        };
        let checked = self.check_read(view, now).and_then(|()| {
            let answerable = view.inbox.check_answerable(number);
            answerable.map_err(|refusal| refusal_text(&refusal))
        });
        let scope = view.inbox.row(number).map(|row| self.scopes.scope(row));
        match checked.map(|()| scope) {
            Ok(scope) => Some(self.send(vec![(number, scope?)], action)),
            Err(refused) => {
                self.set_status(MessageTone::Bad, format!("NOT answered: {refused}"));
                None
            }
        }
    }

    /// Returns whether the operator can have read the selected question; an error is the text of
    /// the reason. A key that comes too soon restarts the time to read.
    pub(super) fn check_read(
        &mut self,
        view: SessionView<'_>,
        now: Duration,
    ) -> Result<(), String> {
        let selected = self.selection.selected();
        let Some(row) = selected.and_then(|number| view.inbox.row(number)) else {
            return Ok(());
        };
        let number = row.number();
        let text = guarded_text(row, &self.scopes.scope(row));
        let guard = self.answer_guard.as_mut();
        let accepted = guard.map_or(Err(KeyRefusal::JustAppeared), |guard| {
            guard.check_key(number, &text, now)
        });
        Err(match accepted {
            Ok(()) => return Ok(()),
            Err(KeyRefusal::JustAppeared) => {
                format!("question {number} just appeared; read it and press again")
            }
            Err(KeyRefusal::Changed) => {
                format!("question {number} just changed; read it and press again")
            }
            Err(KeyRefusal::NotFullyShown) => {
                if self.mode == ViewMode::Details {
                    format!("PgDn shows the rest of question {number}, Home its start")
                } else {
                    format!("press Enter to read all of question {number}; it does not fit here")
                }
            }
        })
    }

    /// Answers the questions of the confirm dialog, except those that changed or ended.
    pub(super) fn answer_marked(
        &mut self,
        view: SessionView<'_>,
        now: Duration,
    ) -> Option<TuiEffect> {
        let confirm = self.confirm.as_ref()?;
        if let Err(refusal) = confirm.check_key(now) {
            let reason = match (refusal, confirm.action()) {
                (KeyRefusal::NotFullyShown, Action::Allow) => {
                    "not every question was shown yet; press PgDn"
                }
                (KeyRefusal::NotFullyShown, Action::Deny) => {
                    "the last question was not shown yet; press PgDn or End"
                }
                (KeyRefusal::JustAppeared | KeyRefusal::Changed, _) => {
                    "the last question just appeared; read it and press again"
                }
            };
            self.set_status(MessageTone::Bad, format!("NOT answered: {reason}"));
            return None;
        }
        let confirm = self.confirm.take()?;
        self.mode = ViewMode::Questions;
        let (mut rows, mut changed, mut refusals) = (Vec::new(), 0_usize, Vec::new());
        for item in confirm.items() {
            let has_changed = view.inbox.row(item.number).is_some_and(|row| {
                let effect = answer_effect(row, confirm.action(), &item.scope);
                row.scope_with(&item.scope).is_err() || effect != item.effect
            });
            if has_changed {
                changed = changed.saturating_add(1);
                continue;
            }
            match view.inbox.check_answerable(item.number) {
                Ok(()) => {
                    self.selection.unmark(item.number);
                    rows.push((item.number, item.scope.clone()));
                }
                Err(refusal) => refusals.push(refusal),
            }
        }
        if changed > 0 || !refusals.is_empty() {
            let changed = match changed {
                0 => String::new(),
                count => format!("; {count} NOT: changed meanwhile, still marked"),
            };
            let refused = refusals.first().map_or_else(String::new, |first| {
                format!("; {} NOT: {}", refusals.len(), refusal_text(first))
            });
            let text = format!("{} answered{changed}{refused}", rows.len());
            self.set_status(MessageTone::Bad, text);
        }
        (!rows.is_empty()).then(|| self.send(rows, confirm.action()))
    }

    fn send(&mut self, rows: Vec<(RowNumber, AnswerScope)>, action: Action) -> TuiEffect {
        self.quit_requested = false;
        TuiEffect::Answer { rows, action }
    }

    /// Chooses how long the next answer lasts; `None` returns to the default scope. The time to
    /// read starts again with the next frame, because its text is another one.
    pub(super) fn choose_lifetime(&mut self, choice: Option<ScopeChoice>, view: SessionView<'_>) {
        if let Some(confirm) = &mut self.confirm {
            if !confirm.set_lifetime(choice, view.inbox, &self.scopes) {
                let choice = choice.map_or("", ScopeChoice::as_str);
                let text = format!("not every marked question offers \"{choice}\"");
                self.set_status(MessageTone::Bad, text);
            }
            return;
        }
        let Some(choice) = choice else {
            return self.scopes.reset();
        };
        let Some(row) = self.selected_row(view) else {
            return self.set_status(MessageTone::Quiet, "no question is selected");
        };
        if let Err(refusal) = self.scopes.pick_lifetime(row, choice) {
            self.set_status(MessageTone::Bad, format!("no effect: {refusal}"));
        }
    }

    /// Chooses the next wider name for the next answer.
    pub(super) fn widen_name(&mut self, view: SessionView<'_>) {
        let Some(row) = self.selected_row(view) else {
            return self.set_status(MessageTone::Quiet, "no question is selected");
        };
        match self.scopes.pick_next_name(row) {
            Ok(true) => {}
            Ok(false) => {
                let text = format!("question {} offers no wider name", row.number());
                self.set_status(MessageTone::Quiet, text);
            }
            Err(refusal) => self.set_status(MessageTone::Bad, format!("no effect: {refusal}")),
        }
    }

    /// Returns the selected question.
    pub(super) fn selected_row<'a>(&self, view: SessionView<'a>) -> Option<&'a Row> {
        let selected = self.selection.selected();
        selected.and_then(|number| view.inbox.row(number))
    }
}

fn refusal_text(refusal: &RowRefusal) -> String {
    match refusal {
        RowRefusal::Ended(number, end) => {
            let reason = phrases::describe_row_end(end);
            format!("question {number} is gone: {reason}")
        }
        other => other.to_string(),
    }
}
