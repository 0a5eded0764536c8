// SPDX-License-Identifier: Apache-2.0
//! What a command has made of its terminal, seen in what it writes: so that the terminal can be
//! lent, and be the same to the command afterwards.

use std::collections::BTreeSet;
use std::fmt::Write as _;

/// The modes that are followed (xterm's control sequences, "DEC Private Mode Set"): the cursor, the
/// mouse's reports, the alternate screen and the marks around pasted text.
const FOLLOWED: [u16; 10] = [25, 1000, 1002, 1003, 1004, 1006, 47, 1047, 1049, 2004];
/// Those of them that show the alternate screen.
const ALTERNATE: [u16; 3] = [47, 1047, 1049];
/// The cursor is shown unless it is hidden.
const CURSOR: u16 = 25;
/// More numbers than anybody sets at once.
const LONGEST: usize = 16;

/// The private modes of a terminal.
#[derive(Debug, Default)]
pub(super) struct Modes {
    /// Those that are not as a terminal has them at first.
    changed: BTreeSet<u16>,
    at: At,
    numbers: Vec<u16>,
}

/// Where in a sequence the output is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC \[.
    Bracket,
    /// After ESC \[ ?, among the numbers.
    Numbers,
}

impl Modes {
    /// Takes in what the command wrote; it may be cut anywhere.
    pub(super) fn see(&mut self, output: &[u8]) {
        for &byte in output {
            self.at = match (self.at, byte) {
                (_, 0x1b) => At::Escape,
                (At::Escape, b'[') => At::Bracket,
                (At::Bracket, b'?') => {
                    self.numbers = vec![0];
                    At::Numbers
                }
                (At::Numbers, b'0'..=b'9') => {
                    if let Some(number) = self.numbers.last_mut() {
                        *number = number
                            .saturating_mul(10)
                            .saturating_add((byte - b'0').into());
                    }
                    At::Numbers
                }
                (At::Numbers, b';') if self.numbers.len() < LONGEST => {
                    self.numbers.push(0);
                    At::Numbers
                }
                (At::Numbers, b'h' | b'l') => {
                    self.set(byte == b'h');
                    At::Text
                }
                _ => At::Text,
            };
        }
    }

    /// Says whether the command draws on the alternate screen.
    pub(super) fn is_alternate(&self) -> bool {
        ALTERNATE.iter().any(|mode| self.changed.contains(mode))
    }

    /// Returns what makes a terminal like this that is as terminals are at first.
    pub(super) fn restore(&self) -> String {
        let mut text = String::new();
        // The screen first: entering it puts the cursor away.
        let (screens, others): (Vec<u16>, Vec<u16>) = self
            .changed
            .iter()
            .partition(|mode| ALTERNATE.contains(mode));
        for mode in screens.into_iter().chain(others) {
            let switch = if mode == CURSOR { 'l' } else { 'h' };
            write!(text, "\x1b[?{mode}{switch}").ok();
        }
        text
    }

    fn set(&mut self, on: bool) {
        for &mode in self.numbers.iter().filter(|mode| FOLLOWED.contains(mode)) {
            let changed = on != (mode == CURSOR);
            if ALTERNATE.contains(&mode) && !on {
                // Whichever way leads out of it, it is left.
                self.changed.retain(|mode| !ALTERNATE.contains(mode));
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

    fn after(chunks: &[&[u8]]) -> Modes {
        let mut modes = Modes::default();
        for chunk in chunks {
            modes.see(chunk);
        }
        modes
    }

    #[test]
    fn the_alternate_screen_is_seen_even_if_the_sequence_is_cut() {
        let check = |chunks: &[&[u8]], expected| {
            assert_eq!(after(chunks).is_alternate(), expected, "{chunks:?}");
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
            assert_eq!(after(&[output]).restore(), expected, "{output:?}");
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
        modes.see(&b"1;".repeat(100_000));
        assert!(modes.numbers.len() <= LONGEST);
        modes.see(b"1049h");
        assert!(!modes.is_alternate());
    }
}
