// SPDX-License-Identifier: Apache-2.0
//! Lines of this program between the command's output.

use std::fmt::Write as _;

use rustix::termios::Winsize;
use unicode_width::UnicodeWidthChar as _;

use super::colors::DIRECT_COLORS;
use super::{END_UNFINISHED, ORIGIN_MODE, PLAIN_TEXT, SIDE_MARGIN_MODE, TerminalStateTracker};

impl TerminalStateTracker {
    /// Returns what shows the lines of `text` on a terminal of this size, and then leaves the
    /// terminal as before.
    ///
    /// At the start of a line, the lines go there. Within a line, they go above that line, which
    /// moves down and stays whole. Over a full-screen command, and within margins, they are drawn
    /// over the last row.
    pub fn notice_sequence(&self, text: &str, size: Winsize) -> Vec<u8> {
        self.signed_notice_sequence("", text, size)
    }

    /// As [`Self::notice_sequence`], with control characters that show nothing, such as a bell,
    /// before the text: within an unfinished sequence of the command they would end it.
    pub fn signed_notice_sequence(&self, sign: &str, text: &str, size: Winsize) -> Vec<u8> {
        if !self.seen.sequences && self.is_line_start() {
            return format!("{sign}{}\r\n", text.replace('\n', "\r\n")).into_bytes();
        }
        let mut out = format!("{END_UNFINISHED}{sign}");
        let settings = &self.settings;
        let is_framed = settings.vertical_margins.is_some()
            || settings.changed.contains(&SIDE_MARGIN_MODE)
            || settings.changed.contains(&ORIGIN_MODE)
            || settings.is_vt52;
        if self.is_alternate_screen() || is_framed {
            self.draw_over_last_row(&mut out, text, size);
        } else if self.is_line_start() {
            self.begin_text(&mut out);
            for line in text.split('\n') {
                write!(out, "{line}\r\n").ok();
            }
        } else {
            self.insert_above(&mut out, text, size);
        }
        self.resume(&mut out);
        let mut out = out.into_bytes();
        out.extend(self.scanner.pending());
        out
    }

    /// Starts readable text, whatever colours the command chose for all text.
    fn begin_text(&self, out: &mut String) {
        out.push_str(PLAIN_TEXT);
        if self.seen.colors {
            out.push_str(DIRECT_COLORS);
        }
    }

    /// Draws the first line of the text over the last row.
    fn draw_over_last_row(&self, out: &mut String, text: &str, size: Winsize) {
        out.push_str("\x1b7");
        self.begin_text(out);
        // No autowrap: a line of a wrong width does not scroll the screen.
        out.push_str("\x1b[?69l\x1b[?6l\x1b[?7l\x1b[999;1H\x1b[7m");
        let line = text.split('\n').next().unwrap_or_default();
        let row = wrap_rows(line, size.ws_col);
        out.push_str(row.first().map(String::as_str).unwrap_or_default());
        out.push_str("\x1b[0m\x1b[K\x1b8");
    }

    /// Inserts rows above the line of the cursor, which keeps its place in the line.
    ///
    /// IND makes room below the cursor, and IL moves the line down into the room.
    fn insert_above(&self, out: &mut String, text: &str, size: Winsize) {
        let rows: Vec<_> = text
            .split('\n')
            .flat_map(|line| wrap_rows(line, size.ws_col))
            .collect();
        out.push_str(&"\x1bD".repeat(rows.len()));
        let keeps_saved = self.settings.has_saved_cursor;
        if !keeps_saved {
            out.push_str("\x1b7");
        }
        self.begin_text(out);
        let up = rows.len().saturating_add(self.position.rows_above().into());
        write!(out, "\x1b[{up}A\x1b[{}L", rows.len()).ok();
        for row in &rows {
            write!(out, "\r{row}\x1b[B").ok();
        }
        if keeps_saved {
            let column = self.position.column().saturating_add(1);
            if self.position.rows_above() > 0 {
                write!(out, "\x1b[{}B", self.position.rows_above()).ok();
            }
            write!(out, "\x1b[{column}G").ok();
        } else {
            out.push_str("\x1b8");
        }
    }

    /// Leads back to the state of the command after text.
    fn resume(&self, out: &mut String) {
        out.push_str("\x1b[0m");
        let settings = &self.settings;
        let has_origin = settings.changed.contains(&ORIGIN_MODE);
        let has_side_margins = settings.changed.contains(&SIDE_MARGIN_MODE);
        if has_side_margins {
            out.push_str("\x1b[?69h");
        }
        if has_side_margins || has_origin {
            out.push_str(&settings.margin_sequence());
        }
        let wraps = !settings.changed.contains(&7);
        out.push_str(if wraps { "\x1b[?7h" } else { "\x1b[?7l" });
        for mode in &settings.ecma_modes {
            write!(out, "\x1b[{mode}h").ok();
        }
        out.push_str(&settings.text_sequence());
        if settings.is_vt52 {
            out.push_str("\x1b[?2l");
        }
    }
}

/// Cuts a line into rows of this width; at least one.
fn wrap_rows(line: &str, width: u16) -> Vec<String> {
    let (mut rows, mut row, mut cells) = (Vec::new(), String::new(), 0);
    for c in line.chars() {
        let more = c.width().unwrap_or_default();
        if cells + more > usize::from(width.max(2)) {
            rows.push(std::mem::take(&mut row));
            cells = 0;
        }
        row.push(c);
        cells += more;
    }
    rows.push(row);
    rows
}
