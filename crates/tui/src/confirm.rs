// SPDX-License-Identifier: Apache-2.0
//! Answering several questions together: all that it would open is shown, then asked for once.

use std::time::Duration;

use ratatui::text::{Line, Span};
use terok_clearance::Action;

use crate::answer_guard::AUTO_SELECTED_DELAY;
use crate::keys::CursorMove;
use crate::selection::target_index;
use crate::theme::Theme;
use crate::wrap::{truncate, wrap};
use operator::inbox::{Row, RowNumber};
use operator::phrases;

#[derive(Debug)]
pub(crate) struct ConfirmDialog {
    action: Action,
    items: Vec<ConfirmItem>,
    first_visible: usize,
    visible_items: usize,
    /// Since when enough of it has been shown: to allow, every question; to deny, the last.
    fully_shown_since: Option<Duration>,
}

#[derive(Debug)]
struct ConfirmItem {
    number: RowNumber,
    sandbox_name: String,
    opens: String,
    /// Whether all of it has been on the screen.
    shown: bool,
}

impl ConfirmDialog {
    pub(crate) const fn new(action: Action) -> Self {
        Self {
            action,
            items: Vec::new(),
            first_visible: 0,
            visible_items: 1,
            fully_shown_since: None,
        }
    }

    pub(crate) fn add(&mut self, row: &Row) {
        self.items.push(ConfirmItem {
            number: row.number(),
            sandbox_name: phrases::describe_sandbox(row),
            opens: phrases::describe_allow_effect(row),
            shown: false,
        });
    }

    pub(crate) const fn action(&self) -> Action {
        self.action
    }

    /// Returns the questions, each with what the screen said that an answer opens.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (RowNumber, &str)> {
        let items = self.items.iter();
        items.map(|item| (item.number, item.opens.as_str()))
    }

    pub(crate) fn navigate(&mut self, to: CursorMove) {
        let last = self.items.len().saturating_sub(1);
        self.first_visible = target_index(self.first_visible, to, self.visible_items, last);
    }

    /// Takes in that nobody has seen the screen for a while.
    pub(crate) fn reset_shown_time(&mut self) {
        self.fully_shown_since = None;
    }

    /// Says whether they may be answered now, or why not.
    pub(crate) fn check_ready(&self, now: Duration) -> Result<(), &'static str> {
        match (self.fully_shown_since, self.action) {
            (None, Action::Allow) => Err("NOT answered: not all of it was shown yet; PgDn"),
            (None, Action::Deny) => Err("NOT answered: not all of it was shown yet; PgDn or End"),
            (Some(since), _) if now.saturating_sub(since) < AUTO_SELECTED_DELAY => {
                Err("NOT answered: it has only just come here. Read it, then press again")
            }
            (Some(_), _) => Ok(()),
        }
    }

    /// Returns the title of the page.
    pub(crate) fn title(&self) -> String {
        let many = self.items.len();
        let verb = match self.action {
            Action::Allow => "ALLOW",
            Action::Deny => "DENY",
        };
        match many {
            1 => format!("{verb} this one question?"),
            many => format!("{verb} these {many} questions?"),
        }
    }

    /// Returns the lines of the page, and notes what they show.
    pub(crate) fn lay_out(
        &mut self,
        width: usize,
        height: usize,
        now: Duration,
    ) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        let mut shown = 0_usize;
        let mut end = true;
        for item in self.items.get_mut(self.first_visible..).unwrap_or_default() {
            let verb = match self.action {
                Action::Allow => "opens",
                Action::Deny => "refuses",
            };
            let head = format!(" [{}] {}", item.number, item.sandbox_name);
            let mut block = vec![Line::styled(truncate(&head, width), Theme::bold())];
            let text = format!("{verb} {}", item.opens);
            for line in wrap(&text, width.saturating_sub(7)) {
                block.push(Line::from(Span::raw(format!("      {line}"))));
            }
            if lines.len().saturating_add(block.len()) > height {
                end = false;
                block.truncate(height.saturating_sub(lines.len()));
                lines.append(&mut block);
                break;
            }
            lines.append(&mut block);
            item.shown = true;
            shown = shown.saturating_add(1);
        }
        self.visible_items = shown.max(1);
        let enough = match self.action {
            Action::Allow => self.items.iter().all(|item| item.shown),
            Action::Deny => end,
        };
        if enough && self.fully_shown_since.is_none() {
            self.fully_shown_since = Some(now);
        }
        lines
    }

    /// Returns which of them are shown: `1 to 8 of 20`.
    pub(crate) fn position_text(&self) -> String {
        let first = self.first_visible.saturating_add(1);
        let last = self.first_visible.saturating_add(self.visible_items);
        let all = self.items.len();
        format!("{first} to {} of {all}", last.min(all))
    }
}
