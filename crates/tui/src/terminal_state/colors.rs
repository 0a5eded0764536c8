// SPDX-License-Identifier: Apache-2.0
//! The colours that output changed (xterm's operating system commands 4 and 10 to 19).

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Maximum bytes of the text of a colour; `rgb:ffff/ffff/ffff` has 18.
const MAX_COLOR_BYTES: usize = 32;

/// Resets what commands for colours and fonts can have changed: palette, special colours, colours
/// of text, background, cursor and selection, the font, the palette of the Linux console.
pub(super) const RESET_COLORS: &str = "\x1b]104\x1b\\\x1b]105\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\\
    \x1b]112\x1b\\\x1b]117\x1b\\\x1b]119\x1b\\\x1b]50;#0\x1b\\\x1b]R\x1b\\";

/// White on black by attributes that no command for colours changes: direct colours, where the
/// terminal has them.
pub(super) const DIRECT_COLORS: &str = "\x1b[97;40m\x1b[38;2;255;255;255;48;2;0;0;0m";

/// The changed colours.
#[derive(Debug, Default)]
pub(super) struct ChangedColors {
    /// By number.
    palette: BTreeMap<u8, String>,
    /// By command.
    dynamic: BTreeMap<u8, String>,
    /// The Linux console's palette, by its digit.
    linux: BTreeMap<u8, String>,
}

impl ChangedColors {
    /// Applies an operating system command.
    pub(super) fn apply(&mut self, command: &str) {
        if let Some(color) = command.strip_prefix('P') {
            if let Some(&digit) = color.as_bytes().first()
                && color.bytes().all(|byte| byte.is_ascii_hexdigit())
            {
                self.linux
                    .insert(digit.to_ascii_lowercase(), color.to_owned());
            }
            return;
        }
        if command == "R" {
            return self.linux.clear();
        }
        let mut parts = command.split(';');
        let Some(Ok(number)) = parts.next().map(str::parse::<u8>) else {
            return;
        };
        match number {
            4 => {
                while let (Some(index), Some(color)) = (parts.next(), parts.next()) {
                    if let (Ok(index), true) = (index.parse(), is_color(color)) {
                        self.palette.insert(index, color.to_owned());
                    }
                }
            }
            // Further colours are for the next commands.
            10..=19 => {
                for (command, color) in (number..=19).zip(parts) {
                    if is_color(color) {
                        self.dynamic.insert(command, color.to_owned());
                    }
                }
            }
            104 => {
                let indices: Vec<_> = parts.filter_map(|index| index.parse().ok()).collect();
                self.palette
                    .retain(|index, _| !indices.is_empty() && !indices.contains(index));
            }
            110..=119 => drop(self.dynamic.remove(&number.saturating_sub(100))),
            _ => {}
        }
    }

    /// Returns the commands that set the colours again.
    pub(super) fn sequence(&self) -> String {
        let mut text = String::new();
        for (index, color) in &self.palette {
            write!(text, "\x1b]4;{index};{color}\x1b\\").ok();
        }
        for (command, color) in &self.dynamic {
            write!(text, "\x1b]{command};{color}\x1b\\").ok();
        }
        for color in self.linux.values() {
            write!(text, "\x1b]P{color}").ok();
        }
        text
    }
}

fn is_color(text: &str) -> bool {
    let is_known = |c: char| c.is_ascii_alphanumeric() || "#:/.,%-".contains(c);
    !text.is_empty() && text.len() <= MAX_COLOR_BYTES && text.chars().all(is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_set_again() {
        let check = |commands: &[&str], expected: &str| {
            let mut colors = ChangedColors::default();
            for command in commands {
                colors.apply(command);
            }
            let sequence = colors
                .sequence()
                .replace("\x1b\\", "|")
                .replace("\x1b]", "");
            assert_eq!(sequence, expected, "{commands:?}");
        };
        check(&["0;title", "8;;", "52;c;x", "", ";", "4", "4;1"], "");
        check(&["4;1;red;2;#00ff00"], "4;1;red|4;2;#00ff00|");
        check(&["10;red;blue"], "10;red|11;blue|");
        check(&["4;1;?", "10;?", "4;1;a\x07b", "4;300;red"], "");
        check(&["4;1;red;2;red", "104;1"], "4;2;red|");
        check(&["4;1;red;2;red", "104"], "");
        check(&["10;red", "11;red", "110"], "11;red|");
        check(&["P1ff0000"], "P1ff0000");
        check(&["P1ff0000", "R"], "");
    }
}
