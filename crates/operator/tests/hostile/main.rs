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

#[path = "../desktop/bus.rs"]
#[expect(dead_code, reason = "this bus is neither killed nor started again")]
mod bus;
mod callbacks;
mod checks;
#[path = "../desktop/fake.rs"]
#[expect(dead_code, reason = "nothing is chosen here")]
mod desktop;
#[path = "../fakes/hub.rs"]
mod fakes;
#[path = "../../../../tests/hostile/harmless.rs"]
mod harmless;
#[path = "../../../../tests/hostile/hub.rs"]
mod hub;
mod popups;
mod prompt;
mod queue;
#[path = "../popups/rig.rs"]
#[expect(dead_code, reason = "not all that a person does is done here")]
mod rig;
mod screen;
#[path = "../../../../tests/hostile/texts.rs"]
mod texts;
