// SPDX-License-Identifier: Apache-2.0
//! Times in the record: RFC 3339 in UTC with microseconds, `2026-11-29T20:04:19.000001Z`.
//!
//! All times have one length, so that the order of the texts is the order of the times.

use serde::de::Error as _;
use serde::{Deserialize as _, Deserializer, Serializer};
use terok_clearance::Timestamp;

/// The length of a time.
pub(crate) const TIME_BYTES: usize = 27;

/// Returns the time as the record has it. The last one is in the year 9999.
pub fn format_record_time(time: Timestamp) -> String {
    let last = jiff::Timestamp::MAX;
    let micros = i64::try_from(time.as_micros()).map(jiff::Timestamp::from_microsecond);
    let time = micros.map_or(last, |time| time.unwrap_or(last));
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

/// Parses a time of RFC 3339 with any offset. A time before 1970 is the epoch.
fn parse_record_time(text: &str) -> Result<Timestamp, jiff::Error> {
    let time: jiff::Timestamp = text.parse()?;
    let micros = u64::try_from(time.as_microsecond()).unwrap_or_default();
    Ok(Timestamp::from_micros(micros))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature of serde")]
pub(crate) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_record_time(*time))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Timestamp, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    parse_record_time(&text).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_length_and_come_back() {
        let check = |micros: u64, expected: &str| {
            let time = Timestamp::from_micros(micros);
            let text = format_record_time(time);
            assert_eq!(text, expected);
            assert_eq!(text.len(), TIME_BYTES);
            assert_eq!(parse_record_time(&text).unwrap(), time);
        };
        check(0, "1970-01-01T00:00:00.000000Z");
        check(1_795_255_384_000_001, "2026-11-21T10:03:04.000001Z");
        let end = format_record_time(Timestamp::from_micros(u64::MAX));
        assert!(
            end.starts_with("9999-12-") && end.len() == TIME_BYTES,
            "{end}"
        );
        assert_eq!(
            parse_record_time("2026-11-21T11:03:04+01:00").unwrap(),
            Timestamp::from_micros(1_795_255_384_000_000)
        );
    }
}
