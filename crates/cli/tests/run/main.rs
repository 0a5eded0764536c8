// SPDX-License-Identifier: Apache-2.0
//! Tests of `run` as root and as an ordinary user: required behaviour and prevented escapes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod behaviour;
mod console;
mod escape;
mod kernel;
mod machine;
mod network;
mod terminal;
mod user;
mod whole_screen;
