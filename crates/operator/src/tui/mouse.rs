// SPDX-License-Identifier: Apache-2.0
//! The mouse: a click selects the question that was drawn there, the wheel scrolls. It never answers.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};

use super::keys::{Mode, Move};
use super::model::Model;

impl Model {
    pub(super) fn point(&mut self, event: MouseEvent) {
        match event.kind {
            MouseEventKind::ScrollDown => self.scroll_by(1),
            MouseEventKind::ScrollUp => self.scroll_by(-1),
            MouseEventKind::Down(MouseButton::Left) => {
                let list = matches!(self.mode, Mode::Questions | Mode::Filter);
                let row = self.screen.row_at(event.row).filter(|_| list);
                if let Some(row) = row {
                    self.list.tidy();
                    self.list.select(row);
                    self.status = None;
                    self.touch();
                }
            }
            _ => {}
        }
    }

    fn scroll_by(&mut self, lines: i32) {
        self.go(Move::Lines(lines));
        self.touch();
    }
}
