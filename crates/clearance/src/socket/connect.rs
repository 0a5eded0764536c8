// SPDX-License-Identifier: Apache-2.0
//! Connects to a socket, and makes sure that one's own user listens there.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use super::{MAX_SOCKET_PATH_BYTES, PeerCredentials};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum SocketConnectError {
    /// The path is longer than a socket's address.
    #[error("the path {path} has {length} bytes, a socket's has at most {MAX_SOCKET_PATH_BYTES}")]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// The bytes it has.
        length: usize,
    },
    /// Nobody listens: there is no socket, or it was left behind.
    #[error("nobody listens at {path}")]
    NoListener {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody listens who is not us: nothing was sent, nothing read.
    #[error("{path} is served by user {uid} (process {pid}), not by us")]
    OtherUser {
        /// The path.
        path: PathBuf,
        /// The user who listens.
        uid: u32,
        /// The process that listens.
        pid: i32,
    },
    /// The socket failed.
    #[error("cannot connect to {path}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// Connects to the socket at `path`, and returns the stream and who listens.
///
/// A socket that another user serves is refused before a byte is exchanged.
pub async fn connect(path: &Path) -> Result<(UnixStream, PeerCredentials), SocketConnectError> {
    connect_as_user(path, rustix::process::geteuid().as_raw()).await
}

/// Connects to a socket that the user `us` serves.
async fn connect_as_user(
    path: &Path,
    us: u32,
) -> Result<(UnixStream, PeerCredentials), SocketConnectError> {
    let length = path.as_os_str().as_bytes().len();
    let path_buf = || path.to_owned();
    if length > MAX_SOCKET_PATH_BYTES {
        return Err(SocketConnectError::PathTooLong {
            path: path_buf(),
            length,
        });
    }
    let io_error = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            SocketConnectError::NoListener {
                path: path_buf(),
                source,
            }
        }
        _ => SocketConnectError::Io {
            path: path_buf(),
            source,
        },
    };
    let stream = UnixStream::connect(path).await.map_err(io_error)?;
    let peer = PeerCredentials::from_stream(&stream).map_err(io_error)?;
    if peer.uid == us {
        Ok((stream, peer))
    } else {
        Err(SocketConnectError::OtherUser {
            path: path_buf(),
            uid: peer.uid,
            pid: peer.pid,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::bind;

    /// The check of the server, for every user: to this client, we are the impostor.
    #[tokio::test]
    async fn a_socket_of_another_user_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/hub.sock");
        let _listener = bind(&path).unwrap();
        let us = rustix::process::geteuid().as_raw();
        assert!(connect_as_user(&path, us).await.is_ok());
        match connect_as_user(&path, us.wrapping_add(1)).await {
            Err(SocketConnectError::OtherUser { uid, .. }) => assert_eq!(uid, us),
            other => panic!("{other:?}"),
        }
    }
}
