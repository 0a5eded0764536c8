// SPDX-License-Identifier: Apache-2.0
//! The table of `list`: pending questions, each followed by the effect of `allow`.
//!
//! Only the sandbox column is cut. Id, destination and effect are never cut, because an operator
//! needs them for an answer.

use terok_clearance::Timestamp;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::inbox::Row;
use crate::phrases;

/// Maximum width of the sandbox column.
const MAX_COLUMN_WIDTH: usize = 24;
/// Indentation of the effect of `allow`.
const INDENT_COLUMNS: usize = 4;

pub(super) fn render_table(rows: &[&Row], now: Timestamp, width: usize, color: bool) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let cells: Vec<[String; 4]> = rows
        .iter()
        .map(|row| {
            [
                row.request().id.to_string(),
                truncate_cell(phrases::describe_sandbox(row)),
                phrases::describe_dest(row),
                phrases::describe_occurrences(row, now),
            ]
        })
        .collect();
    let columns = |column: usize, head: &str| {
        let widths = cells
            .iter()
            .map(|cells| cells.get(column).map_or(0, |cell| cell.width()));
        // A single long id must not widen the column for all rows.
        widths
            .max()
            .unwrap_or(0)
            .clamp(head.len(), MAX_COLUMN_WIDTH)
    };
    let (id, who) = (columns(0, "ID"), columns(1, "FROM"));
    let head = format!("{:id$}  {:who$}  WANTS", "ID", "FROM");
    let mut shown = if color {
        format!("\x1b[1m{head}\x1b[0m\n")
    } else {
        format!("{head}\n")
    };
    for (row, [name, from, wants, often]) in rows.iter().zip(&cells) {
        let start = format!("{}  ", pad(name, id));
        let line = format!("{start}{}  {wants}", pad(from, who));
        let mut under = format!("blocked {often};");
        let process = phrases::describe_process(row).map(|process| format!("who asks: {process}"));
        let notes = [
            process,
            phrases::describe_lookup(row),
            phrases::describe_waiting(row, None, Some(now)),
        ];
        for note in notes.into_iter().flatten() {
            under = format!("{under} {note};");
        }
        let under = format!(
            "{under} allow opens {}",
            phrases::describe_allow_effect(row)
        );
        shown.push_str(&wrap_words(&line, width, start.len()));
        shown.push_str(&wrap_words(&under, width, 0));
    }
    shown
}

/// Returns the text with spaces up to `columns` columns. Letters of many scripts take two columns,
/// and marks none.
fn pad(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(text.width());
    format!("{text}{:missing$}", "")
}

/// Truncates a cell to [`MAX_COLUMN_WIDTH`].
fn truncate_cell(text: String) -> String {
    if text.width() <= MAX_COLUMN_WIDTH {
        return text;
    }
    let mut room = MAX_COLUMN_WIDTH.saturating_sub(3);
    let fits = |c: &char| {
        let left = room.checked_sub(c.width().unwrap_or(0));
        room = left.unwrap_or(0);
        left.is_some()
    };
    let start: String = text.chars().take_while(fits).collect();
    format!("{start}...")
}

/// Breaks a text between words into lines of `width` columns. All lines are indented, except the
/// first line if `padded`, the bytes of its padded cells, is not 0. A word longer than `width` gets
/// a line without other words.
fn wrap_words(text: &str, width: usize, padded: usize) -> String {
    let indent = " ".repeat(INDENT_COLUMNS);
    let mut shown = String::new();
    let mut line = if padded == 0 {
        indent.clone()
    } else {
        // The first line starts with padded table columns, where no break is allowed.
        let (start, _) = text.split_at(padded.min(text.len()));
        start.to_owned()
    };
    let rest = text.get(
        if padded == 0 {
            0
        } else {
            padded.min(text.len())
        }..,
    );
    for word in rest.unwrap_or_default().split_inclusive(' ') {
        let length = line.width().saturating_add(word.trim_end().width());
        if length > width && !line.trim().is_empty() {
            shown.push_str(line.trim_end());
            shown.push('\n');
            line.clone_from(&indent);
        }
        if line == indent && word.trim().is_empty() {
            continue;
        }
        line.push_str(word);
    }
    shown.push_str(line.trim_end());
    shown.push('\n');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_no_word_is_lost() {
        assert_eq!(
            wrap_words("one two three", 12, 0),
            "    one two\n    three\n"
        );
        assert_eq!(wrap_words("id  one two", 80, 4), "id  one two\n");
        assert_eq!(
            wrap_words("id  one two three", 12, 4),
            "id  one two\n    three\n"
        );
        assert_eq!(wrap_words("a", 0, 0), "    a\n");
        assert_eq!(wrap_words("aaaaaaaa bb", 5, 0), "    aaaaaaaa\n    bb\n");
        for width in [0, 1, 7, 20, 80] {
            let text = "blocked once, 5 s ago; allow opens tcp port 443 of one.example";
            let wrapped = wrap_words(text, width, 0);
            let words: Vec<_> = wrapped.split_whitespace().collect();
            assert_eq!(words, text.split_whitespace().collect::<Vec<_>>());
        }
    }

    #[test]
    fn cells_are_as_wide_as_they_look() {
        assert_eq!(
            pad("\u{65e5}\u{672c}\u{8a9e}", 8),
            "\u{65e5}\u{672c}\u{8a9e}  "
        );
        assert_eq!(pad("e\u{301}", 3), "e\u{301}  ");
        assert_eq!(pad("longer", 3), "longer");
        let wide = "\u{65e5}".repeat(13);
        let cut = format!("{}...", "\u{65e5}".repeat(10));
        assert_eq!(truncate_cell(wide), cut);
        assert_eq!(truncate_cell("\u{65e5}".repeat(12)), "\u{65e5}".repeat(12));
    }

    #[test]
    fn sandbox_is_truncated_to_its_column() {
        assert_eq!(truncate_cell("web".to_owned()), "web");
        assert_eq!(
            truncate_cell("x".repeat(MAX_COLUMN_WIDTH)),
            "x".repeat(MAX_COLUMN_WIDTH)
        );
        assert_eq!(
            truncate_cell("x".repeat(MAX_COLUMN_WIDTH + 1)).len(),
            MAX_COLUMN_WIDTH
        );
    }
}
