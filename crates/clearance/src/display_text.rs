// SPDX-License-Identifier: Apache-2.0
//! Text from outside, made harmless for terminals, logs and D-Bus.
//!
//! A sandbox chooses host names, task names and more. Escape sequences, bidirectional overrides
//! and newlines in such a text could repaint the question that a person is about to answer. The
//! rule is the same as in the Python stack's hub (0.6.10 and newer), so that both show the same.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Maximum characters of a text, the ellipsis included.
const MAX_TEXT_CHARS: usize = 256;
/// Maximum characters of program output, the same as in the Python stack.
const MAX_PROGRAM_OUTPUT_CHARS: usize = 512;
/// Mark at the end of a text that was cut.
const ELLIPSIS: &str = "...";

/// Text of printable ASCII (0x20 to 0x7E), at most 256 characters (program output: 512).
///
/// Every other character is replaced by one space. A longer text is cut and ends in `...`.
///
/// ```
/// use terok_clearance::DisplayText;
/// assert_eq!(DisplayText::new("a\u{1b}[31mb\u{202e}c").as_str(), "a [31mb c");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DisplayText(Arc<str>);

impl DisplayText {
    /// Sanitises `text` and cuts it to 256 characters.
    pub fn new(text: &str) -> Self {
        Self::sanitize(text, MAX_TEXT_CHARS)
    }

    /// Sanitises the output of a program and cuts it to 512 characters.
    ///
    /// The limit is higher because the end of an error message often names the reason.
    pub fn from_program_output(text: &str) -> Self {
        Self::sanitize(text, MAX_PROGRAM_OUTPUT_CHARS)
    }

    fn sanitize(text: &str, limit: usize) -> Self {
        if text.len() <= limit && text.bytes().all(is_printable) {
            return Self(text.into());
        }
        let mut shown: String = text
            .chars()
            .take(limit.saturating_add(1))
            .map(|c| {
                if c.is_ascii() && (' '..='~').contains(&c) {
                    c
                } else {
                    ' '
                }
            })
            .collect();
        if shown.len() > limit {
            shown.truncate(limit.saturating_sub(ELLIPSIS.len()));
            shown.push_str(ELLIPSIS);
        }
        Self(shown.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns `true` if the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

const fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x20..=0x7e)
}

impl Default for DisplayText {
    fn default() -> Self {
        Self::new("")
    }
}

impl From<&str> for DisplayText {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl AsRef<str> for DisplayText {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DisplayText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for DisplayText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for DisplayText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for DisplayText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::new(&text))
    }
}

/// Deserialises a text with the limit of [`DisplayText::from_program_output`].
pub(crate) fn deserialize_program_output<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<DisplayText, D::Error> {
    String::deserialize(deserializer).map(|text| DisplayText::from_program_output(&text))
}

/// Deserialises an optional text with the limit of [`DisplayText::from_program_output`].
pub(crate) fn deserialize_optional_program_output<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<DisplayText>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.as_deref().map(DisplayText::from_program_output))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &str) {
        assert_eq!(DisplayText::new(input).as_str(), expected, "of {input:?}");
    }

    #[test]
    fn printable_ascii_is_kept_and_the_rest_becomes_spaces() {
        check("", "");
        check("api.example.com", "api.example.com");
        check("a\nb\tc\0d\u{7f}e", "a b c d e");
        check("\u{1b}]0;owned\u{7}", " ]0;owned ");
        check("caf\u{e9}\u{202e}gpj", "caf  gpj");
        check("\u{1f512}", " ");
    }

    #[test]
    fn a_text_over_256_characters_is_cut_and_marked() {
        check(&"x".repeat(256), &"x".repeat(256));
        check(&"x".repeat(257), &format!("{}...", "x".repeat(253)));
        check(&"\u{e9}".repeat(10_000), &format!("{}...", " ".repeat(253)));
    }

    #[test]
    fn program_output_is_cut_at_512_characters() {
        let text = "x".repeat(512);
        assert_eq!(DisplayText::from_program_output(&text).as_str(), text);
        let cut = DisplayText::from_program_output(&"\n".repeat(513));
        assert_eq!(cut.as_str(), format!("{}...", " ".repeat(509)));
    }

    proptest::proptest! {
        #[test]
        fn every_text_becomes_printable_and_short(text in ".{0,600}") {
            let shown = DisplayText::new(&text);
            assert!(shown.as_str().bytes().all(is_printable));
            assert!(shown.as_str().len() <= MAX_TEXT_CHARS);
            assert_eq!(DisplayText::new(shown.as_str()), shown, "a second pass changes nothing");
        }
    }
}
