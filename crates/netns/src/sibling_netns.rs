// SPDX-License-Identifier: Apache-2.0
//! Moves the calling process into a new network namespace beside a sandbox's.
//!
//! The new namespace belongs to the user namespace that owns the sandbox's, where an ordinary user
//! may set up links and routes. The caller gains no rights: entering requires being the creator of
//! that user namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use thiserror::Error;

use crate::link::{LinkError, RtnetlinkSocket};
use crate::{EnterError, ProcessHandle, netns_ref, sys};

/// The process could not be moved. It may be inside the sandbox's namespaces already, and should
/// exit.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SiblingNetnsError {
    /// The sandbox's namespaces were not found.
    #[error("the sandbox's namespaces were not found")]
    FindNamespaces(#[source] EnterError),
    /// The process of the sandbox has ended.
    #[error("the sandbox has ended")]
    SandboxEnded,
    /// A namespace could not be entered. `EINVAL`: the process has threads.
    #[error("could not enter {0}")]
    Enter(&'static str, #[source] io::Error),
    /// An rtnetlink socket could not be opened.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Moves the calling process into the user namespace that owns `sandbox`'s network namespace, and
/// there into a new network namespace of its own with nothing but `lo`. Returns the links of the
/// new one; no link leads to the sandbox.
///
/// Requires a single-threaded process. The move is irreversible: call it in a dedicated process.
pub fn enter_sibling_netns(sandbox: &ProcessHandle) -> Result<RtnetlinkSocket, SiblingNetnsError> {
    enter_owner_namespaces(sandbox)?;
    sys::unshare_netns()
        .map_err(|error| SiblingNetnsError::Enter("a new network namespace", error))?;
    Ok(RtnetlinkSocket::open()?)
}

/// Moves the calling process into `sandbox`'s network namespace and the user namespace that owns
/// it.
pub(crate) fn enter_owner_namespaces(sandbox: &ProcessHandle) -> Result<(), SiblingNetnsError> {
    let path = format!("/proc/{}/ns/net", sandbox.pid());
    let net = File::open(path).map(OwnedFd::from);
    if !sandbox.is_alive() {
        return Err(SiblingNetnsError::SandboxEnded); // the pid may have been reused before the open
    }
    let net =
        net.map_err(|error| SiblingNetnsError::Enter("the sandbox's network namespace", error))?;
    if let Some(user) =
        netns_ref::owning_userns_to_enter(&net).map_err(SiblingNetnsError::FindNamespaces)?
    {
        move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User)).map_err(
            |errno| SiblingNetnsError::Enter("the sandbox's user namespace", errno.into()),
        )?;
    }
    move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|errno| SiblingNetnsError::Enter("the sandbox's network namespace", errno.into()))
}
