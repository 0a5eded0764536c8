// SPDX-License-Identifier: Apache-2.0
//! Network namespaces: sockets inside them, links between them, and sandboxes built from them.
//!
//! [`NetnsRef`] opens sockets inside another network namespace. [`ProcessHandle`] reports the end
//! of the process owning a namespace, so that an open socket does not keep a dead namespace alive.
//! [`sandbox`] builds the sandbox of `run` and `demo`. `setns`, `unshare` and `unsafe` occur in no
//! other crate of the workspace.

mod capability_holder;
mod enter_error;
pub mod gateway;
mod inherited_fds;
pub mod link;
pub mod netlink;
mod netns_ref;
mod parent_death;
mod pollable_fd;
mod private_mounts;
mod process;
mod process_file;
mod route_watcher;
pub mod sandbox;
mod sandbox_processes;
mod search_path;
mod sibling_netns;
mod stderr_capture;
mod sys;
pub mod transparent;

pub use capability_holder::{
    CapabilityAccess, CapabilityHolder, NetworkCapability, find_capability_holder, is_runtime_init,
};
pub use enter_error::{EnterError, EnterStep};
pub use inherited_fds::adopt_inherited_fds;
pub use netns_ref::{NamespaceFiles, NetnsRef, SocketSpec, set_packet_mark};
pub use parent_death::kill_on_parent_exit;
pub use pollable_fd::PollableFd;
pub use private_mounts::run_with_private_mounts;
pub use process::ProcessHandle;
pub use process_file::{read_file_in_root, read_process_file};
pub use route_watcher::RouteWatcher;
pub use sandbox_processes::{SandboxProcesses, SearchRoot};
pub use search_path::{find_program, find_program_in, find_protected_program};
pub use sibling_netns::{SiblingNetnsError, enter_sibling_netns};
pub use stderr_capture::{StderrCapture, StderrPart};
