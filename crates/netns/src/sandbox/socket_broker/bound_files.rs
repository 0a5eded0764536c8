// SPDX-License-Identifier: Apache-2.0
//! The socket files that a workload may connect to.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;

/// Maximum socket files bound inside that are kept, where the limit of open files permits it. The
/// oldest one is given up for a new one.
pub(super) const MAX_BOUND_FILES: usize = 16_384;
/// Files kept before the first look for removed ones.
const MIN_PRUNED_FILES: usize = 64;

/// A file, by its file system and its number there (`st_dev`, `st_ino`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

/// The open files of the sockets that a workload bound, and of those that the operator handed in.
///
/// A socket file leads to the socket that it was created for, and to no other ever. The descriptor
/// keeps the file: its number is not given to another one. A connection goes through the
/// descriptor, never through a path, so that even a second file with the same number, on a file
/// system that does not number its files well, leads to a socket of the sandbox.
#[derive(Debug)]
pub(super) struct BoundFiles {
    handed_in: HashMap<FileId, OwnedFd>,
    inside: HashMap<FileId, BoundFile>,
    next_sequence: u64,
    prune_at: usize,
    limit: usize,
}

#[derive(Debug)]
struct BoundFile {
    file: OwnedFd,
    sequence: u64,
}

impl BoundFiles {
    /// Returns the set of the sockets that the operator handed in. At most `limit` others are kept.
    pub(super) fn new(
        handed_in: impl IntoIterator<Item = OwnedFd>,
        limit: usize,
    ) -> Result<Self, Errno> {
        let files = handed_in.into_iter();
        let files = files.map(|file| Ok((FileId::of_socket(&file)?, file)));
        Ok(Self {
            handed_in: files.collect::<Result<_, Errno>>()?,
            inside: HashMap::new(),
            next_sequence: 0,
            prune_at: MIN_PRUNED_FILES.min(limit),
            limit,
        })
    }

    /// Adds the file of a socket that was bound inside.
    pub(super) fn insert(&mut self, file: OwnedFd) -> Result<(), Errno> {
        let id = FileId::of_socket(&file)?;
        if self.inside.len() >= self.prune_at {
            self.prune();
        }
        if self.inside.len() >= self.limit {
            let oldest = self.inside.iter().min_by_key(|(_, file)| file.sequence);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                self.inside.remove(&oldest);
            }
        }
        let sequence = self.next_sequence;
        self.next_sequence = sequence.wrapping_add(1);
        self.inside.insert(id, BoundFile { file, sequence });
        Ok(())
    }

    /// Returns a path, for the calling process only, that leads to the file; `None` if a workload
    /// may not connect to it.
    pub(super) fn path_of(&self, id: FileId) -> Option<String> {
        let inside = self.inside.get(&id).map(|bound| &bound.file);
        let file = inside.or_else(|| self.handed_in.get(&id))?;
        Some(format!("/proc/self/fd/{}", file.as_raw_fd()))
    }

    /// Drops the files without a name, which nothing leads to any more.
    fn prune(&mut self) {
        self.inside
            .retain(|_, bound| fstat(bound.file.as_fd()).is_ok_and(|about| about.st_nlink > 0));
        let room = self.inside.len().saturating_mul(2);
        self.prune_at = room.max(MIN_PRUNED_FILES).min(self.limit);
    }
}

impl FileId {
    /// Returns the id of a socket file; `ECONNREFUSED` for another file, as from connect(2).
    pub(super) fn of_socket(file: &OwnedFd) -> Result<Self, Errno> {
        let about = fstat(file)?;
        if FileType::from_raw_mode(about.st_mode) != FileType::Socket {
            return Err(Errno::CONNREFUSED);
        }
        Ok(Self {
            device: about.st_dev,
            inode: about.st_ino,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use rustix::fs::{CWD, Mode, OFlags, openat};

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn only_known_socket_files_have_a_path() {
        let home = tempfile::tempdir().unwrap();
        let [known, other, given] = ["known", "other", "given"].map(|name| home.path().join(name));
        let _listeners = [&known, &other, &given].map(|path| UnixListener::bind(path).unwrap());
        let mut files = BoundFiles::new([open(&given)], MAX_BOUND_FILES).unwrap();
        files.insert(open(&known)).unwrap();
        let linked = home.path().join("linked");
        std::fs::hard_link(&known, &linked).unwrap();
        std::fs::remove_file(&known).unwrap();
        for (path, expected) in [(&linked, true), (&given, true), (&other, false)] {
            let id = FileId::of_socket(&open(path)).unwrap();
            assert_eq!(files.path_of(id).is_some(), expected, "{path:?}");
        }
        let plain = home.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        assert_eq!(
            FileId::of_socket(&open(&plain)).unwrap_err(),
            Errno::CONNREFUSED
        );
        assert_eq!(files.insert(open(&plain)), Err(Errno::CONNREFUSED));
    }

    #[test]
    fn the_oldest_file_is_given_up_at_the_limit() {
        let home = tempfile::tempdir().unwrap();
        let mut files = BoundFiles::new([], 3).unwrap();
        let ids: Vec<_> = (0..5)
            .map(|number| {
                let path = home.path().join(number.to_string());
                drop(UnixListener::bind(&path).unwrap());
                let file = open(&path);
                let id = FileId::of_socket(&file).unwrap();
                files.insert(file).unwrap();
                id
            })
            .collect();
        let kept: Vec<_> = ids.iter().map(|id| files.path_of(*id).is_some()).collect();
        assert_eq!(kept, [false, false, true, true, true]);
    }

    #[test]
    fn removed_files_are_dropped_and_no_number_is_used_twice_before() {
        let home = tempfile::tempdir().unwrap();
        let mut files = BoundFiles::new([], MAX_BOUND_FILES).unwrap();
        for number in 0..1000 {
            let path = home.path().join(number.to_string());
            drop(UnixListener::bind(&path).unwrap());
            let file = open(&path);
            let id = FileId::of_socket(&file).unwrap();
            assert_eq!(
                files.path_of(id),
                None,
                "{number} has the id of a kept file"
            );
            files.insert(file).unwrap();
            std::fs::remove_file(&path).unwrap();
        }
        assert!(
            files.inside.len() <= MIN_PRUNED_FILES,
            "{}",
            files.inside.len()
        );
    }
}
