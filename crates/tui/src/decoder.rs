// SPDX-License-Identifier: Apache-2.0
//! Cuts terminal input into frames: keys, mouse events, pasted texts, and replies of the terminal.
//!
//! The one decoder of every place that reads single keys. An answer is one letter, so no byte of a
//! reply, of a mouse event or of an unknown sequence may become a key, however slowly and in
//! however many parts the bytes arrive. Three rules follow:
//!
//! - A frame that has begun is never given up because of a pause. Only its end, ESC, CAN or SUB
//!   ends it.
//! - ESC alone is a key too. A pause decides that it was one, but the ESC stays the possible start
//!   of a sequence, and the key after it is doubtful.
//! - A doubtful key ([`KeyPress::is_certain`]) may move a selection, but answers nothing.
//!
//! The grammar is that of ECMA-48 (5.4 to 5.6, and 8-bit C1 controls), of xterm's "Mouse
//! Tracking" and "Bracketed Paste Mode", and of the VT52.

use std::collections::VecDeque;

use crate::key_press::{KeyPress, parse_plain, parse_sequence};

pub use crate::key_press::InputFrame;

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;
const CAN: u8 = 0x18;
const SUB: u8 = 0x1a;
/// The string terminator as an 8-bit control.
const ST: u8 = 0x9c;
const PASTE_START: &[u8] = b"200~";
const PASTE_ENDS: [&[u8]; 2] = [b"\x1b[201~", b"\x9b201~"];
/// Maximum number of bytes kept of a pasted text or of a reply.
const MAX_FRAME_BYTES: usize = 16 * 1024;
/// Number of bytes at the start of a truncated frame that stay.
const KEPT_START: usize = 8;
/// Number of bytes at the end of a truncated frame that stay, to find its end.
const KEPT_END: usize = 8;

/// The received bytes that are not a frame yet.
#[derive(Debug, Default, Clone)]
pub struct InputDecoder {
    bytes: VecDeque<u8>,
    frame: Vec<u8>,
    /// The ESC at the start of the frame was reported as a key.
    escape_reported: bool,
    /// Number of characters that may be the rest of the previous frame.
    doubtful_chars: u8,
    /// Number of status reports that this program requested and has not received.
    expected_reports: u32,
}

/// The kind of a frame, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    /// A control sequence, from CSI to its final byte.
    ControlSequence,
    /// OSC, to ST or BEL.
    OperatingSystemCommand,
    /// DCS, SOS, PM and APC, to ST.
    ControlString,
    /// A single shift, and the key that it shifts.
    SingleShift,
    /// ESC, an intermediate byte and a final byte; replies and keypad keys of the VT52.
    EscapeSequence,
    /// A character, or ESC and a character.
    Character,
}

/// The progress of a frame: a key, a sequence or a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DecodeProgress {
    /// More bytes follow.
    Incomplete,
    /// The frame is complete.
    Complete,
    /// The frame ended before its last bytes, this many, which start another one.
    EndedBefore(usize),
    /// The frame was cancelled by its last byte.
    Cancelled,
}

impl InputDecoder {
    /// Adds received bytes, in parts of any size.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// Returns the next complete frame.
    pub fn next_frame(&mut self) -> Option<InputFrame> {
        while let Some(byte) = self.bytes.pop_front() {
            self.frame.push(byte);
            let progress = frame_progress(&self.frame, self.escape_reported);
            match progress {
                DecodeProgress::Incomplete => self.limit_frame(),
                DecodeProgress::Complete => return Some(self.take_frame()),
                DecodeProgress::Cancelled => {
                    self.clear_frame();
                    self.doubtful_chars = 1;
                    return Some(InputFrame::Unknown);
                }
                DecodeProgress::EndedBefore(count) => {
                    let at = self.frame.len().saturating_sub(count);
                    for &byte in self.frame.iter().skip(at).rev() {
                        self.bytes.push_front(byte);
                    }
                    let was_reported = self.escape_reported;
                    let (kind, _) = frame_kind(&self.frame);
                    self.frame.truncate(at);
                    let is_escape = self.frame == [ESC];
                    self.clear_frame();
                    self.doubtful_chars = match kind {
                        FrameKind::EscapeSequence => 2,
                        _ => 1,
                    };
                    match (is_escape, was_reported) {
                        (true, true) => {}
                        (true, false) => return Some(InputFrame::Key(KeyPress::escape())),
                        (false, _) => return Some(InputFrame::Unknown),
                    }
                }
            }
        }
        None
    }

    /// Records that this program requested a status report, `CSI 5 n`. Other reports are
    /// [`InputFrame::Quiet`].
    pub fn expect_report(&mut self) {
        self.expected_reports = self.expected_reports.saturating_add(1);
    }

    /// Returns the number of requested reports that have not arrived.
    pub fn expected_reports(&self) -> u32 {
        self.expected_reports
    }

    /// Returns `true` if bytes are left that arrived together with the last returned frame.
    pub fn has_buffered_bytes(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// The bytes of the frame that has begun; of a long one only a part.
    pub fn pending_bytes(&self) -> &[u8] {
        &self.frame
    }

    /// Returns `true` if a pause would make a key of the last byte: ESC alone, or after a string,
    /// which it ends.
    pub fn awaits_escape(&self) -> bool {
        let ends_string =
            self.is_inside_string() && !self.is_inside_paste() && self.frame.ends_with(&[ESC]);
        ends_string || (self.frame == [ESC] && !self.escape_reported)
    }

    /// Returns `true` within a frame of any length: a pasted text, or a reply.
    pub fn is_inside_string(&self) -> bool {
        is_string(&self.frame)
    }

    /// Returns `true` within a pasted text.
    pub fn is_inside_paste(&self) -> bool {
        is_paste(&self.frame)
    }

    /// Returns `true` within a string whose ESC was followed by a pause: a person may have pressed
    /// Escape and then another key.
    pub fn is_doubtful_string(&self) -> bool {
        self.escape_reported && self.is_inside_string()
    }

    /// Reports Escape after a pause. The frame stays: its rest must not become keys.
    pub fn flush_escape(&mut self) -> Option<InputFrame> {
        self.awaits_escape().then(|| {
            self.frame = vec![ESC];
            self.escape_reported = true;
            InputFrame::Key(KeyPress::escape())
        })
    }

    fn clear_frame(&mut self) {
        self.frame.clear();
        self.escape_reported = false;
    }

    /// Drops the middle of a long frame.
    fn limit_frame(&mut self) {
        if self.frame.len() > MAX_FRAME_BYTES {
            let last = self.frame.len().saturating_sub(KEPT_END);
            self.frame.drain(KEPT_START..last);
        }
    }

    /// Returns the complete frame as an event.
    fn take_frame(&mut self) -> InputFrame {
        let frame = std::mem::take(&mut self.frame);
        self.clear_frame();
        let (kind, header) = frame_kind(&frame);
        let body = frame.get(header..).unwrap_or_default();
        match kind {
            FrameKind::ControlSequence if is_paste(&frame) => {
                let text = body.get(PASTE_START.len()..).unwrap_or_default();
                let text = PASTE_ENDS.iter().find_map(|end| text.strip_suffix(*end));
                let text = String::from_utf8_lossy(text.unwrap_or_default());
                InputFrame::Paste(text.into_owned())
            }
            FrameKind::ControlSequence | FrameKind::SingleShift => {
                let introducer = if kind == FrameKind::ControlSequence {
                    b'['
                } else {
                    b'O'
                };
                let mouse = kind == FrameKind::ControlSequence && body.first() == Some(&b'M');
                // Mode 1005 sends two bytes for a large coordinate, other modes one.
                let may_continue = mouse && !body.is_ascii();
                self.doubtful_chars = if may_continue { 2 } else { 0 };
                let parsed = parse_sequence(&[&[ESC, introducer], body].concat());
                if parsed != InputFrame::StatusReport {
                    return parsed;
                }
                match self.expected_reports.checked_sub(1) {
                    Some(left) => self.expected_reports = left,
                    None => return InputFrame::Quiet,
                }
                InputFrame::StatusReport
            }
            FrameKind::OperatingSystemCommand | FrameKind::ControlString => {
                self.doubtful_chars = 0;
                InputFrame::Quiet
            }
            FrameKind::EscapeSequence => {
                self.doubtful_chars = 1;
                InputFrame::Unknown
            }
            FrameKind::Character => {
                let is_certain = self.doubtful_chars == 0;
                self.doubtful_chars = self.doubtful_chars.saturating_sub(1);
                parse_plain(&frame, is_certain)
            }
        }
    }
}

/// Returns the kind of a frame, and the length of its introducer.
fn frame_kind(frame: &[u8]) -> (FrameKind, usize) {
    let c1 = |code: u8| match code {
        0x9b => Some(FrameKind::ControlSequence),
        0x9d => Some(FrameKind::OperatingSystemCommand),
        0x90 | 0x98 | 0x9e | 0x9f => Some(FrameKind::ControlString),
        0x8f => Some(FrameKind::SingleShift),
        _ => None,
    };
    let found = match frame {
        // The control ESC Fe is the C1 control Fe + 0x40.
        [
            ESC,
            fe @ (b'[' | b']' | b'P' | b'X' | b'^' | b'_' | b'O'),
            ..,
        ] => c1(fe.saturating_add(0x40)).map(|kind| (kind, 2)),
        [ESC, b' '..=b'/' | b'?', ..] => Some((FrameKind::EscapeSequence, 2)),
        [code @ 0x80..=0x9f, ..] => c1(*code).map(|kind| (kind, 1)),
        // A C1 control in UTF-8.
        [0xc2, code @ 0x80..=0x9f, ..] => c1(*code).map(|kind| (kind, 2)),
        _ => None,
    };
    found.unwrap_or((FrameKind::Character, 0))
}

fn is_paste(frame: &[u8]) -> bool {
    let (kind, header) = frame_kind(frame);
    let body = frame.get(header..).unwrap_or_default();
    kind == FrameKind::ControlSequence && body.starts_with(PASTE_START)
}

/// Returns `true` for a frame of any length: pasted text, or a reply.
fn is_string(frame: &[u8]) -> bool {
    let (kind, _) = frame_kind(frame);
    matches!(
        kind,
        FrameKind::OperatingSystemCommand | FrameKind::ControlString
    ) || is_paste(frame)
}

/// Returns the progress of a frame that was incomplete before its last byte.
fn frame_progress(frame: &[u8], escape_reported: bool) -> DecodeProgress {
    let (kind, header) = frame_kind(frame);
    let body = frame.get(header..).unwrap_or_default();
    match kind {
        FrameKind::ControlSequence if is_paste(frame) => {
            complete_if(PASTE_ENDS.iter().any(|end| frame.ends_with(end)))
        }
        FrameKind::ControlSequence => sequence_progress(body),
        FrameKind::OperatingSystemCommand | FrameKind::ControlString => {
            string_progress(frame, header, kind)
        }
        FrameKind::SingleShift => match body {
            // Modifiers, as old terminals send them.
            [] | [.., b'0'..=b'9' | b';'] => DecodeProgress::Incomplete,
            [.., 0x20..=0x7e] => DecodeProgress::Complete,
            _ => DecodeProgress::EndedBefore(1),
        },
        // Escape was a key: `/`, `?` and Space are keys too.
        FrameKind::EscapeSequence if escape_reported => DecodeProgress::EndedBefore(1),
        FrameKind::EscapeSequence => match body {
            [] | [.., b' '..=b'/'] => DecodeProgress::Incomplete,
            [.., 0x30..=0x7e] => DecodeProgress::Complete,
            _ => DecodeProgress::EndedBefore(1),
        },
        FrameKind::Character => match frame {
            [ESC] => DecodeProgress::Incomplete,
            // Escape pressed twice, or before a sequence.
            [ESC, ESC] => DecodeProgress::EndedBefore(1),
            // Escape was a key, and this is another one.
            [ESC, _] if escape_reported => DecodeProgress::EndedBefore(1),
            [ESC, text @ ..] | text => utf8_progress(text),
        },
    }
}

const fn complete_if(whole: bool) -> DecodeProgress {
    if whole {
        DecodeProgress::Complete
    } else {
        DecodeProgress::Incomplete
    }
}

/// Returns the progress of a control sequence after its introducer.
fn sequence_progress(body: &[u8]) -> DecodeProgress {
    match body {
        // Mouse events of old terminals: any bytes follow. Buttons (mode 1000), and the end and
        // the start and end of a highlighted text (mode 1001).
        [b'M', rest @ ..] => complete_if(rest.len() == 3),
        [b't', rest @ ..] => complete_if(rest.len() == 2),
        [b'T', rest @ ..] => complete_if(rest.len() == 6),
        // Function keys of the Linux console.
        [b'[', rest @ ..] => complete_if(rest.len() == 1),
        [] | [.., 0x20..=0x3f] => DecodeProgress::Incomplete,
        [.., 0x40..=0x7e] => DecodeProgress::Complete,
        [.., CAN | SUB] => DecodeProgress::Cancelled,
        // Not part of a control sequence, which is dropped.
        _ => DecodeProgress::EndedBefore(1),
    }
}

/// Returns the progress of a control string.
fn string_progress(frame: &[u8], header: usize, kind: FrameKind) -> DecodeProgress {
    let body = frame.get(header..).unwrap_or_default();
    let is_7_bit = frame.first() == Some(&ESC);
    match body {
        [.., ESC, b'\\'] => DecodeProgress::Complete,
        // Another sequence begins, so this string has ended.
        [.., ESC, _] => DecodeProgress::EndedBefore(2),
        [.., BEL] => complete_if(kind == FrameKind::OperatingSystemCommand),
        [.., CAN | SUB] => DecodeProgress::Cancelled,
        [.., 0xc2, ST] if header == 2 && !is_7_bit => DecodeProgress::Complete,
        // The same byte is a part of other characters in UTF-8.
        [text @ .., ST] if header == 1 => complete_if(!ends_within_character(text)),
        _ => DecodeProgress::Incomplete,
    }
}

/// Returns `true` if `text` ends with the first bytes of a UTF-8 character.
fn ends_within_character(text: &[u8]) -> bool {
    let tails = (1..=3).filter_map(|length| text.get(text.len().checked_sub(length)?..));
    tails.into_iter().any(|tail| {
        let error = std::str::from_utf8(tail).err();
        error.is_some_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    })
}

/// Returns the progress of a UTF-8 character.
fn utf8_progress(bytes: &[u8]) -> DecodeProgress {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => DecodeProgress::Incomplete,
        // The last byte starts another character.
        Err(_) if bytes.len() > 1 => DecodeProgress::EndedBefore(1),
        // Includes bytes that start no character; they have no event.
        Ok(_) | Err(_) => DecodeProgress::Complete,
    }
}

#[cfg(test)]
mod tests;
