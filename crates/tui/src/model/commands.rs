// SPDX-License-Identifier: Apache-2.0
//! The effect of commands and of the mouse.

use std::time::Duration;

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use operator::phrases::MessageTone;

use super::{MAX_FILTER_CHARS, TuiEffect, TuiModel};
use crate::drawn::DrawnList;
use crate::keys::{CursorMove, InfoPage, TuiCommand, ViewMode};
use crate::selection::target_index;
use crate::view::SessionView;

impl TuiModel {
    pub(super) fn run_command(
        &mut self,
        command: TuiCommand,
        view: SessionView<'_>,
        now: Duration,
    ) -> Option<TuiEffect> {
        match command {
            TuiCommand::Navigate(to) => self.navigate(to),
            TuiCommand::Answer(action) => return self.answer(action, view, now),
            TuiCommand::Confirm if self.mode == ViewMode::Revoke => return self.revoke(now),
            TuiCommand::Confirm => return self.answer_marked(view, now),
            TuiCommand::ChooseLifetime(choice) => self.choose_lifetime(Some(choice), view),
            TuiCommand::ResetScope => self.choose_lifetime(None, view),
            TuiCommand::WidenName => self.widen_name(view),
            TuiCommand::ShowRules => return self.show_rules(view),
            TuiCommand::Revoke => self.ask_revoke(),
            TuiCommand::ToggleMark => self.selection.toggle_mark(),
            TuiCommand::ToggleMarkAll => self.selection.toggle_all_marks(),
            TuiCommand::ShowDetails if self.selection.selected().is_some() => {
                self.switch_mode(ViewMode::Details);
            }
            TuiCommand::EditFilter => self.mode = ViewMode::Filter,
            TuiCommand::KeepFilter => self.mode = ViewMode::Questions,
            TuiCommand::DeleteChar => {
                let mut filter = self.selection.filter().to_owned();
                filter.pop();
                self.selection.set_filter(&filter, view.inbox);
            }
            TuiCommand::ClearFilter => self.selection.set_filter("", view.inbox),
            TuiCommand::InsertChar(c)
                if self.selection.filter().chars().count() < MAX_FILTER_CHARS =>
            {
                let filter = format!("{}{c}", self.selection.filter());
                self.selection.set_filter(&filter, view.inbox);
            }
            TuiCommand::ShowDetails | TuiCommand::InsertChar(_) => {}
            TuiCommand::ShowHelp => self.switch_mode(ViewMode::Page(InfoPage::Help)),
            TuiCommand::ShowLog => {
                self.switch_mode(ViewMode::Page(InfoPage::Log));
                // The newest entries are at the end.
                self.first_line = usize::MAX;
            }
            TuiCommand::ShowSandboxes => self.switch_mode(ViewMode::Page(InfoPage::Sandboxes)),
            TuiCommand::Back => self.go_back(view),
            TuiCommand::Refresh => return Some(TuiEffect::Refresh),
            TuiCommand::ToggleMouse => return Some(self.toggle_mouse()),
            TuiCommand::Quit if !self.is_waiting(view) || self.quit_requested => {
                return Some(TuiEffect::Quit);
            }
            TuiCommand::Quit => {
                self.quit_requested = true;
                let waits = match view.unanswered {
                    0 => "waiting for the end of a rule".to_owned(),
                    _ => view.unanswered_text(),
                };
                let text = format!("{waits}; q quits at once");
                self.set_status(MessageTone::Quiet, text);
            }
            TuiCommand::Interrupt => return Some(TuiEffect::Interrupt),
            TuiCommand::Suspend => return Some(TuiEffect::Suspend),
            TuiCommand::Unbound => self.set_status(MessageTone::Quiet, "? shows the keys"),
        }
        None
    }

    pub(super) fn switch_mode(&mut self, mode: ViewMode) {
        self.mode = mode;
        self.first_line = 0;
        // The new page is not drawn yet.
        self.drawn.page = None;
    }

    fn toggle_mouse(&mut self) -> TuiEffect {
        self.mouse_captured = !self.mouse_captured;
        let text = if self.mouse_captured {
            "mouse on: a click selects a question and never answers one"
        } else {
            "mouse released: the terminal selects text"
        };
        self.set_status(MessageTone::Quiet, text);
        TuiEffect::CaptureMouse(self.mouse_captured)
    }

    fn go_back(&mut self, view: SessionView<'_>) {
        match self.mode {
            ViewMode::Questions if !self.selection.filter().is_empty() => {
                self.selection.set_filter("", view.inbox);
            }
            ViewMode::Questions => self.selection.clear_marks(),
            ViewMode::Filter => {
                self.selection.set_filter("", view.inbox);
                self.mode = ViewMode::Questions;
            }
            ViewMode::Confirm => {
                self.confirm = None;
                self.mode = ViewMode::Questions;
                self.set_status(MessageTone::Quiet, "nothing was answered");
            }
            ViewMode::Revoke => {
                self.revoke = None;
                self.mode = ViewMode::Rules;
                self.set_status(MessageTone::Quiet, "no rule was revoked");
            }
            ViewMode::Details | ViewMode::Rules | ViewMode::Page(_) => {
                self.mode = ViewMode::Questions;
            }
        }
    }

    fn navigate(&mut self, to: CursorMove) {
        match self.mode {
            ViewMode::Questions | ViewMode::Filter => self.selection.navigate(to),
            ViewMode::Confirm => {
                if let Some(confirm) = &mut self.confirm {
                    confirm.navigate(to);
                }
            }
            ViewMode::Rules => self.rules.navigate(to),
            ViewMode::Details | ViewMode::Revoke | ViewMode::Page(_) => {
                // Without a frame of the page, there is nothing to scroll.
                if let Some(page) = self.drawn.page {
                    let (at, last) = (self.first_line, page.max_first_line);
                    self.first_line = target_index(at.min(last), to, page.height, last);
                }
            }
        }
    }

    /// Applies a mouse event: a click selects the question that was drawn there, the wheel scrolls.
    /// The mouse never answers.
    pub(super) fn handle_mouse(&mut self, event: MouseEvent) {
        let lines = match event.kind {
            MouseEventKind::ScrollDown => 1,
            MouseEventKind::ScrollUp => -1,
            MouseEventKind::Down(MouseButton::Left) => return self.click(event.row),
            _ => return,
        };
        self.navigate(CursorMove::Lines(lines));
        self.needs_redraw = true;
    }

    fn click(&mut self, y: u16) {
        if self.mode == ViewMode::Rules {
            let rules = self.drawn.rules;
            let line = rules.and_then(|rules| Some((rules, y.checked_sub(rules.first_row_y)?)));
            if let Some((rules, line)) = line
                && usize::from(line) < rules.height
            {
                let line = rules.first_visible.saturating_add(line.into());
                self.rules.select_line(line);
                self.status = None;
                self.needs_redraw = true;
            }
            return;
        }
        let drawn = self.drawn.list.as_ref();
        let row = drawn.and_then(|list: &DrawnList| list.row_at(y));
        if let Some(row) = row
            && matches!(self.mode, ViewMode::Questions | ViewMode::Filter)
        {
            self.selection.select(row);
            self.status = None;
            self.needs_redraw = true;
        }
    }
}
