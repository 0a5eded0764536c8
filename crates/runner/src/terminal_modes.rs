// SPDX-License-Identifier: Apache-2.0
//! Tracks the terminal modes of a command in the command's output, to restore the modes after the
//! full screen used the terminal.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The tracked modes (xterm control sequences, "DEC Private Mode Set"): the cursor, mouse reports,
/// the alternate screen, and bracketed paste.
const TRACKED_MODES: [u16; 10] = [25, 1000, 1002, 1003, 1004, 1006, 47, 1047, 1049, 2004];
/// The tracked modes of the alternate screen.
const ALTERNATE_SCREEN_MODES: [u16; 3] = [47, 1047, 1049];
/// The mode of the visible cursor, the only tracked mode of a new terminal.
const CURSOR_MODE: u16 = 25;
/// Maximum numbers in a control sequence.
const MAX_PARAMETERS: usize = 16;

/// The private modes of a terminal.
#[derive(Debug, Default)]
pub(crate) struct TerminalModes {
    /// The modes that differ from a new terminal.
    changed: BTreeSet<u16>,
    parser_state: ModeParserState,
    parameters: Vec<u16>,
}

/// The position within a control sequence.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ModeParserState {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC \[.
    ControlSequence,
    /// After ESC \[ ?, in the list of numbers.
    Parameters,
}

impl TerminalModes {
    /// Parses output of the command. A control sequence may continue in the next call.
    pub(crate) fn observe_output(&mut self, output: &[u8]) {
        for &byte in output {
            self.parser_state = match (self.parser_state, byte) {
                (_, 0x1b) => ModeParserState::Escape,
                (ModeParserState::Escape, b'[') => ModeParserState::ControlSequence,
                (ModeParserState::ControlSequence, b'?') => {
                    self.parameters = vec![0];
                    ModeParserState::Parameters
                }
                (ModeParserState::Parameters, b'0'..=b'9') => {
                    if let Some(number) = self.parameters.last_mut() {
                        *number = number
                            .saturating_mul(10)
                            .saturating_add((byte - b'0').into());
                    }
                    ModeParserState::Parameters
                }
                (ModeParserState::Parameters, b';') if self.parameters.len() < MAX_PARAMETERS => {
                    self.parameters.push(0);
                    ModeParserState::Parameters
                }
                (ModeParserState::Parameters, b'h' | b'l') => {
                    self.apply_parameters(byte == b'h');
                    ModeParserState::Text
                }
                _ => ModeParserState::Text,
            };
        }
    }

    /// Returns `true` if the alternate screen is shown.
    pub(crate) fn is_alternate_screen(&self) -> bool {
        ALTERNATE_SCREEN_MODES
            .iter()
            .any(|mode| self.changed.contains(mode))
    }

    /// Returns the control sequences for the same modes on a new terminal.
    pub(crate) fn restore_sequence(&self) -> String {
        let mut text = String::new();
        // The screen first, because entering it changes the cursor.
        let (screens, others): (Vec<u16>, Vec<u16>) = self
            .changed
            .iter()
            .partition(|mode| ALTERNATE_SCREEN_MODES.contains(mode));
        for mode in screens.into_iter().chain(others) {
            let switch = if mode == CURSOR_MODE { 'l' } else { 'h' };
            write!(text, "\x1b[?{mode}{switch}").ok();
        }
        text
    }

    fn apply_parameters(&mut self, on: bool) {
        for &mode in self
            .parameters
            .iter()
            .filter(|mode| TRACKED_MODES.contains(mode))
        {
            let changed = on != (mode == CURSOR_MODE);
            if ALTERNATE_SCREEN_MODES.contains(&mode) && !on {
                // Each of these modes leaves the alternate screen, however it was entered.
                self.changed
                    .retain(|mode| !ALTERNATE_SCREEN_MODES.contains(mode));
            } else if changed {
                self.changed.insert(mode);
            } else {
                self.changed.remove(&mode);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(chunks: &[&[u8]]) -> TerminalModes {
        let mut modes = TerminalModes::default();
        for chunk in chunks {
            modes.observe_output(chunk);
        }
        modes
    }

    #[test]
    fn the_alternate_screen_is_seen_even_if_the_sequence_is_cut() {
        let check = |chunks: &[&[u8]], expected| {
            assert_eq!(after(chunks).is_alternate_screen(), expected, "{chunks:?}");
        };
        check(&[b"hello"], false);
        check(&[b"x\x1b[?1049hy"], true);
        check(&[b"x\x1b[?10", b"49h"], true);
        check(&[b"\x1b", b"[", b"?", b"4", b"7", b"h"], true);
        check(&[b"\x1b[?1049h lots of text in between \x1b[?1049l"], false);
        check(&[b"\x1b[?1047h", b"lots of text", b"\x1b[?1049l"], false);
        check(&[b"\x1b[?1049h", b"lots of text in between"], true);
        check(&[b"\x1b[?1049l\x1b[?1049h"], true);
        check(&[b"\x1b[?25;1049;2004h"], true);
        check(&[b"\x1b[1049h"], false);
        check(&[b"\x1b[?1\x1b[049h"], false);
    }

    #[test]
    fn what_was_changed_is_made_again() {
        let check = |output: &[u8], expected: &str| {
            assert_eq!(after(&[output]).restore_sequence(), expected, "{output:?}");
        };
        check(b"text", "");
        check(b"\x1b[?2004h$ ", "\x1b[?2004h");
        check(b"\x1b[?2004h$ \x1b[?2004l", "");
        check(
            b"\x1b[?25l\x1b[?1000;1006h\x1b[?1049h",
            "\x1b[?1049h\x1b[?25l\x1b[?1000h\x1b[?1006h",
        );
        check(b"\x1b[?25l\x1b[?25h", "");
        check(b"\x1b[?7h\x1b[?99999999999999999999h", "");
    }

    #[test]
    fn endless_numbers_are_no_mode_and_take_no_room() {
        let mut modes = after(&[b"\x1b[?"]);
        modes.observe_output(&b"1;".repeat(100_000));
        assert!(modes.parameters.len() <= MAX_PARAMETERS);
        modes.observe_output(b"1049h");
        assert!(!modes.is_alternate_screen());
    }
}
