// SPDX-License-Identifier: Apache-2.0
//! Text from outside, made harmless for terminals, logs and D-Bus.
//!
//! A sandbox chooses host names, names of processes and more. Escape sequences, bidirectional
//! overrides and newlines in such a text could repaint the question that a person is about to
//! answer. The rule is the same as in the Python stack's hub (0.6.10 and newer), so that both show
//! the same. Names are chosen by the operator or the orchestrator, and keep their script.

mod script;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Maximum characters of a text, the ellipsis included.
const MAX_TEXT_CHARS: usize = 256;
/// Maximum characters of program output, the same as in the Python stack.
const MAX_PROGRAM_OUTPUT_CHARS: usize = 512;
/// Mark at the end of a text that was cut.
const ELLIPSIS: &str = "...";

/// Text of printable ASCII (0x20 to 0x7E), at most 256 characters (program output: 512). A name
/// ([`DisplayText::name`]) may have the visible characters of any script.
///
/// Every other character is replaced by one space. A longer text is cut and ends in `...`.
///
/// ```
/// use terok_clearance::DisplayText;
/// assert_eq!(DisplayText::new("a\u{1b}[31mb\u{202e}c").as_str(), "a [31mb c");
/// assert_eq!(DisplayText::name("\u{65e5}\u{672c}\u{202e}").as_str(), "\u{65e5}\u{672c} ");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DisplayText(Arc<str>);

impl DisplayText {
    /// Sanitises `text` and cuts it to 256 characters.
    pub fn new(text: &str) -> Self {
        Self::sanitize(text, MAX_TEXT_CHARS)
    }

    /// Sanitises a name of a sandbox, a task or a project, and cuts it to 256 characters.
    ///
    /// A name keeps letters, marks, digits, punctuation and symbols of any script. Controls, spaces
    /// other than the common one, all invisible characters (joiners and selectors among them),
    /// directional controls, tags and private characters are each replaced by one space, and so is
    /// a mark without a character or above the fourth on one. Where the characters are ASCII, the
    /// result is that of [`DisplayText::new`].
    pub fn name(text: &str) -> Self {
        if text.is_ascii() {
            return Self::new(text);
        }
        let mut cut = text.chars();
        let mut name = script::visible(cut.by_ref().take(MAX_TEXT_CHARS));
        if cut.next().is_some() {
            let kept = MAX_TEXT_CHARS.saturating_sub(ELLIPSIS.len());
            name = name.chars().take(kept).chain(ELLIPSIS.chars()).collect();
        }
        Self(name.into())
    }

    /// Returns the text in printable ASCII, with one space for every other character.
    pub fn to_ascii(&self) -> Cow<'_, str> {
        if self.0.is_ascii() {
            return Cow::Borrowed(&self.0);
        }
        let blank = |c: char| if c.is_ascii() { c } else { ' ' };
        Cow::Owned(self.0.chars().map(blank).collect())
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

/// Deserialises the texts about a sandbox, whose values are names.
pub(crate) fn deserialize_names<'de, D, M>(deserializer: D) -> Result<M, D::Error>
where
    D: Deserializer<'de>,
    M: From<BTreeMap<DisplayText, DisplayText>>,
{
    let texts = BTreeMap::<DisplayText, String>::deserialize(deserializer)?;
    let names = texts.into_iter();
    let names = names.map(|(key, value)| (key, DisplayText::name(&value)));
    Ok(names.collect::<BTreeMap<_, _>>().into())
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

    fn check_name(input: &str, expected: &str) {
        assert_eq!(DisplayText::name(input).as_str(), expected, "of {input:?}");
    }

    #[test]
    fn a_name_keeps_its_script() {
        for name in [
            "web",
            "caf\u{e9}",
            "cafe\u{301}",
            "\u{65e5}\u{672c}\u{8a9e}",
            "\u{4e2d}\u{6587} \u{ff08}\u{4e00}\u{ff09}",
            "\u{d55c}\u{ad6d}\u{c5b4}",
            "\u{1112}\u{1161}\u{11ab}",
            "\u{43f}\u{440}\u{43e}\u{435}\u{43a}\u{442}",
            "\u{3a9}\u{3bc}\u{3ad}\u{3b3}\u{3b1}",
            "\u{5e9}\u{5dc}\u{5d5}\u{5dd}",
            "\u{639}\u{631}\u{628}\u{64a}",
            "\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}",
            "\u{e20}\u{e32}\u{e29}\u{e32}\u{e44}\u{e17}\u{e22}",
            "\u{1bb}\u{12a}",
            "Vi\u{1ec7}t",
            "\u{1f680} launch",
            "\u{2192} \u{b7} \u{20ac}",
        ] {
            check_name(name, name);
        }
    }

    #[test]
    fn what_is_invisible_or_moves_text_leaves_a_name() {
        check_name("a\u{202e}b\u{2066}c\u{61c}d\u{200f}", "a b c d ");
        check_name("a\u{200b}b\u{200d}c\u{feff}d\u{2060}e\u{ad}", "a b c d e ");
        check_name("\u{e9}\u{1b}[2J\n\u{9b}\u{2028}", "\u{e9} [2J   ");
        check_name("\u{e0061}\u{e007f}\u{fe0f}\u{e0100}x", "    x");
        check_name("\u{3000}\u{a0}\u{3164}\u{2800}\u{115f}x", "     x");
        check_name("\u{e000}\u{10ffff}\u{fffd}\u{fdd0}x", "    x");
        check_name("\u{1f469}\u{200d}\u{1f4bb}", "\u{1f469} \u{1f4bb}");
        // Marks that reach into other lines, or sit on a character that is not the name's.
        check_name("\u{301}a", " a");
        check_name("a \u{301}", "a  ");
        check_name(
            "z\u{335}\u{336}\u{337}\u{338}\u{339}",
            "z\u{335}\u{336}\u{337}\u{338} ",
        );
    }

    #[test]
    fn a_long_name_is_cut_at_256_characters() {
        let e = |count: usize| "\u{e9}".repeat(count);
        check_name(&e(256), &e(256));
        check_name(&e(257), &format!("{}...", e(253)));
        check_name(&"x".repeat(300), &format!("{}...", "x".repeat(253)));
    }

    proptest::proptest! {
        #[test]
        fn a_name_in_ascii_is_the_text_of_the_python_stack(text in ".{0,300}") {
            let name = DisplayText::name(&text);
            assert_eq!(name.to_ascii(), DisplayText::new(&text).as_str());
            assert_eq!(DisplayText::name(name.as_str()), name, "a second pass changes nothing");
            let bad = |c: char| c.is_control() || (c.is_whitespace() && c != ' ');
            assert!(!name.as_str().contains(bad), "{name:?}");
        }

        #[test]
        fn every_text_becomes_printable_and_short(text in ".{0,600}") {
            let shown = DisplayText::new(&text);
            assert!(shown.as_str().bytes().all(is_printable));
            assert!(shown.as_str().len() <= MAX_TEXT_CHARS);
            assert_eq!(DisplayText::new(shown.as_str()), shown, "a second pass changes nothing");
        }
    }
}
