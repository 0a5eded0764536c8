// SPDX-License-Identifier: Apache-2.0
//! The time zone of times that are shown to people.

use jiff::Timestamp;
use operator::clock::TimeZone;

/// Returns the time zone of this machine, or the one that `TZ` names.
pub(crate) fn system_time_zone() -> TimeZone {
    let zone = jiff::tz::TimeZone::system();
    TimeZone::new(move |second| {
        Timestamp::from_second(second).map_or(0, |at| zone.to_offset(at).seconds())
    })
}
