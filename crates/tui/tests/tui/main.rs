// SPDX-License-Identifier: Apache-2.0
//! The full-screen user interface without a terminal: messages and times go in, effects and screens
//! come out.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests and their helpers fail by panicking"
)]

mod answers;
mod attack;
mod harness;
mod hostile_output;
mod keys;
mod lists;
mod rules;
mod scopes;
mod screens;
mod speed;
