// SPDX-License-Identifier: Apache-2.0
//! What a frame of terminal input means: the key, with its position on the keyboard where the
//! terminal tells it.
//!
//! Sources: "Comprehensive keyboard handling in terminals" (`CSI u`), xterm's `modifyOtherKeys`
//! (`CSI 27 ; m ; n ~`); `terminput` knows the older sequences.

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseEvent};
use terminput_crossterm::to_crossterm;

/// A frame of terminal input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputFrame {
    /// A key was pressed or released.
    Key(KeyPress),
    /// A mouse event.
    Mouse(MouseEvent),
    /// Text was pasted.
    Paste(String),
    /// A reply or report of the terminal, or a modifier key alone.
    Quiet,
    /// The reply to a request for the status of the terminal, `CSI 5 n`: everything that was
    /// written before has been processed.
    StatusReport,
    /// A key or a sequence without a known meaning.
    Unknown,
}

/// A key, as the terminal reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPress {
    event: KeyEvent,
    /// The character of the key with Shift, if the terminal tells it.
    shifted: Option<char>,
    /// The character of the key in the same place of a US keyboard, if the terminal tells it.
    base: Option<char>,
    caps_lock: bool,
    is_certain: bool,
}

/// Asks the terminal for reports of all keys, with their place on the keyboard, the lock keys and
/// the typed text. (Flags 1, 4, 8 and 16 of "Progressive enhancement"; without releases, the last
/// of which would reach the next program.) Other terminals ignore it.
pub(crate) const ENABLE_KEY_REPORTS: &[u8] = b"\x1b[=29u";

/// The bit of Caps Lock in a list of modifiers.
const CAPS_LOCK: u16 = 64;

impl KeyPress {
    /// Returns the Escape key, as decided by a pause.
    pub(crate) const fn escape() -> Self {
        Self::legacy(KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE), false)
    }

    const fn legacy(event: KeyEvent, is_certain: bool) -> Self {
        Self {
            event,
            shifted: None,
            base: None,
            caps_lock: false,
            is_certain,
        }
    }

    /// Returns `false` for a key that may be a part of something else, and so answers nothing.
    pub const fn is_certain(self) -> bool {
        self.is_certain
    }

    /// Returns `true` if the key was released.
    pub fn is_release(self) -> bool {
        self.event.kind == KeyEventKind::Release
    }

    /// Returns the key with the character that it types, for text.
    pub const fn typed(self) -> KeyEvent {
        self.event
    }

    /// Returns the key for a table of ASCII keys: by its place on the keyboard, where the terminal
    /// tells it, if it types a letter of another script, or an uppercase letter because of Caps
    /// Lock.
    pub fn command(self) -> KeyEvent {
        let KeyCode::Char(typed) = self.event.code else {
            return self.event;
        };
        let shift = self.event.modifiers.contains(KeyModifiers::SHIFT);
        let in_place = match self.base {
            Some(base) if !typed.is_ascii() => Some(if shift {
                base.to_ascii_uppercase()
            } else {
                base
            }),
            _ if self.caps_lock && !shift && typed.is_ascii_uppercase() => {
                Some(typed.to_ascii_lowercase())
            }
            _ => None,
        };
        in_place.map_or(self.event, |c| KeyEvent {
            code: KeyCode::Char(c),
            ..self.event
        })
    }

    /// Returns the characters by which the key may be called.
    pub(crate) fn characters(self) -> impl Iterator<Item = char> {
        let typed = match self.event.code {
            KeyCode::Char(c) => Some(c),
            _ => None,
        };
        // Without the place of the key, its letter tells it.
        let place = match typed {
            Some(c) if !c.is_ascii() => self.base.or_else(|| latin_place(c)),
            _ => None,
        };
        [typed, self.shifted, place].into_iter().flatten()
    }
}

impl From<KeyEvent> for KeyPress {
    fn from(event: KeyEvent) -> Self {
        Self::legacy(event, true)
    }
}

/// Returns the letter of a US keyboard in the place of a letter of the Russian one.
pub(crate) fn latin_place(letter: char) -> Option<char> {
    const RUSSIAN: &str = "йцукенгшщзхъфывапролджэячсмитьбюё";
    const LATIN: &str = "qwertyuiop[]asdfghjkl;'zxcvbnm,.`";
    let lower = letter.to_lowercase().next()?;
    let at = RUSSIAN.chars().position(|c| c == lower)?;
    LATIN.chars().nth(at)
}

/// Returns the meaning of a character, possibly after ESC.
pub(crate) fn parse_plain(frame: &[u8], is_certain: bool) -> InputFrame {
    match parse_legacy(frame) {
        Some(Event::Key(event)) => InputFrame::Key(KeyPress::legacy(event, is_certain)),
        _ => InputFrame::Unknown,
    }
}

/// Returns the meaning of a control sequence (`ESC [`) or of a shifted key (`ESC O`).
pub(crate) fn parse_sequence(frame: &[u8]) -> InputFrame {
    let Some(([0x1b, introducer], body)) = frame.split_first_chunk::<2>() else {
        return InputFrame::Unknown;
    };
    let Some((last, parameters)) = body.split_last() else {
        return InputFrame::Unknown;
    };
    let parsed = || parse_legacy(frame);
    match (introducer, body.first(), last) {
        (b'O', ..) => key(parsed().as_ref()),
        (_, Some(b'M'), _) => mouse(parsed().as_ref()),
        (_, Some(b'<'), b'M' | b'm') => {
            if has_coordinates(parameters) {
                mouse(parsed().as_ref())
            } else {
                InputFrame::Quiet
            }
        }
        (_, _, b'n') if matches!(parameters, b"0" | b"3") => InputFrame::StatusReport,
        // Private sequences, focus, and reports that are not private.
        (_, Some(b'<' | b'=' | b'>' | b'?' | b't' | b'T' | b'I' | b'O'), _)
        | (_, _, b'M' | b'c' | b'n' | b't' | b'w' | b'x' | b'y') => InputFrame::Quiet,
        // The position of the cursor. (F3 is `CSI R`, without numbers.)
        (_, _, b'R') if !parameters.is_empty() => InputFrame::Quiet,
        (_, _, b'u') => parse_key_report(parameters).unwrap_or(InputFrame::Unknown),
        (_, _, b'~') if parameters.starts_with(b"27;") => {
            parse_other_key(parameters).unwrap_or(InputFrame::Unknown)
        }
        _ if parameters.iter().any(|byte| (b' '..=b'/').contains(byte)) => InputFrame::Quiet,
        _ => key(parsed().as_ref()),
    }
}

fn parse_legacy(frame: &[u8]) -> Option<Event> {
    let event = terminput::Event::parse_from(frame).ok()??;
    to_crossterm(event).ok()
}

fn key(event: Option<&Event>) -> InputFrame {
    match event {
        Some(Event::Key(event)) => InputFrame::Key(KeyPress::from(*event)),
        _ => InputFrame::Unknown,
    }
}

fn mouse(event: Option<&Event>) -> InputFrame {
    match event {
        Some(Event::Mouse(event)) => InputFrame::Mouse(*event),
        _ => InputFrame::Quiet,
    }
}

/// Returns `true` for a button and the numbers of a column and a line, which start at 1.
fn has_coordinates(parameters: &[u8]) -> bool {
    let text = std::str::from_utf8(parameters).ok();
    let numbers = text.and_then(|text| text.strip_prefix('<'));
    let numbers = numbers.into_iter().flat_map(|text| text.split(';').skip(1));
    let numbers: Vec<_> = numbers.map(str::parse::<u16>).collect();
    matches!(numbers.as_slice(), [Ok(1..), Ok(1..)])
}

/// Parses `key:shifted:base ; modifiers:kind ; text` of `CSI … u`.
fn parse_key_report(parameters: &[u8]) -> Option<InputFrame> {
    let text = std::str::from_utf8(parameters).ok()?;
    let mut fields = text.split(';');
    let mut keys = fields.next()?.split(':').map(parse_character);
    let (key, shifted, base) = (keys.next()?, keys.next().flatten(), keys.next().flatten());
    let mut modifiers = fields.next().unwrap_or_default().split(':');
    let mask = parse_modifiers(modifiers.next())?;
    let kind = match modifiers.next() {
        None | Some("" | "1") => KeyEventKind::Press,
        Some("2") => KeyEventKind::Repeat,
        Some("3") => KeyEventKind::Release,
        Some(_) => return None,
    };
    let mut typed = fields.next().unwrap_or_default().split(':');
    let typed = match (typed.next().and_then(parse_character), typed.next()) {
        (Some(c), None) if !c.is_control() => Some(c),
        _ => None,
    };
    let shift = mask & 1 != 0;
    // Text without a key, from an input method, has key 0.
    let key = key.filter(|key| *key != '\0').or(typed)?;
    let code = match named_key(key)? {
        KeyCode::Char(c) if typed.is_none() && shift => {
            KeyCode::Char(shifted.unwrap_or_else(|| uppercase(c)))
        }
        KeyCode::Char(c) => KeyCode::Char(typed.unwrap_or(c)),
        KeyCode::Modifier(_) | KeyCode::CapsLock | KeyCode::NumLock | KeyCode::ScrollLock => {
            return Some(InputFrame::Quiet);
        }
        code => code,
    };
    Some(InputFrame::Key(KeyPress {
        event: KeyEvent::new_with_kind(code, key_modifiers(mask), kind),
        shifted,
        base,
        caps_lock: mask & CAPS_LOCK != 0,
        is_certain: true,
    }))
}

/// Parses `27 ; modifiers ; key` of `CSI … ~`.
fn parse_other_key(parameters: &[u8]) -> Option<InputFrame> {
    let text = std::str::from_utf8(parameters).ok()?;
    let mut fields = text.split(';').skip(1);
    let mask = parse_modifiers(fields.next())?;
    let key = parse_character(fields.next()?)?;
    if fields.next().is_some() {
        return None;
    }
    let event = KeyEvent::new(named_key(key)?, key_modifiers(mask));
    Some(InputFrame::Key(KeyPress {
        caps_lock: mask & CAPS_LOCK != 0,
        ..KeyPress::legacy(event, true)
    }))
}

fn parse_character(number: &str) -> Option<char> {
    number.parse().ok().and_then(char::from_u32)
}

/// Returns the bits of a modifiers field, which is one more; an empty field is 1.
fn parse_modifiers(field: Option<&str>) -> Option<u16> {
    match field {
        None | Some("") => Some(0),
        Some(number) => number.parse::<u16>().ok()?.checked_sub(1),
    }
}

fn key_modifiers(mask: u16) -> KeyModifiers {
    let known = [
        KeyModifiers::SHIFT,
        KeyModifiers::ALT,
        KeyModifiers::CONTROL,
        KeyModifiers::SUPER,
        KeyModifiers::HYPER,
        KeyModifiers::META,
    ];
    let set = known
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| mask & (1 << bit) != 0);
    set.map(|(_, modifier)| modifier).collect()
}

fn uppercase(c: char) -> char {
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(upper), None) => upper,
        _ => c,
    }
}

/// Returns the key of a number of `CSI u`; `None` for keys without a meaning here.
fn named_key(key: char) -> Option<KeyCode> {
    // The private numbers of keys that type nothing are known to terminput.
    match parse_legacy(format!("\x1b[{}u", u32::from(key)).as_bytes())? {
        Event::Key(event) => Some(event.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_key(sequence: &str) -> KeyPress {
        match parse_sequence(sequence.as_bytes()) {
            InputFrame::Key(key) => key,
            other => panic!("{sequence:?}: {other:?}"),
        }
    }

    #[test]
    fn answer_keys_are_found_by_their_place_where_the_terminal_tells_it() {
        for (sequence, typed, command) in [
            ("\x1b[97u", 'a', 'a'),
            ("\x1b[97;1u", 'a', 'a'),
            ("\x1b[97;1:1;97u", 'a', 'a'),
            // Num Lock.
            ("\x1b[97;129u", 'a', 'a'),
            // Cyrillic letters, with and without their place.
            ("\x1b[1092::97;1;1092u", 'ф', 'a'),
            ("\x1b[1092:1060:97;2;1060u", 'Ф', 'A'),
            ("\x1b[1092;1;1092u", 'ф', 'ф'),
            // Caps Lock, and Shift.
            ("\x1b[97;65;65u", 'A', 'a'),
            ("\x1b[97:65;2;65u", 'A', 'A'),
            ("\x1b[97:65;2u", 'A', 'A'),
            ("\x1b[97;2u", 'A', 'A'),
            // The key in the place of Q types `a` on a French keyboard.
            ("\x1b[97::113;1;97u", 'a', 'a'),
            // Text of an input method.
            ("\x1b[0;;228u", 'ä', 'ä'),
            ("\x1b[27;1;97~", 'a', 'a'),
        ] {
            let key = parse_key(sequence);
            assert_eq!(key.typed().code, KeyCode::Char(typed), "{sequence:?}");
            assert_eq!(key.command().code, KeyCode::Char(command), "{sequence:?}");
        }
        for (sequence, kind) in [
            ("\x1b[97;1:2u", KeyEventKind::Repeat),
            ("\x1b[97;1:3u", KeyEventKind::Release),
        ] {
            assert_eq!(parse_key(sequence).typed().kind, kind);
        }
        assert_eq!(parse_key("\x1b[27u").typed().code, KeyCode::Esc);
        assert_eq!(parse_key("\x1b[13u").typed().code, KeyCode::Enter);
        assert_eq!(parse_key("\x1b[57419u").typed().code, KeyCode::Up);
        assert_eq!(
            parse_key("\x1b[97;69u").typed().modifiers,
            KeyModifiers::CONTROL,
            "Caps Lock is no modifier"
        );
    }

    #[test]
    fn reports_and_modifier_keys_are_no_keys() {
        for sequence in [
            "\x1b[?1u",
            "\x1b[57441;2u",
            "\x1b[57358;65u",
            "\x1b[1;97R",
            "\x1b[1n",
            "\x1b[<0;0;0M",
            "\x1b[<0;1M",
            "\x1b[?997;1n",
            "\x1b[48;24;80;0;0t",
            "\x1b[97;1M",
            "\x1b[I",
            "\x1b[97;1$y",
        ] {
            assert_eq!(
                parse_sequence(sequence.as_bytes()),
                InputFrame::Quiet,
                "{sequence:?}"
            );
        }
        assert_eq!(parse_sequence(b"\x1b[0n"), InputFrame::StatusReport);
        for sequence in [
            "\x1b[u",
            "\x1b[;1u",
            "\x1b[97;0u",
            "\x1b[97;1:9u",
            "\x1b[27;1;97;1~",
        ] {
            assert_eq!(
                parse_sequence(sequence.as_bytes()),
                InputFrame::Unknown,
                "{sequence:?}"
            );
        }
    }
}
