// SPDX-License-Identifier: Apache-2.0
//! The socket at which the programs of one sandbox reach its supervisor.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, test_kill_process};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep};

use super::bind::{bind_private, ensure_private_dir};
use super::{PeerCredentials, SocketBindError};
use crate::LogLimiter;

/// Time between two attempts to accept while the process is out of descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// A socket for the programs of one sandbox, bound before the sandbox exists.
///
/// The file has a name only while the sandbox is built: [`hide`](Self::hide) removes the name. From
/// then on the file is where the sandbox's mounts show it, and nowhere else: no other process finds
/// it, and nothing is left behind at the end, however caused. A name that a process killed before
/// that has left is removed by the next [`bind`](Self::bind).
#[derive(Debug)]
pub struct SandboxSocket {
    socket: OwnedFd,
    path: PathBuf,
    has_name: bool,
}

impl SandboxSocket {
    /// Binds a socket in `directory`, which is created with mode 0700 if it is missing.
    pub fn bind(directory: &Path) -> Result<Self, SocketBindError> {
        ensure_private_dir(directory)?;
        let own = rustix::process::getpid().as_raw_nonzero().get();
        remove_leftovers(directory, own);
        let path = directory.join(format!("{own}{FILE_SUFFIX}"));
        let socket = bind_private(&path).map_err(|error| SocketBindError::Io {
            action: "bind",
            path: path.clone(),
            source: error.into(),
        })?;
        Ok(Self {
            socket,
            path,
            has_name: true,
        })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the name of the file, and the directory if it is empty.
    pub fn hide(&mut self) {
        if std::mem::take(&mut self.has_name)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(%error, "cannot remove a socket file");
        }
        if let Some(directory) = self.path.parent() {
            drop(fs::remove_dir(directory)); // not empty: another sandbox is being built
        }
    }

    /// Returns the listener for the sandbox whose first process is `init_pid`; see
    /// [`SandboxListener`]. Requires a tokio runtime.
    pub fn listen(mut self, init_pid: i32) -> io::Result<SandboxListener> {
        self.hide();
        let socket = self.socket.try_clone()?;
        Ok(SandboxListener {
            socket: UnixListener::from_std(socket.into())?,
            init_pid,
            owner_uid: rustix::process::geteuid().as_raw(),
            log: LogLimiter::new(),
        })
    }
}

impl Drop for SandboxSocket {
    fn drop(&mut self) {
        self.hide();
    }
}

/// The file of a process is called by its process id.
const FILE_SUFFIX: &str = ".sock";

/// Removes the files of processes that have ended, and one of an earlier process `own`.
fn remove_leftovers(directory: &Path, own: i32) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_suffix(FILE_SUFFIX));
        let pid = pid.and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        let has_ended = |pid: Pid| {
            pid.as_raw_nonzero().get() == own
                || test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
        };
        if pid.is_some_and(has_ended)
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::debug!(%error, "cannot remove a socket file");
        }
    }
}

/// A listener that accepts only connections of one sandbox.
///
/// A workload does not connect itself. The first process of its sandbox, which is the operator's,
/// carries each `connect` out (the socket broker), and only to files that it knows: so the kernel
/// reports that process as the peer (`SO_PEERCRED`). Accepted is a peer with its process id and the
/// listener's user; everything else is closed and logged. This is sound because
///
/// - the caller of [`SandboxSocket::listen`] has started that process and does not reap it while
///   the listener exists: no other process gets its id, and no workload runs in it;
/// - the first process of another sandbox is another process, and does not know the file;
/// - the kernel compares the file's mode, 0600, with the user of the program that connects.
///
/// The peer is therefore *some* program of the sandbox. Nothing tells which: no method may depend
/// on it.
#[derive(Debug)]
pub struct SandboxListener {
    socket: UnixListener,
    init_pid: i32,
    owner_uid: u32,
    log: LogLimiter,
}

impl SandboxListener {
    /// Accepts the next connection of the sandbox. Cancel safe.
    pub async fn accept(&mut self) -> (UnixStream, PeerCredentials) {
        loop {
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    let Ok(peer) = PeerCredentials::from_stream(&stream) else {
                        continue;
                    };
                    if peer.pid == self.init_pid && peer.uid == self.owner_uid {
                        return (stream, peer);
                    }
                    self.log_refused(peer);
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection of the sandbox");
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }

    fn log_refused(&mut self, peer: PeerCredentials) {
        if let Some(suppressed) = self.log.admit(Instant::now()) {
            let PeerCredentials { uid, pid, .. } = peer;
            tracing::warn!(
                uid,
                pid,
                suppressed,
                "refused a process that is not of the sandbox"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    fn own_pid() -> i32 {
        rustix::process::getpid().as_raw_nonzero().get()
    }

    /// The test's own process takes the place of a sandbox's first process.
    #[tokio::test]
    async fn only_the_first_process_of_the_sandbox_is_accepted() {
        for (init_pid, is_accepted) in [(own_pid(), true), (own_pid() + 1, false)] {
            let directory = tempfile::tempdir().unwrap();
            let socket = SandboxSocket::bind(&directory.path().join("requests")).unwrap();
            let path = socket.path().to_owned();
            // The connection is made while the file has its name, and accepted later.
            let mut stream = UnixStream::connect(&path).await.unwrap();
            let mut listener = socket.listen(init_pid).unwrap();
            tokio::select! {
                (_, peer) = listener.accept() => {
                    assert!(is_accepted);
                    assert_eq!(peer.pid, own_pid());
                }
                read = stream.read_u8() => {
                    assert!(read.is_err(), "closed without a byte");
                    assert!(!is_accepted);
                }
            }
        }
    }

    #[tokio::test]
    async fn the_file_has_a_name_only_until_the_sandbox_is_built() {
        let directory = tempfile::tempdir().unwrap();
        let requests = directory.path().join("requests");
        let socket = SandboxSocket::bind(&requests).unwrap();
        let mode = socket.path().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let listener = socket.listen(own_pid()).unwrap();
        assert!(!requests.exists());
        drop(listener);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let requests = directory.path().join("requests");
        let left = |name: &str| {
            let path = requests.join(name);
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            path
        };
        drop(SandboxSocket::bind(&requests).unwrap());
        ensure_private_dir(&requests).unwrap();
        // No process has an id as high as the first one; process 1 lives.
        let [ended, own] = ["2147483646.sock", &format!("{}.sock", own_pid())].map(left);
        let [lives, other] = ["1.sock", "hub.sock"].map(left);
        let socket = SandboxSocket::bind(&requests).unwrap();
        assert_eq!(socket.path(), own);
        assert!(!ended.exists() && lives.exists() && other.exists());
    }
}
