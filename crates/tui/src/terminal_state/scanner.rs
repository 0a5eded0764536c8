// SPDX-License-Identifier: Apache-2.0
//! Splits terminal output into text, control characters and control sequences (ECMA-48, and the
//! state machine of the DEC VT500 series as xterm has it, for UTF-8).

/// Maximum kept bytes of an unfinished sequence. Of a longer one only the introducer is kept.
const MAX_PENDING: usize = 4096;
/// Cancels an unfinished sequence.
const CAN: u8 = 0x18;
/// Cancels an unfinished sequence.
const SUB: u8 = 0x1a;
const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

/// A complete element of terminal output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputItem<'a> {
    /// A printed character.
    Text(char),
    /// A control character of C0.
    Control(u8),
    /// An escape sequence; intermediate 0 if it has none.
    Escape { intermediate: u8, final_byte: u8 },
    /// A control sequence.
    Csi(Csi<'a>),
    /// An operating system command, without introducer and terminator.
    Osc(&'a [u8]),
    /// A device control string or another string.
    OtherString,
}

/// A control sequence: introducer, private marker, parameters, intermediate, final byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Csi<'a> {
    /// One of `<=>?`, or 0.
    pub(super) marker: u8,
    /// The parameters, separated by `;`.
    pub(super) params: &'a [u8],
    /// The last intermediate byte, or 0.
    pub(super) intermediate: u8,
    pub(super) final_byte: u8,
}

/// Splits output into items. An item may be cut into any number of calls.
#[derive(Debug, Default)]
pub(super) struct OutputScanner {
    state: ScannerState,
    /// The bytes of the unfinished item.
    pending: Vec<u8>,
    /// Bytes of the unfinished item were dropped.
    is_overlong: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ScannerState {
    #[default]
    Ground,
    /// Within a character of UTF-8 of this number of bytes.
    Utf8(usize),
    Escape,
    Csi,
    Osc,
    OtherString,
}

impl OutputScanner {
    /// Scans output, and calls `item` with each complete item.
    pub(super) fn scan(&mut self, output: &[u8], mut item: impl FnMut(OutputItem<'_>)) {
        for &byte in output {
            self.scan_byte(byte, &mut item);
        }
    }

    /// Returns `true` between two items.
    pub(super) fn is_ground(&self) -> bool {
        self.state == ScannerState::Ground
    }

    /// Returns bytes that bring a terminal from the ground state to the present state. The text of
    /// an overlong string is missing.
    pub(super) fn pending(&self) -> &[u8] {
        let kept = if self.is_overlong { 2 } else { usize::MAX };
        self.pending
            .get(..kept.min(self.pending.len()))
            .unwrap_or_default()
    }

    fn scan_byte(&mut self, byte: u8, item: &mut impl FnMut(OutputItem<'_>)) {
        match self.state {
            ScannerState::Ground => self.scan_ground(byte, item),
            ScannerState::Utf8(length) => self.scan_utf8(byte, length, item),
            ScannerState::Escape => self.scan_escape(byte, item),
            ScannerState::Csi => self.scan_csi(byte, item),
            ScannerState::Osc | ScannerState::OtherString => self.scan_string(byte, item),
        }
    }

    fn begin(&mut self, state: ScannerState, bytes: &[u8]) {
        self.state = state;
        self.pending.clear();
        self.pending.extend(bytes);
        self.is_overlong = false;
    }

    fn end(&mut self) {
        self.begin(ScannerState::Ground, &[]);
    }

    fn keep(&mut self, byte: u8) {
        if self.pending.len() < MAX_PENDING {
            self.pending.push(byte);
        } else {
            self.is_overlong = true;
        }
    }

    fn scan_ground(&mut self, byte: u8, item: &mut impl FnMut(OutputItem<'_>)) {
        match byte {
            ESC => self.begin(ScannerState::Escape, &[ESC]),
            0x00..=0x1f | 0x7f => item(OutputItem::Control(byte)),
            0x20..=0x7e => item(OutputItem::Text(byte.into())),
            0xc2..=0xdf => self.begin(ScannerState::Utf8(2), &[byte]),
            0xe0..=0xef => self.begin(ScannerState::Utf8(3), &[byte]),
            0xf0..=0xf4 => self.begin(ScannerState::Utf8(4), &[byte]),
            _ => item(OutputItem::Text(char::REPLACEMENT_CHARACTER)),
        }
    }

    fn scan_utf8(&mut self, byte: u8, length: usize, item: &mut impl FnMut(OutputItem<'_>)) {
        if !(0x80..=0xbf).contains(&byte) {
            self.end();
            item(OutputItem::Text(char::REPLACEMENT_CHARACTER));
            return self.scan_ground(byte, item);
        }
        self.pending.push(byte);
        if self.pending.len() < length {
            return;
        }
        let text = std::str::from_utf8(&self.pending);
        let read = text.ok().and_then(|text| text.chars().next());
        match read {
            // C1: a control character that begins a sequence like ESC and the byte 0x40 lower.
            Some(c1 @ '\u{80}'..='\u{9f}') => {
                self.begin(ScannerState::Escape, &[ESC]);
                let low = u32::from(c1).saturating_sub(0x40);
                self.scan_escape(low.try_into().unwrap_or(b' '), item);
            }
            read => {
                self.end();
                item(OutputItem::Text(
                    read.unwrap_or(char::REPLACEMENT_CHARACTER),
                ));
            }
        }
    }

    fn scan_escape(&mut self, byte: u8, item: &mut impl FnMut(OutputItem<'_>)) {
        match byte {
            CAN | SUB => self.end(),
            ESC => self.begin(ScannerState::Escape, &[ESC]),
            0x00..=0x1f => item(OutputItem::Control(byte)),
            0x20..=0x2f => self.keep(byte),
            0x30..=0x7e => {
                let intermediate = self.pending.get(1).copied().unwrap_or_default();
                let next = match byte {
                    b'[' => Some(ScannerState::Csi),
                    b']' => Some(ScannerState::Osc),
                    b'P' | b'X' | b'^' | b'_' => Some(ScannerState::OtherString),
                    _ => None,
                };
                match next {
                    Some(next) if intermediate == 0 => self.begin(next, &[ESC, byte]),
                    _ => {
                        self.end();
                        item(OutputItem::Escape {
                            intermediate,
                            final_byte: byte,
                        });
                    }
                }
            }
            _ => {}
        }
    }

    fn scan_csi(&mut self, byte: u8, item: &mut impl FnMut(OutputItem<'_>)) {
        match byte {
            CAN | SUB => self.end(),
            ESC => self.begin(ScannerState::Escape, &[ESC]),
            0x00..=0x1f => item(OutputItem::Control(byte)),
            0x20..=0x3f => self.keep(byte),
            0x40..=0x7e => {
                let body = self.pending.get(2..).unwrap_or_default();
                let marker = match body.first() {
                    Some(&marker @ b'<'..=b'?') => marker,
                    _ => 0,
                };
                let body = body.get(usize::from(marker != 0)..).unwrap_or_default();
                let params = body.iter().position(|byte| *byte < b'0');
                let (params, rest) = body.split_at(params.unwrap_or(body.len()));
                let intermediate = rest.last().copied().unwrap_or_default();
                // A parameter after an intermediate or a second marker: no valid sequence.
                let valid = rest.iter().all(|byte| *byte < b'0')
                    && params.iter().all(|byte| *byte < b'<')
                    && !self.is_overlong;
                if valid {
                    item(OutputItem::Csi(Csi {
                        marker,
                        params,
                        intermediate,
                        final_byte: byte,
                    }));
                }
                self.end();
            }
            _ => {}
        }
    }

    fn scan_string(&mut self, byte: u8, item: &mut impl FnMut(OutputItem<'_>)) {
        match byte {
            CAN | SUB => self.end(),
            ESC => {
                self.end_string(item);
                self.begin(ScannerState::Escape, &[ESC]);
            }
            BEL if self.state == ScannerState::Osc => {
                self.end_string(item);
                self.end();
            }
            _ => {
                self.keep(byte);
                // The Linux console's commands for colours have a fixed length and no terminator.
                let text = self.pending.get(2..).unwrap_or_default();
                let is_linux = match text.first() {
                    Some(b'P') => text.len() == 8,
                    Some(b'R') => true,
                    _ => false,
                };
                if self.state == ScannerState::Osc && is_linux {
                    self.end_string(item);
                    self.end();
                }
            }
        }
    }

    fn end_string(&self, item: &mut impl FnMut(OutputItem<'_>)) {
        let text = self.pending.get(2..).unwrap_or_default();
        if self.state == ScannerState::Osc && !self.is_overlong {
            item(OutputItem::Osc(text));
        } else {
            item(OutputItem::OtherString);
        }
    }
}
