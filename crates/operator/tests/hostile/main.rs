// SPDX-License-Identifier: Apache-2.0
//! Misleading text of a sandbox is harmless in the line prompt.
//!
//! `tests/hostile` has the table of texts, the messages of a hub that contain them, and the
//! definition of "harmless" for each kind of user interface.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking, its helpers too"
)]

mod checks;
#[path = "../../../../tests/hostile/harmless.rs"]
mod harmless;
#[path = "../../../../tests/hostile/hub.rs"]
mod hub;
mod prompt;
#[path = "../../../../tests/hostile/texts.rs"]
mod texts;
