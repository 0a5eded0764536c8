// SPDX-License-Identifier: Apache-2.0
//! Reads a record, and then each line that is appended, through inotify(7).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;

use crate::files::RecordPaths;
use crate::{ReadRecordError, RecordFileError, RecordLine, RecordReader};

/// Reads all lines of a record, and those that are appended later. Rotations lose no line.
///
/// When [`RecordFollower::next_line`] returns `None`, wait until the descriptor is readable, call
/// [`RecordFollower::clear_events`], and read on.
#[derive(Debug)]
pub struct RecordFollower {
    inotify: OwnedFd,
    reader: RecordReader,
}

impl RecordFollower {
    /// Follows the record whose newest file is `path`. The record may be missing; its directory is
    /// created.
    pub fn open(path: &Path) -> Result<Self, ReadRecordError> {
        let paths = RecordPaths::new(path);
        paths.ensure_directory()?;
        let directory = paths.directory();
        let error = |source: Errno| RecordFileError::io("watch", directory, source);
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(error)?;
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        inotify::add_watch(&inotify, directory, flags | WatchFlags::ONLYDIR).map_err(error)?;
        // Opened after the watch exists, so that no line is missed.
        let reader = RecordReader::open_following(path)?;
        Ok(Self { inotify, reader })
    }

    /// Returns the next line; `None` if no further one has been appended yet.
    pub fn next_line(&mut self) -> Result<Option<RecordLine<'_>>, ReadRecordError> {
        self.reader.next_line()
    }

    /// Discards the notices about changes. To be called before the lines are read again.
    pub fn clear_events(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(_) => {}
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for RecordFollower {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
