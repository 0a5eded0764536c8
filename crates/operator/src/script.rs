// SPDX-License-Identifier: Apache-2.0
//! The engine of the commands `list`, `allow`, `deny` and `watch`.
//!
//! A snapshot waits a limited time for every hub, and reports each hub that did not respond.

mod answer;
mod selector;
mod snapshot;
mod table;
mod watch;

pub use answer::{ScriptAnswer, ScriptExpectation, ScriptOutcome};
pub use selector::{SandboxSelector, SandboxSelectorError};
pub use snapshot::{PendingSnapshot, take_snapshot};
pub use watch::{WatchOptions, watch_hubs};
