// SPDX-License-Identifier: Apache-2.0
//! The time that a connection waits for an answer.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The time that a connection waits for an answer.
///
/// The text form is a number with `s`, `m` or `h`, or `0`, or `forever`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldLimit {
    /// No time: it is refused at once, and the next attempt may find the answer.
    Refuse,
    /// At most this time.
    For(Duration),
    /// Until the answer, or until the program gives up.
    Forever,
}

/// A text is not a [`HoldLimit`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time to wait: write 30s, 5m, 1h, 0 or forever")]
pub struct HoldLimitError(String);

/// The longest time with a number.
const MAX_SECONDS: u64 = 7 * 24 * 60 * 60;

impl HoldLimit {
    /// The time without an option: longer than it takes to look at a screen, shorter than the time
    /// after which most programs give up.
    pub const DEFAULT: Self = Self::For(Duration::from_secs(60));
}

impl FromStr for HoldLimit {
    type Err = HoldLimitError;

    fn from_str(text: &str) -> Result<Self, HoldLimitError> {
        let error = || HoldLimitError(text.chars().take(40).collect());
        match text {
            "0" => return Ok(Self::Refuse),
            "forever" => return Ok(Self::Forever),
            _ => {}
        }
        let units = [('s', 1), ('m', 60), ('h', 60 * 60)];
        let (number, unit) = units
            .into_iter()
            .find_map(|(letter, seconds)| Some((text.strip_suffix(letter)?, seconds)))
            .ok_or_else(error)?;
        if !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(error());
        }
        let seconds = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit))
            .filter(|seconds| *seconds <= MAX_SECONDS)
            .ok_or_else(error)?;
        Ok(match seconds {
            0 => Self::Refuse,
            seconds => Self::For(Duration::from_secs(seconds)),
        })
    }
}

impl fmt::Display for HoldLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuse => f.write_str("0"),
            Self::For(time) => write!(f, "{}s", time.as_secs()),
            Self::Forever => f.write_str("forever"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_wait_has_a_unit() {
        let seconds = |seconds| Some(HoldLimit::For(Duration::from_secs(seconds)));
        for (text, expected) in [
            ("60s", seconds(60)),
            ("5m", seconds(300)),
            ("1h", seconds(3_600)),
            ("0", Some(HoldLimit::Refuse)),
            ("0s", Some(HoldLimit::Refuse)),
            ("forever", Some(HoldLimit::Forever)),
            ("", None),
            ("s", None),
            ("60", None),
            ("-1s", None),
            ("+1s", None),
            ("1.5m", None),
            ("1d", None),
            ("200h", None),
            ("99999999999999999999h", None),
        ] {
            let parsed = text.parse::<HoldLimit>();
            assert_eq!(parsed.clone().ok(), expected, "{text}");
            if let Ok(limit) = parsed {
                assert_eq!(limit.to_string().parse(), Ok(limit), "{text}");
            }
        }
    }
}
