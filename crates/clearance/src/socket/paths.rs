// SPDX-License-Identifier: Apache-2.0
//! The paths of the sockets, as each release of the Python stack lays them out.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::ContainerId;

/// The directory that holds a user's sockets, usually `$XDG_RUNTIME_DIR`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuntimeDir(PathBuf);

/// How the sockets of one sandbox are laid out below a [`RuntimeDir`].
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
    /// Where operators subscribe and give verdicts.
    pub hub: PathBuf,
    /// Where readers report.
    pub ingester: PathBuf,
    /// Where the hub sends verdicts to be applied.
    pub verdict: PathBuf,
}

/// A hub's socket that was found.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HubSocket {
    /// Its path.
    pub path: PathBuf,
    /// The first 12 characters of the id of its sandbox; `None` for the hub of all sandboxes.
    pub container: Option<ContainerId>,
}

impl RuntimeDir {
    /// Makes a runtime directory of its path; whether it is there is not looked at.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the sockets of the one hub for all sandboxes (releases up to 0.6.14a7; `serve`).
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

    /// Returns the directory in which the hubs of single sandboxes appear.
    pub fn hubs_dir(&self) -> PathBuf {
        self.0.join("terok").join("clearance")
    }

    /// Returns the hubs' sockets that exist and are ours, of every layout, sorted by path.
    ///
    /// A hub that was killed leaves its socket behind: see [`HubSocket::is_live`].
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
            .filter(|socket| is_our_socket(&socket.path))
            .collect();
        sockets.sort_unstable();
        sockets
    }

    /// Returns those of [`RuntimeDir::hub_sockets`] on which somebody listens.
    pub fn live_hubs(&self) -> Vec<HubSocket> {
        let mut sockets = self.hub_sockets();
        sockets.retain(HubSocket::is_live);
        sockets
    }
}

impl HubSocket {
    /// Returns the socket that `name`, an entry of the hubs' directory, stands for.
    ///
    /// `None` for what is neither `<id>.sock` nor the directory of a sandbox.
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

    /// Says whether somebody listens on it, by connecting and closing again; does not block.
    pub fn is_live(&self) -> bool {
        has_listener(&self.path)
    }
}

/// Says whether somebody listens on the socket at `path`.
pub(super) fn has_listener(path: &Path) -> bool {
    try_connect(path).is_some_and(|answer| answer.is_ok())
}

/// Connects without waiting; `None` where nobody listens, `Err` for a listener that is too busy.
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

fn is_our_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| {
        found.file_type().is_socket() && found.uid() == rustix::process::geteuid().as_raw()
    })
}
