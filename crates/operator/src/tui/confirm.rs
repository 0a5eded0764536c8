// SPDX-License-Identifier: Apache-2.0
//! Answering several questions together: all that it would open is shown, then asked for once.

use std::time::Duration;

use ratatui::text::{Line, Span};
use terok_clearance::Action;

use super::guard::BY_ITSELF;
use super::keys::Move;
use super::list::step;
use super::theme::Theme;
use super::wrap::{fit, wrap};
use crate::inbox::{Row, RowNumber};
use crate::words;

#[derive(Debug)]
pub(super) struct Confirm {
    action: Action,
    items: Vec<Item>,
    top: usize,
    window: usize,
    /// Since when enough of it has been shown: to allow, every question; to deny, the last.
    enough: Option<Duration>,
}

#[derive(Debug)]
struct Item {
    number: RowNumber,
    who: String,
    opens: String,
    /// Whether all of it has been on the screen.
    shown: bool,
}

impl Confirm {
    pub(super) const fn new(action: Action) -> Self {
        Self {
            action,
            items: Vec::new(),
            top: 0,
            window: 1,
            enough: None,
        }
    }

    pub(super) fn add(&mut self, row: &Row) {
        self.items.push(Item {
            number: row.number(),
            who: words::who(row),
            opens: words::opens(row),
            shown: false,
        });
    }

    pub(super) const fn action(&self) -> Action {
        self.action
    }

    /// Returns the questions, each with what the screen said that an answer opens.
    pub(super) fn rows(&self) -> impl Iterator<Item = (RowNumber, &str)> {
        let items = self.items.iter();
        items.map(|item| (item.number, item.opens.as_str()))
    }

    pub(super) fn go(&mut self, to: Move) {
        let last = self.items.len().saturating_sub(1);
        self.top = step(self.top, to, self.window, last);
    }

    /// Takes in that nobody has seen the screen for a while.
    pub(super) fn hidden(&mut self) {
        self.enough = None;
    }

    /// Says whether they may be answered now, or why not.
    pub(super) fn accepts(&self, now: Duration) -> Result<(), &'static str> {
        match (self.enough, self.action) {
            (None, Action::Allow) => Err("NOT answered: not all of it was shown yet; PgDn"),
            (None, Action::Deny) => Err("NOT answered: not all of it was shown yet; PgDn or End"),
            (Some(since), _) if now.saturating_sub(since) < BY_ITSELF => {
                Err("NOT answered: it has only just come here. Read it, then press again")
            }
            (Some(_), _) => Ok(()),
        }
    }

    /// Returns the title of the page.
    pub(super) fn title(&self) -> String {
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
    pub(super) fn lay_out(
        &mut self,
        width: usize,
        height: usize,
        now: Duration,
    ) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        let mut shown = 0_usize;
        let mut end = true;
        for item in self.items.get_mut(self.top..).unwrap_or_default() {
            let verb = match self.action {
                Action::Allow => "opens",
                Action::Deny => "refuses",
            };
            let head = format!(" [{}] {}", item.number, item.who);
            let mut block = vec![Line::styled(fit(&head, width), Theme::strong())];
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
        self.window = shown.max(1);
        let enough = match self.action {
            Action::Allow => self.items.iter().all(|item| item.shown),
            Action::Deny => end,
        };
        if enough && self.enough.is_none() {
            self.enough = Some(now);
        }
        lines
    }

    /// Returns which of them are shown: `1 to 8 of 20`.
    pub(super) fn place(&self) -> String {
        let first = self.top.saturating_add(1);
        let last = self.top.saturating_add(self.window);
        let all = self.items.len();
        format!("{first} to {} of {all}", last.min(all))
    }
}
