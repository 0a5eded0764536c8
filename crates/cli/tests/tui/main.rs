// SPDX-License-Identifier: Apache-2.0
//! Tests of `tui` in a window of tmux, with a live hub, keys and signals.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod answers;
#[path = "../storm/crowd.rs"]
mod crowd;
mod ends;
mod idle;
mod picture;
mod rule_keeper;
mod rules;
mod session;
mod storm;
mod window;
