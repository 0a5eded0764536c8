// SPDX-License-Identifier: Apache-2.0
//! The position of the cursor in the line that the command is writing.

use unicode_width::UnicodeWidthChar as _;

use super::scanner::{Csi, OutputItem};

/// The position of the cursor in the line that the command is writing.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinePosition {
    column: u16,
    /// Rows of the line above the cursor's: the line is wrapped.
    rows_above: u16,
    /// Something was printed in the line.
    has_text: bool,
    /// The command placed the cursor, so that the row is not known to be the line's last.
    is_placed: bool,
}

impl LinePosition {
    /// Returns `true` at the start of a line without text.
    pub(super) fn is_line_start(self) -> bool {
        self == Self::default()
    }

    /// Returns the column, from 0.
    pub(super) const fn column(self) -> u16 {
        self.column
    }

    /// Returns the number of rows of the line above the cursor's.
    pub(super) const fn rows_above(self) -> u16 {
        if self.is_placed { 0 } else { self.rows_above }
    }

    /// Applies an item of output on a terminal of this width.
    pub(super) fn apply(&mut self, item: &OutputItem<'_>, width: u16) {
        match *item {
            OutputItem::Text(c) => self.print(c, width),
            OutputItem::Control(b'\r') => self.column = 0,
            OutputItem::Control(0x0a..=0x0c) => self.next_line(),
            OutputItem::Control(0x08) => self.column = self.column.saturating_sub(1),
            OutputItem::Control(b'\t') => {
                let stop = (self.column / 8).saturating_add(1).saturating_mul(8);
                self.column = stop.min(width.saturating_sub(1));
                self.has_text = true;
            }
            OutputItem::Escape {
                intermediate: 0,
                final_byte,
            } => match final_byte {
                b'D' => self.next_line(),
                b'E' => {
                    self.column = 0;
                    self.next_line();
                }
                b'c' => *self = Self::default(),
                b'M' | b'8' => self.is_placed = true,
                _ => {}
            },
            OutputItem::Csi(csi) if csi.marker == 0 && csi.intermediate == 0 => {
                self.apply_csi(csi, width);
            }
            _ => {}
        }
    }

    fn apply_csi(&mut self, csi: Csi<'_>, width: u16) {
        let text = std::str::from_utf8(csi.params).unwrap_or_default();
        let first: u16 = text
            .split(';')
            .next()
            .and_then(|param| param.parse().ok())
            .unwrap_or_default();
        let count = first.max(1);
        let last_column = width.saturating_sub(1);
        match csi.final_byte {
            b'A' => self.rows_above = self.rows_above.saturating_sub(count),
            b'B' => self.rows_above = self.rows_above.saturating_add(count),
            b'C' | b'a' => self.column = self.column.saturating_add(count).min(last_column),
            b'D' => self.column = self.column.saturating_sub(count),
            b'G' | b'`' => self.column = count.saturating_sub(1).min(last_column),
            b'J' | b'K' if self.column == 0 && self.rows_above == 0 && first != 1 => {
                self.has_text = false;
            }
            b'E' | b'F' | b'H' | b'L' | b'M' | b'S' | b'T' | b'd' | b'f' | b'r' | b'u' => {
                self.is_placed = true;
                self.has_text = true;
            }
            _ => {}
        }
    }

    fn print(&mut self, c: char, width: u16) {
        let cells: u16 = c
            .width()
            .and_then(|cells| cells.try_into().ok())
            .unwrap_or_default();
        if self.column.saturating_add(cells) > width {
            self.column = 0;
            self.rows_above = self.rows_above.saturating_add(1);
        }
        self.column = self.column.saturating_add(cells);
        self.has_text = true;
    }

    fn next_line(&mut self) {
        *self = Self {
            column: self.column,
            has_text: self.column > 0,
            ..Self::default()
        };
    }
}
