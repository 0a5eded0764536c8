// SPDX-License-Identifier: Apache-2.0
//! The connections that wait for a question, as operators are told of them.

use egress::HeldCount;
use terok_clearance::{GaveUp, Timestamp, WaitingConnections};
use tokio::time::Instant;

/// Returns the count with times of day.
pub(crate) fn to_waiting_connections(held: HeldCount) -> WaitingConnections {
    let now = Instant::now().into_std();
    let since = held.since.map(|since| {
        let waited = now.saturating_duration_since(since);
        Timestamp::now().saturating_sub(waited)
    });
    WaitingConnections {
        count: u32::try_from(held.count).unwrap_or(u32::MAX),
        since,
        gave_up: held.gave_up_after.map(|time| GaveUp {
            after_seconds: u32::try_from(time.as_secs()).unwrap_or(u32::MAX),
        }),
    }
}
