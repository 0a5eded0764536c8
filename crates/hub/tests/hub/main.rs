// SPDX-License-Identifier: Apache-2.0
//! The hub on real sockets: what each client sees, and what hostile ones cannot do.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by a panic"
)]

mod answers;
mod bursts;
mod harness;
mod hostile;
mod subscribers;
