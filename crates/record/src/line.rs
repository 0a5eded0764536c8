// SPDX-License-Identifier: Apache-2.0
//! Lines of the record: writing one, parsing one, and a quick look at the first fields of one.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use terok_clearance::{DisplayText, Timestamp};

use crate::record_time::TIME_BYTES;
use crate::{AuditEntry, AuditEvent, AuditSandbox, ChainHash, record_time};

/// The version of the format.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Maximum length of a line. The texts of an entry are bounded, and so is the line of an entry.
pub const MAX_LINE_BYTES: usize = 64 << 10;

/// A line is no entry of the record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineParseError {
    /// The line is longer than any entry.
    #[error("the line is longer than {MAX_LINE_BYTES} bytes")]
    TooLong,
    /// The line is not JSON, or a common field is missing or invalid.
    #[error("the line is no entry of the record")]
    Invalid(#[from] serde_json::Error),
}

/// A parsed line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedEntry {
    /// The version of the format.
    pub version: u32,
    /// The number of the line in the record, from 1.
    pub sequence: u64,
    /// The hash of the line before.
    pub previous: ChainHash,
    /// The time of the event.
    pub time: Timestamp,
    /// The sandbox of the event.
    pub sandbox: Option<AuditSandbox>,
    /// The kind of the event, also if this version does not know it.
    pub kind: DisplayText,
    /// The event; `None` if this version does not know it. The line has all of it.
    pub event: Option<AuditEvent>,
}

/// The fields that each line has.
#[derive(Deserialize)]
struct RecordLineFields {
    v: u32,
    seq: u64,
    prev: ChainHash,
    #[serde(with = "record_time")]
    time: Timestamp,
    kind: DisplayText,
}

#[derive(Serialize)]
struct LineBody<'a> {
    #[serde(with = "record_time")]
    time: Timestamp,
    kind: &'static str,
    #[serde(flatten)]
    sandbox: Option<&'a AuditSandbox>,
    #[serde(flatten)]
    event: &'a AuditEvent,
}

/// Parses a line, which has no line break. Unknown fields are ignored.
pub fn parse_line(line: &[u8]) -> Result<RecordedEntry, LineParseError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(LineParseError::TooLong);
    }
    let fields: RecordLineFields = serde_json::from_slice(line)?;
    // An unknown form of sandbox must not hide the rest of the line.
    let sandbox = serde_json::from_slice(line).ok();
    let event = AuditEvent::from_line(fields.kind.as_str(), line);
    Ok(RecordedEntry {
        version: fields.v,
        sequence: fields.seq,
        previous: fields.prev,
        time: fields.time,
        sandbox,
        kind: fields.kind,
        event,
    })
}

/// The place of a line in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainPosition {
    pub(crate) sequence: u64,
    pub(crate) previous: ChainHash,
    /// The bytes of unfinished lines that the line reports.
    pub(crate) cut_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct CutBytes {
    #[serde(default)]
    cut_bytes: Option<u64>,
}

/// Returns the place in the chain of a line that is an entry.
pub(crate) fn chain_position(line: &[u8]) -> Result<ChainPosition, LineParseError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(LineParseError::TooLong);
    }
    let fields: RecordLineFields = serde_json::from_slice(line)?;
    let cut_bytes = if fields.kind.as_str() == "lost" {
        serde_json::from_slice::<CutBytes>(line)?.cut_bytes
    } else {
        None
    };
    Ok(ChainPosition {
        sequence: fields.seq,
        previous: fields.prev,
        cut_bytes,
    })
}

/// Returns the line of `entry` without a line break.
pub fn encode_line(entry: &AuditEntry, sequence: u64, previous: ChainHash) -> Vec<u8> {
    let mut line = format!(r#"{{"v":{FORMAT_VERSION},"seq":{sequence},"prev":"{previous}","#);
    line.push_str(encode_body(entry).strip_prefix('{').unwrap_or_default());
    line.into_bytes()
}

fn encode_body(entry: &AuditEntry) -> String {
    let body = LineBody {
        time: entry.time,
        kind: entry.event.kind(),
        sandbox: entry.sandbox.as_ref(),
        event: &entry.event,
    };
    // Serialization cannot fail: only maps with text keys, texts and numbers.
    serde_json::to_string(&body).unwrap_or_default()
}

/// Returns the pattern of an answer or a rule, found without parsing the line; `None` also for a
/// line that another version or a person wrote, which may have one.
pub fn scan_pattern(line: &[u8]) -> Option<&str> {
    LineHead::scan(line)?.text(&FieldName::PATTERN).ok()?
}

/// Returns `true` if the line may be about another part of the network than the internet, which is
/// not parsed for it.
pub fn may_have_zone(line: &[u8]) -> bool {
    let scanned = LineHead::scan(line).map(|head| head.text(&FieldName::ZONE));
    !matches!(scanned, Some(Ok(None)))
}

/// The first fields of a line that this version wrote, found without parsing the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineHead<'a> {
    /// The time, in the one form in which times are written.
    pub(crate) time: &'a [u8],
    /// The kind.
    pub(crate) kind: &'a [u8],
    /// The fields after the kind.
    pub(crate) rest: &'a [u8],
}

impl<'a> LineHead<'a> {
    /// Returns the head; `None` for a line that another version or a person wrote.
    pub(crate) fn scan(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(br#"{"v":1,"seq":"#)?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let rest = rest.get(digits..)?.strip_prefix(br#","prev":""#)?;
        let rest = rest.get(ChainHash::HEX_CHARS..)?;
        let rest = rest.strip_prefix(br#"","time":""#)?;
        let (time, rest) = rest.split_at_checked(TIME_BYTES)?;
        if !has_time_form(time) {
            return None;
        }
        let rest = rest.strip_prefix(br#"","kind":""#)?;
        let end = memchr::memchr(b'"', rest)?;
        let (kind, rest) = rest.split_at_checked(end)?;
        Some(Self { time, kind, rest })
    }

    /// Returns the text of a field.
    ///
    /// Our lines have the common names at the top level only, and a quotation mark within a text
    /// is escaped, so that the name in quotation marks is always the field. Returns `Err` for a
    /// text with escapes.
    pub(crate) fn text(&self, name: &FieldName) -> Result<Option<&'a str>, EscapedText> {
        let Some(at) = memchr::memmem::find(self.rest, name.text) else {
            return Ok(None);
        };
        let value = self.rest.get(at.saturating_add(name.text.len())..);
        let value = value.unwrap_or_default();
        let end = memchr::memchr2(b'"', b'\\', value).ok_or(EscapedText)?;
        let (text, rest) = value.split_at_checked(end).ok_or(EscapedText)?;
        if rest.first() != Some(&b'"') {
            return Err(EscapedText);
        }
        std::str::from_utf8(text)
            .map(Some)
            .map_err(|_invalid| EscapedText)
    }
}

/// A text that has to be parsed as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EscapedText;

/// The name of a field with a text.
#[derive(Debug)]
pub(crate) struct FieldName {
    text: &'static [u8],
}

impl FieldName {
    pub(crate) const SANDBOX: Self = Self::new(br#","sandbox":""#);
    pub(crate) const NAME: Self = Self::new(br#","name":""#);
    pub(crate) const PROJECT: Self = Self::new(br#","project":""#);
    pub(crate) const DEST: Self = Self::new(br#","dest":""#);
    pub(crate) const ADDRESS: Self = Self::new(br#","address":""#);
    pub(crate) const PATTERN: Self = Self::new(br#","pattern":""#);
    pub(crate) const ZONE: Self = Self::new(br#","zone":""#);

    const fn new(text: &'static [u8]) -> Self {
        Self { text }
    }
}

/// Returns `true` for a text such as `2026-11-29T20:04:19.000001Z`.
fn has_time_form(text: &[u8]) -> bool {
    const FORM: &[u8; TIME_BYTES] = b"0000-00-00T00:00:00.000000Z";
    text.len() == FORM.len()
        && text.iter().zip(FORM).all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            _ => byte == form,
        })
}

/// Returns the ranges of the lines of `bytes`, the last one also if it has no line break.
pub(crate) fn line_ranges(bytes: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let range = start..start.saturating_add(length);
        start = range.end.saturating_add(1);
        Some(range)
    })
}
