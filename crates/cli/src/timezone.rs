// SPDX-License-Identifier: Apache-2.0
//! The zone of the times that people are told.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use operator::clock::TimeZone;

/// Returns the zone that the clocks of this machine show, or the one that `TZ` names.
pub(crate) fn system_time_zone() -> TimeZone {
    let zone = TimeZone::system();
    TimeZone::new(move |second| {
        Timestamp::from_second(second).map_or(0, |at| zone.to_offset(at).seconds())
    })
}
