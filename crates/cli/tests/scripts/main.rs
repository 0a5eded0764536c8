// SPDX-License-Identifier: Apache-2.0
//! `list`, `allow`, `deny` and `watch` as scripts meet them: live hubs, a helper whose
//! `terok-shield` notes what it was told, and hubs that hang, die and lie.
//!
//! Every line of JSON that a test reads is held against `docs/schema/lines.json`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod answers;
#[path = "../../../../tests/hostile/harmless.rs"]
#[expect(dead_code, reason = "there are no popups here")]
mod harmless;
mod hostile;
#[path = "../../../../tests/hostile/hub.rs"]
mod hub;
mod hubs;
mod list;
mod rig;
mod schema;
#[path = "../../../../tests/hostile/texts.rs"]
mod texts;
mod watch;
