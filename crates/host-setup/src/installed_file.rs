// SPDX-License-Identifier: Apache-2.0
//! Files, links and directories on disk: what is there, and changes as a whole or not at all.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::{Digest as _, Sha256};

/// A file, link or directory cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct FileChangeError {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl FileChangeError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            action,
            path: path.to_owned(),
            source,
        }
    }

    /// Returns the file, link or directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DiskEntry {
    Missing,
    File { bytes: Vec<u8> },
    Link { target: PathBuf },
    Other,
}

/// Maximum bytes of a file that is read.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

impl DiskEntry {
    /// Returns what is at `path`, without following a link there.
    pub(crate) fn at(path: &Path) -> Result<Self, FileChangeError> {
        let failed = |error| FileChangeError::new("read", path, error);
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(Self::Missing),
            Err(error) => return Err(failed(error)),
        };
        if found.is_symlink() {
            let target = fs::read_link(path).map_err(failed)?;
            return Ok(Self::Link { target });
        }
        if !found.is_file() || found.len() > MAX_BYTES {
            return Ok(Self::Other);
        }
        let bytes = fs::read(path).map_err(failed)?;
        Ok(Self::File { bytes })
    }
}

/// Returns `true` if a path or a directory of it does not exist.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Returns the SHA-256 of `bytes` in hexadecimal digits.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).unwrap_or_default();
    let digest = Sha256::digest(bytes);
    let digits = digest
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
    digits.collect()
}

/// Whether something may be at the path of a new file or link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteMode {
    /// What is there stays, and the write fails.
    New,
    /// What is there is replaced.
    Replace,
}

/// Writes a file of `mode` as a whole, also if the machine stops in between.
pub(crate) fn write_file(
    path: &Path,
    bytes: &[u8],
    permissions: u32,
    mode: WriteMode,
) -> Result<(), FileChangeError> {
    let temporary = temporary_path(path);
    let failed = |error| FileChangeError::new("write", path, error);
    let write = || {
        remove_if_exists(&temporary)?;
        let mut options = File::options();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(bytes)?;
        file.set_permissions(fs::Permissions::from_mode(permissions))?;
        file.sync_all()
    };
    let written = write().and_then(|()| move_into_place(&temporary, path, mode));
    written.map_err(failed)
}

/// Makes a symbolic link.
pub(crate) fn write_link(
    path: &Path,
    target: &Path,
    mode: WriteMode,
) -> Result<(), FileChangeError> {
    let temporary = temporary_path(path);
    let write = || {
        remove_if_exists(&temporary)?;
        std::os::unix::fs::symlink(target, &temporary)
    };
    let written = write().and_then(|()| move_into_place(&temporary, path, mode));
    written.map_err(|error| FileChangeError::new("write", path, error))
}

/// Removes a file or link; `false` if there is none.
pub(crate) fn remove_file(path: &Path) -> Result<bool, FileChangeError> {
    let removed = remove_if_exists(path).and_then(|removed| {
        if removed {
            sync_directory(path)?;
        }
        Ok(removed)
    });
    removed.map_err(|error| FileChangeError::new("remove", path, error))
}

/// Removes what an interrupted write of `path` has left.
pub(crate) fn remove_leftover(path: &Path) -> Result<(), FileChangeError> {
    remove_file(&temporary_path(path)).map(drop)
}

/// Makes one directory; `false` if it exists. `mode` are its permissions, whatever the umask says.
pub(crate) fn make_directory(path: &Path, mode: Option<u32>) -> Result<bool, FileChangeError> {
    let make = || {
        fs::create_dir(path)?;
        if let Some(mode) = mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        sync_directory(path)
    };
    match make() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(FileChangeError::new("make the directory", path, error)),
    }
}

/// Removes a directory if it is empty; `false` if it is not, or is missing.
pub(crate) fn remove_empty_directory(path: &Path) -> Result<bool, FileChangeError> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(error) => Err(FileChangeError::new("remove", path, error)),
    }
}

/// Returns the directories above `path` that do not exist, the outermost first.
pub(crate) fn missing_directories(path: &Path) -> Vec<PathBuf> {
    let above = path.ancestors().skip(1);
    let missing = above.take_while(|directory| {
        let is_missing = fs::symlink_metadata(directory).is_err();
        is_missing && !directory.as_os_str().is_empty()
    });
    let mut missing: Vec<_> = missing.map(Path::to_owned).collect();
    missing.reverse();
    missing
}

/// Returns where a file is written before it is moved: in the same directory, so that the move is
/// atomic, and with another extension, because podman and systemd read files by theirs.
fn temporary_path(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".clearance-new");
    path.with_file_name(name)
}

fn move_into_place(temporary: &Path, path: &Path, mode: WriteMode) -> io::Result<()> {
    let flags = match mode {
        WriteMode::New => RenameFlags::NOREPLACE,
        WriteMode::Replace => RenameFlags::empty(),
    };
    let moved = renameat_with(CWD, temporary, CWD, path, flags);
    if let Err(error) = moved {
        remove_if_exists(temporary)?;
        return Err(error.into());
    }
    sync_directory(path)
}

/// Writes the directory of `path` to disk.
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn remove_if_exists(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_replaces_nothing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a");
        write_file(&path, b"1", 0o644, WriteMode::New).unwrap();
        write_file(&path, b"2", 0o644, WriteMode::New).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"1");
        write_file(&path, b"3", 0o640, WriteMode::Replace).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"3");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o640
        );
        write_link(&path, Path::new("/x"), WriteMode::New).unwrap_err();
        write_link(&path, Path::new("/x"), WriteMode::Replace).unwrap();
        let target = PathBuf::from("/x");
        assert_eq!(DiskEntry::at(&path).unwrap(), DiskEntry::Link { target });
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_an_interrupted_write_left_is_replaced_and_removed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a");
        fs::write(temporary_path(&path), "half").unwrap();
        write_file(&path, b"1", 0o644, WriteMode::New).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        fs::write(temporary_path(&path), "half").unwrap();
        remove_leftover(&path).unwrap();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn missing_directories_are_listed_from_outside() {
        let place = tempfile::tempdir().unwrap();
        let missing = missing_directories(&place.path().join("a/b/c.txt"));
        let expected = ["a", "a/b"].map(|name| place.path().join(name));
        assert_eq!(missing, expected);
        for directory in &missing {
            assert!(make_directory(directory, Some(0o750)).unwrap());
        }
        assert!(!make_directory(&expected[0], None).unwrap());
        assert!(!remove_empty_directory(&expected[0]).unwrap());
        assert!(remove_empty_directory(&expected[1]).unwrap());
        assert!(!remove_empty_directory(&expected[1]).unwrap());
    }

    #[test]
    fn sha256_is_written_in_hexadecimal_digits() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(sha256_hex(b""), empty);
    }
}
