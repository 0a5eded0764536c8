// SPDX-License-Identifier: Apache-2.0
//! Binds a socket that nobody but its owner reaches, and accepts nobody but its owner.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};

use super::paths::try_connect;
use super::{MAX_SOCKET_PATH_BYTES, PeerCredentials};

/// Why a socket is not bound.
#[derive(Debug, thiserror::Error)]
pub enum SocketBindError {
    /// The path is longer than a socket's address.
    #[error("the path {path} has {length} bytes, a socket's has at most {MAX_SOCKET_PATH_BYTES}")]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// The bytes it has.
        length: usize,
    },
    /// Others could replace the socket, or reach it: its directory is not ours alone.
    #[error("the directory {directory} is not private: {problem}")]
    NotPrivate {
        /// The directory that holds the socket.
        directory: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Somebody listens there already.
    #[error("{path} is in use by process {pid}")]
    InUse {
        /// The path.
        path: PathBuf,
        /// The process that listens; 0 where it cannot be known.
        pid: i32,
    },
    /// Something that is no socket is in the way; it was left alone.
    #[error("{path} exists and is no socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A socket that accepts only its owner's processes. Its file goes when it is dropped.
#[derive(Debug)]
pub struct SameUserListener {
    socket: UnixListener,
    path: PathBuf,
    /// The socket's file: its device and inode, so that no successor's is removed.
    file_id: (u64, u64),
    /// Whose processes are let in: our own user's.
    owner_uid: u32,
    /// Held as long as the socket: the next binder sees at once that somebody lives.
    _lock: SocketLock,
}

impl SameUserListener {
    /// Waits for the next connection of one of our user's processes, and says which it is.
    ///
    /// A connection of another user is closed, and the reason logged.
    pub async fn accept(&self) -> io::Result<(UnixStream, PeerCredentials)> {
        loop {
            let (stream, _) = self.socket.accept().await?;
            // A client that is gone already has no credentials to show, and no harm in it.
            let Ok(peer) = PeerCredentials::from_stream(&stream) else {
                continue;
            };
            if peer.uid == self.owner_uid {
                return Ok((stream, peer));
            }
            tracing::warn!(
                uid = peer.uid,
                pid = peer.pid,
                "closed another user's connection"
            );
        }
    }

    /// Returns the path it is bound to.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SameUserListener {
    fn drop(&mut self) {
        let is_ours =
            fs::symlink_metadata(&self.path).is_ok_and(|now| file_id(&now) == self.file_id);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "could not remove a socket");
        }
    }
}

/// Binds a socket at `path` and listens on it; call it within a tokio runtime.
///
/// The directory is made, with mode 0700, if it is not there. A socket that was left behind is
/// replaced, one on which somebody answers is not. A second binder fails, at whatever moment.
pub fn bind(path: &Path) -> Result<SameUserListener, SocketBindError> {
    let length = path.as_os_str().as_bytes().len();
    if length > MAX_SOCKET_PATH_BYTES {
        let path = path.to_owned();
        return Err(SocketBindError::PathTooLong { path, length });
    }
    let io_error = |action| {
        move |source: io::Error| SocketBindError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    };
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    ensure_private_dir(directory)?;
    let lock = SocketLock::acquire(path)?;
    remove_stale_socket(path)?;
    let socket = bind_private(path).map_err(|error| io_error("bind")(error.into()))?;
    let found = fs::symlink_metadata(path).map_err(io_error("look at"))?;
    if !found.file_type().is_socket() {
        return Err(SocketBindError::NotASocket {
            path: path.to_owned(),
        });
    }
    let socket = UnixListener::from_std(socket.into()).map_err(io_error("listen on"))?;
    Ok(SameUserListener {
        socket,
        path: path.to_owned(),
        file_id: file_id(&found),
        owner_uid: rustix::process::geteuid().as_raw(),
        _lock: lock,
    })
}

/// Binds and listens with mode 0600.
///
/// Linux gives a socket's file the mode of the socket's own inode (less the umask, which belongs
/// to the whole process and is left alone), so no moment exists at which others could connect.
fn bind_private(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    net::listen(&socket, 1024)?;
    Ok(socket)
}

/// Makes `directory` if it is missing, and checks that nobody else can write or search in it.
fn ensure_private_dir(directory: &Path) -> Result<(), SocketBindError> {
    let io_error = |action| {
        move |source: io::Error| SocketBindError::Io {
            action,
            path: directory.to_owned(),
            source,
        }
    };
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(directory).map_err(io_error("make"))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let not_private = |problem| SocketBindError::NotPrivate {
        directory: directory.to_owned(),
        problem,
    };
    let opened = match rustix::fs::open(directory, flags, Mode::empty()) {
        Ok(opened) => File::from(opened),
        Err(rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR) => {
            return Err(not_private("it is a symbolic link"));
        }
        Err(error) => return Err(io_error("open")(error.into())),
    };
    let found = opened.metadata().map_err(io_error("look at"))?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(not_private("it belongs to another user"));
    }
    if found.mode() & 0o077 != 0 {
        return Err(not_private("its mode lets others in"));
    }
    Ok(())
}

/// Removes a socket that was left behind at `path`.
fn remove_stale_socket(path: &Path) -> Result<(), SocketBindError> {
    let io_error = |action| {
        move |source: io::Error| SocketBindError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("look at")(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketBindError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    if let Some(pid) = holder(path) {
        return Err(SocketBindError::InUse {
            path: path.to_owned(),
            pid,
        });
    }
    fs::remove_file(path).map_err(io_error("remove"))
}

/// Returns the process that listens at `path` (0: some process), `None` if nobody does.
fn holder(path: &Path) -> Option<i32> {
    let answer = try_connect(path)?;
    let pid = answer
        .ok()
        .and_then(|stream| net::sockopt::socket_peercred(&stream).ok())
        .map_or(0, |credentials| credentials.pid.as_raw_pid());
    Some(pid)
}

fn file_id(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// An advisory lock on a file beside the socket, `.<name>.lock`, removed when it is dropped.
#[derive(Debug)]
struct SocketLock {
    path: PathBuf,
    _file: File,
}

impl SocketLock {
    fn acquire(socket: &Path) -> Result<Self, SocketBindError> {
        let mut name = OsString::from(".");
        name.push(socket.file_name().unwrap_or_default());
        name.push(".lock");
        let path = socket.with_file_name(name);
        let io_error = |source| SocketBindError::Io {
            action: "lock",
            path: path.clone(),
            source,
        };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        loop {
            let file = options.open(&path).map_err(io_error)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(SocketBindError::InUse {
                        path: socket.to_owned(),
                        pid: holder(socket).unwrap_or(0),
                    });
                }
                Err(error) => return Err(io_error(error.into())),
            }
            // The holder before us may have removed the file between our open and our lock.
            let locked = file.metadata().map_err(io_error)?;
            match fs::symlink_metadata(&path) {
                Ok(now) if file_id(&now) == file_id(&locked) => {
                    return Ok(Self { path, _file: file });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error(error)),
            }
        }
    }
}

impl Drop for SocketLock {
    fn drop(&mut self) {
        // Removed while it is held: whoever opened it in the meantime looks again.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "could not remove a lock file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    /// The check of the peer, for every user: to this listener, we are the foreigner.
    #[tokio::test]
    async fn a_foreign_user_is_closed_and_never_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/hub.sock");
        let mut listener = bind(&path).unwrap();
        listener.owner_uid = listener.owner_uid.wrapping_add(1);
        let mut stream = UnixStream::connect(&path).await.unwrap();
        tokio::select! {
            accepted = listener.accept() => panic!("let in: {accepted:?}"),
            read = stream.read_u8() => assert!(read.is_err(), "it was closed without a word"),
        }
    }
}
