// SPDX-License-Identifier: Apache-2.0
//! Reads files that no other user can have written.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// The largest file.
const MAX_BYTES: u64 = 256 * 1024;

/// A file cannot be read, or others could have written it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtectedFileError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file, or a directory above it.
        path: PathBuf,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// Others could have written the file.
    #[error("{} is not used", path.display())]
    Unprotected {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: WriteProtectionError,
    },
    /// The file is no text.
    #[error("{} is not UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// The file is too large.
    #[error("{} has more than 256 KiB", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Others could have written a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteProtectionError {
    /// The owner is another user.
    #[error("{} is owned by user {owner}, not by {}", path.display(), user_in_words(*expected))]
    Owner {
        /// The file, or a directory above it.
        path: PathBuf,
        /// The owner.
        owner: u32,
        /// The user that must be the owner.
        expected: u32,
    },
    /// The permissions let others write.
    #[error("{} is writable by others", path.display())]
    Writable {
        /// The file, or a directory above it.
        path: PathBuf,
    },
    /// It is no regular file.
    #[error("{} is not a file", path.display())]
    NotFile {
        /// The file.
        path: PathBuf,
    },
    /// A part of the path is a symbolic link.
    #[error("{} is a symbolic link", path.display())]
    SymbolicLink {
        /// The link.
        path: PathBuf,
    },
}

fn user_in_words(uid: u32) -> String {
    match uid {
        0 => "root".to_owned(),
        uid => format!("user {uid}"),
    }
}

/// Reads a file of the user `uid`; `None` if it does not exist. Symbolic links are followed,
/// because the file that counts is checked: it must be the user's or root's, and writable by its
/// owner alone.
pub(crate) fn read_user_file(path: &Path, uid: u32) -> Result<Option<String>, ProtectedFileError> {
    // A pipe must not stop the program.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) if path.symlink_metadata().is_err() => return Ok(None),
        Err(error) => return Err(read_error(path, error.into())),
    };
    let found = rustix::fs::fstat(&file).map_err(|error| read_error(path, error.into()))?;
    let owner = if found.st_uid == 0 { 0 } else { uid };
    check_file(path, &found, owner).map_err(|source| unprotected(path, source))?;
    read_text(path, file).map(Some)
}

/// Reads the file at the absolute `path` below the directory `root`; `None` if it does not exist.
/// The file and every directory of its path must belong to `owner` and be writable by the owner
/// alone, and none may be a symbolic link.
pub(crate) fn read_owned_file(
    root: &Path,
    path: &Path,
    owner: u32,
) -> Result<Option<String>, ProtectedFileError> {
    let directory_flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY;
    let opened = rustix::fs::open(root, directory_flags, Mode::empty());
    let mut directory = opened.map_err(|error| read_error(root, error.into()))?;
    let mut unsafe_directory = check_directory(Path::new("/"), &directory, owner)?;
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(read_error(path, io::ErrorKind::InvalidInput.into()));
            }
        }
    }
    let Some((file_name, directories)) = names.split_last() else {
        return Err(read_error(path, io::ErrorKind::InvalidInput.into()));
    };
    let mut at = PathBuf::from("/");
    for name in directories {
        at.push(name);
        let flags = directory_flags | OFlags::NOFOLLOW;
        directory = match rustix::fs::openat(&directory, *name, flags, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(open_error(path, &at, &directory, name, error)),
        };
        let checked = check_directory(&at, &directory, owner)?;
        unsafe_directory = unsafe_directory.or(checked);
    }
    let flags =
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    at.push(file_name);
    let file = match rustix::fs::openat(&directory, *file_name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(open_error(path, &at, &directory, file_name, error)),
    };
    // Only a file that exists can be wrong: a user namespace without root has directories of
    // others all the way down.
    if let Some(source) = unsafe_directory {
        return Err(unprotected(path, source));
    }
    let found = rustix::fs::fstat(&file).map_err(|error| read_error(path, error.into()))?;
    check_file(&at, &found, owner).map_err(|source| unprotected(path, source))?;
    read_text(path, file).map(Some)
}

/// Returns what lets others write to a directory.
fn check_directory(
    path: &Path,
    directory: &rustix::fd::OwnedFd,
    owner: u32,
) -> Result<Option<WriteProtectionError>, ProtectedFileError> {
    let found = rustix::fs::fstat(directory).map_err(|error| read_error(path, error.into()))?;
    Ok(check_owner(path, &found, owner).err())
}

fn check_file(path: &Path, found: &Stat, owner: u32) -> Result<(), WriteProtectionError> {
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        let path = path.to_owned();
        return Err(WriteProtectionError::NotFile { path });
    }
    check_owner(path, found, owner)
}

/// Access control lists count: the bits of the group are their mask.
fn check_owner(path: &Path, found: &Stat, expected: u32) -> Result<(), WriteProtectionError> {
    let path = path.to_owned();
    let owner = found.st_uid;
    if owner != expected {
        return Err(WriteProtectionError::Owner {
            path,
            owner,
            expected,
        });
    }
    if Mode::from_raw_mode(found.st_mode).intersects(Mode::WGRP | Mode::WOTH) {
        return Err(WriteProtectionError::Writable { path });
    }
    Ok(())
}

fn open_error(
    file: &Path,
    at: &Path,
    directory: &rustix::fd::OwnedFd,
    name: &std::ffi::OsStr,
    error: Errno,
) -> ProtectedFileError {
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    let is_link = rustix::fs::statat(directory, name, flags)
        .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink);
    if is_link {
        let path = at.to_owned();
        return unprotected(file, WriteProtectionError::SymbolicLink { path });
    }
    read_error(at, error.into())
}

fn read_text(path: &Path, file: File) -> Result<String, ProtectedFileError> {
    let mut bytes = Vec::new();
    let limit = MAX_BYTES.saturating_add(1);
    let read = file.take(limit).read_to_end(&mut bytes);
    let read = read.map_err(|source| read_error(path, source))?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_BYTES) {
        let path = path.to_owned();
        return Err(ProtectedFileError::TooLarge { path });
    }
    let text = String::from_utf8(bytes).ok();
    text.ok_or_else(|| ProtectedFileError::NotText {
        path: path.to_owned(),
    })
}

fn read_error(path: &Path, source: io::Error) -> ProtectedFileError {
    ProtectedFileError::Read {
        path: path.to_owned(),
        source,
    }
}

fn unprotected(path: &Path, source: WriteProtectionError) -> ProtectedFileError {
    ProtectedFileError::Unprotected {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
