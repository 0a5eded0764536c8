// SPDX-License-Identifier: Apache-2.0
//! Text that a sandbox chose to mislead with shows harmlessly on every page of the screen.

#![expect(
    clippy::unreachable,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

#[path = "../../../../tests/hostile/harmless.rs"]
#[expect(dead_code, reason = "the screen is no JSON and no markup")]
mod harmless;
#[path = "../../../../tests/hostile/hub.rs"]
#[expect(
    dead_code,
    reason = "questions are not told apart by their numbers here"
)]
mod hub;
mod screen;
#[path = "../../../../tests/hostile/texts.rs"]
#[expect(dead_code, reason = "each text is checked by itself")]
mod texts;
