// SPDX-License-Identifier: Apache-2.0
//! Enters the namespaces of a sandbox and builds sandboxes, so that nobody else has to: the one
//! crate of the project with `setns`, `unshare` and `unsafe`.
//!
//! Three things are here. [`Place`] opens sockets inside somebody else's network namespace and
//! hands them back; [`Process`] says when their owner is gone, so that an open socket does not keep
//! a dead sandbox's namespace alive; [`sandbox`] builds the sandbox that `run` and `demo` use.

mod beside;
mod entry;
mod helper;
pub mod link;
mod pollable;
mod process;
mod routes;
pub mod sandbox;
mod sys;

pub use beside::{SettleError, Settled, settle_beside};
pub use entry::{EnterError, Place, SocketSpec, Step};
pub use helper::tie_to_us;
pub use pollable::Pollable;
pub use process::Process;
pub use routes::Routes;
