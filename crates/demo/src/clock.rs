// SPDX-License-Identifier: Apache-2.0
//! The clock shared by all processes of the demo.

use rustix::time::{ClockId, clock_gettime};

/// Returns microseconds of `CLOCK_MONOTONIC`. All processes of the machine share this clock, so
/// times of the program in the sandbox and of the operator can be compared.
pub(crate) fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither part is ever negative on this clock.
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}
