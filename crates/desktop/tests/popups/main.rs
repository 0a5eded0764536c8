// SPDX-License-Identifier: Apache-2.0
//! Popups as a person meets them: what they say, when they come and go, and what a click does.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod answers;
mod attack;
mod crowds;
mod live;
mod notices;
mod rig;
mod says;
