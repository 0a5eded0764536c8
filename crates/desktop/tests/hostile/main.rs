// SPDX-License-Identifier: Apache-2.0
//! Misleading text of a sandbox is harmless in popups.
//!
//! `tests/hostile` has the table of texts, the messages of a hub that contain them, and the
//! definition of "harmless" for each kind of notifier.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

mod callbacks;
#[path = "../../../../tests/hostile/harmless.rs"]
#[expect(dead_code, reason = "popups are no JSON")]
mod harmless;
#[path = "../popups/harness.rs"]
#[expect(dead_code, reason = "only some actions of a person are needed")]
mod harness;
#[path = "../../../../tests/hostile/hub.rs"]
#[expect(dead_code, reason = "the hub sends Clearance2 events, and no replies")]
mod hub;
mod popups;
#[path = "../desktop/service.rs"]
#[expect(dead_code, reason = "no action is chosen")]
mod service;
#[path = "../../../../tests/hostile/texts.rs"]
#[expect(dead_code, reason = "each text is tested alone")]
mod texts;
