// SPDX-License-Identifier: Apache-2.0
//! The time that an answer lasts, as people type and read it.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use terok_clearance::DisplayText;

/// The time that an answer lasts: 1 second to 30 days, typed as `10s`, `5m`, `2h` or `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeDuration(NonZeroU32);

/// A text that is not a [`ScopeDuration`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeDurationError {
    /// The text is not a number with a unit.
    #[error("{0:?} is not a time such as 30s, 5m, 2h or 1d")]
    Malformed(DisplayText),
    /// The time is zero, or longer than 30 days.
    #[error("{0} is not between 1s and 30d")]
    OutOfBounds(DisplayText),
}

impl ScopeDuration {
    /// The longest time, in seconds: 30 days.
    pub const MAX_SECONDS: u32 = 30 * DAY;

    /// Returns the number of seconds.
    pub const fn seconds(self) -> u32 {
        self.0.get()
    }
}

const MINUTE: u32 = 60;
const HOUR: u32 = 60 * MINUTE;
const DAY: u32 = 24 * HOUR;

impl FromStr for ScopeDuration {
    type Err = ScopeDurationError;

    fn from_str(text: &str) -> Result<Self, ScopeDurationError> {
        let malformed = || ScopeDurationError::Malformed(DisplayText::new(text));
        let unit_start = text.find(|c: char| !c.is_ascii_digit());
        let (digits, unit) = unit_start
            .and_then(|start| text.split_at_checked(start))
            .ok_or_else(malformed)?;
        let unit_seconds = match unit {
            "s" => 1,
            "m" | "min" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            _ => return Err(malformed()),
        };
        if digits.is_empty() {
            return Err(malformed());
        }
        // More digits than a number has are too long a time, too.
        let count: Option<u32> = digits.parse().ok();
        count
            .and_then(|count| count.checked_mul(unit_seconds))
            .filter(|seconds| *seconds <= Self::MAX_SECONDS)
            .and_then(NonZeroU32::new)
            .map(Self)
            .ok_or_else(|| ScopeDurationError::OutOfBounds(DisplayText::new(text)))
    }
}

impl fmt::Display for ScopeDuration {
    /// Formats the time in words: `5 minutes`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format_seconds(self.seconds().into()))
    }
}

/// Returns a number of seconds in words, in the largest unit without a rest: `90 seconds`,
/// `5 minutes`, `1 hour`.
pub(crate) fn format_seconds(seconds: u64) -> String {
    let units = [(DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")];
    let whole = units.into_iter().find_map(|(unit, word)| {
        let unit = u64::from(unit);
        (seconds > 0 && seconds.is_multiple_of(unit)).then_some((seconds / unit, word))
    });
    let (count, word) = whole.unwrap_or((seconds, "second"));
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {word}{plural}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_is_a_number_with_a_unit() {
        for (text, seconds) in [
            ("1s", 1),
            ("90s", 90),
            ("5m", 300),
            ("5min", 300),
            ("2h", 7200),
            ("1d", 86_400),
            ("030d", 2_592_000),
        ] {
            assert_eq!(text.parse().map(ScopeDuration::seconds), Ok(seconds));
        }
        for text in [
            "", "5", "m", "-5m", "+5m", "5 m", "5M", "1.5h", "5mm", "5m3s", "\u{665}m",
        ] {
            let refused = ScopeDurationError::Malformed(DisplayText::new(text));
            assert_eq!(text.parse::<ScopeDuration>(), Err(refused), "{text:?}");
        }
        for text in ["0s", "31d", "2592001s", "4294967296s", "99999999999999999d"] {
            let refused = ScopeDurationError::OutOfBounds(DisplayText::new(text));
            assert_eq!(text.parse::<ScopeDuration>(), Err(refused), "{text:?}");
        }
    }

    #[test]
    fn words_are_exact() {
        for (seconds, words) in [
            (0, "0 seconds"),
            (1, "1 second"),
            (90, "90 seconds"),
            (60, "1 minute"),
            (5400, "90 minutes"),
            (3600, "1 hour"),
            (172_800, "2 days"),
        ] {
            assert_eq!(format_seconds(seconds), words);
        }
    }

    proptest! {
        #[test]
        fn no_text_is_a_time_out_of_bounds(text in "[0-9]{0,12}(s|m|h|d|min)?") {
            if let Ok(time) = text.parse::<ScopeDuration>() {
                prop_assert!((1..=ScopeDuration::MAX_SECONDS).contains(&time.seconds()));
            }
        }
    }
}
