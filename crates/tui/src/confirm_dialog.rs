// SPDX-License-Identifier: Apache-2.0
//! The dialog that confirms one answer to several questions, with everything that the answer opens
//! or refuses.

use std::time::Duration;

use operator::answer_guard::{ConfirmGuard, KeyRefusal};
use operator::inbox::{Inbox, Row, RowNumber};
use operator::{AnswerScope, ScopeChoice, phrases};
use terok_clearance::Action;

use crate::answer_text::answer_effect;
use crate::drawn::DrawnConfirm;
use crate::keys::CursorMove;
use crate::scope_picker::ScopePicker;
use crate::selection::target_index;

#[derive(Debug)]
pub(crate) struct ConfirmDialog {
    action: Action,
    items: Vec<ConfirmItem>,
    /// The lifetime that the operator chose for all questions.
    lifetime: Option<ScopeChoice>,
    /// The lifetimes that every question offers.
    offered: Vec<ScopeChoice>,
    first_visible: usize,
    /// Number of questions that the last frame showed in full, at least 1.
    visible_items: usize,
    guard: ConfirmGuard,
}

/// A question of the dialog.
#[derive(Debug)]
pub(crate) struct ConfirmItem {
    pub(crate) number: RowNumber,
    pub(crate) sandbox_name: String,
    /// The scope of the answer.
    pub(crate) scope: AnswerScope,
    /// What the answer opens or refuses, as the dialog shows it.
    pub(crate) effect: String,
    /// Whether a frame showed the whole question.
    shown: bool,
}

impl ConfirmDialog {
    /// Returns the dialog for an answer, without questions yet.
    pub(crate) fn new(action: Action) -> Self {
        Self {
            action,
            items: Vec::new(),
            lifetime: None,
            offered: ScopeChoice::all().to_vec(),
            first_visible: 0,
            visible_items: 1,
            guard: ConfirmGuard::default(),
        }
    }

    pub(crate) fn add(&mut self, row: &Row, scope: AnswerScope) {
        self.offered.retain(|choice| choice.is_offered(row));
        self.items.push(ConfirmItem {
            number: row.number(),
            sandbox_name: phrases::describe_sandbox(row),
            effect: answer_effect(row, self.action, &scope),
            scope,
            shown: false,
        });
    }

    /// Lets all answers last as `lifetime`, or as by default. All questions must be read again.
    /// Returns `false` if some question does not offer the lifetime.
    pub(crate) fn set_lifetime(
        &mut self,
        lifetime: Option<ScopeChoice>,
        inbox: &Inbox,
        scopes: &ScopePicker,
    ) -> bool {
        // The offers may have changed since.
        let rows = self.items.iter();
        let rows: Vec<_> = rows.filter_map(|item| inbox.row(item.number)).collect();
        self.offered
            .retain(|choice| rows.iter().all(|row| choice.is_offered(row)));
        if lifetime.is_some_and(|choice| !self.offered.contains(&choice)) {
            return false;
        }
        self.lifetime = lifetime;
        for item in &mut self.items {
            item.shown = false;
            // A question that has ended is not answered.
            if let Some(row) = inbox.row(item.number) {
                item.scope = lifetime.map_or_else(|| scopes.default_scope(row), ScopeChoice::scope);
                item.effect = answer_effect(row, self.action, &item.scope);
            }
        }
        self.guard.reset();
        true
    }

    /// Returns the lifetimes that every question offers.
    pub(crate) fn offered(&self) -> &[ScopeChoice] {
        &self.offered
    }

    /// Returns `true` if every answer has this lifetime.
    pub(crate) fn lasts(&self, choice: ScopeChoice) -> bool {
        let scope = choice.scope();
        let lifetime = (scope.keep, scope.seconds);
        self.items
            .iter()
            .all(|item| (item.scope.keep, item.scope.seconds) == lifetime)
    }

    pub(crate) const fn action(&self) -> Action {
        self.action
    }

    pub(crate) fn items(&self) -> &[ConfirmItem] {
        &self.items
    }

    /// Returns the index of the first question on the screen.
    pub(crate) const fn first_visible(&self) -> usize {
        self.first_visible
    }

    pub(crate) fn navigate(&mut self, to: CursorMove) {
        let last = self.items.len().saturating_sub(1);
        self.first_visible = target_index(self.first_visible, to, self.visible_items, last);
    }

    /// Records the questions that a frame showed.
    pub(crate) fn record_drawn(&mut self, shown: DrawnConfirm, now: Duration) {
        let end = shown.first_item.saturating_add(shown.complete_items);
        let complete = self.items.get_mut(shown.first_item..end);
        for item in complete.unwrap_or_default() {
            item.shown = true;
        }
        self.visible_items = shown.complete_items.max(1);
        // To allow, every question must be read; to deny, the last is enough.
        let enough = match self.action {
            Action::Allow => self.items.iter().all(|item| item.shown),
            Action::Deny => end >= self.items.len(),
        };
        if enough {
            self.guard.record_fully_shown(now);
        }
    }

    /// Restarts the time to read, after the screen was hidden.
    pub(crate) const fn reset_shown_time(&mut self) {
        self.guard.reset();
    }

    /// Restarts the time to read that started with a frame that the terminal shows only now.
    pub(crate) fn restart_shown_time(&mut self, now: Duration) {
        self.guard.restart(now);
    }

    /// Returns `true` if the time to read started at `now`.
    pub(crate) fn is_shown_since(&self, now: Duration) -> bool {
        self.guard.starts_at(now)
    }

    /// Returns whether a confirmation counts now.
    pub(crate) fn check_key(&self, now: Duration) -> Result<(), KeyRefusal> {
        self.guard.check_key(now)
    }
}
