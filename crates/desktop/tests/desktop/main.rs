// SPDX-License-Identifier: Apache-2.0
//! The desktop's notifier over a real bus, which each test has for itself; the service at its
//! other end is played by the test, so that it can do what no real one does on demand.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on says where"
)]

mod activation;
mod bus;
mod fake;
mod life;
mod say;
mod trust;
