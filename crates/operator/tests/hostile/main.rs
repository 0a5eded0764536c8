// SPDX-License-Identifier: Apache-2.0
//! Text that a sandbox chose to mislead with shows harmlessly in every UI: one table of texts, in
//! every place that has one, and one meaning of "harmless" for each kind of UI.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::unreachable,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking, its helpers too"
)]

mod checks;
#[path = "../fakes/hub.rs"]
mod fakes;
#[path = "../../../../tests/hostile/harmless.rs"]
mod harmless;
#[path = "../../../../tests/hostile/hub.rs"]
mod hub;
mod prompt;
#[path = "../../../../tests/hostile/texts.rs"]
mod texts;
