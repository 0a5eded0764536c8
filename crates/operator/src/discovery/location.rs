// SPDX-License-Identifier: Apache-2.0
//! Paths of hub sockets, and the directories to watch for them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use terok_clearance::socket::{HubSocket, RuntimeDir};

use crate::inbox::HubId;

/// The place to search for hubs.
#[derive(Debug, Clone)]
pub(super) enum HubLocation {
    /// Every socket layout below a runtime directory.
    Runtime(RuntimeDir),
    /// One socket path.
    Socket(PathBuf),
}

/// Identity of a socket file: inode and change time, since inode numbers are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketFileId(u64, i64, i64);

impl SocketFileId {
    /// Returns the identity of the socket at `path`, if there is one.
    fn from_path(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        let is_socket = found.file_type().is_socket();
        is_socket.then(|| Self(found.ino(), found.ctime(), found.ctime_nsec()))
    }
}

/// The relevant entries of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DirectoryFilter {
    /// Every entry.
    All,
    /// Entries with these names.
    Names(BTreeSet<OsString>),
}

impl DirectoryFilter {
    fn names<N: AsRef<OsStr>>(names: impl IntoIterator<Item = N>) -> Self {
        Self::Names(names.into_iter().map(|n| n.as_ref().to_owned()).collect())
    }

    /// Returns `true` if an entry with this name is relevant.
    pub(super) fn matches(&self, name: &OsStr) -> bool {
        match self {
            Self::All => true,
            Self::Names(names) => names.contains(name),
        }
    }
}

impl HubLocation {
    /// Returns the existing sockets.
    pub(super) fn sockets(&self) -> BTreeMap<HubId, SocketFileId> {
        let paths = match self {
            Self::Runtime(runtime) => {
                let found = runtime.hub_sockets().into_iter();
                found.map(|socket| socket.path).collect()
            }
            Self::Socket(path) => vec![path.clone()],
        };
        let identified = |path: PathBuf| {
            let file = SocketFileId::from_path(&path)?;
            Some((HubId::new(&path), file))
        };
        paths.into_iter().filter_map(identified).collect()
    }

    /// Returns the directories in which a hub socket, or a directory on its path, can appear.
    ///
    /// A parent comes before its children, and children are listed lazily: the caller watches the
    /// parent first, so that no child is missed.
    pub(super) fn directories(&self) -> Box<dyn Iterator<Item = (PathBuf, DirectoryFilter)>> {
        match self {
            Self::Runtime(runtime) => {
                let hubs = runtime.hubs_dir();
                let terok = hubs.parent().unwrap_or(&hubs).to_owned();
                let classic = runtime.shared_hub_sockets().hub;
                let names = [terok.file_name(), classic.file_name()];
                let names = DirectoryFilter::names(names.into_iter().flatten());
                let above = [
                    (runtime.path().to_owned(), names),
                    (terok, DirectoryFilter::names(hubs.file_name())),
                    (hubs.clone(), DirectoryFilter::All),
                ];
                let below = std::iter::once(hubs).flat_map(|hubs| sandbox_directories(&hubs));
                Box::new(above.into_iter().chain(below))
            }
            Self::Socket(path) => {
                let directory = path.parent().unwrap_or(path).to_owned();
                let names = DirectoryFilter::names(path.file_name());
                Box::new(std::iter::once((directory, names)))
            }
        }
    }
}

/// Returns the per-sandbox directories.
fn sandbox_directories(hubs: &Path) -> Vec<(PathBuf, DirectoryFilter)> {
    let entries = std::fs::read_dir(hubs).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories
        .filter_map(|entry| {
            let socket = HubSocket::from_dir_entry(hubs, &entry.file_name())?.path;
            Some((entry.path(), DirectoryFilter::names(socket.file_name())))
        })
        .collect()
}
