// SPDX-License-Identifier: Apache-2.0
//! Sockets that only processes of the same user can reach.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

use super::paths::try_connect;
use super::peer_namespaces::{OwnNamespaces, PeerScope};
use super::{MAX_SOCKET_PATH_BYTES, PeerCredentials, RuntimeDir};
use crate::{LogLimiter, error_chain};

/// An error while binding a socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketBindError {
    /// The path does not fit into a socket's address.
    #[error("{path} has {length} bytes, a socket's path has at most {MAX_SOCKET_PATH_BYTES}")]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Length of the path in bytes.
        length: usize,
    },
    /// Other users could replace or reach the socket through its directory.
    #[error("the directory {directory} is not private: {problem}")]
    NotPrivate {
        /// The directory that holds the socket.
        directory: PathBuf,
        /// The violated condition.
        problem: &'static str,
    },
    /// Another process listens on the path.
    #[error("{path} is in use by process {pid}")]
    InUse {
        /// The path.
        path: PathBuf,
        /// The listening process; 0 if its id is unknown.
        pid: i32,
    },
    /// The path exists and is not a socket; the file was not changed.
    #[error("{path} exists and is not a socket")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {action} {path}")]
    Io {
        /// The failed operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
}

/// A listener that accepts only processes of its own user, outside of sandboxes and containers.
///
/// A peer must live where the listener's process lives: in the same user namespace or an ancestor
/// of it, the same process id namespace, with the same root directory. A peer that has ended, or
/// whose namespaces cannot be read, is refused.
///
/// The socket's file is removed on drop.
#[derive(Debug)]
pub struct SameUserListener {
    socket: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket's file, so that a successor's file is not removed.
    file_id: (u64, u64),
    /// The only user id that is accepted.
    owner_uid: u32,
    /// Where a peer must live.
    namespaces: OwnNamespaces,
    scope: PeerScope,
    refusals: Mutex<LogLimiter>,
    /// Held for the listener's life: a second binder fails at once.
    lock: SocketLock,
    /// Whether the path is bound again after its removal.
    rebinds: bool,
}

impl SameUserListener {
    /// Accepts the hooks of container engines as well, which live in the engine's user namespace.
    ///
    /// For the sockets of readers: a hook starts them.
    #[must_use]
    pub fn accept_engine_hooks(mut self) -> Self {
        self.scope = PeerScope::HostAndEngines;
        self
    }

    /// Accepts the next connection of the listener's user. Cancel safe.
    ///
    /// A connection of another user, of a sandbox or of a container is closed and logged.
    pub async fn accept(&self) -> io::Result<(UnixStream, PeerCredentials)> {
        loop {
            let (stream, _) = self.socket.accept().await?;
            if let Some(accepted) = self.admit(stream) {
                return Ok(accepted);
            }
        }
    }

    /// Returns the connection if its client is a process that is accepted, and still there.
    pub(super) fn admit(&self, stream: UnixStream) -> Option<(UnixStream, PeerCredentials)> {
        let peer = PeerCredentials::from_stream(&stream).ok()?;
        if peer.uid != self.owner_uid {
            self.log_refused(peer, "it is of another user");
            return None;
        }
        match self.namespaces.check_peer(&stream, peer.pid, self.scope) {
            Ok(()) => Some((stream, peer)),
            Err(refusal) => {
                self.log_refused(peer, error_chain(&refusal).as_str());
                None
            }
        }
    }

    fn log_refused(&self, peer: PeerCredentials, reason: &str) {
        let mut limiter = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(suppressed) = limiter.admit(Instant::now()) {
            let PeerCredentials { uid, pid, .. } = peer;
            let path = self.path.display();
            tracing::warn!(%path, uid, pid, reason, suppressed, "closed a process's connection");
        }
    }

    /// Returns the socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Has [`ConnectionAcceptor`](super::ConnectionAcceptor) watch the path and bind it again after
    /// its removal.
    ///
    /// Accepted connections stay. A missing directory is waited for, not created. A path that
    /// another process has bound meanwhile is left to that process until it is free again.
    #[must_use]
    pub const fn rebinding(mut self) -> Self {
        self.rebinds = true;
        self
    }

    pub(super) const fn rebinds(&self) -> bool {
        self.rebinds
    }

    /// Returns `true` if the path leads to this socket.
    pub(super) fn is_at_path(&self) -> bool {
        is_file(&self.path, self.file_id)
    }

    /// Binds the path again. Returns the connections to the former socket that were not accepted.
    pub(super) fn rebind(&mut self) -> Result<Vec<UnixStream>, SocketBindError> {
        check_private_dir(self.path.parent().unwrap_or_else(|| Path::new("/")))?;
        if !self.lock.is_at_path() {
            self.lock = SocketLock::acquire(&self.path)?;
        }
        remove_stale_file(&self.path, false)?;
        let (socket, file_id) = listen_at(&self.path)?;
        let before = std::mem::replace(&mut self.socket, socket);
        self.file_id = file_id;
        let mut waiting = Vec::new();
        if let Ok(before) = before.into_std() {
            while let Ok((stream, _)) = before.accept() {
                let stream = stream.set_nonblocking(true).map(|()| stream);
                waiting.extend(stream.and_then(UnixStream::from_std).ok());
            }
        }
        Ok(waiting)
    }
}

impl Drop for SameUserListener {
    fn drop(&mut self) {
        if self.is_at_path()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "cannot remove a socket file");
        }
    }
}

/// Binds a socket at `path` and listens. Needs a tokio runtime.
///
/// A missing directory is created with mode 0700. A stale socket is replaced, a socket with a
/// listener is not. Of two concurrent binders one fails.
pub fn bind(path: &Path) -> Result<SameUserListener, SocketBindError> {
    bind_path(path, false)
}

/// Binds as [`bind`] does. If `path` is that of a hub's socket below `runtime`, a stale file is
/// replaced, as by the Python stack: anything but a directory or a socket with a listener.
///
/// A file elsewhere may be the user's data, and is an error.
pub fn bind_in_runtime_dir(
    runtime: &RuntimeDir,
    path: &Path,
) -> Result<SameUserListener, SocketBindError> {
    bind_path(path, runtime.is_hub_socket_path(path))
}

fn bind_path(path: &Path, replaces_files: bool) -> Result<SameUserListener, SocketBindError> {
    let length = path.as_os_str().as_bytes().len();
    if length > MAX_SOCKET_PATH_BYTES {
        let path = path.to_owned();
        return Err(SocketBindError::PathTooLong { path, length });
    }
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    ensure_private_dir(directory)?;
    let namespaces = OwnNamespaces::read().map_err(|source| SocketBindError::Io {
        action: "find the namespaces for",
        path: path.to_owned(),
        source,
    })?;
    let lock = SocketLock::acquire(path)?;
    remove_stale_file(path, replaces_files)?;
    let (socket, file_id) = listen_at(path)?;
    Ok(SameUserListener {
        socket,
        path: path.to_owned(),
        file_id,
        owner_uid: rustix::process::geteuid().as_raw(),
        namespaces,
        scope: PeerScope::Host,
        refusals: Mutex::default(),
        lock,
        rebinds: false,
    })
}

/// Binds a socket at a free path. Returns the device and inode of its file, too.
fn listen_at(path: &Path) -> Result<(UnixListener, (u64, u64)), SocketBindError> {
    let io_error = |action| {
        move |source: io::Error| SocketBindError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    };
    let socket = bind_private(path).map_err(|error| io_error("bind")(error.into()))?;
    let found = fs::symlink_metadata(path).map_err(io_error("inspect"))?;
    if !found.file_type().is_socket() {
        return Err(SocketBindError::NotASocket {
            path: path.to_owned(),
        });
    }
    let socket = UnixListener::from_std(socket.into()).map_err(io_error("listen on"))?;
    Ok((socket, file_id(&found)))
}

/// Binds and listens with mode 0600.
///
/// Linux gives the socket's file the mode of the socket's own inode, less the umask. The mode is
/// therefore right from the start, without a change of the umask, which all threads share.
pub(super) fn bind_private(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    net::listen(&socket, 1024)?;
    Ok(socket)
}

/// Creates `directory` if it is missing, and checks it.
pub(super) fn ensure_private_dir(directory: &Path) -> Result<(), SocketBindError> {
    let io_error = |action| {
        move |source: io::Error| SocketBindError::Io {
            action,
            path: directory.to_owned(),
            source,
        }
    };
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(directory).map_err(io_error("create"))?;
    check_private_dir(directory)
}

/// Checks that no other user can write or search in `directory`.
fn check_private_dir(directory: &Path) -> Result<(), SocketBindError> {
    let io_error = |action| {
        move |source: io::Error| SocketBindError::Io {
            action,
            path: directory.to_owned(),
            source,
        }
    };
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
    let found = opened.metadata().map_err(io_error("inspect"))?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(not_private("it belongs to another user"));
    }
    if found.mode() & 0o077 != 0 {
        return Err(not_private("its mode gives other users access"));
    }
    Ok(())
}

/// Removes a stale socket at `path`; if `replaces_files`, also another file.
fn remove_stale_file(path: &Path, replaces_files: bool) -> Result<(), SocketBindError> {
    let io_error = |action| {
        move |source: io::Error| SocketBindError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("inspect")(error)),
        Ok(found) if replaces_files && !found.is_dir() && !found.file_type().is_socket() => {
            tracing::warn!(path = %path.display(), "replaced a stale file by a socket");
            return fs::remove_file(path).map_err(io_error("remove"));
        }
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketBindError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    if let Some(pid) = listening_pid(path) {
        return Err(SocketBindError::InUse {
            path: path.to_owned(),
            pid,
        });
    }
    fs::remove_file(path).map_err(io_error("remove"))
}

/// Returns the process that listens at `path` (0 if unknown), `None` without a listener.
fn listening_pid(path: &Path) -> Option<i32> {
    let answer = try_connect(path)?;
    let pid = answer
        .ok()
        .and_then(|stream| net::sockopt::socket_peercred(&stream).ok())
        .map_or(0, |credentials| credentials.pid.as_raw_pid());
    Some(pid)
}

fn is_file(path: &Path, id: (u64, u64)) -> bool {
    fs::symlink_metadata(path).is_ok_and(|now| file_id(&now) == id)
}

fn file_id(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// An advisory lock on the file `.<name>.lock` beside the socket, which is removed on drop.
#[derive(Debug)]
pub(super) struct SocketLock {
    path: PathBuf,
    file_id: (u64, u64),
    _file: File,
}

impl SocketLock {
    pub(super) fn acquire(socket: &Path) -> Result<Self, SocketBindError> {
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
                        pid: listening_pid(socket).unwrap_or(0),
                    });
                }
                Err(error) => return Err(io_error(error.into())),
            }
            // The previous holder may have removed the file between the open and the lock.
            let locked = file.metadata().map_err(io_error)?;
            match fs::symlink_metadata(&path) {
                Ok(now) if file_id(&now) == file_id(&locked) => {
                    return Ok(Self {
                        path,
                        file_id: file_id(&locked),
                        _file: file,
                    });
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io_error(error)),
            }
        }
    }
}

impl SocketLock {
    fn is_at_path(&self) -> bool {
        is_file(&self.path, self.file_id)
    }
}

impl Drop for SocketLock {
    fn drop(&mut self) {
        // Removed while locked: a process that has opened the file meanwhile opens it again. The
        // file may be another's, if this one was removed.
        if self.is_at_path()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "cannot remove a lock file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    /// The listener expects another user id, so the test's own connection is the foreign one.
    #[tokio::test]
    async fn a_connection_of_another_user_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/hub.sock");
        let mut listener = bind(&path).unwrap();
        listener.owner_uid = listener.owner_uid.wrapping_add(1);
        let mut stream = UnixStream::connect(&path).await.unwrap();
        tokio::select! {
            accepted = listener.accept() => panic!("accepted: {accepted:?}"),
            read = stream.read_u8() => assert!(read.is_err(), "closed without a byte"),
        }
    }
}
