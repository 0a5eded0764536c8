// SPDX-License-Identifier: Apache-2.0
//! Socket paths, in the layouts of the Python releases.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::ContainerId;

/// The directory of a user's sockets, usually `$XDG_RUNTIME_DIR`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuntimeDir(PathBuf);

/// The layout of one sandbox's sockets below a [`RuntimeDir`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SocketLayout {
    /// Clearance 0.6.14a8 to 0.7.3: `terok/clearance/<id12>.sock`, `terok/events/<id12>.sock`.
    C,
    /// Clearance 0.8: `terok/clearance/<id12>/hub.sock`, `terok/events/<id12>/ingester.sock`.
    #[default]
    D,
}

/// The three sockets of one hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HubSocketPaths {
    /// The socket for operators.
    pub hub: PathBuf,
    /// The socket for readers.
    pub ingester: PathBuf,
    /// The verdict helper's socket.
    pub verdict: PathBuf,
}

/// The path of a hub's socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HubSocket {
    /// The path.
    pub path: PathBuf,
    /// The first 12 characters of the sandbox's id; `None` for the classic hub.
    pub container: Option<ContainerId>,
}

/// Returns the path of the classic hub's socket, which clients use without a path of their own.
///
/// `xdg_runtime_dir` is the value of that variable; without it, `/run/user/UID` is used.
pub fn default_clearance_socket_path(xdg_runtime_dir: Option<&Path>) -> PathBuf {
    let runtime = xdg_runtime_dir.map_or_else(
        || PathBuf::from(format!("/run/user/{}", geteuid().as_raw())),
        Path::to_owned,
    );
    RuntimeDir::new(runtime).shared_hub_sockets().hub
}

impl RuntimeDir {
    /// Creates a runtime directory from its path, without looking at the file system.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns the directory's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the sockets of the classic hub (releases up to 0.6.14a7, and `serve`).
    pub fn shared_hub_sockets(&self) -> HubSocketPaths {
        HubSocketPaths {
            hub: self.0.join("terok-clearance.sock"),
            ingester: self.0.join("terok-shield-events.sock"),
            verdict: self.0.join("terok-clearance-verdict.sock"),
        }
    }

    /// Returns the sockets of one sandbox's own hub.
    pub fn sandbox_sockets(&self, container: &ContainerId, layout: SocketLayout) -> HubSocketPaths {
        let id = container.short();
        let terok = self.0.join("terok");
        let (hub, ingester) = match layout {
            SocketLayout::C => (format!("{id}.sock"), format!("{id}.sock")),
            SocketLayout::D => (format!("{id}/hub.sock"), format!("{id}/ingester.sock")),
        };
        HubSocketPaths {
            hub: terok.join("clearance").join(hub),
            ingester: terok.join("events").join(ingester),
            verdict: terok.join("verdict").join(format!("{id}.sock")),
        }
    }

    /// Returns `true` for the path of a hub's socket in any layout, whether it exists or not.
    pub fn is_hub_socket_path(&self, path: &Path) -> bool {
        let Ok(below) = path.strip_prefix(&self.0) else {
            return false;
        };
        let parts: Option<Vec<_>> = below.iter().map(OsStr::to_str).collect();
        match parts.as_deref() {
            Some([_]) => {
                let HubSocketPaths {
                    hub,
                    ingester,
                    verdict,
                } = self.shared_hub_sockets();
                [hub, ingester, verdict].iter().any(|own| own == path)
            }
            Some(["terok", "clearance" | "events" | "verdict", name]) => {
                name.strip_suffix(".sock").is_some_and(|id| !id.is_empty())
            }
            Some(
                ["terok", "clearance", id, "hub.sock"] | ["terok", "events", id, "ingester.sock"],
            ) => *id != "..",
            _ => false,
        }
    }

    /// Returns the directory in which the hubs of sandboxes appear.
    pub fn hubs_dir(&self) -> PathBuf {
        self.0.join("terok").join("clearance")
    }

    /// Returns the user's existing hub sockets in every layout, sorted by path.
    ///
    /// A killed hub leaves a stale socket: see [`HubSocket::is_live`].
    pub fn hub_sockets(&self) -> Vec<HubSocket> {
        let classic = HubSocket {
            path: self.shared_hub_sockets().hub,
            container: None,
        };
        let hubs = self.hubs_dir();
        let found = fs::read_dir(&hubs).into_iter().flatten().flatten();
        let mut sockets: Vec<_> = found
            .filter_map(|entry| HubSocket::from_dir_entry(&hubs, &entry.file_name()))
            .chain([classic])
            .filter(|socket| is_own_socket(&socket.path))
            .collect();
        sockets.sort_unstable();
        sockets
    }

    /// Returns the sockets of [`RuntimeDir::hub_sockets`] that have a listener.
    pub fn live_hubs(&self) -> Vec<HubSocket> {
        let mut sockets = self.hub_sockets();
        sockets.retain(HubSocket::is_live);
        sockets
    }
}

impl HubSocket {
    /// Returns the socket that belongs to the entry `name` of the directory `hubs`.
    ///
    /// The entry is `<id>.sock` or a sandbox's directory; the result for other names is `None`.
    pub fn from_dir_entry(hubs: &Path, name: &OsStr) -> Option<Self> {
        let name = name.to_str()?;
        let entry = hubs.join(name);
        let (id, path) = match name.strip_suffix(".sock") {
            Some(id) => (id, entry),
            None => (name, entry.join("hub.sock")),
        };
        let container = id.parse().ok()?;
        Some(Self {
            path,
            container: Some(container),
        })
    }

    /// Returns `true` if a process listens: connects and disconnects without blocking.
    pub fn is_live(&self) -> bool {
        has_listener(&self.path)
    }
}

/// Returns `true` if a process listens on the socket at `path`.
pub(super) fn has_listener(path: &Path) -> bool {
    try_connect(path).is_some_and(|answer| answer.is_ok())
}

/// Connects without blocking: `None` without a listener, `Err` if the listener's backlog is full.
pub(super) fn try_connect(path: &Path) -> Option<Result<UnixStream, ()>> {
    use rustix::io::Errno;
    use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

    let address = SocketAddrUnix::new(path).ok()?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).ok()?;
    match net::connect(&socket, &address) {
        Ok(()) => Some(Ok(socket.into())),
        Err(Errno::AGAIN) => Some(Err(())),
        Err(_) => None,
    }
}

/// Returns the process that listens on the unix socket at `path`, even if it does not answer.
/// `None` without a listener, or if the process is in another process id namespace.
///
/// For a socket of a service manager, it is that manager.
pub fn listener_process(path: &Path) -> Option<u32> {
    let stream = try_connect(path)?.ok()?;
    let peer = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    let pid = u32::try_from(peer.pid.as_raw_pid()).ok()?;
    (pid > 0).then_some(pid)
}

fn is_own_socket(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|found| found.file_type().is_socket() && is_own_file(&found))
}

/// Returns `true` if the file belongs to the caller's user.
pub(super) fn is_own_file(found: &fs::Metadata) -> bool {
    found.uid() == geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_socket_lies_in_the_runtime_directory_of_the_user() {
        let given = default_clearance_socket_path(Some(Path::new("/run/mine")));
        assert_eq!(given, Path::new("/run/mine/terok-clearance.sock"));
        let uid = geteuid().as_raw();
        let unset = default_clearance_socket_path(None);
        let expected = format!("/run/user/{uid}/terok-clearance.sock");
        assert_eq!(unset, Path::new(&expected));
    }
}
