// SPDX-License-Identifier: Apache-2.0
//! The table of `list`: pending questions, each followed by the effect of `allow`.
//!
//! Only the sandbox column is cut. Id, destination and effect are never cut, because an operator
//! needs them for an answer.

use terok_clearance::Timestamp;

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
            .map(|cells| cells.get(column).map_or(0, String::len));
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
        let line = format!("{name:id$}  {from:who$}  {wants}");
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
        shown.push_str(&wrap_words(
            &line,
            width,
            id.max(name.len()).saturating_add(2),
        ));
        shown.push_str(&wrap_words(&under, width, 0));
    }
    shown
}

/// Truncates a cell to [`MAX_COLUMN_WIDTH`]. The text is ASCII, so every index is a character
/// boundary.
fn truncate_cell(text: String) -> String {
    match text.get(..MAX_COLUMN_WIDTH.saturating_sub(3)) {
        Some(start) if text.len() > MAX_COLUMN_WIDTH => format!("{start}..."),
        _ => text,
    }
}

/// Breaks a text between words into lines of `width` columns. All lines are indented, except the
/// first line if `columns` is not 0. A word longer than `width` gets a line without other words.
fn wrap_words(text: &str, width: usize, columns: usize) -> String {
    let indent = " ".repeat(INDENT_COLUMNS);
    let mut shown = String::new();
    let mut line = if columns == 0 {
        indent.clone()
    } else {
        // The first line starts with padded table columns, where no break is allowed.
        let (start, _) = text.split_at(columns.min(text.len()));
        start.to_owned()
    };
    let rest = text.get(
        if columns == 0 {
            0
        } else {
            columns.min(text.len())
        }..,
    );
    for word in rest.unwrap_or_default().split_inclusive(' ') {
        let length = line.len().saturating_add(word.trim_end().len());
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
