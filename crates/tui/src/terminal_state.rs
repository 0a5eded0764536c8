// SPDX-License-Identifier: Apache-2.0
//! The state in which a command's output leaves the terminal: taken over before something of this
//! program is drawn, and put back after.
//!
//! Two independent parts provide the safety. What is written before a question, the enter sequence
//! of the screen, leads to one known state from every state, and so depends on nothing that was
//! read here. What is read here, [`TerminalStateTracker`], adds the resets that would spoil a
//! terminal whose command never used the feature, and puts the command's state back. A command
//! that deceives the tracker gets its own state back wrongly, and gains nothing.

mod colors;
mod graphic_rendition;
mod line_position;
mod notice;
mod scanner;

use std::fmt::Write as _;

use rustix::termios::Winsize;

use colors::{ChangedColors, RESET_COLORS};
use graphic_rendition::GraphicRendition;
use line_position::LinePosition;
use scanner::{Csi, OutputItem, OutputScanner};

/// Ends whatever the output before left unfinished. In the ground state, none of this is visible.
///
/// - CAN ends sequences, strings and characters; two, because a VT52's cursor address has two
///   bytes that may be control characters.
/// - ESC \ (ST) ends strings where CAN does not (kitty, GNU screen).
/// - ESC < leaves the VT52 mode, in which no later sequence would be read.
/// - ESC ETX leaves xterm's Tektronix mode.
/// - CSI 4 i ends the printer mode, in which everything goes to a printer.
/// - CSI 3 l ends the display of control characters.
/// - The synchronized update ends, in both forms: nothing is shown before.
/// - CSI 0 $ } selects the screen instead of the status line.
/// - ESC % G selects UTF-8, ESC SP F control characters of 7 bits.
pub(crate) const END_UNFINISHED: &str = "\x18\x18\x1b\\\x1b<\x1b\x03\x1b[4i\x1b[?4i\x1b[3l\
    \x1b[?2026l\x1bP=2s\x1b\\\x1b[0$}\x1b%G\x1b F";

/// Sets what changes the look or the place of printed characters to that of a new terminal: closes
/// a hyperlink, then attributes, fonts, character sets, insertion, new-line mode, autowrap and
/// protection. Moves no cursor.
pub(crate) const PLAIN_TEXT: &str =
    "\x1b]8;;\x1b\\\x1b[0;10m\x1b(B\x1b)B\x1b*B\x1b+B\x0f\x1b[4l\x1b[20l\x1b[?7h\x1bW\x1b[0\"q";

/// Enters the screen from any state of the terminal: ends what is unfinished, shows the alternate
/// screen, and sets the modes of a new terminal, by a soft reset (DECSTR) and one by one for
/// terminals without it. Then the modes of the screen: pasted text is marked, no cursor.
///
/// The soft reset comes after the alternate screen, whose entry saves the cursor of the command.
pub(crate) const ENTER_MODES: &str = "\x1b[?1049h\x1b[!p\x1b[?69l\x1b[r\x1b[?6l\x1b[2l\x1b[12h\
    \x1b[?5l\x1b[?45l\x1b[?1l\x1b>\x1b[?66l\
    \x1b[?9l\x1b[?1000l\x1b[?1001l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\
    \x1b[?1015l\x1b[?1016l\x1b[?2031l\x1b[?2048l\x1b[0 k\x1b[>1m\x1b[>2m\x1b[>4m\x1b[>0u\
    \x1b[?2004h\x1b[?25l";

/// Returns the sequence that enters the screen from any state of the terminal.
pub fn enter_sequence() -> String {
    [END_UNFINISHED, ENTER_MODES, PLAIN_TEXT].concat()
}

/// Returns the sequence that leaves the screen.
pub const fn leave_sequence() -> &'static str {
    "\x1b[?2004l\x1b[?1006l\x1b[?1000l\x1b[<u\x1b[0m\x1b[?25h\x1b[?1049l"
}

/// The modes of the alternate screen (xterm, "DEC Private Mode Set").
const ALTERNATE_SCREEN_MODES: [u16; 3] = [47, 1047, 1049];
/// The mode of the visible cursor and the mode of autowrap, which are on in a new terminal.
const DEFAULT_ON_MODES: [u16; 2] = [7, 25];
/// The mode in which `CSI s` sets the left and the right margin.
const SIDE_MARGIN_MODE: u16 = 69;
/// The mode in which row 1 is the first row within the margins.
const ORIGIN_MODE: u16 = 6;
/// The private modes that are put back: keys, origin, autowrap, looks of the screen, mouse, cursor,
/// margins, focus, alternate screen, pasted text, reports.
const TRACKED_MODES: [u16; 26] = [
    1, 5, 6, 7, 9, 12, 25, 45, 47, 66, 67, 69, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015,
    1016, 1047, 1049, 2004, 2031, 2048,
];
/// The modes of ECMA-48 that are put back: insertion, and new line.
const TRACKED_ECMA_MODES: [u16; 2] = [4, 20];
/// Maximum saved keyboard flags of kitty's protocol.
const MAX_KEYBOARD_FLAGS: usize = 16;
/// Maximum bytes of a hyperlink.
const MAX_LINK_BYTES: usize = 2048;

/// Tracks the state of the terminal in the output of a command.
#[derive(Debug, Default)]
pub struct TerminalStateTracker {
    scanner: OutputScanner,
    settings: TerminalSettings,
    position: LinePosition,
    seen: SeenFeatures,
    previous: [u8; 2],
}

/// The settings of a terminal, as far as they are put back.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "settings that are independent switches"
)]
struct TerminalSettings {
    /// The private modes that differ from a new terminal, in the order of the changes.
    changed: Vec<u16>,
    /// The modes that `CSI ? … s` saved, and whether each was changed.
    saved: Vec<(u16, bool)>,
    ecma_modes: Vec<u16>,
    has_application_keypad: bool,
    is_vt52: bool,
    look: TextLook,
    /// The look that was saved with the cursor, on both screens.
    saved_looks: [TextLook; 2],
    /// Parameters of the last DECSTBM and DECSLRM.
    vertical_margins: Option<String>,
    side_margins: Option<String>,
    colors: ChangedColors,
    cursor_style: Option<String>,
    is_protected: bool,
    /// xterm's `CSI > … m`: resource and value.
    key_modifiers: Vec<(u16, String)>,
    /// Flags of kitty's keyboard protocol, the present ones last, on both screens.
    keyboard_flags: [Vec<u8>; 2],
    /// The cursor was saved by ESC 7 and not restored since.
    has_saved_cursor: bool,
}

/// What is saved and restored with the cursor: attributes, character sets, and the hyperlink.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct TextLook {
    rendition: GraphicRendition,
    /// The final bytes of the designations of G0 to G3, each with its intermediate.
    charsets: [Option<(u8, u8)>; 4],
    uses_g1: bool,
    /// The open hyperlink: parameters and address.
    link: Option<String>,
}

/// The features that the bytes of the output may have used on any terminal, whatever it takes for
/// the start and the end of a sequence: set too often rather than not.
#[derive(Debug, Default, Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a set of independent features"
)]
struct SeenFeatures {
    /// Colours or fonts.
    colors: bool,
    /// Characters that erasing leaves on the screen.
    protection: bool,
    /// Images over the characters.
    images: bool,
    /// A status line with text of the command.
    status_line: bool,
    /// Anything but plain text.
    sequences: bool,
}

impl TerminalStateTracker {
    /// Reads output of the command for a terminal of this size.
    pub fn observe_output(&mut self, output: &[u8], size: Winsize) {
        self.observe_features(output);
        let Self {
            scanner,
            settings,
            position,
            ..
        } = self;
        scanner.scan(output, |item| {
            position.apply(&item, size.ws_col.max(1));
            settings.apply(&item);
        });
    }

    /// Returns `true` if the alternate screen is shown.
    pub fn is_alternate_screen(&self) -> bool {
        self.settings.is_alternate_screen()
    }

    /// Returns `true` if the last output ended a line, and the next begins one.
    pub fn is_line_start(&self) -> bool {
        self.scanner.is_ground() && self.position.is_line_start()
    }

    /// Returns `true` if a notice divides neither a line nor a sequence of the output.
    pub fn is_notice_place(&self) -> bool {
        self.is_line_start() || (self.is_alternate_screen() && self.scanner.is_ground())
    }

    /// Returns what makes text after the command's end readable.
    pub fn end_sequence(&self) -> String {
        if self.seen.sequences {
            [END_UNFINISHED, PLAIN_TEXT].concat()
        } else {
            String::new()
        }
    }

    /// Returns what is written on a terminal of this size before the screen is entered.
    ///
    /// The sequence that enters the screen does the rest, and depends on no output.
    pub fn takeover_sequence(&self, size: Winsize) -> String {
        let mut text = END_UNFINISHED.to_owned();
        if self.seen.colors {
            text += RESET_COLORS;
        }
        if self.seen.status_line {
            text += "\x1b[0$~";
        }
        if self.seen.images || self.seen.protection {
            text += "\x1b[?1049h";
        }
        if self.seen.images {
            // Deletes all images of kitty's graphics protocol.
            text += "\x1b_Ga=d\x1b\\";
        }
        if self.seen.protection {
            text += PLAIN_TEXT;
            text += "\x1b[?69l\x1b[r\x1b[?6l";
            let spaces = " ".repeat(size.ws_col.into());
            for row in 1..=size.ws_row {
                write!(text, "\x1b[{row}H{spaces}").ok();
            }
        }
        text
    }

    /// Returns the sequences that lead from a new terminal to the state that the output left.
    pub fn restore_sequence(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if (self.seen.images || self.seen.protection) && !self.is_alternate_screen() {
            // Entered by `takeover_sequence`, and perhaps left by the screen already.
            bytes.extend(b"\x1b[?1049l");
        }
        bytes.extend(self.settings.restore_sequence().bytes());
        bytes.extend(self.scanner.pending());
        bytes
    }

    /// Looks for the introducers of features among the bytes, in every state.
    fn observe_features(&mut self, output: &[u8]) {
        for &byte in output {
            self.seen.sequences |= matches!(byte, 0x0e | 0x1b | 0x80..=0x9f);
            let [before, last] = self.previous;
            match (before, last, byte) {
                // An operating system command: a number of colours or the font, or the console's.
                (0x1b, b']', b'0'..=b'9' | b'P' | b'R') | (_, 0x9d, b'0'..=b'9') => {
                    self.seen.colors |= !matches!(byte, b'0' | b'8' | b'9');
                }
                (_, 0x1b, b'V') | (_, b'"', b'q') | (_, _, 0x96) => self.seen.protection = true,
                (0x1b, b'_', b'G') | (_, 0x9f, b'G') => self.seen.images = true,
                (_, b'$', b'~' | b'}') => self.seen.status_line = true,
                _ => {}
            }
            // Terminals act on other control characters within a sequence, and go on with it.
            let is_ignored = matches!(byte, 0..=0x17 | 0x19 | 0x1c..=0x1f | 0x7f);
            if !is_ignored {
                self.previous = [last, byte];
            }
        }
    }
}

/// Splits the parameters of a sequence.
fn split_params(params: &str) -> impl Iterator<Item = &str> {
    params.split(';')
}

impl TerminalSettings {
    fn is_alternate_screen(&self) -> bool {
        self.changed
            .iter()
            .any(|mode| ALTERNATE_SCREEN_MODES.contains(mode))
    }

    fn apply(&mut self, item: &OutputItem<'_>) {
        match *item {
            OutputItem::Control(0x0e) => self.look.uses_g1 = true,
            OutputItem::Control(0x0f) => self.look.uses_g1 = false,
            OutputItem::Escape {
                intermediate,
                final_byte,
            } => self.apply_escape(intermediate, final_byte),
            OutputItem::Csi(csi) => {
                if let Ok(params) = std::str::from_utf8(csi.params) {
                    self.apply_csi(csi, params);
                }
            }
            OutputItem::Osc(command) => {
                if let Ok(command) = std::str::from_utf8(command) {
                    self.apply_osc(command);
                }
            }
            OutputItem::Text(_) | OutputItem::Control(_) | OutputItem::OtherString => {}
        }
    }

    fn apply_escape(&mut self, intermediate: u8, final_byte: u8) {
        match (intermediate, final_byte) {
            (0, b'c') => *self = Self::default(),
            (0, b'=') => self.has_application_keypad = true,
            (0, b'>') => self.has_application_keypad = false,
            (0, b'<') => self.is_vt52 = false,
            (0, b'7') => self.save_cursor(),
            (0, b'8') => self.restore_cursor(),
            (0, b'V') => self.is_protected = true,
            (0, b'W') => self.is_protected = false,
            (b'('..=b'+' | b'-'..=b'/', _) => {
                let set = match intermediate {
                    b'(' => 0,
                    b')' | b'-' => 1,
                    b'*' | b'.' => 2,
                    _ => 3,
                };
                let designation = (intermediate, final_byte) != (b'(', b'B');
                if let Some(charset) = self.look.charsets.get_mut(set) {
                    *charset = designation.then_some((intermediate, final_byte));
                }
            }
            _ => {}
        }
    }

    fn apply_osc(&mut self, command: &str) {
        match command.strip_prefix("8;") {
            Some(link) => {
                let is_open = link.split_once(';').is_some_and(|(_, uri)| !uri.is_empty());
                let kept = is_open && link.len() <= MAX_LINK_BYTES;
                let is_text = link.chars().all(|c| !c.is_control());
                self.look.link = (kept && is_text).then(|| link.to_owned());
            }
            None => self.colors.apply(command),
        }
    }

    fn apply_csi(&mut self, csi: Csi<'_>, params: &str) {
        let numbers = || split_params(params).filter_map(|param| param.parse::<u16>().ok());
        match (csi.marker, csi.intermediate, csi.final_byte) {
            (b'?', 0, b'h' | b'l') => {
                for mode in numbers() {
                    self.set_mode(mode, csi.final_byte == b'h');
                }
            }
            (b'?', 0, b's') => {
                self.saved = numbers()
                    .filter(|mode| TRACKED_MODES.contains(mode))
                    .map(|mode| (mode, self.changed.contains(&mode)))
                    .take(TRACKED_MODES.len())
                    .collect();
            }
            (b'?', 0, b'r') => {
                for (mode, changed) in self.saved.clone() {
                    if numbers().any(|number| number == mode) {
                        self.set_mode(mode, changed != DEFAULT_ON_MODES.contains(&mode));
                    }
                }
            }
            (0, 0, b'h' | b'l') => {
                for mode in numbers().filter(|mode| TRACKED_ECMA_MODES.contains(mode)) {
                    self.ecma_modes.retain(|other| *other != mode);
                    if csi.final_byte == b'h' {
                        self.ecma_modes.push(mode);
                    }
                }
            }
            (0, 0, b'm') => self.look.rendition.apply(params),
            (0, 0, b'r') => self.vertical_margins = Self::margins(params),
            (0, 0, b's') if self.changed.contains(&SIDE_MARGIN_MODE) => {
                self.side_margins = Self::margins(params);
            }
            (0, 0, b's') => self.save_cursor(),
            (0, 0, b'u') => self.restore_cursor(),
            (0, b' ', b'q') => self.cursor_style = (params.len() <= 2).then(|| params.to_owned()),
            (0, b'"', b'q') => self.is_protected = numbers().next() == Some(1),
            (0, b'!', b'p') => self.soft_reset(),
            (b'>', 0, b'm' | b'n') => self.set_key_modifiers(params, csi.final_byte),
            (b'<' | b'=' | b'>', 0, b'u') => self.set_keyboard_flags(csi.marker, params),
            _ => {}
        }
    }

    /// Returns the parameters of margins, `None` for those of the whole screen.
    fn margins(params: &str) -> Option<String> {
        let is_whole = matches!(params, "" | ";" | "0" | "0;" | "0;0" | "1" | "1;");
        (!is_whole && params.len() <= 16).then(|| params.to_owned())
    }

    /// Applies DECSTR.
    fn soft_reset(&mut self) {
        self.changed.retain(|mode| {
            let kept = [1, 5, 6, 7, 25, 66, 69];
            !kept.contains(mode)
        });
        *self = Self {
            changed: std::mem::take(&mut self.changed),
            saved: std::mem::take(&mut self.saved),
            colors: std::mem::take(&mut self.colors),
            keyboard_flags: std::mem::take(&mut self.keyboard_flags),
            ..Self::default()
        };
    }

    fn save_cursor(&mut self) {
        self.has_saved_cursor = true;
        let screen = usize::from(self.is_alternate_screen());
        if let Some(saved) = self.saved_looks.get_mut(screen) {
            saved.clone_from(&self.look);
        }
    }

    fn restore_cursor(&mut self) {
        self.has_saved_cursor = false;
        let screen = usize::from(self.is_alternate_screen());
        if let Some(saved) = self.saved_looks.get(screen) {
            self.look.clone_from(saved);
        }
    }

    fn set_mode(&mut self, mode: u16, on: bool) {
        if mode == 2 && !on {
            self.is_vt52 = true;
        }
        if !TRACKED_MODES.contains(&mode) {
            return;
        }
        // The last of these modes saves and restores the cursor of the other screen too.
        if mode == 1049 && on && !self.is_alternate_screen() {
            self.save_cursor();
        }
        if ALTERNATE_SCREEN_MODES.contains(&mode) && !on {
            // Each of these modes leaves the alternate screen, however it was entered.
            let was_alternate = self.is_alternate_screen();
            self.changed
                .retain(|mode| !ALTERNATE_SCREEN_MODES.contains(mode));
            if mode == 1049 && was_alternate {
                self.restore_cursor();
            }
            return;
        }
        self.changed.retain(|other| *other != mode);
        if on != DEFAULT_ON_MODES.contains(&mode) {
            self.changed.push(mode);
        }
        if mode == SIDE_MARGIN_MODE && !on {
            self.side_margins = None;
        }
    }

    /// Applies xterm's modifier options: `CSI > resource ; value m`, or `CSI > resource n`.
    fn set_key_modifiers(&mut self, params: &str, final_byte: u8) {
        let (resource, value) = params.split_once(';').unwrap_or((params, ""));
        let Ok(resource) = resource.parse::<u16>() else {
            return self.key_modifiers.clear();
        };
        let is_set = final_byte == b'm' && !value.is_empty() && value.len() <= 3;
        self.key_modifiers.retain(|(other, _)| *other != resource);
        if is_set && resource <= 7 {
            self.key_modifiers.push((resource, value.to_owned()));
        }
    }

    /// Applies a sequence of kitty's keyboard protocol.
    fn set_keyboard_flags(&mut self, marker: u8, params: &str) {
        let screen = usize::from(self.is_alternate_screen());
        let Some(stack) = self.keyboard_flags.get_mut(screen) else {
            return;
        };
        let (first, second) = params.split_once(';').unwrap_or((params, ""));
        let (first, second): (u8, u8) = (
            first.parse().unwrap_or_default(),
            second.parse().unwrap_or(1),
        );
        match marker {
            b'>' => {
                if stack.len() == MAX_KEYBOARD_FLAGS {
                    stack.remove(0);
                }
                stack.push(first);
            }
            b'<' => {
                let left = stack.len().saturating_sub(first.max(1).into());
                stack.truncate(left);
            }
            _ => {
                let before = stack.pop().unwrap_or_default();
                stack.push(match second {
                    2 => before | first,
                    3 => before & !first,
                    _ => first,
                });
            }
        }
    }

    fn restore_sequence(&self) -> String {
        let mut text = String::new();
        // The screen first, because entering it changes the cursor.
        let (screens, others): (Vec<u16>, Vec<u16>) = self
            .changed
            .iter()
            .filter(|mode| **mode != ORIGIN_MODE)
            .partition(|mode| ALTERNATE_SCREEN_MODES.contains(mode));
        for mode in screens {
            // The look of the other screen is in force.
            write!(text, "\x1b[?{mode}h{PLAIN_TEXT}").ok();
        }
        for mode in others {
            let on = !DEFAULT_ON_MODES.contains(&mode);
            write!(text, "\x1b[?{mode}{}", if on { 'h' } else { 'l' }).ok();
        }
        text += &self.margin_sequence();
        for mode in &self.ecma_modes {
            write!(text, "\x1b[{mode}h").ok();
        }
        if self.has_application_keypad {
            text += "\x1b=";
        }
        for (resource, value) in &self.key_modifiers {
            write!(text, "\x1b[>{resource};{value}m").ok();
        }
        let screen = usize::from(self.is_alternate_screen());
        let flags = self
            .keyboard_flags
            .get(screen)
            .and_then(|stack| stack.last());
        if let Some(flags) = flags {
            write!(text, "\x1b[={flags};1u").ok();
        }
        text += &self.colors.sequence();
        if let Some(style) = &self.cursor_style {
            write!(text, "\x1b[{style} q").ok();
        }
        text += &self.text_sequence();
        if self.is_vt52 {
            text += "\x1b[?2l";
        }
        text
    }

    /// Returns the sequences for the margins and the origin, which keep the cursor's place.
    fn margin_sequence(&self) -> String {
        let mut text = String::new();
        if let Some(margins) = &self.vertical_margins {
            write!(text, "\x1b[{margins}r").ok();
        }
        if let Some(margins) = &self.side_margins {
            write!(text, "\x1b[{margins}s").ok();
        }
        if self.changed.contains(&ORIGIN_MODE) {
            text += "\x1b[?6h";
        }
        if text.is_empty() {
            text
        } else {
            format!("\x1b7{text}\x1b8")
        }
    }

    /// Returns the sequences for the look of printed characters: the opposite of [`PLAIN_TEXT`].
    fn text_sequence(&self) -> String {
        let mut text = String::new();
        for (intermediate, final_byte) in self.look.charsets.iter().flatten() {
            text.extend(['\x1b', char::from(*intermediate), char::from(*final_byte)]);
        }
        if self.look.uses_g1 {
            text.push('\x0e');
        }
        if self.is_protected {
            text += "\x1b[1\"q";
        }
        if let Some(link) = &self.look.link {
            write!(text, "\x1b]8;{link}\x1b\\").ok();
        }
        if self.look.rendition != GraphicRendition::default() {
            text += &self.look.rendition.sequence();
        }
        text
    }
}

#[cfg(test)]
mod tests;
