// SPDX-License-Identifier: Apache-2.0
//! `log --verify`: checks the chain of hashes.

use std::path::Path;

use record::{ChainReport, verify_record};
use serde_json::json;
use terok_clearance::DisplayText;

use super::entry_text::PushArgs as _;
use crate::{CommandContext, CommandError, CommandStatus};

/// Checks the record at `path`, and prints the result.
pub(super) fn perform(
    path: &Path,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    let report = verify_record(path)?;
    let text = if context.json {
        to_json(&report)
    } else {
        describe(&report)
    };
    context.output.print_line(&text)?;
    Ok(if report.first_break.is_some() {
        CommandStatus::BROKEN_RECORD
    } else {
        CommandStatus::OK
    })
}

fn to_json(report: &ChainReport) -> String {
    let first_break = report.first_break.as_ref().map(|found| {
        json!({
            "file": found.file.to_string_lossy(),
            "line": found.line,
            "reason": found.reason.to_string(),
        })
    });
    json!({
        "event": "chain",
        "intact": first_break.is_none(),
        "files": report.files,
        "entries": report.entries,
        "first": report.first_sequence,
        "last": report.last_sequence,
        "unfinished_lines": report.unfinished_lines,
        "ends_unfinished": report.ends_unfinished,
        "break": first_break,
    })
    .to_string()
}

fn describe(report: &ChainReport) -> String {
    let count = |number: u64, one: &str, more: &str| match number {
        1 => format!("1 {one}"),
        _ => format!("{number} {more}"),
    };
    let entries = count(report.entries, "entry", "entries");
    if let Some(found) = &report.first_break {
        let file = found.file.display().to_string();
        return format!(
            "the chain is broken at line {} of {}: {}\n{entries} before it are unchanged",
            found.line,
            DisplayText::name(&file),
            found.reason
        );
    }
    let files = u64::try_from(report.files).unwrap_or(u64::MAX);
    let mut text = format!(
        "the chain is intact: {entries} in {}",
        count(files, "file", "files")
    );
    if let (Some(first), Some(last)) = (report.first_sequence, report.last_sequence) {
        text.push_args(format_args!(", numbers {first} to {last}"));
        if first > 1 {
            let gone = count(first.saturating_sub(1), "older one is", "older ones are");
            text.push_args(format_args!("\n{gone} gone, as after rotation"));
        }
    }
    if report.unfinished_lines > 0 {
        let places = count(report.unfinished_lines, "place", "places");
        text.push_args(format_args!(
            "\na writer ended within a line at {places}; the record says so there"
        ));
    }
    if report.ends_unfinished {
        text += "\nthe last line is unfinished; the next writer will say so in the record";
    }
    text
}
