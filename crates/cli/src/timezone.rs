// SPDX-License-Identifier: Apache-2.0
//! The time zone of times that are shown to people.

use operator::clock::TimeZone;

/// Returns the time zone of this machine, or the one that `TZ` names.
pub(crate) fn system_time_zone() -> TimeZone {
    TimeZone::new(jiff::tz::TimeZone::system())
}
