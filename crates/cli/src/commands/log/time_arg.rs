// SPDX-License-Identifier: Apache-2.0
//! Times on the command line: ages, dates, and exact times.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use terok_clearance::Timestamp;

/// A time on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TimeArg {
    /// This long ago.
    Ago(Duration),
    /// The start of the day this many days ago.
    DaysAgo(i64),
    /// A local date and time.
    Local(DateTime),
    /// A time with an offset.
    Exact(jiff::Timestamp),
}

/// A text is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a time: use an age such as 30m, 2h or 7d, today, yesterday, 2026-11-29, \
     \"2026-11-29 10:00\" or 2026-11-29T09:00:00Z"
)]
pub(super) struct TimeArgError;

impl FromStr for TimeArg {
    type Err = TimeArgError;

    fn from_str(text: &str) -> Result<Self, TimeArgError> {
        match text {
            "today" => return Ok(Self::DaysAgo(0)),
            "yesterday" => return Ok(Self::DaysAgo(1)),
            _ => {}
        }
        if let Some(age) = parse_age(text) {
            return Ok(Self::Ago(age));
        }
        if let Ok(time) = text.parse() {
            return Ok(Self::Exact(time));
        }
        // A date with an offset has been parsed above; a `Z` that is ignored would be wrong.
        match text.parse() {
            Ok(time) if !text.ends_with(['Z', 'z']) => Ok(Self::Local(time)),
            _ => Err(TimeArgError),
        }
    }
}

fn parse_age(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match text.strip_prefix(digits)? {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    Some(Duration::from_secs(number.saturating_mul(seconds)))
}

impl TimeArg {
    /// Returns the time, seen from `now` in `zone`. A time before 1970 is the epoch.
    pub(super) fn resolve(&self, now: Timestamp, zone: &TimeZone) -> Timestamp {
        let micros = match self {
            Self::Ago(age) => return now.saturating_sub(*age),
            Self::Exact(time) => Some(time.as_microsecond()),
            Self::Local(time) => local_micros(*time, zone),
            Self::DaysAgo(days) => i64::try_from(now.as_micros())
                .ok()
                .and_then(|micros| jiff::Timestamp::from_microsecond(micros).ok())
                .and_then(|now| {
                    let today = now.to_zoned(zone.clone()).date();
                    let day = today.checked_sub(jiff::Span::new().days(*days)).ok()?;
                    local_micros(day.to_datetime(jiff::civil::Time::midnight()), zone)
                }),
        };
        let micros = micros.and_then(|micros| u64::try_from(micros).ok());
        Timestamp::from_micros(micros.unwrap_or_default())
    }
}

fn local_micros(time: DateTime, zone: &TimeZone) -> Option<i64> {
    let time = time.to_zoned(zone.clone()).ok()?;
    Some(time.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use jiff::tz::Offset;

    use super::*;

    #[test]
    fn ages_dates_and_times() {
        // 2026-11-21T10:03:04Z, an hour later in the zone.
        let now = Timestamp::from_micros(1_795_255_384_000_000);
        let zone = TimeZone::fixed(Offset::from_hours(1).unwrap());
        let check = |text: &str, expected: &str| {
            let time = text.parse::<TimeArg>().unwrap().resolve(now, &zone);
            assert_eq!(record::format_record_time(time), expected, "{text}");
        };
        check("0s", "2026-11-21T10:03:04.000000Z");
        check("30m", "2026-11-21T09:33:04.000000Z");
        check("2h", "2026-11-21T08:03:04.000000Z");
        check("7d", "2026-11-14T10:03:04.000000Z");
        check("1w", "2026-11-14T10:03:04.000000Z");
        check("999999999999w", "1970-01-01T00:00:00.000000Z");
        check("today", "2026-11-20T23:00:00.000000Z");
        check("yesterday", "2026-11-19T23:00:00.000000Z");
        check("2026-11-20", "2026-11-19T23:00:00.000000Z");
        check("2026-11-20 10:00", "2026-11-20T09:00:00.000000Z");
        check("2026-11-20T10:00:05", "2026-11-20T09:00:05.000000Z");
        check("2026-11-20T10:00:05Z", "2026-11-20T10:00:05.000000Z");
        check("2026-11-20T10:00:05+02:00", "2026-11-20T08:00:05.000000Z");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "soon",
            "5",
            "m",
            "-5m",
            "5y",
            "2026-13-01",
            "10:00",
            "2026-11-20Z",
            "5 m",
        ] {
            assert_eq!(text.parse::<TimeArg>(), Err(TimeArgError), "{text}");
        }
    }
}
