// SPDX-License-Identifier: Apache-2.0
//! `list`, `allow`, `deny` and `watch` with real hubs, with a verdict helper whose `terok-shield`
//! records its arguments, and with hubs that hang, end and send false data.
//!
//! Every JSON line is checked with `docs/schema/lines.json`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

mod answers;
#[path = "../../../../tests/hostile/harmless.rs"]
#[expect(dead_code, reason = "these tests have no popups")]
mod harmless;
mod harness;
mod hostile;
#[path = "../../../../tests/hostile/hub.rs"]
mod hub;
mod hubs;
mod kept;
mod list;
mod rules;
mod schema;
mod scoped_hub;
mod scopes;
mod sockets;
mod status;
#[path = "../../../../tests/hostile/texts.rs"]
mod texts;
mod watch;
