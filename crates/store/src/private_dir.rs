// SPDX-License-Identifier: Apache-2.0
//! A directory of the user, and files in it that only this user could have written.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use policy::MAX_RULE_FILE_BYTES;
use rustix::fs::{
    AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, fchmod, flock, fstat, fsync,
    mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use crate::{FileProblem, RuleStoreError};

/// The file whose lock a writer holds.
const LOCK_FILE: &str = ".lock";
/// The wait for another writer: the number of attempts, and the time between two of them.
const LOCK_ATTEMPTS: u64 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// An open directory that no other user can change.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    path: PathBuf,
    file: OwnedFd,
}

/// The exclusive right to write in a directory, until it is dropped.
#[derive(Debug)]
pub(crate) struct WriterLock {
    _file: OwnedFd,
}

impl PrivateDir {
    /// Opens a directory, which may be reached through links; `None` if it does not exist.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, RuleStoreError> {
        Self::open_at(CWD, path, path.to_owned(), OFlags::empty())
    }

    /// Opens a directory in this one; `None` if it does not exist.
    ///
    /// A link is refused: it could lead into a work tree, while only this directory is protected
    /// from workloads.
    pub(crate) fn open_below(&self, name: &str) -> Result<Option<Self>, RuleStoreError> {
        let path = self.entry_path(name);
        Self::open_at(self.file.as_fd(), Path::new(name), path, OFlags::NOFOLLOW)
    }

    fn open_at(
        above: BorrowedFd<'_>,
        name: &Path,
        path: PathBuf,
        links: OFlags,
    ) -> Result<Option<Self>, RuleStoreError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | links;
        let failed = |problem: FileProblem| problem.at(&path);
        let file = match openat(above, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            // The kernel tells a link from a file only by a look at it.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let stat = statat(above, name, AtFlags::SYMLINK_NOFOLLOW);
                let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
                return Err(failed(match kind {
                    Ok(FileType::Symlink) => FileProblem::SymbolicLink,
                    _ => FileProblem::NotDirectory,
                }));
            }
            Err(error) => return Err(failed(FileProblem::io("cannot open it", error))),
        };
        let stat =
            fstat(&file).map_err(|error| failed(FileProblem::io("cannot read it", error)))?;
        check_owner(&stat).map_err(failed)?;
        Ok(Some(Self { path, file }))
    }

    /// Opens a directory, which is created together with those above it if it is missing.
    pub(crate) fn create(path: &Path) -> Result<Self, RuleStoreError> {
        if let Some(existing) = Self::open(path)? {
            return Ok(existing);
        }
        for directory in ancestors_from_root(path) {
            match mkdirat(CWD, directory, Mode::RWXU) {
                Ok(()) => sync_parent(directory)?,
                Err(Errno::EXIST) => {}
                // A directory above may exist on a file system that is read-only.
                Err(_) if directory != path => {}
                Err(error) => {
                    return Err(FileProblem::io("cannot create it", error).at(directory));
                }
            }
        }
        Self::open(path)?.ok_or_else(|| FileProblem::io("cannot open it", Errno::NOENT).at(path))
    }

    /// Opens a directory in this one, which is created if it is missing.
    pub(crate) fn create_below(&self, name: &str) -> Result<Self, RuleStoreError> {
        let path = self.entry_path(name);
        let failed = |error| FileProblem::io("cannot create it", error).at(&path);
        match mkdirat(&self.file, name, Mode::RWXU) {
            Ok(()) => fsync(&self.file).map_err(failed)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        self.open_below(name)?.ok_or_else(|| failed(Errno::NOENT))
    }

    /// Returns the path of an entry.
    pub(crate) fn entry_path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Returns `true` if an entry of this name exists, whatever it is.
    pub(crate) fn has_entry(&self, name: &str) -> Result<bool, RuleStoreError> {
        match statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => {
                Err(FileProblem::io("cannot look at it", error).at(&self.entry_path(name)))
            }
        }
    }

    /// Reads a file of this user; `None` if it does not exist.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, RuleStoreError> {
        let failed = |problem: FileProblem| problem.at(&self.entry_path(name));
        let Some(file) = open_regular(&self.file, name).map_err(failed)? else {
            return Ok(None);
        };
        let stat =
            fstat(&file).map_err(|error| failed(FileProblem::io("cannot read it", error)))?;
        check_owner(&stat).map_err(failed)?;
        read_limited(file).map(Some).map_err(failed)
    }

    /// Lists the names of the entries that are UTF-8, in order.
    pub(crate) fn names(&self) -> Result<Vec<String>, RuleStoreError> {
        let failed = |error: io::Error| FileProblem::io("cannot list it", error).at(&self.path);
        let mut names = Vec::new();
        let entries =
            rustix::fs::Dir::read_from(&self.file).map_err(|error| failed(error.into()))?;
        for entry in entries {
            let entry = entry.map_err(|error| failed(error.into()))?;
            if let Ok(name) = entry.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Waits for the right to write.
    pub(crate) fn lock(&self) -> Result<WriterLock, RuleStoreError> {
        self.lock_within(LOCK_ATTEMPTS)
    }

    fn lock_within(&self, attempts: u64) -> Result<WriterLock, RuleStoreError> {
        let failed = |problem: FileProblem| problem.at(&self.entry_path(LOCK_FILE));
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.file, LOCK_FILE, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| failed(FileProblem::io("cannot open it", error)))?;
        for _ in 0..attempts {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(WriterLock { _file: file }),
                Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(LOCK_PAUSE),
                Err(error) => return Err(failed(FileProblem::io("cannot lock it", error))),
            }
        }
        let waited = LOCK_PAUSE.saturating_mul(u32::try_from(attempts).unwrap_or(u32::MAX));
        Err(failed(FileProblem::Locked {
            seconds: waited.as_secs(),
        }))
    }

    /// Replaces a file as a whole, also if this process or the machine ends in between.
    pub(crate) fn replace(
        &self,
        _lock: &WriterLock,
        name: &str,
        text: &str,
    ) -> Result<(), RuleStoreError> {
        let temporary = format!(".{name}.new");
        let written = self.write_new(&temporary, text).and_then(|()| {
            renameat(&self.file, &temporary, &self.file, name)
                .map_err(|error| FileProblem::io("cannot replace it", error))
        });
        if let Err(problem) = written {
            // Fails if the file was not created.
            let removed = unlinkat(&self.file, &temporary, AtFlags::empty());
            tracing::debug!(?removed, "removed a file that was not completely written");
            return Err(problem.at(&self.entry_path(name)));
        }
        fsync(&self.file).map_err(|error| {
            FileProblem::io("cannot write its directory", error).at(&self.entry_path(name))
        })
    }

    /// Writes a new file for this user alone. A file that an ended process left is replaced.
    fn write_new(&self, name: &str, text: &str) -> Result<(), FileProblem> {
        match unlinkat(&self.file, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(FileProblem::io("cannot remove an unfinished file", error)),
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = openat(&self.file, name, flags, mode)
            .map_err(|error| FileProblem::io("cannot create a file beside it", error))?;
        fchmod(&file, mode).map_err(|error| FileProblem::io("cannot make it private", error))?;
        let mut file = File::from(file);
        file.write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|error| FileProblem::io("cannot write it", error))
    }
}

/// Opens a regular file without following a link and without waiting; `None` if it does not exist.
pub(crate) fn open_regular(directory: &OwnedFd, name: &str) -> Result<Option<File>, FileProblem> {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(directory, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(FileProblem::SymbolicLink),
        // A socket.
        Err(Errno::NXIO) => return Err(FileProblem::NotRegular),
        Err(error) => return Err(FileProblem::io("cannot open it", error)),
    };
    let stat = fstat(&file).map_err(|error| FileProblem::io("cannot read it", error))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(FileProblem::NotRegular);
    }
    Ok(Some(file.into()))
}

/// Reads a file up to one byte above the limit of rule files, which the parser then refuses.
pub(crate) fn read_limited(file: File) -> Result<Vec<u8>, FileProblem> {
    let limit = u64::try_from(MAX_RULE_FILE_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| FileProblem::io("cannot read it", error))?;
    Ok(bytes)
}

/// Checks that this user alone can change the file.
fn check_owner(stat: &Stat) -> Result<(), FileProblem> {
    let own = rustix::process::geteuid().as_raw();
    if stat.st_uid != own {
        return Err(FileProblem::OtherOwner { owner: stat.st_uid });
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    if mode.intersects(Mode::WGRP | Mode::WOTH) {
        let mode = mode.bits();
        return Err(FileProblem::OthersWrite { mode });
    }
    Ok(())
}

/// Returns the path and the directories above it, the shortest first.
fn ancestors_from_root(path: &Path) -> Vec<&Path> {
    let mut ancestors: Vec<_> = path.ancestors().collect();
    ancestors.retain(|ancestor| !ancestor.as_os_str().is_empty());
    ancestors.reverse();
    ancestors
}

/// Writes the entry of a new directory to disk.
fn sync_parent(directory: &Path) -> Result<(), RuleStoreError> {
    let Some(parent) = directory.parent() else {
        return Ok(());
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, parent, flags, Mode::empty())
        .and_then(|parent| fsync(&parent))
        .map_err(|error| FileProblem::io("cannot write it to disk", error).at(parent))
}

#[cfg(test)]
mod tests;
