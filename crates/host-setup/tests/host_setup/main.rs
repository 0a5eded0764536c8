// SPDX-License-Identifier: Apache-2.0
//! Setup and uninstall of hosts in temporary directories.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod files_of_others;
mod harness;
mod round_trip;
mod units;
