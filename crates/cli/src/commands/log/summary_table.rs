// SPDX-License-Identifier: Apache-2.0
//! `log --summary`: the sums of each destination.

use record::{DestSummary, RecordFilter, RecordReader, RecordSummary, parse_line};
use serde_json::json;

use super::entry_text::format_bytes;
use super::printer::EntryPrinter;
use crate::{CommandContext, CommandError, CommandStatus};

const HEADS: [&str; 6] = [
    "destination",
    "connections",
    "sent",
    "received",
    "refused",
    "allowed by",
];

/// Adds the selected entries up, and prints a table.
pub(super) fn perform(
    mut reader: RecordReader,
    filter: &RecordFilter,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let mut summary = RecordSummary::default();
    // Rules outside of the selection tell who allowed the selected connections.
    let rules = RecordFilter::default().kind("rule_added");
    while let Some(line) = reader.next_line()? {
        if (filter.selects(line.bytes) || rules.selects(line.bytes))
            && let Ok(entry) = parse_line(line.bytes)
        {
            summary.push(&entry);
        }
    }
    let mut printer = EntryPrinter::new(context);
    if context.json {
        for row in summary.dests() {
            printer.write(&row_json(&row))?;
        }
        let end = json!({
            "event": "summary",
            "lost_entries": summary.lost_entries(),
            "unknown_loss": summary.has_unknown_loss(),
        });
        printer.write(&end.to_string())?;
    } else {
        let rows: Vec<_> = summary.dests().iter().map(row_texts).collect();
        let bold = context.output.colors().stdout;
        for line in format_table(&rows, bold) {
            printer.write(&line)?;
        }
    }
    printer.flush()?;
    if !context.json {
        for line in describe_losses(&summary) {
            context.output.print_error_line(&format!("warning: {line}"));
        }
    }
    Ok(CommandStatus::OK)
}

fn describe_losses(summary: &RecordSummary) -> Vec<String> {
    let mut lines = Vec::new();
    if summary.dests().is_empty() {
        lines.push("no destination is in the selected entries".to_owned());
    }
    if summary.lost_entries() > 0 {
        let lost = summary.lost_entries();
        lines.push(format!(
            "{lost} entries are missing from the record (`--kind lost`)"
        ));
    }
    if summary.has_unknown_loss() {
        lines.push("a writer ended within a line; entries of it may be missing".to_owned());
    }
    lines
}

fn row_json(row: &DestSummary<'_>) -> String {
    json!({
        "event": "destination",
        "dest": row.dest,
        "questions": row.questions,
        "connections": row.connections,
        "open": row.open,
        "refused": row.refused,
        "bytes_out": row.bytes_out,
        "bytes_in": row.bytes_in,
        "allowed_by": row.allowed_by,
    })
    .to_string()
}

fn row_texts(row: &DestSummary<'_>) -> [String; 6] {
    let open = match row.open {
        0 => String::new(),
        open => format!(" ({open} open)"),
    };
    [
        row.dest.to_string(),
        format!("{}{open}", row.connections),
        format_bytes(row.bytes_out),
        format_bytes(row.bytes_in),
        row.refused.to_string(),
        row.allowed_by.join(", "),
    ]
}

/// Returns the lines of a table. All texts are ASCII.
fn format_table(rows: &[[String; 6]], bold: bool) -> Vec<String> {
    if rows.is_empty() {
        return Vec::new();
    }
    let mut widths = HEADS.map(str::len);
    for row in rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = (*width).max(text.len());
        }
    }
    let line = |texts: [&str; 6]| {
        let columns = texts.into_iter().zip(widths).enumerate();
        let columns = columns.map(|(number, (text, width))| match number {
            0 | 5 => format!("{text:<width$}"),
            _ => format!("{text:>width$}"),
        });
        columns.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head = line(HEADS);
    let head = if bold {
        format!("\x1b[1m{head}\x1b[0m")
    } else {
        head
    };
    let rows = rows
        .iter()
        .map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(head).chain(rows).collect()
}
