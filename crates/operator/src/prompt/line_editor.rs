// SPDX-License-Identifier: Apache-2.0
//! The line that is typed at a prompt on a terminal; pure.
//!
//! In its usual mode a terminal shows typed characters itself, and a message in between is written
//! into them. Here the program shows them: it removes the typed line before a message, and draws it
//! again below. The keys are those of the usual mode: Backspace, Ctrl-U, Ctrl-W, Ctrl-D, Enter.

use crate::text_wrap::display_width;

/// The text before the typed line.
const PROMPT: &str = "> ";
/// Maximum length of a typed line, as in the kernel's line discipline.
const MAX_LINE_BYTES: usize = 4095;

/// What follows from typed bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EditorStep {
    /// The line changed, at most.
    Edited,
    /// A line was completed.
    Line(String),
    /// Ctrl-D on an empty line.
    End,
}

/// A typed line, and the state of an unfinished key.
#[derive(Debug, Default)]
pub(super) struct LineEditor {
    line: String,
    /// Bytes of a character that is not complete.
    partial: Vec<u8>,
    sequence: EscapeSequence,
}

/// The part of a control sequence that was read: keys without a function, replies of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum EscapeSequence {
    #[default]
    None,
    /// After ESC.
    Started,
    /// After `ESC [`, until a final byte.
    Control,
    /// After `ESC O`: one more byte.
    Single,
    /// After `ESC ]`, `ESC P`, `ESC _`, `ESC ^` or `ESC X`, until BEL or ST.
    Text,
    /// After ESC within the text.
    TextEnd,
}

impl LineEditor {
    /// The output that removes the line from a terminal.
    pub(super) const CLEAR: &str = "\r\x1b[K";

    /// Takes one typed byte.
    pub(super) fn type_byte(&mut self, byte: u8) -> EditorStep {
        if self.is_in_sequence(byte) {
            return EditorStep::Edited;
        }
        match byte {
            b'\r' | b'\n' => return EditorStep::Line(std::mem::take(&mut self.line)),
            0x04 if self.line.is_empty() => return EditorStep::End,
            0x08 | 0x7f => drop(self.line.pop()),
            0x15 => self.line.clear(),
            0x17 => {
                let words = self.line.trim_end();
                let start = words.rfind(' ').map_or(0, |space| space.saturating_add(1));
                self.line.truncate(start);
            }
            0x20..0x7f => self.push(char::from(byte)),
            0x80.. => self.type_partial(byte),
            // No other control character has a function.
            _ => {}
        }
        EditorStep::Edited
    }

    /// Returns `true` for a byte of a control sequence, which is no text.
    fn is_in_sequence(&mut self, byte: u8) -> bool {
        let before = self.sequence;
        self.sequence = match (before, byte) {
            // Enter ends every sequence that is not complete.
            (EscapeSequence::Started | EscapeSequence::Control, b'\r' | b'\n') => {
                self.sequence = EscapeSequence::None;
                return false;
            }
            (EscapeSequence::Text, 0x07) | (EscapeSequence::TextEnd, b'\\') => EscapeSequence::None,
            (EscapeSequence::Text, 0x1b) => EscapeSequence::TextEnd,
            (EscapeSequence::Text | EscapeSequence::TextEnd, _)
            | (EscapeSequence::Started, b']' | b'P' | b'_' | b'^' | b'X') => EscapeSequence::Text,
            (_, 0x1b) => EscapeSequence::Started,
            (EscapeSequence::Started, b'[') | (EscapeSequence::Control, 0x20..0x40) => {
                EscapeSequence::Control
            }
            (EscapeSequence::Started, b'O') => EscapeSequence::Single,
            (_, _) => EscapeSequence::None,
        };
        before != EscapeSequence::None || self.sequence != EscapeSequence::None
    }

    fn type_partial(&mut self, byte: u8) {
        // The start of a character drops what came before it.
        if byte >= 0xc0 {
            self.partial.clear();
        }
        self.partial.push(byte);
        if let Ok(text) = std::str::from_utf8(&self.partial) {
            let typed = text.chars().next();
            self.partial.clear();
            if let Some(typed) = typed.filter(|typed| !typed.is_control()) {
                self.push(typed);
            }
        } else if self.partial.len() >= 4 {
            self.partial.clear();
        }
    }

    fn push(&mut self, typed: char) {
        if self.line.len().saturating_add(typed.len_utf8()) <= MAX_LINE_BYTES {
            self.line.push(typed);
        }
    }

    /// Returns the line that was typed and not completed.
    pub(super) fn take_line(&mut self) -> String {
        std::mem::take(&mut self.line)
    }

    /// Returns the output that draws the line on a terminal with `columns`; only the end of a
    /// longer one.
    pub(super) fn draw(&self, columns: usize) -> String {
        Self::draw_line(&self.line, columns)
    }

    /// Returns the output that draws this line.
    pub(super) fn draw_line(line: &str, columns: usize) -> String {
        // The last column stays free: the cursor would be on the next line.
        let room = columns.saturating_sub(PROMPT.len()).saturating_sub(1);
        let mut shown = line;
        while display_width(shown) > room && !shown.is_empty() {
            let mut rest = shown.chars();
            rest.next();
            shown = rest.as_str();
        }
        format!("{}{PROMPT}{shown}", Self::CLEAR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types bytes; returns the completed lines, and what is on the line at the end.
    fn typed(bytes: &[u8]) -> (Vec<String>, String) {
        let mut editor = LineEditor::default();
        let mut lines = Vec::new();
        for &byte in bytes {
            match editor.type_byte(byte) {
                EditorStep::Line(line) => lines.push(line),
                EditorStep::End => lines.push("(end)".to_owned()),
                EditorStep::Edited => {}
            }
        }
        (lines, editor.take_line())
    }

    #[test]
    fn keys_have_the_functions_of_a_terminals_usual_mode() {
        let check = |bytes: &[u8], lines: &[&str], rest: &str| {
            let (completed, line) = typed(bytes);
            assert_eq!(
                (completed, line.as_str()),
                (lines.iter().map(|&l| l.to_owned()).collect(), rest)
            );
        };
        check(b"a 3\r", &["a 3"], "");
        check(b"l\nd 1", &["l"], "d 1");
        check(b"a 12\x7f\x08\x083\r", &["a3"], "");
        check(b"a 1\x15l\r", &["l"], "");
        check(b"a 1 22 \x17\x173", &[], "a 3");
        check(b"x\x04\x15\x04", &["(end)"], "");
        check(b"a\x00\x01\x07\x0bb\t", &[], "ab");
        check("\u{e9}\u{65e5}".as_bytes(), &[], "\u{e9}\u{65e5}");
        check(b"\xff\xc3\xc3\xa9\x80z", &[], "\u{e9}z");
    }

    #[test]
    fn sequences_of_keys_and_replies_are_no_text() {
        for sequence in [
            "\x1b[A",
            "\x1b[1;5C",
            "\x1bOP",
            "\x1b[3~",
            "\x1b[200~",
            "\x1bx",
            "\x1b[?62;4c",
            "\x1b]11;rgb:aaaa/aaaa/aaaa\x07",
            "\x1b]11;a 1\x1b\\",
            "\x1bPa 1\x1b\\",
            "\x1b_d 2\x1b\\",
        ] {
            let bytes = format!("l{sequence}x\r");
            assert_eq!(
                typed(bytes.as_bytes()),
                (vec!["lx".to_owned()], String::new()),
                "{sequence:?}"
            );
        }
        // A lone Escape does not take the Enter after it.
        assert_eq!(typed(b"l\x1b\r").0, ["l"]);
    }

    #[test]
    fn the_line_stays_on_one_row() {
        let mut editor = LineEditor::default();
        for byte in b"a 1 2 3 4 5" {
            editor.type_byte(*byte);
        }
        assert_eq!(editor.draw(80), "\r\x1b[K> a 1 2 3 4 5");
        assert_eq!(editor.draw(8), "\r\x1b[K> 3 4 5");
        assert_eq!(editor.draw(0), "\r\x1b[K> ");
    }
}
