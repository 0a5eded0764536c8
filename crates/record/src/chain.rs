// SPDX-License-Identifier: Apache-2.0
//! The hash that connects each line with the line before.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a line without its line break.
///
/// The text form is 64 hexadecimal digits. The hash is not shortened: a workload chooses parts of a
/// line, such as names, and could search for two lines with one short hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHash([u8; Self::BYTES]);

impl ChainHash {
    const BYTES: usize = 32;
    /// Characters of the text form.
    pub(crate) const HEX_CHARS: usize = 64;
    /// The hash before the first line of a record: all digits are zero.
    pub const START: Self = Self([0; Self::BYTES]);

    /// Returns the hash of `line`, which has no line break.
    pub fn of_line(line: &[u8]) -> Self {
        Self(Sha256::digest(line).into())
    }

    /// Parses 64 lower-case hexadecimal digits.
    pub(crate) fn from_hex(text: &[u8]) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte.wrapping_sub(b'0')),
            b'a'..=b'f' => Some(byte.wrapping_sub(b'a').wrapping_add(10)),
            _ => None,
        };
        let (pairs, []) = text.as_chunks::<2>() else {
            return None;
        };
        let mut hash = [0; Self::BYTES];
        if pairs.len() != hash.len() {
            return None;
        }
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            *byte = digit(*high)?.wrapping_shl(4) | digit(*low)?;
        }
        Some(Self(hash))
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: [char; 16] = [
            '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
        ];
        let digit = |half: u8| DIGITS.get(usize::from(half)).copied().unwrap_or_default();
        let mut text = String::with_capacity(Self::HEX_CHARS);
        for byte in self.0 {
            text.push(digit(byte >> 4));
            text.push(digit(byte & 15));
        }
        f.pad(&text)
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ChainHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChainHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let invalid = || serde::de::Error::custom("not 64 lower-case hexadecimal digits");
        Self::from_hex(text.as_bytes()).ok_or_else(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sha_256_in_hexadecimal_digits() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let hash = ChainHash::of_line(b"");
        assert_eq!(hash.to_string(), empty);
        assert_eq!(ChainHash::from_hex(empty.as_bytes()), Some(hash));
        for wrong in [
            "",
            "00",
            &empty[1..],
            &format!("{empty}0"),
            &empty.to_uppercase(),
        ] {
            assert_eq!(ChainHash::from_hex(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
