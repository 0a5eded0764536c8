// SPDX-License-Identifier: Apache-2.0
//! The attributes of printed characters (SGR, "Select Graphic Rendition").

use std::collections::BTreeMap;

use super::split_params;

/// The attributes of the next printed character.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct GraphicRendition {
    /// The parameters that differ from the default, by the parameter that first sets their kind.
    set: BTreeMap<u16, String>,
}

/// The parameter of the default font. Another font is an attribute of its own.
const DEFAULT_FONT: u16 = 10;

impl GraphicRendition {
    /// Applies the parameters of a sequence.
    pub(super) fn apply(&mut self, params: &str) {
        let mut rest = split_params(params);
        while let Some(param) = rest.next() {
            let (code, is_extended) = match param.split_once(':') {
                Some((code, _)) => (code, true),
                None => (param, false),
            };
            let code = if code.is_empty() { Ok(0) } else { code.parse() };
            let Ok(code) = code else { continue };
            match code {
                0 => self.set.clear(),
                38 | 48 | 58 if !is_extended => {
                    let Some(mode) = rest.next() else { return };
                    let count = match mode {
                        "5" => 1,
                        "2" => 3,
                        _ => return,
                    };
                    let values: Vec<_> = rest.by_ref().take(count).collect();
                    self.insert(code, format!("{param};{mode};{}", values.join(";")));
                }
                4 if param == "4:0" => self.remove(&[4]),
                1..=9 | 38 | 48 | 53 | 58 => self.insert(code, param.to_owned()),
                // Double underline, or the end of bold text on the Linux console.
                21 => self.insert(4, param.to_owned()),
                11..=19 => self.insert(DEFAULT_FONT, param.to_owned()),
                30..=37 | 90..=97 => self.insert(38, param.to_owned()),
                40..=47 | 100..=107 => self.insert(48, param.to_owned()),
                10 => self.remove(&[DEFAULT_FONT]),
                22 => self.remove(&[1, 2]),
                23 => self.remove(&[3]),
                24 => self.remove(&[4]),
                25 => self.remove(&[5, 6]),
                27..=29 => self.remove(&[code.saturating_sub(20)]),
                39 | 49 | 59 => self.remove(&[code.saturating_sub(1)]),
                55 => self.remove(&[53]),
                _ => {}
            }
        }
    }

    /// Returns the sequence that sets the attributes on any terminal.
    pub(super) fn sequence(&self) -> String {
        let params: Vec<_> = ["0"]
            .into_iter()
            .chain(self.set.values().map(String::as_str))
            .collect();
        format!("\x1b[{}m", params.join(";"))
    }

    fn insert(&mut self, kind: u16, param: String) {
        // A longer parameter is none of a real program's.
        if param.len() <= 40 {
            self.set.insert(kind, param);
        }
    }

    fn remove(&mut self, kinds: &[u16]) {
        self.set.retain(|kind, _| !kinds.contains(kind));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_set_again() {
        let check = |params: &[&str], expected: &str| {
            let mut rendition = GraphicRendition::default();
            for params in params {
                rendition.apply(params);
            }
            assert_eq!(
                rendition.sequence(),
                format!("\x1b[{expected}m"),
                "{params:?}"
            );
        };
        check(&[], "0");
        check(&["1;31", "4"], "0;1;4;31");
        check(&["1;31;44", "0"], "0");
        check(&["1;31;44", ""], "0");
        check(&["1;2;31;44", "22;39"], "0;44");
        check(&["38;5;1;48;2;1;2;3;7"], "0;7;38;5;1;48;2;1;2;3");
        check(&["38:2::1:2:3;4:3"], "0;4:3;38:2::1:2:3");
        check(&["4:3", "4:0"], "0");
        check(&["8;11", "28;10"], "0");
        check(&["38;9;1", "99999999", "38"], "0");
        check(&["21"], "0;21");
    }
}
