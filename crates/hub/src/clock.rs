// SPDX-License-Identifier: Apache-2.0
//! The one place where the hub reads the time of day.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the microseconds since the epoch, 0 on a machine whose clock stands before it.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge: what people are shown is wall-clock time, and the ledger gets it passed in"
)]
pub(crate) fn now_micros() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        })
}
