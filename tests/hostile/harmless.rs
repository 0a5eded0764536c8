// SPDX-License-Identifier: Apache-2.0
//! What "harmless" means, for each kind of UI. Included with `#[path]` by the tests of each.
//!
//! A UI is shown twice: once with a hostile text, and once with a tame one in its place, which has
//! a mark for each visible character and a space for each other one. The mark of printable ASCII is
//! a tilde (quotes and backslashes are kept), that of other characters one of the same width. No UI
//! of ours says a mark itself. What it shows must then differ in the places of the marks alone, and
//! there must be a visible character of the same width, as the text has it. So nothing of the text
//! gets out of its place, it is blanked but for what is plain, and nothing around it is moved,
//! hidden, doubled or coloured. Only names keep characters other than printable ASCII; elsewhere
//! hostile and tame text have spaces there.
//!
//! - On a terminal, in a log and in a popup without markup that is all of the text shown.
//! - On the whole screen it is every cell, its colours included.
//! - In a popup with markup it is what the markup says, in which there is no tag.
//! - For programs every line is one JSON object, and it is every string in it, keys included.

use std::ops::RangeInclusive;

use serde_json::Value;
use unicode_width::UnicodeWidthChar as _;

/// Stands for a printable ASCII character of a text.
const MARK: char = '~';
/// Stand for other visible characters, by their width in columns.
const NARROW_MARK: char = '\u{16ad}';
const WIDE_MARK: char = '\u{4e36}';
const ZERO_WIDTH_MARK: char = '\u{1dc3}';
const MARKS: [char; 4] = [MARK, NARROW_MARK, WIDE_MARK, ZERO_WIDTH_MARK];

/// Returns the tame text that is shown in comparison with a hostile one.
pub(crate) fn tame(text: &str) -> String {
    // Zero-width characters on the last character; a space has none.
    let mut marks = usize::MAX;
    let mark = |c: char| match (c, c.width()) {
        (c, _) if c == ' ' || !visible(c) => {
            marks = usize::MAX;
            ' '
        }
        (_, Some(0)) if marks >= 4 => ' ',
        (_, Some(0)) => {
            marks += 1;
            ZERO_WIDTH_MARK
        }
        (c, width) => {
            marks = 0;
            match width {
                // Where a text is quoted, these have a backslash before them.
                _ if matches!(c, '"' | '\\') => c,
                _ if printable(c) => MARK,
                Some(2) => WIDE_MARK,
                _ => NARROW_MARK,
            }
        }
    };
    text.chars().map(mark).collect()
}

/// Returns `true` for a space and for a character that may be shown in a name.
fn visible(c: char) -> bool {
    let hidden: [RangeInclusive<u32>; 19] = [
        0x7f..=0xa0,
        0xad..=0xad,
        0x34f..=0x34f,
        0x61c..=0x61c,
        0x115f..=0x1160,
        0x180b..=0x180f,
        0x2000..=0x200f,
        0x2028..=0x202f,
        0x205f..=0x206f,
        0x2800..=0x2800,
        0x3000..=0x3000,
        0x3164..=0x3164,
        0xe000..=0xf8ff,
        0xfe00..=0xfe0f,
        0xfeff..=0xfeff,
        0xffa0..=0xffa0,
        0xfff0..=0xffff,
        0x1f1e6..=0x1f1ff,
        0x1f3fb..=0x1f3ff,
    ];
    let code = u32::from(c);
    (0x20..0xe_0000).contains(&code) && !hidden.iter().any(|range| range.contains(&code))
}

/// The same for each of them.
pub(crate) fn all_tame(texts: &[String]) -> Vec<String> {
    texts.iter().map(|text| tame(text)).collect()
}

/// The texts with all that is not printable ASCII blanked, and as names: what may be shown of them.
#[derive(Debug)]
pub(crate) struct Harmless(Vec<String>);

impl Harmless {
    pub(crate) fn new(texts: &[String]) -> Self {
        let blank = |keeps: fn(char) -> bool| {
            let blank = move |c| if keeps(c) { c } else { ' ' };
            texts
                .iter()
                .map(move |text| text.chars().map(blank).collect())
        };
        Self(blank(printable).chain(blank(visible)).collect())
    }

    /// For terminals and plain text: says what is wrong with `shown`, compared with `plain`.
    pub(crate) fn text(&self, plain: &str, shown: &str) -> Result<(), String> {
        let wrong = |what: &str| {
            let differ = plain.lines().zip(shown.lines());
            let differ = differ.map(|(plain, shown)| (self.line(plain, shown), plain, shown));
            match differ.into_iter().find(|(wrong, ..)| wrong.is_err()) {
                Some((_, plain, shown)) => format!("{what}:\n{plain:?}\n{shown:?}"),
                None => format!("{what}:\n{plain}\n---\n{shown}"),
            }
        };
        if plain.lines().count() != shown.lines().count() {
            return Err(wrong("it has other lines"));
        }
        let ends = |text: &str| text.ends_with('\n');
        if ends(plain) != ends(shown) {
            return Err(wrong("it ends otherwise"));
        }
        for (plain, shown) in plain.lines().zip(shown.lines()) {
            self.line(plain, shown)
                .map_err(|what| format!("{what}:\n{plain:?}\n{shown:?}"))?;
        }
        Ok(())
    }

    fn line(&self, plain: &str, shown: &str) -> Result<(), String> {
        if plain == shown && !plain.contains(MARKS) {
            return Ok(());
        }
        // What follows is JSON as a hub sent it, which has its own way to write a character.
        if let Some((before, _)) = plain.split_once("{\"") {
            let (start, json) = shown.split_at_checked(before.len()).unwrap_or((shown, ""));
            return match json.chars().find(|c| !visible(*c)) {
                Some(c) => Err(format!("{c:?} is shown")),
                None => self.line(before, start),
            };
        }
        if plain.chars().count() != shown.chars().count() {
            return Err("it has another length".to_owned());
        }
        let mut piece = String::new();
        // The end closes the last piece.
        let pairs = plain.chars().zip(shown.chars()).map(Some).chain([None]);
        for pair in pairs {
            match pair {
                Some((mark, c)) if MARKS.contains(&mark) => {
                    if mark_of(c) != Some(mark) {
                        return Err(format!("{c:?} is shown"));
                    }
                    piece.push(c);
                }
                Some((ours, theirs)) if ours != theirs => {
                    return Err(format!("{theirs:?} is where {ours:?} belongs"));
                }
                Some(_) | None => {
                    self.piece(&std::mem::take(&mut piece))?;
                }
            }
        }
        Ok(())
    }

    /// Says whether `piece` is one of a text.
    fn piece(&self, piece: &str) -> Result<(), String> {
        if self.0.iter().any(|text| text.contains(piece)) {
            return Ok(());
        }
        Err(format!("{piece:?} is of no text"))
    }

    /// For programs: each line is one JSON object, and every string in it is harmless.
    pub(crate) fn json(&self, plain: &str, shown: &str) -> Result<(), String> {
        let read = |text: &str| -> Result<Vec<Value>, String> {
            if let Some(c) = text.chars().find(|c| !visible(*c) && *c != '\n') {
                return Err(format!("{c:?} is in {text:?}"));
            }
            let lines = text.lines().map(|line| {
                let value: Value =
                    serde_json::from_str(line).map_err(|error| format!("{error}: {line:?}"))?;
                if value.is_object() {
                    Ok(value)
                } else {
                    Err(format!("no object: {line:?}"))
                }
            });
            lines.collect()
        };
        let (plain, shown) = (read(plain)?, read(shown)?);
        if plain.len() != shown.len() {
            return Err(format!("{} lines, not {}", shown.len(), plain.len()));
        }
        plain.iter().zip(&shown).try_for_each(|(plain, shown)| {
            self.value(plain, shown)
                .map_err(|what| format!("{what}:\n{plain}\n{shown}"))
        })
    }

    fn value(&self, plain: &Value, shown: &Value) -> Result<(), String> {
        match (plain, shown) {
            (Value::String(plain), Value::String(shown)) => self.line(plain, shown),
            (Value::Array(plain), Value::Array(shown)) if plain.len() == shown.len() => plain
                .iter()
                .zip(shown)
                .try_for_each(|(plain, shown)| self.value(plain, shown)),
            (Value::Object(plain), Value::Object(shown)) if plain.len() == shown.len() => {
                // A text that is a key has a place of its own, wherever the order puts it.
                let (ours, theirs): (Vec<_>, Vec<_>) =
                    plain.iter().partition(|(key, _)| shown.contains_key(*key));
                let mut others = shown.iter().filter(|(key, _)| !plain.contains_key(*key));
                for (key, value) in ours {
                    self.value(value, shown.get(key).unwrap_or(&Value::Null))?;
                }
                for (key, value) in theirs {
                    let (other, found) = others.next().ok_or_else(|| format!("no {key:?}"))?;
                    self.line(key, other)?;
                    self.value(value, found)?;
                }
                Ok(())
            }
            // Another clock.
            (Value::Number(plain), Value::Number(shown)) if is_now(plain) && is_now(shown) => {
                Ok(())
            }
            (plain, shown) if plain == shown => Ok(()),
            (plain, shown) => Err(format!("{shown} is where {plain} belongs")),
        }
    }
}

/// Says whether a number is a time, in microseconds, that a clock has read.
fn is_now(number: &serde_json::Number) -> bool {
    number.as_u64().is_some_and(|number| number > 1 << 50)
}

/// Returns the mark of a character; `None` for spaces and for characters that are never shown.
fn mark_of(c: char) -> Option<char> {
    let mark = match c.width() {
        Some(0) => ZERO_WIDTH_MARK,
        _ if printable(c) => MARK,
        Some(2) => WIDE_MARK,
        _ => NARROW_MARK,
    };
    (c != ' ' && visible(c)).then_some(mark)
}

fn printable(c: char) -> bool {
    (' '..='~').contains(&c)
}

/// Returns what the markup of a popup says, as Pango reads it, in which there may be no tag.
pub(crate) fn decoded(markup: &str) -> Result<String, String> {
    let mut text = String::new();
    let mut rest = markup;
    while let Some(c) = rest.chars().next() {
        let entities = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>')];
        let entity = entities.iter().find(|(entity, _)| rest.starts_with(entity));
        let (length, c) = match (entity, c) {
            (Some((entity, c)), _) => (entity.len(), *c),
            (None, '&' | '<' | '>') => return Err(format!("{c} is bare in {markup:?}")),
            (None, c) => (c.len_utf8(), c),
        };
        text.push(c);
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(text)
}
