// SPDX-License-Identifier: Apache-2.0
//! The hotkey: a key that a terminal user interface recognises in every encoding.

use std::fmt;
use std::str::FromStr;

use crossterm::event::{KeyCode, KeyModifiers};

use crate::key_press::KeyPress;

/// A key that opens the questions over a command: a control character, Alt with a character, or a
/// function key.
///
/// ```
/// use terok_clearance_tui::Hotkey;
/// let key: Hotkey = "c-]".parse()?;
/// assert_eq!(key.to_string(), "Ctrl-]");
/// assert!("a".parse::<Hotkey>().is_err());
/// # Ok::<(), terok_clearance_tui::HotkeyError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hotkey(HotkeyCode);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HotkeyCode {
    /// The control character, as a terminal without further encodings sends it.
    Control(u8),
    /// A printable ASCII character with Alt.
    Alt(char),
    /// A function key, with or without modifiers.
    Function(u8, KeyModifiers),
}

/// A text does not name a usable hotkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HotkeyError {
    /// The form is unknown.
    #[error("a hotkey is Ctrl-X, Alt-X or a function key, such as Ctrl-G, Alt-Q or F12")]
    Form,
    /// The key has another meaning in every terminal.
    #[error("{0} cannot be the hotkey: terminals send the same for another key")]
    Taken(&'static str),
    /// The key interrupts or suspends.
    #[error("{0} cannot be the hotkey: it interrupts, ends or suspends the command")]
    Signal(&'static str),
}

impl Hotkey {
    /// Ctrl-G, which every keyboard layout has.
    pub const DEFAULT: Self = Self(HotkeyCode::Control(0x07));

    /// Returns the byte that a terminal sends without further encodings, if the hotkey is a control
    /// character.
    pub const fn control_byte(self) -> Option<u8> {
        match self.0 {
            HotkeyCode::Control(byte) => Some(byte),
            HotkeyCode::Alt(_) | HotkeyCode::Function(..) => None,
        }
    }

    /// Returns `true` if the hotkey was pressed or released.
    pub fn matches(self, key: KeyPress) -> bool {
        let event = key.typed();
        let modifiers = event.modifiers;
        let others = KeyModifiers::SUPER | KeyModifiers::HYPER | KeyModifiers::META;
        match self.0 {
            HotkeyCode::Control(byte) => {
                let only_control = modifiers.contains(KeyModifiers::CONTROL)
                    && !modifiers.intersects(others | KeyModifiers::ALT);
                // Ctrl-Shift-G is another key than Ctrl-G, but some signs need Shift.
                let shift = modifiers.contains(KeyModifiers::SHIFT);
                let is_called =
                    |c: char| control_byte(c) == Some(byte) && !(shift && c.is_alphabetic());
                only_control && key.characters().any(is_called)
            }
            HotkeyCode::Alt(c) => {
                let only_alt = modifiers.contains(KeyModifiers::ALT)
                    && !modifiers.intersects(others | KeyModifiers::CONTROL);
                only_alt && key.characters().any(|called| called == c)
            }
            HotkeyCode::Function(number, wanted) => {
                event.code == KeyCode::F(number) && modifiers == wanted
            }
        }
    }
}

impl Default for Hotkey {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Returns the control character that terminals send for Ctrl and a character. (xterm, "ctlseqs":
/// the digits have the codes of the signs that share their keys on old keyboards.)
fn control_byte(c: char) -> Option<u8> {
    match c.to_ascii_lowercase() {
        ' ' | '@' | '2' => Some(0),
        letter @ 'a'..='z' => u8::try_from(letter).ok().map(|byte| byte & 0x1f),
        '[' | '3' => Some(0x1b),
        '\\' | '4' => Some(0x1c),
        ']' | '5' => Some(0x1d),
        '^' | '6' => Some(0x1e),
        '_' | '/' | '7' => Some(0x1f),
        _ => None,
    }
}

impl FromStr for Hotkey {
    type Err = HotkeyError;

    /// Parses `Ctrl-G`, `ctrl+g`, `C-g`, `^G`, `Alt-Q`, `M-q`, `F12`, `Shift-F5`.
    fn from_str(text: &str) -> Result<Self, HotkeyError> {
        let mut modifiers = KeyModifiers::NONE;
        let mut name = text;
        loop {
            let lower = name.to_ascii_lowercase();
            let named = [
                ("ctrl", KeyModifiers::CONTROL),
                ("control", KeyModifiers::CONTROL),
                ("c", KeyModifiers::CONTROL),
                ("alt", KeyModifiers::ALT),
                ("meta", KeyModifiers::ALT),
                ("m", KeyModifiers::ALT),
                ("shift", KeyModifiers::SHIFT),
                ("s", KeyModifiers::SHIFT),
            ];
            let found = named.into_iter().find_map(|(word, modifier)| {
                let rest = lower.strip_prefix(word)?;
                // The sign itself is the key in `Ctrl--`.
                (rest.len() > 1 && rest.starts_with(['-', '+'])).then_some((word.len(), modifier))
            });
            let Some((length, modifier)) = found else {
                break;
            };
            modifiers |= modifier;
            name = name.get(length.saturating_add(1)..).unwrap_or_default();
        }
        if let Some(rest) = name.strip_prefix('^')
            && rest.chars().count() == 1
            && modifiers.is_empty()
        {
            return from_character(KeyModifiers::CONTROL, rest);
        }
        let number = name.strip_prefix(['f', 'F']);
        if let Some(number @ 1..=24) = number.and_then(|number| number.parse().ok()) {
            return Ok(Self(HotkeyCode::Function(number, modifiers)));
        }
        from_character(modifiers, name)
    }
}

fn from_character(modifiers: KeyModifiers, name: &str) -> Result<Hotkey, HotkeyError> {
    let mut characters = name.chars();
    let named_space = name.eq_ignore_ascii_case("space");
    let c = match (characters.next(), characters.next()) {
        _ if named_space => ' ',
        (Some(c), None) if c.is_ascii_graphic() => c,
        _ => return Err(HotkeyError::Form),
    };
    if modifiers == KeyModifiers::ALT {
        // Terminals start sequences with ESC and one of these.
        return match c {
            'O' | '[' | ']' | 'P' | 'X' | '^' | '_' | '?' | ' '..='/' => {
                Err(HotkeyError::Taken("this key with Alt"))
            }
            c => Ok(Hotkey(HotkeyCode::Alt(c))),
        };
    }
    if modifiers != KeyModifiers::CONTROL {
        return Err(HotkeyError::Form);
    }
    match control_byte(c).ok_or(HotkeyError::Form)? {
        0x03 => Err(HotkeyError::Signal("Ctrl-C")),
        0x04 => Err(HotkeyError::Signal("Ctrl-D")),
        0x1a => Err(HotkeyError::Signal("Ctrl-Z")),
        0x08 => Err(HotkeyError::Taken("Ctrl-H (Backspace)")),
        0x09 => Err(HotkeyError::Taken("Ctrl-I (Tab)")),
        0x0a => Err(HotkeyError::Taken("Ctrl-J (Enter)")),
        0x0d => Err(HotkeyError::Taken("Ctrl-M (Enter)")),
        0x1b => Err(HotkeyError::Taken("Ctrl-[ (Escape)")),
        byte => Ok(Hotkey(HotkeyCode::Control(byte))),
    }
}

impl fmt::Display for Hotkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            HotkeyCode::Control(0) => f.write_str("Ctrl-Space"),
            HotkeyCode::Control(byte) => write!(f, "Ctrl-{}", char::from(byte | 0x40)),
            HotkeyCode::Alt(c) => write!(f, "Alt-{c}"),
            HotkeyCode::Function(number, modifiers) => {
                for (name, _) in modifiers.iter_names() {
                    let name = match name {
                        "CONTROL" => "Ctrl",
                        "ALT" => "Alt",
                        _ => "Shift",
                    };
                    write!(f, "{name}-")?;
                }
                write!(f, "F{number}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::{InputDecoder, InputFrame};

    fn pressed(hotkey: &str, bytes: &str) -> bool {
        let hotkey: Hotkey = hotkey.parse().unwrap();
        let mut decoder = InputDecoder::default();
        decoder.push(bytes.as_bytes());
        let Some(InputFrame::Key(key)) = decoder.next_frame() else {
            panic!("{bytes:?} is no key");
        };
        assert_eq!(decoder.next_frame(), None, "{bytes:?}");
        hotkey.matches(key) && !key.is_release()
    }

    #[test]
    fn names_are_parsed_and_printed() {
        for (text, expected) in [
            ("Ctrl-G", "Ctrl-G"),
            ("ctrl+g", "Ctrl-G"),
            ("C-g", "Ctrl-G"),
            ("^g", "Ctrl-G"),
            ("ctrl-]", "Ctrl-]"),
            ("^]", "Ctrl-]"),
            ("^^", "Ctrl-^"),
            ("ctrl-\\", "Ctrl-\\"),
            ("ctrl-_", "Ctrl-_"),
            ("ctrl-space", "Ctrl-Space"),
            ("f12", "F12"),
            ("Ctrl-Shift-F5", "Shift-Ctrl-F5"),
            ("alt-q", "Alt-q"),
            ("M-q", "Alt-q"),
        ] {
            let parsed: Hotkey = text.parse().unwrap();
            assert_eq!(parsed.to_string(), expected, "{text}");
            assert_eq!(expected.parse(), Ok(parsed), "{text}");
        }
        for text in [
            "",
            "g",
            "ctrl-",
            "ctrl-c",
            "ctrl-z",
            "^d",
            "^[",
            "^I",
            "ctrl-m",
            "ctrl-ä",
            "f0",
            "f25",
            "alt-[",
            "alt-O",
            "enter",
            "ctrl-shift-g",
            "ctrl-alt-g",
            "super-g",
        ] {
            assert!(text.parse::<Hotkey>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_hotkey_is_recognised_in_every_encoding() {
        for bytes in [
            "\x07",
            "\x1b[103;5u",
            "\x1b[103;5:1u",
            "\x1b[103;5:2u",
            // Caps Lock, Num Lock, both.
            "\x1b[103;69u",
            "\x1b[103;133u",
            "\x1b[103;197u",
            "\x1b[71;69u",
            // Alternate keys and text.
            "\x1b[103:71;5u",
            "\x1b[103:71:103;5u",
            "\x1b[103::103;5;7u",
            // Russian layout, with and without the place of the key.
            "\x1b[1087::103;5u",
            "\x1b[1087;5u",
            // modifyOtherKeys, in both formats; xterm applies Caps Lock to the letter.
            "\x1b[27;5;103~",
            "\x1b[27;5;71~",
            "\x1b[27;69;71~",
        ] {
            assert!(pressed("ctrl-g", bytes), "{bytes:?}");
        }
        for bytes in [
            "g",
            "G",
            "\x1b[103;5:3u",
            "\x1b[103;6u",
            "\x1b[103;7u",
            "\x1b[103;13u",
            "\x1b[103;1u",
            "\x1b[27;6;71~",
            "\x1b[104;5u",
            "\x1bg",
        ] {
            assert!(!pressed("ctrl-g", bytes), "{bytes:?}");
        }
    }

    #[test]
    fn other_hotkeys_are_recognised_too() {
        for (hotkey, encodings) in [
            // Ctrl-5 is Ctrl-] where that sign needs AltGr.
            (
                "ctrl-]",
                &[
                    "\x1d",
                    "\x1b[93;5u",
                    "\x1b[93;69u",
                    "\x1b[53;5u",
                    "\x1b[27;5;93~",
                ][..],
            ),
            ("ctrl-\\", &["\x1c", "\x1b[92;5u", "\x1b[27;5;92~"]),
            // A sign that needs Shift.
            (
                "ctrl-_",
                &["\x1f", "\x1b[45:95;6u", "\x1b[95;5u", "\x1b[27;6;95~"],
            ),
            ("ctrl-^", &["\x1e", "\x1b[54:94;6u"]),
            ("ctrl-space", &["\0", "\x1b[32;5u"]),
            ("f12", &["\x1b[24~", "\x1b[24;1:1~", "\x1b[24;129~"]),
            ("ctrl-f5", &["\x1b[15;5~"]),
            ("alt-q", &["\x1bq", "\x1b[113;3u", "\x1b[27;3;113~"]),
        ] {
            for bytes in encodings {
                assert!(pressed(hotkey, bytes), "{hotkey} {bytes:?}");
            }
        }
    }
}
