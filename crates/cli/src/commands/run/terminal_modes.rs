// SPDX-License-Identifier: Apache-2.0
//! What a command has made of its terminal, seen in what it writes: so that the terminal can be
//! lent, and be the same to the command afterwards.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The modes that are followed (xterm's control sequences, "DEC Private Mode Set"): the cursor, the
/// mouse's reports, the alternate screen and the marks around pasted text.
const TRACKED_MODES: [u16; 10] = [25, 1000, 1002, 1003, 1004, 1006, 47, 1047, 1049, 2004];
/// Those of them that show the alternate screen.
const ALTERNATE_SCREEN_MODES: [u16; 3] = [47, 1047, 1049];
/// The cursor is shown unless it is hidden.
const CURSOR_MODE: u16 = 25;
/// More numbers than anybody sets at once.
const MAX_PARAMETERS: usize = 16;

/// The private modes of a terminal.
#[derive(Debug, Default)]
pub(super) struct TerminalModes {
    /// Those that are not as a terminal has them at first.
    changed: BTreeSet<u16>,
    parser_state: ModeParserState,
    parameters: Vec<u16>,
}

/// Where in a sequence the output is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ModeParserState {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC \[.
    ControlSequence,
    /// After ESC \[ ?, among the numbers.
    Parameters,
}

impl TerminalModes {
    /// Takes in what the command wrote; it may be cut anywhere.
    pub(super) fn observe_output(&mut self, output: &[u8]) {
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

    /// Says whether the command draws on the alternate screen.
    pub(super) fn is_alternate_screen(&self) -> bool {
        ALTERNATE_SCREEN_MODES
            .iter()
            .any(|mode| self.changed.contains(mode))
    }

    /// Returns what makes a terminal like this that is as terminals are at first.
    pub(super) fn restore_sequence(&self) -> String {
        let mut text = String::new();
        // The screen first: entering it puts the cursor away.
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
                // Whichever way leads out of it, it is left.
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
