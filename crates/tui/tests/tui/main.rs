// SPDX-License-Identifier: Apache-2.0
//! The full-screen UI without a terminal: messages and the time in, effects and a screen out.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod answers;
mod attack;
mod lists;
mod rig;
mod screens;
mod speed;
