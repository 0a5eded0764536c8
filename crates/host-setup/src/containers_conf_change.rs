// SPDX-License-Identifier: Apache-2.0
//! Our hooks directory in podman's configuration files on disk.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::HostDirectories;
use containers::host_layout::HOOKS_DIRECTORY;

use crate::hooks_dir_list::{
    AddedHooksDir, DEFAULT_HOOKS_DIRS, HooksDirError, add_hooks_dir, read_hooks_dirs,
    remove_hooks_dir,
};
use crate::installed_file::{
    DiskEntry, FileChangeError, WriteMode, remove_file, sha256_hex, write_file,
};
use crate::manifest::ConfManifestEntry;

/// A configuration file of podman cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContainersConfError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileChangeError),
    /// The file is no text.
    #[error("{} is not a text file", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The content cannot be read or edited.
    #[error("cannot edit {}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: HooksDirError,
    },
}

/// A change that was not yet made.
#[derive(Debug)]
pub(crate) struct PlannedConfChange {
    pub(crate) entry: ConfManifestEntry,
    text: String,
    permissions: u32,
}

/// What is to be done about the list of hooks directories.
#[derive(Debug)]
pub(crate) enum ConfPlan {
    /// The file has the directory.
    Present(PathBuf),
    Change(Box<PlannedConfChange>),
}

/// Plans to add the hooks directory. Changes nothing.
pub(crate) fn plan_addition(
    directories: &HostDirectories,
    hooks: &str,
) -> Result<ConfPlan, ContainersConfError> {
    let path = deciding_file(directories)?;
    let (before, permissions) = match read_text(&path)? {
        Some(text) => {
            let found = path.metadata();
            let mode = found.map_or(0o644, |found| found.permissions().mode() & 0o7777);
            (Some(text), mode)
        }
        None => (None, 0o644),
    };
    let text = before.as_deref().unwrap_or_default();
    let inherited = inherited_directories(directories)?;
    let added = add_hooks_dir(text, hooks, &inherited).map_err(|source| {
        let path = path.clone();
        ContainersConfError::Content { path, source }
    })?;
    let Some(AddedHooksDir { text, inserted }) = added else {
        return Ok(ConfPlan::Present(path));
    };
    Ok(ConfPlan::Change(Box::new(PlannedConfChange {
        entry: ConfManifestEntry {
            path,
            directory: hooks.to_owned(),
            before,
            sha256_after: sha256_hex(text.as_bytes()),
            inserted,
        },
        text,
        permissions,
    })))
}

impl PlannedConfChange {
    pub(crate) fn apply(&self) -> Result<(), FileChangeError> {
        let mode = match self.entry.before {
            Some(_) => WriteMode::Replace,
            None => WriteMode::New,
        };
        write_file(
            &self.entry.path,
            self.text.as_bytes(),
            self.permissions,
            mode,
        )
    }
}

/// The removal of the hooks directory from a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfRemoval {
    /// The directory is in the file no more.
    Gone,
    /// The file was made by setup.
    RemoveFile,
    /// The file gets this text.
    Write(String),
}

/// Plans to remove the hooks directory. Changes nothing.
pub(crate) fn plan_removal(entry: &ConfManifestEntry) -> Result<ConfRemoval, ContainersConfError> {
    let Some(text) = read_text(&entry.path)? else {
        return Ok(ConfRemoval::Gone);
    };
    if sha256_hex(text.as_bytes()) == entry.sha256_after {
        return Ok(match &entry.before {
            Some(before) => ConfRemoval::Write(before.clone()),
            None => ConfRemoval::RemoveFile,
        });
    }
    let removed = remove_hooks_dir(&text, &entry.directory, entry.inserted.as_deref());
    let removed = removed.map_err(|source| ContainersConfError::Content {
        path: entry.path.clone(),
        source,
    })?;
    Ok(match removed {
        None => ConfRemoval::Gone,
        Some(text) if text.trim().is_empty() && entry.before.is_none() => ConfRemoval::RemoveFile,
        Some(text) => ConfRemoval::Write(text),
    })
}

impl ConfRemoval {
    pub(crate) fn apply(&self, path: &Path) -> Result<(), FileChangeError> {
        match self {
            Self::Gone => Ok(()),
            Self::RemoveFile => remove_file(path).map(drop),
            Self::Write(text) => {
                let found = path.metadata();
                let mode = found.map_or(0o644, |found| found.permissions().mode() & 0o7777);
                write_file(path, text.as_bytes(), mode, WriteMode::Replace)
            }
        }
    }
}

/// Returns the file whose list podman uses: the last of those that are read after
/// `containers.conf` and have one, else `containers.conf`. A link is followed, so that it stays.
fn deciding_file(directories: &HostDirectories) -> Result<PathBuf, ContainersConfError> {
    let mut files = conf_files_in(&directories.later_containers_confs());
    files.reverse();
    for file in files {
        if has_list(&file)? {
            return Ok(resolve(&file));
        }
    }
    Ok(resolve(&directories.containers_conf))
}

fn resolve(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

fn has_list(path: &Path) -> Result<bool, ContainersConfError> {
    let text = read_text(&resolve(path))?.unwrap_or_default();
    let list = read_hooks_dirs(&text).map_err(|source| ContainersConfError::Content {
        path: path.to_owned(),
        source,
    })?;
    Ok(list.is_some())
}

/// Returns the directories that podman uses without a list in the file.
fn inherited_directories(
    directories: &HostDirectories,
) -> Result<Vec<String>, ContainersConfError> {
    let mut inherited = DEFAULT_HOOKS_DIRS.map(str::to_owned).to_vec();
    for place in &directories.earlier_containers_confs {
        let files = if place.extension().is_some_and(|extension| extension == "d") {
            conf_files_in(place)
        } else {
            vec![place.clone()]
        };
        for file in files {
            let text = read_text(&resolve(&file))?.unwrap_or_default();
            // podman refuses to start with a file that is not readable.
            let list = read_hooks_dirs(&text).map_err(|source| ContainersConfError::Content {
                path: file.clone(),
                source,
            })?;
            match list {
                Some(list) if list.append => inherited.extend(list.directories),
                Some(list) => inherited = list.directories,
                None => {}
            }
        }
    }
    // The machine's hooks of this program have the names of the user's, which replace them.
    inherited.retain(|one| !Path::new(one).ends_with(HOOKS_DIRECTORY));
    Ok(inherited)
}

/// Returns the files `*.conf` of a directory, in podman's order.
fn conf_files_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    let mut files: Vec<_> = files
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .collect();
    files.sort();
    files
}

fn read_text(path: &Path) -> Result<Option<String>, ContainersConfError> {
    let not_text = || ContainersConfError::NotText {
        path: path.to_owned(),
    };
    match DiskEntry::at(path)? {
        DiskEntry::Missing => Ok(None),
        DiskEntry::File { bytes } => match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(not_text()),
        },
        DiskEntry::Link { .. } | DiskEntry::Other => Err(not_text()),
    }
}
