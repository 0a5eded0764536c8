// SPDX-License-Identifier: Apache-2.0
//! Enters the namespaces of a sandbox and builds sandboxes, so that nobody else has to: the one
//! crate of the project with `setns`, `unshare` and `unsafe`.
//!
//! Three things are here. [`Place`] opens sockets inside somebody else's network namespace and
//! hands them back; [`Process`] says when their owner is gone, so that an open socket does not keep
//! a dead sandbox's namespace alive; [`sandbox`] builds the sandbox that `run` and `demo` use.

pub mod link;
mod netns_ref;
mod parent_death;
mod pollable_fd;
mod process;
mod route_watcher;
pub mod sandbox;
mod sibling_netns;
mod sys;

pub use netns_ref::{EnterError, EnterStep, NetnsRef, SocketSpec};
pub use parent_death::kill_on_parent_exit;
pub use pollable_fd::PollableFd;
pub use process::ProcessHandle;
pub use route_watcher::RouteWatcher;
pub use sibling_netns::{SiblingNetns, SiblingNetnsError, enter_sibling_netns};
