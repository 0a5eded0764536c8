// SPDX-License-Identifier: Apache-2.0
//! Settles the calling process in a new network namespace next to a sandbox's.
//!
//! Two network namespaces can be joined by a veth pair only by somebody who is capable in both, so
//! the new one belongs to the user namespace that owns the sandbox's. Nobody's rights grow: whoever
//! may do this made that user namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use thiserror::Error;

use crate::link::{LinkError, RtnetlinkSocket};
use crate::{EnterError, ProcessHandle, netns_ref, sys};

/// Why the process is not settled. It may be inside the sandbox's namespaces by then: all that is
/// left to do for it is to end.
#[derive(Debug, Error)]
pub enum SiblingNetnsError {
    /// The sandbox's namespaces were not found.
    #[error("the sandbox's namespaces were not found")]
    FindNamespaces(#[source] EnterError),
    /// The process in them has ended.
    #[error("the sandbox has ended")]
    SandboxEnded,
    /// A namespace could not be entered. `EINVAL`: the process has threads.
    #[error("could not enter {0}")]
    Enter(&'static str, #[source] io::Error),
    /// No socket for links.
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Links of the two namespaces between which the calling process stands.
#[derive(Debug)]
pub struct SiblingNetns {
    /// Those of the sandbox.
    pub sandbox: RtnetlinkSocket,
    /// Those of the new network namespace, in which the process is from now on.
    pub own: RtnetlinkSocket,
}

/// Moves the calling process into the user namespace that owns `sandbox`'s network namespace, and
/// there into a new network namespace of its own, empty but for `lo`.
///
/// The process must have one thread, and has no way back: this is for one that was started for it.
pub fn enter_sibling_netns(sandbox: &ProcessHandle) -> Result<SiblingNetns, SiblingNetnsError> {
    let path = format!("/proc/{}/ns/net", sandbox.pid());
    let net = File::open(path).map(OwnedFd::from);
    if !sandbox.is_alive() {
        return Err(SiblingNetnsError::SandboxEnded); // the number may have been another's by then
    }
    let net = net.map_err(|error| SiblingNetnsError::Enter("its network namespace", error))?;
    if let Some(user) =
        netns_ref::owning_userns_to_enter(&net).map_err(SiblingNetnsError::FindNamespaces)?
    {
        move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User)).map_err(
            |errno| SiblingNetnsError::Enter("the sandbox's user namespace", errno.into()),
        )?;
    }
    move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|errno| {
        SiblingNetnsError::Enter("the sandbox's network namespace", errno.into())
    })?;
    let sandbox = RtnetlinkSocket::open()?;
    sys::unshare_netns()
        .map_err(|error| SiblingNetnsError::Enter("a new network namespace", error))?;
    Ok(SiblingNetns {
        sandbox,
        own: RtnetlinkSocket::open()?,
    })
}
