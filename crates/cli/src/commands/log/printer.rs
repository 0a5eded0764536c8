// SPDX-License-Identifier: Apache-2.0
//! Prints lines of the record, as text or as JSON.

use std::io::{BufWriter, Write};

use record::{RecordLine, parse_line};
use serde_json::json;
use terok_clearance::DisplayText;

use super::entry_text::{EntryStyle, PushArgs as _};
use crate::CommandContext;
use crate::output::OutputError;
use crate::timezone::system_time_zone;

/// Bytes that are collected before a write.
const WRITE_BYTES: usize = 64 << 10;

/// Prints lines of the record to standard output.
pub(super) struct EntryPrinter<'a> {
    output: BufWriter<Box<dyn Write + 'a>>,
    json: bool,
    style: EntryStyle,
}

impl<'a> EntryPrinter<'a> {
    pub(super) fn new(context: &'a CommandContext) -> Self {
        let output: Box<dyn Write> = Box::new(context.output.stdout_writer());
        Self {
            output: BufWriter::with_capacity(WRITE_BYTES, output),
            json: context.json,
            style: EntryStyle {
                zone: system_time_zone(),
                color: context.output.colors().stdout,
            },
        }
    }

    /// Prints a line. A line that is no entry is shown as such.
    pub(super) fn print(&mut self, line: &RecordLine<'_>) -> Result<(), OutputError> {
        if self.json {
            let text = to_ascii_json(line.bytes).unwrap_or_else(|| unreadable_json(line));
            return self.write(&text);
        }
        let text = match parse_line(line.bytes) {
            Ok(entry) => self.style.format(&entry, line.bytes),
            Err(error) => {
                let file = line.file.display().to_string();
                let file = DisplayText::new(&file);
                format!("line {} of {file}: {error}", line.number)
            }
        };
        self.write(&text)
    }

    /// Prints a text with a line break.
    pub(super) fn write(&mut self, text: &str) -> Result<(), OutputError> {
        let written = self.output.write_all(text.as_bytes());
        written
            .and_then(|()| self.output.write_all(b"\n"))
            .map_err(OutputError::from_write)
    }

    /// Writes what was collected.
    pub(super) fn flush(&mut self) -> Result<(), OutputError> {
        self.output.flush().map_err(OutputError::from_write)
    }
}

/// Returns a JSON line in printable ASCII with the same meaning; `None` if the line is no JSON.
fn to_ascii_json(line: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(line).ok()?;
    let _: &serde_json::value::RawValue = serde_json::from_str(text).ok()?;
    if text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        return Some(text.to_owned());
    }
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => ascii.push(c),
            // Blanks between values; in a text, JSON has them as escapes.
            '\t' | '\r' | '\n' => ascii.push(' '),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    ascii.push_args(format_args!("\\u{unit:04x}"));
                }
            }
        }
    }
    Some(ascii)
}

fn unreadable_json(line: &RecordLine<'_>) -> String {
    json!({
        "event": "unreadable",
        "file": line.file.to_string_lossy(),
        "line": line.number,
        "bytes": line.length,
        "text": DisplayText::new(&String::from_utf8_lossy(line.bytes)).as_str(),
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_ascii_with_the_same_meaning() {
        let check = |line: &str, expected: &str| {
            let ascii = to_ascii_json(line.as_bytes()).unwrap();
            assert_eq!(ascii, expected);
            let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
            assert_eq!(parse(&ascii), parse(line));
        };
        check(r#"{"a":"b \u001b"}"#, r#"{"a":"b \u001b"}"#);
        check(
            "{\"a\":\t\"\u{e9}\u{1f680}\u{202e}\u{9b}\u{7f}\"}",
            r#"{"a": "\u00e9\ud83d\ude80\u202e\u009b\u007f"}"#,
        );
        for other in [&b"x"[..], b"{\"a\":\"\x1b\"}", b"\"\xff\"", b"{} {}", b""] {
            assert_eq!(to_ascii_json(other), None);
        }
    }
}
