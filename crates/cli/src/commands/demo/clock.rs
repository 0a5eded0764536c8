// SPDX-License-Identifier: Apache-2.0
//! The clock that all processes of the demo share.

use rustix::time::{ClockId, clock_gettime};

/// Returns microseconds of `CLOCK_MONOTONIC`, which is one for the whole machine: what the
/// program in the sandbox reads can be compared with what the operator's side reads.
pub(super) fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither is ever negative on this clock.
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}
