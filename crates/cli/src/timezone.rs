// SPDX-License-Identifier: Apache-2.0
//! The time zone of displayed times.

use operator::clock::TimeZone;

/// Returns the time zone of `TZ`, otherwise the machine's time zone.
pub(crate) fn system_time_zone() -> TimeZone {
    TimeZone::new(jiff::tz::TimeZone::system())
}
