// SPDX-License-Identifier: Apache-2.0
//! Where the sockets are, and how they are opened so that only one's own user reaches them.
//!
//! Every socket lies in a directory of mode 0700 that is ours, has mode 0600 from the moment it
//! exists, and the kernel says on every connection, on both ends, whose process the other is.

mod bind;
mod connect;
mod paths;

pub use bind::{SameUserListener, SocketBindError, bind};
pub use connect::{SocketConnectError, connect};
pub use paths::{HubSocket, HubSocketPaths, RuntimeDir, SocketLayout};

/// The longest path that a unix socket's address has room for, in bytes (`sun_path`, its NUL off).
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Who is at the other end of a connection, as the kernel says (`SO_PEERCRED`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerCredentials {
    /// Its effective user id when it connected or began to listen.
    pub uid: u32,
    /// Its effective group id.
    pub gid: u32,
    /// Its process id; 0 for a process outside our process id namespace.
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

    /// Says whether it runs as the same user as we do.
    pub fn is_same_user(&self) -> bool {
        self.uid == rustix::process::geteuid().as_raw()
    }
}
