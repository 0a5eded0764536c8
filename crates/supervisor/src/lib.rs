// SPDX-License-Identifier: Apache-2.0
//! One sandbox's whole: reader, hub and shield in one process and one thread.
//!
//! What the reader sees goes to the hub, what a person answers goes to the shield, what a name
//! was answered with goes to both: in memory, in this order, without a socket in between. When
//! this process dies, at whatever moment, the kernel keeps the ruleset: default-deny.

mod config;
mod reader_sink;
mod resolver;
mod shield_enforcer;
mod supervisor;
mod trace;

pub use config::{AllowedDest, SupervisorConfig};
pub use supervisor::{Supervisor, SupervisorExit, SupervisorServeError, SupervisorStartError};
pub use trace::{TraceEvent, TraceObserver};
