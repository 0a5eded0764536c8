// SPDX-License-Identifier: Apache-2.0
//! Connections to sockets that a process of the same user serves.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use tokio::net::UnixStream;

use super::{MAX_SOCKET_PATH_BYTES, PeerCredentials};

/// An error while connecting to a socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketConnectError {
    /// The path does not fit into a socket's address.
    #[error("{path} has {length} bytes, a socket's path has at most {MAX_SOCKET_PATH_BYTES}")]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Length of the path in bytes.
        length: usize,
    },
    /// No process listens: the socket is missing or stale.
    #[error("no process listens on {path}")]
    NoListener {
        /// The path.
        path: PathBuf,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// A process of another user listens; nothing was sent or read.
    #[error("{path} belongs to another user (uid {uid}, process {pid})")]
    OtherUser {
        /// The path.
        path: PathBuf,
        /// The user id of the listening process.
        uid: u32,
        /// The listening process.
        pid: i32,
    },
    /// The socket failed.
    #[error("cannot connect to {path}")]
    Io {
        /// The path.
        path: PathBuf,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
}

/// Connects to the socket at `path`, and returns the stream and the credentials of the listener.
///
/// A socket of another user is an error, and no byte is exchanged.
pub async fn connect(path: &Path) -> Result<(UnixStream, PeerCredentials), SocketConnectError> {
    connect_as_user(path, rustix::process::geteuid().as_raw()).await
}

/// Connects to a socket of the user `own_uid`.
async fn connect_as_user(
    path: &Path,
    own_uid: u32,
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
    if peer.uid == own_uid {
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

    /// The client expects another user id, so the test's own listener is the foreign one.
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
