// SPDX-License-Identifier: Apache-2.0
//! One sandbox's whole: reader, hub and shield in one process and one thread.
//!
//! What the reader sees goes to the hub, what a person answers goes to the shield, what a name
//! was answered with goes to both: in memory, in this order, without a socket in between. When
//! this process dies, at whatever moment, the kernel keeps the ruleset: default-deny.

mod config;
mod feed;
mod firewall;
mod look_up;
mod step;
mod supervisor;

pub use config::{Config, Opening};
pub use step::{Observer, Step};
pub use supervisor::{Ended, ServeError, StartError, Supervisor};
