// SPDX-License-Identifier: Apache-2.0
//! The mouse: a click selects the question that was drawn there, the wheel scrolls. It never answers.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};

use crate::keys::{CursorMove, ViewMode};
use crate::model::TuiModel;

impl TuiModel {
    pub(crate) fn handle_mouse(&mut self, event: MouseEvent) {
        match event.kind {
            MouseEventKind::ScrollDown => self.scroll_by(1),
            MouseEventKind::ScrollUp => self.scroll_by(-1),
            MouseEventKind::Down(MouseButton::Left) => {
                let list = matches!(self.mode, ViewMode::Questions | ViewMode::Filter);
                let row = self.layout.row_at(event.row).filter(|_| list);
                if let Some(row) = row {
                    self.selection.remove_ended();
                    self.selection.select(row);
                    self.status = None;
                    self.request_redraw();
                }
            }
            _ => {}
        }
    }

    fn scroll_by(&mut self, lines: i32) {
        self.navigate(CursorMove::Lines(lines));
        self.request_redraw();
    }
}
