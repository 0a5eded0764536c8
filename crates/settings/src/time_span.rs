// SPDX-License-Identifier: Apache-2.0
//! Spans of time with a unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use terok_clearance::DisplayText;

/// A span of time of at most a week, written as a number with `s`, `m` or `h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeSpan(Duration);

/// A text is not a [`TimeSpan`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time: write 30s, 5m or 1h, at most 168h")]
pub struct TimeSpanError(DisplayText);

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const MAX_SECONDS: u64 = 7 * 24 * HOUR;

impl TimeSpan {
    /// Returns a span; `None` if it is longer than a week.
    pub const fn from_seconds(seconds: u64) -> Option<Self> {
        if seconds > MAX_SECONDS {
            return None;
        }
        Some(Self(Duration::from_secs(seconds)))
    }

    /// Returns the span as a duration.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for TimeSpan {
    type Err = TimeSpanError;

    fn from_str(text: &str) -> Result<Self, TimeSpanError> {
        let units = [('s', 1), ('m', MINUTE), ('h', HOUR)];
        let parse = || {
            let (digits, unit) = units
                .into_iter()
                .find_map(|(letter, seconds)| Some((text.strip_suffix(letter)?, seconds)))?;
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            let number: u64 = digits.parse().ok().filter(|_| is_number)?;
            Self::from_seconds(number.checked_mul(unit)?)
        };
        parse().ok_or_else(|| TimeSpanError(DisplayText::new(text)))
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0 => f.write_str("0s"),
            seconds if seconds.is_multiple_of(HOUR) => write!(f, "{}h", seconds.div_euclid(HOUR)),
            seconds if seconds.is_multiple_of(MINUTE) => {
                write!(f, "{}m", seconds.div_euclid(MINUTE))
            }
            seconds => write!(f, "{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_time_has_a_unit_and_a_limit() {
        let seconds = |text: &str| {
            let span = text.parse::<TimeSpan>().ok();
            span.map(|span| span.duration().as_secs())
        };
        for (text, expected) in [
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("168h", Some(MAX_SECONDS)),
            ("169h", None),
            ("5", None),
            ("", None),
            ("m", None),
            ("+5m", None),
            ("-5m", None),
            ("1.5h", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_text_form_is_the_same_time(seconds in 0..=MAX_SECONDS) {
            let span = TimeSpan::from_seconds(seconds).unwrap();
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
