// SPDX-License-Identifier: Apache-2.0
//! The engine of the commands `list`, `allow`, `deny`, `watch` and `status`, and of those about
//! rules.
//!
//! A snapshot waits a limited time for every hub, and reports each hub that did not respond.

mod answer;
mod answer_outcome;
mod rule_hubs;
mod selector;
mod snapshot;
mod status;
mod table;
mod watch;

pub use answer::{ScriptAction, ScriptExpectation};
pub use answer_outcome::{ScriptAnswer, ScriptOutcome};
pub use rule_hubs::{SandboxHub, SelectSandboxError};
pub(crate) use selector::hub_sandbox_name;
pub use selector::{SandboxSelector, SandboxSelectorError};
pub use snapshot::{PendingSnapshot, take_snapshot};
pub use status::{GuardedSandbox, StatusSurvey, UnitStatus};
pub use watch::{WatchOptions, watch_hubs};
