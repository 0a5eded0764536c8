// SPDX-License-Identifier: Apache-2.0
//! `run` as its users meet it: as root and as an ordinary user, with what must hold and what must
//! not be possible.

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
