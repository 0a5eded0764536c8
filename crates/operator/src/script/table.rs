// SPDX-License-Identifier: Apache-2.0
//! The table of `list`: pending questions, each followed by the effect of `allow`.
//!
//! No cell is cut, because an operator needs all of them for an answer. Without a terminal no line
//! is broken either: a question has two lines, whose columns are aligned.

use terok_clearance::Timestamp;

use crate::inbox::{Inbox, Row};
use crate::phrases;
use crate::text_wrap::{display_width, pad_cell, wrap_lines};

/// Maximum width of a column on a terminal: one long name must not push all destinations aside.
const MAX_COLUMN_WIDTH: usize = 24;
/// Indentation of the effect of `allow`.
const INDENT_COLUMNS: usize = 4;

/// Formats the rows of `inbox` for a terminal with `width` columns, without one for a pipe or file.
pub(super) fn render_table(
    rows: &[&Row],
    inbox: &Inbox,
    now: Timestamp,
    width: Option<usize>,
    color: bool,
) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let cells: Vec<[String; 3]> = rows
        .iter()
        .map(|row| {
            [
                inbox.question_id(row),
                phrases::describe_sandbox(row),
                phrases::describe_dest(row),
            ]
        })
        .collect();
    let columns = |column: usize, head: &str| {
        let cells = cells.iter().filter_map(|cells| cells.get(column));
        let widest = cells.map(|cell| display_width(cell)).max().unwrap_or(0);
        let limit = width.map_or(usize::MAX, |_| MAX_COLUMN_WIDTH);
        widest.min(limit).max(head.len())
    };
    let (id, who) = (columns(0, "ID"), columns(1, "FROM"));
    let line = |name: &str, from: &str, wants: &str| {
        format!("{}  {}  {wants}", pad_cell(name, id), pad_cell(from, who))
    };
    let wrap = |line: String| match width {
        Some(width) => wrap_lines(&line, width, INDENT_COLUMNS),
        None => line,
    };
    let head = line("ID", "FROM", "WANTS");
    let mut shown = wrap(if color {
        format!("\x1b[1m{head}\x1b[0m\n")
    } else {
        format!("{head}\n")
    });
    for (row, [name, from, wants]) in rows.iter().zip(&cells) {
        shown.push_str(&wrap(line(name, from, wants) + "\n"));
        let indent = " ".repeat(INDENT_COLUMNS);
        shown.push_str(&wrap(format!("{indent}{}\n", describe_details(row, now))));
    }
    shown
}

/// Returns the packets of a question, who asks, and the effect of `allow`.
fn describe_details(row: &Row, now: Timestamp) -> String {
    let occurrences = phrases::describe_occurrences(row, now);
    let process = phrases::describe_process(row).map(|process| format!("who asks: {process}"));
    let notes = [
        Some(format!("blocked {occurrences}")),
        process,
        phrases::describe_addresses(row),
        phrases::describe_lookup(row),
        phrases::describe_waiting(row, None, Some(now)),
        phrases::describe_previous(row, now),
        Some(format!("allow opens {}", phrases::describe_own_effect(row))),
        phrases::describe_offers(row).map(|offers| format!("or {offers}")),
        phrases::describe_approver_note(row),
        // Last, so that what follows is certainly the program's.
        phrases::describe_reason(row),
    ];
    let notes: Vec<_> = notes.into_iter().flatten().collect();
    notes.join("; ")
}
