// SPDX-License-Identifier: Apache-2.0
//! The time as it comes into the pure parts, and as a person reads it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The time, read at the edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockReading {
    /// Microseconds since the epoch, for people.
    pub epoch_micros: u64,
    /// Since the start, on a clock that nobody sets, for deadlines.
    pub monotonic: Duration,
}

/// Where the person is: how many seconds their clocks are ahead of UTC at a second of the epoch.
#[derive(Clone)]
pub struct TimeZone(Arc<dyn Fn(i64) -> i32 + Send + Sync>);

impl TimeZone {
    /// Makes a zone of what says how many seconds it is ahead of UTC.
    pub fn new(ahead: impl Fn(i64) -> i32 + Send + Sync + 'static) -> Self {
        Self(Arc::new(ahead))
    }

    /// Returns the time of day of `micros` since the epoch: `10:42:07`.
    pub fn format_time(&self, micros: u64) -> String {
        let second = self.local_seconds(micros).rem_euclid(SECONDS_PER_DAY);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        format!("{hour:02}:{minute:02}:{:02}", second % 60)
    }

    /// Returns the day and the time of `micros` since the epoch: `2026-11-22 10:42:07`.
    pub fn format_datetime(&self, micros: u64) -> String {
        let (year, month, day) =
            civil_from_days(self.local_seconds(micros).div_euclid(SECONDS_PER_DAY));
        format!("{year:04}-{month:02}-{day:02} {}", self.format_time(micros))
    }

    fn local_seconds(&self, micros: u64) -> i64 {
        let seconds = i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX);
        seconds.saturating_add(i64::from(self.0(seconds)))
    }
}

impl Default for TimeZone {
    fn default() -> Self {
        Self::new(|_| 0)
    }
}

impl fmt::Debug for TimeZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Zone")
    }
}

const SECONDS_PER_DAY: i64 = 86_400;

/// Returns the year, month and day of a day since the epoch, in the Gregorian calendar.
const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // Years that begin in March end with the day that leap years add; 400 of them are an era.
    let day = days.saturating_add(719_468);
    let era = day.div_euclid(146_097);
    let day = day.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (year + era * 400 + next, month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_as_clocks_there_show_it() {
        let check = |seconds: u64, ahead: i32, expected: &str| {
            let zone = TimeZone::new(move |_| ahead);
            assert_eq!(zone.format_datetime(seconds * 1_000_000), expected);
        };
        check(0, 0, "1970-01-01 00:00:00");
        check(0, -3600, "1969-12-31 23:00:00");
        check(951_782_399, 0, "2000-02-28 23:59:59");
        check(951_782_400, 0, "2000-02-29 00:00:00");
        check(1_709_164_800, 0, "2024-02-29 00:00:00");
        check(4_107_542_399, 0, "2100-02-28 23:59:59");
        check(4_107_542_400, 0, "2100-03-01 00:00:00");
        check(1_795_344_127, 19_800, "2026-11-22 16:12:07");
        assert_eq!(TimeZone::default().format_time(u64::MAX).len(), 8);
    }
}
