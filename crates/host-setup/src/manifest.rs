// SPDX-License-Identifier: Apache-2.0
//! The list of what was installed, which decides what may be replaced and removed.
//!
//! An entry is written before the change that it is about. A setup that was interrupted has thus
//! entries for all that it did, and perhaps for more.

use std::fs::File;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::installed_file::{
    DiskEntry, FileChangeError, WriteMode, make_directory, missing_directories,
    remove_empty_directory, remove_file, remove_leftover, sha256_hex, write_file,
};
use crate::{HostDirectories, SetupScope};

/// The name of the list in the state directory.
const FILE_NAME: &str = "setup.json";
const VERSION: u32 = 1;

/// The list cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The list or its directory cannot be read or written.
    #[error(transparent)]
    File(#[from] FileChangeError),
    /// The list is damaged.
    #[error("{} is not a list of installed files", path.display())]
    Damaged {
        /// The list.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A newer release wrote the list.
    #[error("{} is of a newer release of this program", path.display())]
    Newer {
        /// The list.
        path: PathBuf,
    },
    /// Another setup or uninstall runs.
    #[error("another setup or uninstall works on {}", path.display())]
    Busy {
        /// The directory of the list.
        path: PathBuf,
    },
}

/// The content of an installed file or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ItemContent {
    File(Vec<u8>),
    Link(PathBuf),
}

/// An installed file or link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum ManifestEntry {
    /// The SHA-256 of the contents that were written: the newest, and the one before while it is
    /// replaced.
    File { path: PathBuf, sha256: Vec<String> },
    /// The targets that were written, likewise.
    Link {
        path: PathBuf,
        targets: Vec<PathBuf>,
    },
}

impl ManifestEntry {
    fn new(path: &Path, content: &ItemContent) -> Self {
        let path = path.to_owned();
        match content {
            ItemContent::File(bytes) => Self::File {
                path,
                sha256: vec![sha256_hex(bytes)],
            },
            ItemContent::Link(target) => Self::Link {
                path,
                targets: vec![target.clone()],
            },
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::File { path, .. } | Self::Link { path, .. } => path,
        }
    }

    /// Returns `true` if `entry` is what was installed.
    pub(crate) fn matches(&self, entry: &DiskEntry) -> bool {
        match (self, entry) {
            (Self::File { sha256, .. }, DiskEntry::File { bytes }) => {
                sha256.contains(&sha256_hex(bytes))
            }
            (Self::Link { targets, .. }, DiskEntry::Link { target }) => targets.contains(target),
            _ => false,
        }
    }
}

/// The change of a `containers.conf`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConfManifestEntry {
    pub(crate) path: PathBuf,
    /// The directory that was added.
    pub(crate) directory: String,
    /// The text before; `None` if there was no file.
    pub(crate) before: Option<String>,
    /// The SHA-256 of the text after.
    pub(crate) sha256_after: String,
    /// The lines that were added for a list.
    pub(crate) inserted: Option<String>,
}

/// The list of what was installed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct InstallManifest {
    version: u32,
    entries: Vec<ManifestEntry>,
    /// Directories that were made, each after the one that contains it.
    directories: Vec<PathBuf>,
    containers_conf: Option<ConfManifestEntry>,
}

/// What is done with a file or link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemDecision {
    /// There is none: it is written.
    Create,
    /// It is as this program wrote it, and replaced.
    Replace,
    /// It is as it should be.
    Unchanged,
    /// The user has changed it since it was installed: it stays.
    KeepChanged,
    /// Another program or the user wrote it: it stays.
    KeepForeign,
}

/// Decides about a file or link. `known` is its entry in the list.
pub(crate) fn decide(
    wanted: &ItemContent,
    known: Option<&ManifestEntry>,
    found: &DiskEntry,
) -> ItemDecision {
    let is_wanted = match (wanted, found) {
        (ItemContent::File(wanted), DiskEntry::File { bytes }) => wanted == bytes,
        (ItemContent::Link(wanted), DiskEntry::Link { target }) => wanted == target,
        _ => false,
    };
    match known {
        _ if *found == DiskEntry::Missing => ItemDecision::Create,
        _ if is_wanted => ItemDecision::Unchanged,
        Some(known) if known.matches(found) => ItemDecision::Replace,
        Some(_) => ItemDecision::KeepChanged,
        None => ItemDecision::KeepForeign,
    }
}

impl InstallManifest {
    pub(crate) fn entry(&self, path: &Path) -> Option<&ManifestEntry> {
        self.entries.iter().find(|entry| entry.path() == path)
    }

    pub(crate) fn entries(&self) -> &[ManifestEntry] {
        &self.entries
    }

    pub(crate) fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    pub(crate) const fn containers_conf(&self) -> Option<&ConfManifestEntry> {
        self.containers_conf.as_ref()
    }

    pub(crate) fn set_containers_conf(&mut self, entry: Option<ConfManifestEntry>) {
        self.containers_conf = entry;
    }

    /// Adds the content that is about to be written at `path`.
    pub(crate) fn add(&mut self, path: &Path, content: &ItemContent) {
        let mut new = ManifestEntry::new(path, content);
        let known = self.entries.iter_mut().find(|entry| entry.path() == path);
        let Some(known) = known else {
            self.entries.push(new);
            return;
        };
        match (&mut new, &*known) {
            (ManifestEntry::File { sha256, .. }, ManifestEntry::File { sha256: old, .. }) => {
                sha256.extend(old.iter().cloned());
                sha256.dedup();
            }
            (ManifestEntry::Link { targets, .. }, ManifestEntry::Link { targets: old, .. }) => {
                targets.extend(old.iter().cloned());
                targets.dedup();
            }
            _ => {}
        }
        *known = new;
    }

    /// Forgets the contents before the newest, which was written.
    pub(crate) fn settle(&mut self, path: &Path) {
        for entry in &mut self.entries {
            match entry {
                ManifestEntry::File { path: own, sha256 } if own == path => sha256.truncate(1),
                ManifestEntry::Link { path: own, targets } if own == path => targets.truncate(1),
                _ => {}
            }
        }
    }

    pub(crate) fn remove(&mut self, path: &Path) {
        self.entries.retain(|entry| entry.path() != path);
    }

    pub(crate) fn add_directory(&mut self, path: &Path) {
        if !self.directories.iter().any(|known| known == path) {
            self.directories.push(path.to_owned());
        }
    }

    pub(crate) fn remove_directory(&mut self, path: &Path) {
        self.directories.retain(|known| known != path);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.containers_conf.is_none()
    }
}

/// The list on disk, locked against another setup.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    path: PathBuf,
    /// The lock of the directory; `None` if there is no directory.
    lock: Option<File>,
    /// The permissions of new directories; `None` leaves them to the caller's umask.
    directory_mode: Option<u32>,
    pub(crate) manifest: InstallManifest,
}

impl ManifestFile {
    /// Reads the list of a host, and locks it. Changes nothing.
    pub(crate) fn open(directories: &HostDirectories) -> Result<Self, ManifestError> {
        let path = directories.state.join(FILE_NAME);
        let lock = lock_directory(&directories.state)?;
        let manifest = read_manifest(&path)?;
        // podman of every user reads the machine's hooks, and fails if it cannot.
        let is_machine = directories.scope == SetupScope::Machine;
        Ok(Self {
            path,
            lock,
            directory_mode: is_machine.then_some(0o755),
            manifest,
        })
    }

    /// Returns `true` if there is a list on disk.
    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Removes what an interrupted write of the list has left.
    pub(crate) fn remove_leftover(&self) -> Result<(), ManifestError> {
        Ok(remove_leftover(&self.path)?)
    }

    /// Writes the list, and makes its directory.
    pub(crate) fn save(&mut self) -> Result<(), ManifestError> {
        let missing = missing_directories(&self.path);
        for directory in &missing {
            make_directory(directory, self.directory_mode)?;
            self.manifest.add_directory(directory);
        }
        if self.lock.is_none() {
            let directory = self.path.parent().unwrap_or(&self.path);
            self.lock = lock_directory(directory)?;
        }
        self.manifest.version = VERSION;
        let mut text = serde_json::to_string_pretty(&self.manifest).map_err(|source| {
            ManifestError::Damaged {
                path: self.path.clone(),
                source,
            }
        })?;
        text.push('\n');
        write_file(&self.path, text.as_bytes(), 0o600, WriteMode::Replace)?;
        Ok(())
    }

    /// Makes the directories above `path`, each in the list before it is made.
    pub(crate) fn make_directories(&mut self, path: &Path) -> Result<(), ManifestError> {
        let missing = missing_directories(path);
        if missing.is_empty() {
            return Ok(());
        }
        for directory in &missing {
            self.manifest.add_directory(directory);
        }
        self.save()?;
        for directory in &missing {
            make_directory(directory, self.directory_mode)?;
        }
        Ok(())
    }

    /// Removes the directories that were made and are empty, then the list if nothing is left to
    /// remove. Returns the removed directories.
    pub(crate) fn finish_removal(mut self) -> Result<Vec<PathBuf>, ManifestError> {
        let is_empty = self.manifest.is_empty();
        let state = self.path.parent().map(Path::to_owned).unwrap_or_default();
        let mut directories: Vec<_> = self.manifest.directories().to_vec();
        directories.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
        if is_empty {
            remove_leftover(&self.path)?;
            remove_file(&self.path)?;
        }
        let mut removed = Vec::new();
        for directory in directories {
            if !is_empty && state.starts_with(&directory) {
                continue;
            }
            if remove_empty_directory(&directory)? {
                removed.push(directory.clone());
            } else if directory.exists() {
                // Removed by the next uninstall, if it is empty then.
                continue;
            }
            self.manifest.remove_directory(&directory);
        }
        if !is_empty {
            self.save()?;
        }
        Ok(removed)
    }
}

fn read_manifest(path: &Path) -> Result<InstallManifest, ManifestError> {
    let bytes = match DiskEntry::at(path)? {
        DiskEntry::File { bytes } => bytes,
        DiskEntry::Missing => return Ok(InstallManifest::default()),
        DiskEntry::Link { .. } | DiskEntry::Other => {
            let error = std::io::ErrorKind::InvalidData.into();
            return Err(FileChangeError::new("read", path, error).into());
        }
    };
    let damaged = |source| ManifestError::Damaged {
        path: path.to_owned(),
        source,
    };
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
    let version = value.get("version").and_then(serde_json::Value::as_u64);
    if version.is_some_and(|version| version > u64::from(VERSION)) {
        return Err(ManifestError::Newer {
            path: path.to_owned(),
        });
    }
    serde_json::from_value(value).map_err(damaged)
}

fn lock_directory(directory: &Path) -> Result<Option<File>, ManifestError> {
    let failed = |error| FileChangeError::new("open", directory, error);
    let file = match File::open(directory) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error).into()),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Err(ManifestError::Busy {
            path: directory.to_owned(),
        }),
        Err(error) => Err(failed(error.into()).into()),
    }
}

#[cfg(test)]
mod tests {
    use crate::UserDirectories;

    use super::*;

    fn file(text: &str) -> ItemContent {
        ItemContent::File(text.into())
    }

    fn open(state: &Path) -> Result<ManifestFile, ManifestError> {
        let user = UserDirectories {
            home: "/nonexistent".into(),
            config: "/nonexistent".into(),
            data: "/nonexistent".into(),
            state: state.into(),
            runtime: "/nonexistent".into(),
        };
        ManifestFile::open(&HostDirectories::of_user(&user, Path::new("/")))
    }

    fn on_disk(text: &str) -> DiskEntry {
        DiskEntry::File { bytes: text.into() }
    }

    #[test]
    fn only_what_was_installed_is_replaced() {
        let path = Path::new("/x");
        let known = ManifestEntry::new(path, &file("old"));
        let link = DiskEntry::Link {
            target: "/t".into(),
        };
        for (known, found, expected) in [
            (None, DiskEntry::Missing, ItemDecision::Create),
            (Some(&known), DiskEntry::Missing, ItemDecision::Create),
            (None, on_disk("new"), ItemDecision::Unchanged),
            (Some(&known), on_disk("new"), ItemDecision::Unchanged),
            (Some(&known), on_disk("old"), ItemDecision::Replace),
            (Some(&known), on_disk("mine"), ItemDecision::KeepChanged),
            (None, on_disk("old"), ItemDecision::KeepForeign),
            (Some(&known), link.clone(), ItemDecision::KeepChanged),
            (None, link, ItemDecision::KeepForeign),
            (None, DiskEntry::Other, ItemDecision::KeepForeign),
        ] {
            assert_eq!(decide(&file("new"), known, &found), expected, "{found:?}");
        }
    }

    #[test]
    fn while_a_file_is_replaced_both_contents_are_known() {
        let path = Path::new("/x");
        let mut manifest = InstallManifest::default();
        for text in ["1", "2"] {
            manifest.add(path, &file(text));
        }
        for text in ["1", "2"] {
            assert!(manifest.entry(path).unwrap().matches(&on_disk(text)));
        }
        manifest.settle(path);
        assert!(!manifest.entry(path).unwrap().matches(&on_disk("1")));
        assert!(manifest.entry(path).unwrap().matches(&on_disk("2")));
        manifest.remove(path);
        assert!(manifest.is_empty());
    }

    #[test]
    fn the_list_is_locked_saved_and_removed_with_its_directories() {
        let place = tempfile::tempdir().unwrap();
        let state = place.path().join("state");
        let mut list = open(&state).unwrap();
        assert!(!list.exists() && !state.exists());
        list.manifest.add(Path::new("/x"), &file("1"));
        list.save().unwrap();
        let busy = open(&state).unwrap_err();
        assert!(matches!(busy, ManifestError::Busy { .. }));
        let saved = list.manifest.clone();
        drop(list);
        let mut list = open(&state).unwrap();
        assert_eq!(list.manifest, saved);
        list.make_directories(&place.path().join("a/b/c")).unwrap();
        assert!(place.path().join("a/b").is_dir());
        list.manifest.remove(Path::new("/x"));
        assert_eq!(list.finish_removal().unwrap().len(), 4);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_or_newer_list_is_refused() {
        let place = tempfile::tempdir().unwrap();
        for (text, is_newer) in [("", false), ("{\"version\":2}", true), ("[]", false)] {
            let state = place.path().join("terok-clearance");
            std::fs::create_dir_all(&state).unwrap();
            std::fs::write(state.join(FILE_NAME), text).unwrap();
            let refused = open(place.path()).unwrap_err();
            assert_eq!(matches!(refused, ManifestError::Newer { .. }), is_newer);
        }
    }
}
