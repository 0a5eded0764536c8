// SPDX-License-Identifier: Apache-2.0
//! Unix sockets: their paths, and connections within one user.
//!
//! Every socket has mode 0600 from the moment of its creation, and lies in a directory of the same
//! user with mode 0700. On every connection both ends check the peer's user id with the kernel, and
//! the listener refuses processes of sandboxes and containers, which may have the same one.

mod accept;
mod bind;
mod connect;
mod path_watch;
mod paths;
mod peer_namespaces;
mod sandbox_listener;
mod sandbox_record;

pub use accept::ConnectionAcceptor;
pub use bind::{SameUserListener, SocketBindError, bind, bind_in_runtime_dir};
pub use connect::{SocketConnectError, connect};
pub use paths::{
    HubSocket, HubSocketPaths, RuntimeDir, SocketLayout, default_clearance_socket_path,
    listener_process,
};
pub use peer_namespaces::{PeerRefusal, check_hook_peer};
pub use sandbox_listener::{SandboxListener, SandboxSocket};
pub use sandbox_record::{SandboxRecord, SandboxRecordFile};

/// Maximum bytes of a socket's path: the size of `sun_path`, without the NUL.
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Credentials of a connection's peer, as the kernel reports them (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerCredentials {
    /// The peer's effective user id at the time of `connect` or `listen`.
    pub uid: u32,
    /// The peer's effective group id.
    pub gid: u32,
    /// The peer's process id; 0 for a process outside the caller's process id namespace.
    pub pid: i32,
}

impl PeerCredentials {
    fn from_stream(stream: &tokio::net::UnixStream) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            uid: credentials.uid(),
            gid: credentials.gid(),
            pid: credentials.pid().unwrap_or(0),
        })
    }

    /// Returns `true` if the peer runs as the caller's user.
    pub fn is_same_user(&self) -> bool {
        self.uid == rustix::process::geteuid().as_raw()
    }
}
