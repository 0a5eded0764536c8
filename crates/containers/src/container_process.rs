// SPDX-License-Identifier: Apache-2.0
//! Finds the process of a container that is about to start, and checks that nothing leads out of
//! its network namespace.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use netns::link::{LinkError, RtnetlinkSocket};
use netns::{EnterError, NetnsRef, ProcessHandle, SocketSpec};

use crate::container_cgroup::read_cgroup_id;
use crate::start_request::StartRequest;

/// The links of a network namespace in which nothing was made: the loopback interface, and what
/// the kernel makes in each namespace if the modules of tunnels are loaded. These are down.
const INITIAL_LINKS: [&str; 11] = [
    "lo",
    "sit0",
    "tunl0",
    "ip6tnl0",
    "gre0",
    "gretap0",
    "erspan0",
    "ip6gre0",
    "ip_vti0",
    "ip6_vti0",
    "bonding_masters",
];

/// The first process of a container that waits for its hook.
#[derive(Debug)]
pub struct ContainerProcess {
    /// The process.
    pub process: ProcessHandle,
    /// The inode of its network namespace, which identifies it.
    pub netns_inode: u64,
}

/// A container cannot be guarded. It must not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainerProcessError {
    /// The process is gone.
    #[error("the container's process {pid} does not exist")]
    NoProcess {
        /// The process id.
        pid: u32,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// The process belongs to another container.
    #[error("process {pid} is in the control group of container {found}, not of {wanted}")]
    OtherContainer {
        /// The process id.
        pid: u32,
        /// The id in the control group.
        found: String,
        /// The id in the request.
        wanted: String,
    },
    /// The container has the host's network.
    #[error("the container has the network of the host: start it with --network none")]
    HostNetwork,
    /// The namespace could not be entered.
    #[error("the container's network namespace could not be entered")]
    Enter(#[from] EnterError),
    /// The links could not be listed.
    #[error("the links of the container could not be listed")]
    Links(#[from] LinkError),
    /// Something leads out already.
    #[error(
        "the container has a connection already ({0}), which was not guarded from its start: start \
         it with --network none; the way out is made for it"
    )]
    HasLink(String),
    /// The namespace could not be identified.
    #[error("the container's network namespace could not be identified")]
    Identify(#[source] io::Error),
}

impl ContainerProcess {
    /// Finds the process of a request.
    pub fn find(request: &StartRequest) -> Result<Self, ContainerProcessError> {
        let pid = request.pid;
        let gone = |source| ContainerProcessError::NoProcess { pid, source };
        let process = ProcessHandle::open(pid).map_err(gone)?;
        // Without a control group of its own (`--cgroups=disabled`), the hook's word counts: the
        // hook is one of the operator's processes.
        if let Some(found) = read_cgroup_id(&process).map_err(gone)? {
            let wanted = request.id.to_string();
            if found != wanted {
                return Err(ContainerProcessError::OtherContainer { pid, found, wanted });
            }
        }
        let netns = std::fs::metadata(format!("/proc/{pid}/ns/net"));
        let netns = netns.map_err(ContainerProcessError::Identify)?;
        if !process.is_alive() {
            return Err(gone(rustix::io::Errno::SRCH.into()));
        }
        Ok(Self {
            process,
            netns_inode: netns.ino(),
        })
    }

    /// Returns an error if something leads out of the network namespace.
    pub fn check_unconnected(&self) -> Result<(), ContainerProcessError> {
        let process = self.process.try_clone();
        let netns = NetnsRef::OfProcess(process.map_err(ContainerProcessError::Identify)?);
        if netns.open_files()?.is_none() {
            return Err(ContainerProcessError::HostNetwork);
        }
        let mut links = RtnetlinkSocket::from_socket(netns.open_socket(SocketSpec::Route)?);
        let links = links.list_links()?;
        let mut made = links
            .iter()
            .filter(|name| !INITIAL_LINKS.contains(&name.as_str()));
        match made.next() {
            None => Ok(()),
            Some(name) => Err(ContainerProcessError::HasLink(name.clone())),
        }
    }
}
