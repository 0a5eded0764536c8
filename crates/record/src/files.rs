// SPDX-License-Identifier: Apache-2.0
//! The files of a record: their names, and how they are opened.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

/// The name of the newest file in the directory of a user's state.
pub const FILE_NAME: &str = "audit.jsonl";
/// The size at which a file is closed and a new one begun, unless another is given.
pub const DEFAULT_ROTATE_BYTES: u64 = 16 << 20;
/// The number of older files that are kept, unless another is given.
pub const DEFAULT_KEPT_FILES: u32 = 8;
/// Maximum number of older files.
const MAX_KEPT_FILES: u32 = 999;

/// Where the record is, and how much of it is kept.
#[derive(Debug, Clone)]
pub struct RecordConfig {
    /// The newest file. The older ones have its name and `.1`, `.2` and so on; `.1` is the newest
    /// of these.
    pub path: PathBuf,
    /// The size at which a new file is begun.
    pub rotate_bytes: u64,
    /// The number of older files that are kept: 1 to 999.
    pub keep: u32,
}

impl RecordConfig {
    /// Returns the configuration for a record at `path` with the default limits.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            rotate_bytes: DEFAULT_ROTATE_BYTES,
            keep: DEFAULT_KEPT_FILES,
        }
    }

    pub(crate) fn kept_files(&self) -> u32 {
        self.keep.clamp(1, MAX_KEPT_FILES)
    }
}

/// A file or the directory of the record cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFileError {
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The failed operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// The path is a symbolic link.
    #[error("{} is a symbolic link; the record follows none", .0.display())]
    SymbolicLink(PathBuf),
    /// The path is no regular file.
    #[error("{} is no regular file", .0.display())]
    NotRegular(PathBuf),
    /// The file or the directory belongs to another user.
    #[error("{} belongs to user {uid}", path.display())]
    OtherOwner {
        /// The file or the directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// Other users could write to the file or the directory.
    #[error("other users can write to {}; run `chmod go-w` on it if it is yours", .0.display())]
    OthersWrite(PathBuf),
}

impl RecordFileError {
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source: source.into(),
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// The identity of a file, which a rotation does not change.
pub(crate) type FileId = (u64, u64);

pub(crate) fn file_id(file: &File) -> io::Result<FileId> {
    let found = file.metadata()?;
    Ok((found.dev(), found.ino()))
}

/// Returns `true` if the path leads to the open file.
pub(crate) fn is_at_path(file: &File, path: &Path) -> bool {
    let (Ok(id), Ok(found)) = (file_id(file), fs::symlink_metadata(path)) else {
        return false;
    };
    id == (found.dev(), found.ino())
}

/// The paths of the files of a record.
#[derive(Debug, Clone)]
pub(crate) struct RecordPaths {
    path: PathBuf,
}

impl RecordPaths {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
        }
    }

    /// Returns the newest file.
    pub(crate) fn newest(&self) -> &Path {
        &self.path
    }

    /// Returns the older file with this number, from 1.
    pub(crate) fn older(&self, number: u32) -> PathBuf {
        self.with_suffix(&format!(".{number}"))
    }

    /// Returns the file that is locked while the record changes.
    pub(crate) fn lock(&self) -> PathBuf {
        self.with_suffix(".lock")
    }

    /// Returns the directory of the files.
    pub(crate) fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        }
    }

    fn with_suffix(&self, suffix: &str) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(suffix);
        path.into()
    }

    /// Returns the numbers of the older files that exist, the oldest first.
    pub(crate) fn older_numbers(&self) -> io::Result<Vec<u32>> {
        let Some(name) = self.path.file_name() else {
            return Ok(Vec::new());
        };
        let mut numbers = Vec::new();
        for entry in fs::read_dir(self.directory())? {
            let found = entry?.file_name();
            let suffix = found
                .as_encoded_bytes()
                .strip_prefix(name.as_encoded_bytes())
                .and_then(|rest| rest.strip_prefix(b"."));
            let number = suffix.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
            // `.01` and `.+1` are files of somebody else.
            numbers.extend(number.filter(|number| self.older(*number).file_name() == Some(&found)));
        }
        numbers.sort_unstable_by(|one: &u32, other| other.cmp(one));
        Ok(numbers)
    }

    /// Creates the directory with mode 0700 if it is missing, and checks that no other user can
    /// write to it.
    pub(crate) fn ensure_directory(&self) -> Result<(), RecordFileError> {
        let directory = self.directory();
        let error = |action| move |source| RecordFileError::io(action, directory, source);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(error("create"))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(CWD, directory, flags, Mode::empty())
            .map_err(|source| open_error(directory, source))?;
        check_owner(directory, &opened)
    }
}

/// Opens a file of the record for appending, and creates it with mode 0600.
pub(crate) fn open_to_append(path: &Path) -> Result<File, RecordFileError> {
    open_own(path, OFlags::RDWR | OFlags::APPEND | OFlags::CREATE)
}

/// Opens an existing file of the record for reading, and checks that only its user writes to it.
pub(crate) fn open_own_to_read(path: &Path) -> Result<File, RecordFileError> {
    open_own(path, OFlags::RDONLY)
}

fn open_own(path: &Path, flags: OFlags) -> Result<File, RecordFileError> {
    let file = open_regular(path, flags)?;
    check_owner(path, &file)?;
    Ok(file)
}

/// Opens a regular file without following a link. Never blocks.
pub(crate) fn open_regular(path: &Path, flags: OFlags) -> Result<File, RecordFileError> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let mode = Mode::RUSR | Mode::WUSR;
    let opened: OwnedFd =
        rustix::fs::open(path, flags, mode).map_err(|source| open_error(path, source))?;
    let found = rustix::fs::fstat(&opened)
        .map_err(|source| RecordFileError::io("inspect", path, source))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(RecordFileError::NotRegular(path.to_owned()));
    }
    Ok(opened.into())
}

fn open_error(path: &Path, source: Errno) -> RecordFileError {
    match source {
        Errno::LOOP => RecordFileError::SymbolicLink(path.to_owned()),
        Errno::NOTDIR if path.is_symlink() => RecordFileError::SymbolicLink(path.to_owned()),
        Errno::ISDIR | Errno::NXIO => RecordFileError::NotRegular(path.to_owned()),
        _ => RecordFileError::io("open", path, source),
    }
}

fn check_owner(path: &Path, opened: impl std::os::fd::AsFd) -> Result<(), RecordFileError> {
    let found =
        rustix::fs::fstat(opened).map_err(|source| RecordFileError::io("inspect", path, source))?;
    if found.st_uid != rustix::process::geteuid().as_raw() {
        let uid = found.st_uid;
        let path = path.to_owned();
        return Err(RecordFileError::OtherOwner { path, uid });
    }
    if Mode::from_raw_mode(found.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        return Err(RecordFileError::OthersWrite(path.to_owned()));
    }
    Ok(())
}
