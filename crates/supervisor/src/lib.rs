// SPDX-License-Identifier: Apache-2.0
//! The complete service of one sandbox: reader, hub and shield in one process and one thread.
//!
//! Packets go from the reader to the hub, answers from the hub to the shield, and looked-up
//! addresses to both: in memory and in this order. If the process dies, the kernel keeps the
//! default-deny ruleset.

mod config;
mod reader_sink;
mod resolver;
mod shield_enforcer;
mod supervisor;
mod trace;

pub use config::{AllowedDest, SupervisorConfig};
pub use supervisor::{Supervisor, SupervisorExit, SupervisorServeError, SupervisorStartError};
pub use trace::{TraceEvent, TraceObserver};
