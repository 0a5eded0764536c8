// SPDX-License-Identifier: Apache-2.0
//! Finds the hotkey in the operator's input on its way to the command.
//!
//! All other bytes are passed on unchanged and in order. The start of a sequence that may become
//! the hotkey is held for a moment.

use std::time::Duration;

use tokio::time::Instant;
use tui::{Hotkey, InputDecoder, InputFrame};

/// How long the start of a sequence is held. A terminal sends a sequence at once; Escape alone
/// reaches the command after this time.
const HOLD_TIME: Duration = Duration::from_millis(25);
/// Maximum length of a sequence that may become the hotkey.
const MAX_HELD_BYTES: usize = 64;
const ESC: u8 = 0x1b;

/// Finds the hotkey in the operator's input.
#[derive(Debug)]
pub(crate) struct HotkeyFilter {
    hotkey: Hotkey,
    decoder: InputDecoder,
    /// The start of a sequence, which the command does not have yet.
    held: Vec<u8>,
    held_until: Option<Instant>,
    /// The command has the start of the present sequence.
    passed_start: bool,
    /// The last press of the hotkey was not passed on, so neither is its release.
    took_press: bool,
}

/// The result of [`HotkeyFilter::filter`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FilteredInput {
    /// The bytes for the command.
    pub(crate) forward: Vec<u8>,
    /// The hotkey was pressed, and sent these bytes.
    pub(crate) hotkey: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PieceKind {
    HotkeyPress,
    HotkeyRelease,
    /// A reply of the terminal or a modifier key.
    Quiet,
    /// A reply to the screen, which the command did not request.
    OwnReply,
    Other,
}

impl HotkeyFilter {
    pub(crate) fn new(hotkey: Hotkey) -> Self {
        Self {
            hotkey,
            decoder: InputDecoder::default(),
            held: Vec::new(),
            held_until: None,
            passed_start: false,
            took_press: false,
        }
    }

    /// Filters the bytes of one read at time `now`.
    ///
    /// The hotkey counts only if no other key arrived with it, because a paste may contain the same
    /// bytes. Pressed twice at once, it is passed on.
    pub(crate) fn filter(&mut self, bytes: &[u8], now: Instant) -> FilteredInput {
        if self.is_key_within_doubtful_string(bytes) {
            return FilteredInput {
                forward: Vec::new(),
                hotkey: Some(bytes.to_vec()),
            };
        }
        let pieces = self.cut(bytes);
        let count = |kind| pieces.iter().filter(|(_, found)| *found == kind).count();
        let presses = count(PieceKind::HotkeyPress);
        let is_alone = count(PieceKind::Other) == 0;
        let mut press = None;
        let mut forward = Vec::new();
        for (bytes, kind) in pieces {
            let keep = match kind {
                PieceKind::HotkeyPress if is_alone => {
                    // The first of several is taken, and the others are passed on.
                    let is_first = press.is_none();
                    if is_first {
                        press = Some(bytes.clone());
                        self.took_press = presses == 1;
                    }
                    !is_first
                }
                PieceKind::HotkeyPress => {
                    self.took_press = false;
                    true
                }
                PieceKind::OwnReply => false,
                PieceKind::HotkeyRelease => !self.took_press,
                PieceKind::Quiet | PieceKind::Other => true,
            };
            if keep {
                forward.extend(bytes);
            }
        }
        self.hold(&mut forward, now);
        FilteredInput {
            forward,
            hotkey: press.filter(|_| presses == 1),
        }
    }

    /// Returns the time at which [`Self::release`] is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.held_until
    }

    /// Returns the held bytes, which no sequence continued.
    pub(crate) fn release(&mut self) -> Vec<u8> {
        self.held_until = None;
        self.decoder.flush_escape();
        self.passed_start |= !self.held.is_empty();
        std::mem::take(&mut self.held)
    }

    /// Returns the state of the input for the next reader of the terminal.
    pub(crate) fn take_decoder(&mut self) -> InputDecoder {
        std::mem::take(&mut self.decoder)
    }

    /// Continues the input of another reader of the terminal.
    pub(crate) fn continue_input(&mut self, decoder: InputDecoder) {
        self.decoder = decoder;
        self.passed_start = !self.decoder.pending_bytes().is_empty();
    }

    /// Returns `true` for the hotkey's control character after Escape and a key that looks like the
    /// start of a reply, such as `^` in vi. The question screen is harmless, so this guess is.
    fn is_key_within_doubtful_string(&self, bytes: &[u8]) -> bool {
        let byte = self.hotkey.control_byte();
        self.decoder.is_doubtful_string() && byte.is_some_and(|byte| bytes == [byte])
    }

    /// Cuts `bytes` and the held bytes before them into frames; the bytes of an unfinished frame
    /// are held.
    fn cut(&mut self, bytes: &[u8]) -> Vec<(Vec<u8>, PieceKind)> {
        let mut pieces = Vec::new();
        let mut current = std::mem::take(&mut self.held);
        for &byte in bytes {
            current.push(byte);
            let after_escape = self.decoder.pending_bytes() == [ESC];
            self.decoder.push(&[byte]);
            let first = self.decoder.next_frame();
            let Some(first) = first else {
                continue;
            };
            // One byte after a reported Escape is a key of its own.
            self.passed_start &= !after_escape;
            let second = self.decoder.next_frame();
            // An ended frame may have left its last bytes to the next one.
            let left = self.decoder.pending_bytes().len() + usize::from(second.is_some());
            let rest = current.split_off(current.len().saturating_sub(left));
            let piece = std::mem::replace(&mut current, rest);
            // The command has all of an abandoned string.
            if !piece.is_empty() {
                pieces.push((piece, self.kind(&first)));
            }
            self.passed_start = false;
            if let Some(second) = second {
                pieces.push((std::mem::take(&mut current), self.kind(&second)));
            }
        }
        self.held = current;
        pieces
    }

    fn kind(&self, frame: &InputFrame) -> PieceKind {
        match frame {
            InputFrame::Key(key) if self.hotkey.matches(*key) => {
                if key.is_release() {
                    PieceKind::HotkeyRelease
                } else if self.passed_start {
                    // The command has a part of it, and so gets the rest.
                    PieceKind::Other
                } else {
                    PieceKind::HotkeyPress
                }
            }
            InputFrame::StatusReport => PieceKind::OwnReply,
            InputFrame::Quiet | InputFrame::Mouse(_) => PieceKind::Quiet,
            _ => PieceKind::Other,
        }
    }

    /// Holds the bytes of an unfinished sequence, or adds them to `forward` if they cannot become
    /// the hotkey.
    fn hold(&mut self, forward: &mut Vec<u8>, now: Instant) {
        let may_be_hotkey = !self.decoder.is_inside_string()
            && !self.passed_start
            && self.held.len() < MAX_HELD_BYTES;
        if may_be_hotkey && !self.held.is_empty() {
            self.held_until = now.checked_add(HOLD_TIME);
            return;
        }
        self.held_until = None;
        // ESC within a string ends it, and may start the hotkey.
        let escape = self
            .held
            .pop_if(|last| *last == ESC && self.decoder.is_inside_string());
        self.passed_start |= !self.held.is_empty();
        forward.append(&mut self.held);
        if let Some(escape) = escape {
            self.held.push(escape);
            self.held_until = now.checked_add(HOLD_TIME);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> HotkeyFilter {
        HotkeyFilter::new("ctrl-g".parse().unwrap())
    }

    /// Returns the bytes for the command, and the number of times that the hotkey was found.
    fn run(chunks: &[&[u8]]) -> (Vec<u8>, usize) {
        let (mut filter, now) = (filter(), Instant::now());
        let (mut forward, mut presses) = (Vec::new(), 0);
        for chunk in chunks {
            let found = filter.filter(chunk, now);
            forward.extend(found.forward);
            presses += usize::from(found.hotkey.is_some());
        }
        forward.extend(filter.release());
        (forward, presses)
    }

    const PRESSES: [&[u8]; 7] = [
        b"\x07",
        b"\x1b[103;5u",
        b"\x1b[103;69u",
        b"\x1b[103:71:103;5:1u",
        b"\x1b[1087::103;133u",
        b"\x1b[27;5;103~",
        b"\x9b103;5u",
    ];

    #[test]
    fn the_hotkey_alone_is_found_in_every_encoding_and_split() {
        for press in PRESSES {
            assert_eq!(run(&[press]), (Vec::new(), 1), "{press:?}");
            for cut in 1..press.len() {
                let (one, two) = press.split_at(cut);
                assert_eq!(run(&[one, two]), (Vec::new(), 1), "{press:?} at {cut}");
            }
            let bytes: Vec<_> = press.chunks(1).collect();
            assert_eq!(run(&bytes), (Vec::new(), 1), "{press:?} in bytes");
        }
        // With its release, and the report of the released Control.
        let (forward, presses) = run(&[b"\x1b[103;5u\x1b[103;5:3u", b"\x1b[57442;1:3u"]);
        assert_eq!((forward.as_slice(), presses), (&b"\x1b[57442;1:3u"[..], 1));
        let (forward, presses) = run(&[b"\x1b[103;5u", b"\x1b[103;5:3u"]);
        assert_eq!((forward.as_slice(), presses), (&b""[..], 1));
        // A release without a press is the command's.
        assert_eq!(run(&[b"\x1b[103;5:3u"]), (b"\x1b[103;5:3u".to_vec(), 0));
        // With a reply of the terminal.
        let (forward, presses) = run(&[b"\x1b]11;rgb:0/0/0\x1b\\\x07"]);
        assert_eq!(
            (forward.as_slice(), presses),
            (&b"\x1b]11;rgb:0/0/0\x1b\\"[..], 1)
        );
    }

    #[test]
    fn pressed_twice_at_once_it_is_passed_on() {
        for press in PRESSES {
            assert_eq!(run(&[&press.repeat(2)]), (press.to_vec(), 0), "{press:?}");
        }
    }

    #[test]
    fn other_input_reaches_the_command_unchanged() {
        let inputs: [&[u8]; 22] = [
            b"a",
            b"\x07a",
            b"a\x07",
            b"\x1b[200~\x07\x1b[201~",
            b"\x1b]0;\x07",
            b"\x1b]11;rgb:aaaa/aaaa/aaaa\x07",
            b"\x1bP1$r\x07a\x1b\\",
            b"\x1b_Gi=1;OK\x1b\\",
            b"\x1b",
            b"\x1b\x1b",
            b"\x1b\x1b[A",
            b"\x1b[A\x1bOB",
            b"\x1b[103;6u",
            b"\x1b[103u",
            b"\x1b[M\x07\x07\x07",
            b"\x1bx\x1b\x07",
            b"\x9b1;2A",
            "äø日本語".as_bytes(),
            b"\xff\xfe\x80",
            b"\x1b[1;\x07b",
            b"\x1b]abc\x1b[Ax",
            b"\x1b[?64;1;2c\x1b[0n",
        ];
        for input in inputs {
            assert_eq!(run(&[input]), (input.to_vec(), 0), "{input:?}");
        }
        // A long paste.
        let paste = [
            b"\x1b[200~".as_slice(),
            &b"\x07ab".repeat(50_000),
            b"\x1b[201~",
        ]
        .concat();
        let chunks: Vec<_> = paste.chunks(256).collect();
        assert_eq!(run(&chunks), (paste.clone(), 0));
    }

    #[test]
    fn a_late_reply_to_the_screen_is_not_the_commands() {
        let (mut filter, now) = (filter(), Instant::now());
        let mut decoder = filter.take_decoder();
        decoder.expect_report();
        filter.continue_input(decoder);
        assert_eq!(
            filter.filter(b"a\x1b[0nb\x1b[0n", now).forward,
            b"ab\x1b[0n"
        );
    }

    #[test]
    fn escape_reaches_the_command_after_a_moment() {
        let (mut filter, now) = (filter(), Instant::now());
        let found = filter.filter(b"\x1b", now);
        assert_eq!(found.forward, b"");
        assert_eq!(filter.deadline(), Some(now + HOLD_TIME));
        assert_eq!(filter.release(), b"\x1b");
        assert_eq!(filter.deadline(), None);
        // The next key is another one.
        let found = filter.filter(b"\x07", now);
        assert_eq!(found.hotkey.as_deref(), Some(&b"\x07"[..]));
        // In vi, `^` moves; in a reply, it starts a string.
        for key in [b"^", b"]", b"P", b"X", b"_"] {
            assert_eq!(filter.filter(b"\x1b", now).forward, b"");
            assert_eq!(filter.release(), b"\x1b");
            assert_eq!(filter.filter(key, now).forward, key);
            let found = filter.filter(b"\x07", now);
            assert_eq!(found.hotkey.as_deref(), Some(&b"\x07"[..]), "{key:?}");
        }
        // The command has the start of the sequence, and gets the rest.
        assert_eq!(filter.filter(b"\x1b[103", now).forward, b"");
        assert_eq!(filter.release(), b"\x1b[103");
        let found = filter.filter(b";5u", now);
        assert_eq!(
            (found.forward.as_slice(), found.hotkey),
            (&b";5u"[..], None)
        );
    }
}
