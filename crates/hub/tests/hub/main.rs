// SPDX-License-Identifier: Apache-2.0
//! Tests of the hub over real sockets: what clients receive, and the limits of hostile ones.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test panics"
)]

mod answers;
mod bursts;
mod harness;
mod hostile;
mod restored;
mod subscribers;
