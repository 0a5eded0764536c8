// SPDX-License-Identifier: Apache-2.0
//! Misleading text from a sandbox is harmless on every page of the screen.

#![expect(
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "tests and their helpers fail by panicking"
)]

#[path = "../../../../tests/hostile/harmless.rs"]
#[expect(dead_code, reason = "the screen has neither JSON nor markup")]
mod harmless;
#[path = "../../../../tests/hostile/hub.rs"]
#[expect(dead_code, reason = "this test does not need the numbers")]
mod hub;
mod screen;
#[path = "../../../../tests/hostile/texts.rs"]
#[expect(dead_code, reason = "each text has its own check")]
mod texts;
