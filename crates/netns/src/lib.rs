// SPDX-License-Identifier: Apache-2.0
//! Enters a sandbox's namespaces, opens sockets there, and builds sandboxes: the only crate with unshare and setns.

pub mod link;
