// SPDX-License-Identifier: Apache-2.0
//! Decodes terminal input into keys, mouse events and pasted text.
//!
//! An answer is one letter, so no letter of a sequence may count as a key. Replies of the terminal,
//! which another program may have requested, and unknown sequences are therefore dropped whole.
//! The grammar is that of ECMA-48, 5.4 to 5.6, and of xterm's "Bracketed Paste Mode" and "Mouse
//! Tracking".

use std::collections::VecDeque;

use crossterm::event::Event;
use terminput_crossterm::to_crossterm;

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
const PASTE_START: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";
/// Maximum number of bytes kept of a pasted text or of a reply.
const MAX_FRAME_BYTES: usize = 16 * 1024;

/// The received bytes that are not an event yet.
#[derive(Debug, Default)]
pub(crate) struct InputDecoder {
    bytes: VecDeque<u8>,
    frame: Vec<u8>,
}

/// The progress of a frame: a key, a sequence or a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DecodeProgress {
    /// More bytes follow.
    Incomplete,
    /// More bytes may follow: ESC alone is a key too.
    Ambiguous,
    /// The frame is complete.
    Complete,
    /// The frame ended before the last byte.
    EndedBefore,
}

impl InputDecoder {
    /// Adds received bytes, in parts of any size.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Returns the next complete event.
    pub(crate) fn next(&mut self) -> Option<Event> {
        while let Some(byte) = self.bytes.pop_front() {
            match self.push_byte(byte) {
                DecodeProgress::Incomplete | DecodeProgress::Ambiguous => {}
                DecodeProgress::Complete => {
                    if let Some(event) = self.parse_frame() {
                        return Some(event);
                    }
                }
                DecodeProgress::EndedBefore => {
                    self.frame.clear();
                    self.bytes.push_front(byte);
                }
            }
        }
        None
    }

    /// Returns `true` if bytes are left that arrived together with the last returned event.
    pub(crate) fn has_buffered_bytes(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// Returns `true` if a frame has begun.
    pub(crate) fn is_incomplete(&self) -> bool {
        !self.frame.is_empty()
    }

    /// Ends an incomplete frame after a pause, and returns its event: Escape, or none.
    pub(crate) fn flush(&mut self) -> Option<Event> {
        // The rest of a slow paste or reply must not become keys.
        if is_text_frame(&self.frame) {
            return None;
        }
        let escape = self.frame == [ESC];
        let event = escape.then(|| self.parse_frame());
        self.frame.clear();
        event.flatten()
    }

    fn push_byte(&mut self, byte: u8) -> DecodeProgress {
        self.frame.push(byte);
        let whole = frame_progress(&self.frame);
        if self.frame.len() > MAX_FRAME_BYTES {
            // Drops the middle: the last bytes are needed to find the end.
            let last = self.frame.len() - PASTE_END.len();
            self.frame.drain(PASTE_START.len()..last);
        }
        if whole == DecodeProgress::EndedBefore {
            self.frame.pop();
        }
        whole
    }

    /// Returns the event of the complete frame, if known.
    fn parse_frame(&mut self) -> Option<Event> {
        let frame = std::mem::take(&mut self.frame);
        if is_text_frame(&frame) && !frame.starts_with(PASTE_START) {
            return None;
        }
        let event = terminput::Event::parse_from(&frame).ok()??;
        to_crossterm(event).ok()
    }
}

/// Returns `true` for a frame of any length: pasted text, or a reply.
fn is_text_frame(frame: &[u8]) -> bool {
    frame.starts_with(PASTE_START) || matches!(frame, [ESC, b']' | b'P' | b'X' | b'^' | b'_', ..])
}

/// Returns the progress of a frame that was incomplete before its last byte.
fn frame_progress(frame: &[u8]) -> DecodeProgress {
    let if_ = |whole: bool| {
        if whole {
            DecodeProgress::Complete
        } else {
            DecodeProgress::Incomplete
        }
    };
    match frame {
        [] => DecodeProgress::Incomplete,
        [ESC] => DecodeProgress::Ambiguous,
        _ if frame.starts_with(PASTE_START) => if_(frame.ends_with(PASTE_END)),
        // A control string, to its terminator.
        [ESC, b']' | b'P' | b'X' | b'^' | b'_', rest @ ..] => {
            let bell = frame.get(1) == Some(&b']') && rest.ends_with(&[BEL]);
            if_(bell || rest.ends_with(b"\x1b\\"))
        }
        // A mouse event of old terminals: three bytes follow.
        [ESC, b'[', b'M', rest @ ..] => if_(rest.len() == 3),
        // Function keys of the Linux console.
        [ESC, b'[', b'[', rest @ ..] => if_(rest.len() == 1),
        [ESC, b'[', .., last] if frame.len() > 2 => match last {
            0x20..=0x3f => DecodeProgress::Incomplete,
            0x40..=0x7e => DecodeProgress::Complete,
            // Not part of a control sequence, which is dropped.
            _ => DecodeProgress::EndedBefore,
        },
        [ESC, b'['] => DecodeProgress::Incomplete,
        [ESC, b'O', rest @ ..] => if_(!rest.is_empty()),
        // Escape pressed twice, or before a sequence.
        [ESC, ESC] => DecodeProgress::EndedBefore,
        [ESC, text @ ..] | text => utf8_progress(text),
    }
}

/// Returns the progress of a UTF-8 character.
fn utf8_progress(bytes: &[u8]) -> DecodeProgress {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => DecodeProgress::Incomplete,
        // The last byte starts another character.
        Err(_) if bytes.len() > 1 => DecodeProgress::EndedBefore,
        // Includes bytes that start no character; they have no event.
        Ok(_) | Err(_) => DecodeProgress::Complete,
    }
}

#[cfg(test)]
mod tests {
    use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use proptest::prelude::*;

    use super::*;

    fn events(chunks: &[&[u8]]) -> Vec<Event> {
        let mut frames = InputDecoder::default();
        let mut events = Vec::new();
        for chunk in chunks {
            frames.push(chunk);
            events.extend(std::iter::from_fn(|| frames.next()));
        }
        events.extend(frames.flush());
        events
    }

    fn key(code: KeyCode) -> Event {
        Event::Key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn keys_are_decoded_from_parts_of_any_size() {
        let a = || key(KeyCode::Char('a'));
        for (bytes, expected) in [
            (&b"a"[..], vec![a()]),
            (b"aa", vec![a(), a()]),
            (b"\r", vec![key(KeyCode::Enter)]),
            (b"\x1b", vec![key(KeyCode::Esc)]),
            (b"\x1b[A", vec![key(KeyCode::Up)]),
            (b"\x1bOA", vec![key(KeyCode::Up)]),
            (b"\x1b[5~", vec![key(KeyCode::PageUp)]),
            (b"\x1b[15~a", vec![key(KeyCode::F(5)), a()]),
            (b"\x1b[[A", vec![key(KeyCode::F(1))]),
            ("\u{e9}".as_bytes(), vec![key(KeyCode::Char('\u{e9}'))]),
            (
                b"\x1b[200~ax\x1b[A\x1b[201~a",
                vec![Event::Paste("ax\x1b[A".into()), a()],
            ),
        ] {
            assert_eq!(events(&[bytes]), expected, "{bytes:?}");
            for cut in 1..bytes.len() {
                let (one, two) = bytes.split_at(cut);
                assert_eq!(events(&[one, two]), expected, "{bytes:?} cut at {cut}");
            }
        }
        let alt = Event::Key(KeyEvent::new(KeyCode::Char('a'), KeyModifiers::ALT));
        assert_eq!(events(&[b"\x1ba"]), [alt]);
    }

    #[test]
    fn keys_that_arrive_together_are_detected() {
        let mut frames = InputDecoder::default();
        frames.push(b"ax");
        assert_eq!(frames.next(), Some(key(KeyCode::Char('a'))));
        assert!(frames.has_buffered_bytes());
        assert_eq!(frames.next(), Some(key(KeyCode::Char('x'))));
        assert!(!frames.has_buffered_bytes());
    }

    /// Replies of a terminal, and other sequences that contain letters.
    #[test]
    fn letters_of_sequences_are_not_keys() {
        for bytes in [
            &b"\x1b]11;rgb:aaaa/dddd/xxxx\x1b\\"[..],
            b"\x1b]11;rgb:aaaa/dddd/xxxx\x07",
            b"\x1bP1$r0a\x1b\\",
            b"\x1bP>|xterm(388)a\x1b\\",
            b"\x1b_Ga;OK\x1b\\",
            b"\x1b^a\x1b\\",
            b"\x1bXa\x1b\\",
            b"\x1b[?64;1;2;6c",
            b"\x1b[12;40R",
            b"\x1b[?2026;2$y",
            b"\x1b[>1;10;0c",
            b"\x1b[Maaa",
            b"\x1b[a",
            b"\x1b[1;2x",
            b"\x1bOx",
            b"\x1b[200~aaa",
            b"\x1b]0;aaaa",
            b"\xff",
            b"\xe4\xbd",
        ] {
            let letters = |event: &Event| matches!(event, Event::Key(key) if key.modifiers.is_empty() && matches!(key.code, KeyCode::Char(_)));
            let found = events(&[bytes]);
            assert!(!found.iter().any(letters), "{bytes:?}: {found:?}");
            for cut in 1..bytes.len() {
                let (one, two) = bytes.split_at(cut);
                let found = events(&[one, two]);
                assert!(
                    !found.iter().any(letters),
                    "{bytes:?} cut at {cut}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn incomplete_frame_is_no_key_except_escape() {
        let mut frames = InputDecoder::default();
        frames.push(b"\x1b");
        assert_eq!(frames.next(), None);
        assert!(frames.is_incomplete());
        assert_eq!(frames.flush(), Some(key(KeyCode::Esc)));
        assert!(!frames.is_incomplete());
        frames.push(b"\x1b[1;");
        assert_eq!(frames.next(), None);
        assert_eq!(frames.flush(), None);
        assert!(!frames.is_incomplete(), "an incomplete key is dropped");
        frames.push(b"\x1b[200~a");
        assert_eq!((frames.next(), frames.flush()), (None, None));
        frames.push(b"aaa\x1b[201~");
        assert_eq!(frames.next(), Some(Event::Paste("aaaa".into())));
    }

    #[test]
    fn endless_text_is_bounded_and_contains_no_keys() {
        for begin in [PASTE_START, b"\x1b]0;"] {
            let mut frames = InputDecoder::default();
            frames.push(begin);
            for _ in 0..1000 {
                frames.push(&[b'a'; 1000]);
                assert_eq!(frames.next(), None);
                assert!(frames.frame.len() <= MAX_FRAME_BYTES);
            }
            frames.push(if begin == PASTE_START {
                PASTE_END
            } else {
                b"\x07"
            });
            let event = frames.next();
            assert!(matches!(event, None | Some(Event::Paste(_))), "{event:?}");
            frames.push(b"a");
            assert_eq!(frames.next(), Some(key(KeyCode::Char('a'))));
        }
    }

    proptest! {
        #[test]
        fn decoding_does_not_depend_on_how_bytes_are_split(
            bytes in proptest::collection::vec(
                prop_oneof![
                    any::<u8>(),
                    prop::sample::select(b"\x1b\x1b[]OPMa0;~\x07\\<".to_vec()),
                ],
                0..200,
            ),
            cut in 0usize..200,
        ) {
            let (one, two) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(events(&[&bytes]), events(&[one, two]));
        }
    }
}
