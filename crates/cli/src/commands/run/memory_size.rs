// SPDX-License-Identifier: Apache-2.0
//! An amount of memory: `--memory`.

use std::str::FromStr;

/// An amount of memory in bytes, written as a number with an optional unit K, M, G or T, of 1,024
/// each. `512M`, `512MB` and `512MiB` are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemorySize(u64);

/// The text is no amount of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write a number of bytes, or one with a unit such as 512M or 4G")]
pub(crate) struct MemorySizeError;

impl MemorySize {
    pub(super) const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for MemorySize {
    type Err = MemorySizeError;

    fn from_str(text: &str) -> Result<Self, MemorySizeError> {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            "t" | "tb" | "tib" => 1 << 40,
            _ => return Err(MemorySizeError),
        };
        let number: u64 = number.parse().map_err(|_not_a_number| MemorySizeError)?;
        let bytes = number.checked_mul(unit).filter(|bytes| *bytes > 0);
        bytes.map(Self).ok_or(MemorySizeError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        let check = |text: &str, expected: Option<u64>| {
            let parsed = text.parse::<MemorySize>().ok();
            assert_eq!(parsed.map(MemorySize::bytes), expected, "{text}");
        };
        check("1048576", Some(1 << 20));
        check("512M", Some(512 << 20));
        check("4g", Some(4 << 30));
        check("1KiB", Some(1024));
        check("0", None);
        check("-1M", None);
        check("1.5G", None);
        check("M", None);
        check("1X", None);
        check("99999999999T", None);
    }
}
