// SPDX-License-Identifier: Apache-2.0
//! Clock readings for the modules that read no clock, and local times for people.

use std::time::Duration;

use jiff::Zoned;
use terok_clearance::Timestamp;

/// The present time of the wall clock and of the monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockReading {
    /// The time of the wall clock, for display.
    pub wall_time: Timestamp,
    /// Monotonic time since the start of the program, for deadlines.
    pub monotonic: Duration,
}

/// The time zone in which times are shown; UTC by default.
#[derive(Debug, Clone)]
pub struct TimeZone(jiff::tz::TimeZone);

impl TimeZone {
    /// Shows times in `zone`.
    pub const fn new(zone: jiff::tz::TimeZone) -> Self {
        Self(zone)
    }

    /// Returns the local time of day: `10:42:07`.
    pub fn format_time(&self, time: Timestamp) -> String {
        self.zoned(time).strftime("%H:%M:%S").to_string()
    }

    /// Returns the local date and time: `2026-11-22 10:42:07`.
    pub fn format_datetime(&self, time: Timestamp) -> String {
        self.zoned(time).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    fn zoned(&self, time: Timestamp) -> Zoned {
        let last = jiff::Timestamp::MAX;
        let micros = i64::try_from(time.as_micros()).map(jiff::Timestamp::from_microsecond);
        let time = micros.map_or(last, |time| time.unwrap_or(last));
        time.to_zoned(self.0.clone())
    }
}

impl Default for TimeZone {
    fn default() -> Self {
        Self(jiff::tz::TimeZone::UTC)
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::Offset;

    use super::*;

    #[test]
    fn times_are_shown_in_the_local_zone() {
        let check = |seconds: u64, ahead: i32, expected: &str| {
            let offset = Offset::from_seconds(ahead).unwrap();
            let zone = TimeZone::new(jiff::tz::TimeZone::fixed(offset));
            let time = Timestamp::from_micros(seconds * 1_000_000);
            assert_eq!(zone.format_datetime(time), expected);
        };
        check(0, 0, "1970-01-01 00:00:00");
        check(0, -3600, "1969-12-31 23:00:00");
        check(951_782_399, 0, "2000-02-28 23:59:59");
        check(951_782_400, 0, "2000-02-29 00:00:00");
        check(1_709_164_800, 0, "2024-02-29 00:00:00");
        check(4_107_542_399, 0, "2100-02-28 23:59:59");
        check(4_107_542_400, 0, "2100-03-01 00:00:00");
        check(1_795_344_127, 19_800, "2026-11-22 16:12:07");
        let end = Timestamp::from_micros(u64::MAX);
        assert_eq!(TimeZone::default().format_time(end).len(), 8);
    }
}
