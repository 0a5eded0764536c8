// SPDX-License-Identifier: Apache-2.0
//! Reads the lines of all files of a record, the oldest first.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

use crate::RecordFileError;
use crate::files::{FileId, RecordPaths, file_id, is_at_path, open_regular};
use crate::lock::RecordLock;
use crate::scanner::LineScanner;

/// Time to wait for a writer to finish.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The record cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadRecordError {
    /// There is no record.
    #[error("there is no record at {}", .0.display())]
    Missing(PathBuf),
    /// A file or the directory cannot be used.
    #[error(transparent)]
    File(#[from] RecordFileError),
    /// Reading failed.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
}

/// A line of a record.
#[derive(Debug, Clone, Copy)]
pub struct RecordLine<'a> {
    /// The line without its line break; of a line that is too long, the beginning.
    pub bytes: &'a [u8],
    /// The length of the line without its line break.
    pub length: u64,
    /// The file, as it was called when it was opened.
    pub file: &'a Path,
    /// The number of the line in the file, from 1.
    pub number: u64,
}

/// Reads the lines that a record had when the reader was opened.
#[derive(Debug)]
pub struct RecordReader {
    paths: RecordPaths,
    later_parts: VecDeque<RecordPart>,
    scanner: LineScanner<RecordPart>,
    line_number: u64,
    /// Whether lines that are appended later are read, too.
    follows: bool,
    /// Whether the current file gets no more lines.
    is_final: bool,
}

/// One file.
#[derive(Debug)]
struct RecordPart {
    path: PathBuf,
    /// `None` before the first file.
    file: Option<File>,
    /// The bytes to read.
    remaining: u64,
}

impl RecordPart {
    fn empty() -> Self {
        Self {
            path: PathBuf::new(),
            file: None,
            remaining: 0,
        }
    }

    fn id(&self) -> Option<FileId> {
        file_id(self.file.as_ref()?).ok()
    }
}

impl Read for RecordPart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(file) = &mut self.file else {
            return Ok(0);
        };
        let room = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let room = room.min(buffer.len());
        let read = file.read(buffer.get_mut(..room).unwrap_or_default())?;
        let bytes = u64::try_from(read).unwrap_or(u64::MAX);
        self.remaining = self.remaining.saturating_sub(bytes);
        Ok(read)
    }
}

impl RecordReader {
    /// Opens all files of the record whose newest file is `path`.
    ///
    /// Later lines and rotations do not disturb the reader.
    pub fn open(path: &Path) -> Result<Self, ReadRecordError> {
        let reader = Self::open_parts(path, false)?;
        if reader.later_parts.is_empty() {
            return Err(ReadRecordError::Missing(path.to_owned()));
        }
        Ok(reader)
    }

    /// Opens all files of a record that may be missing, for reading lines that are appended later
    /// as well.
    pub(crate) fn open_following(path: &Path) -> Result<Self, ReadRecordError> {
        Self::open_parts(path, true)
    }

    fn open_parts(path: &Path, follows: bool) -> Result<Self, ReadRecordError> {
        let paths = RecordPaths::new(path);
        Ok(Self {
            later_parts: open_files(&paths, follows)?,
            scanner: LineScanner::new(RecordPart::empty()),
            line_number: 0,
            follows,
            is_final: true,
            paths,
        })
    }

    /// Returns the number of files that are still to be read.
    pub fn files_left(&self) -> usize {
        self.later_parts.len()
    }

    /// Returns the next line; `None` at the end. A last line without a line break is a line, too.
    pub fn next_line(&mut self) -> Result<Option<RecordLine<'_>>, ReadRecordError> {
        let found = loop {
            let found = self.scanner.find_line();
            let path = || self.scanner.input().path.clone();
            match found.map_err(|source| ReadRecordError::Read {
                path: path(),
                source,
            })? {
                Some(found) => break found,
                None if self.is_final => match self.scanner.find_rest() {
                    Some(found) => break found,
                    None if self.start_next_part() => {}
                    None => return Ok(None),
                },
                // The rest of the file is read once more after the rotation was noticed.
                None if self.find_newer_files()? => self.is_final = true,
                None => return Ok(None),
            }
        };
        self.line_number = self.line_number.saturating_add(1);
        let line = self.scanner.line(&found);
        Ok(Some(RecordLine {
            bytes: line.bytes,
            length: line.length,
            file: &self.scanner.input().path,
            number: self.line_number,
        }))
    }

    fn start_next_part(&mut self) -> bool {
        if self.later_parts.is_empty() && self.follows {
            // The record was missing, and may exist now.
            self.later_parts = open_files(&self.paths, true).unwrap_or_default();
        }
        let Some(part) = self.later_parts.pop_front() else {
            return false;
        };
        self.scanner.replace_input(part);
        self.line_number = 0;
        self.is_final = !self.follows || !self.later_parts.is_empty();
        true
    }

    /// Looks for files that are newer than the current one. Returns `true` if there are some.
    fn find_newer_files(&mut self) -> Result<bool, ReadRecordError> {
        let current = self.scanner.input();
        let newest = self.paths.newest();
        let is_newest = current
            .file
            .as_ref()
            .is_some_and(|file| is_at_path(file, newest));
        if is_newest {
            return Ok(false);
        }
        let id = current.id();
        let mut files = open_files(&self.paths, true)?;
        if let Some(at) = files.iter().position(|part| part.id() == id) {
            files.drain(..=at);
        }
        self.later_parts = files;
        Ok(!self.later_parts.is_empty())
    }
}

/// Opens all files, the oldest first, while no writer changes them.
fn open_files(paths: &RecordPaths, follows: bool) -> Result<VecDeque<RecordPart>, ReadRecordError> {
    // Without a lock file there is no writer.
    let lock_file = open_regular(&paths.lock(), OFlags::RDONLY).ok();
    let lock = lock_file
        .as_ref()
        .map(|file| RecordLock::shared(file, LOCK_TIMEOUT));
    if !matches!(lock, None | Some(Ok(Some(_)))) {
        tracing::warn!("a process has locked the record for long; reading it all the same");
    }
    let numbers = match paths.older_numbers() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        numbers => numbers.map_err(|source| ReadRecordError::Read {
            path: paths.directory().to_owned(),
            source,
        })?,
    };
    let mut parts = VecDeque::new();
    let names = numbers.into_iter().map(|number| paths.older(number));
    for path in names.chain([paths.newest().to_owned()]) {
        let file = match open_regular(&path, OFlags::RDONLY) {
            Err(error) if error.is_not_found() => continue,
            file => file?,
        };
        let remaining = if follows {
            u64::MAX
        } else {
            let found = file.metadata();
            found
                .map_err(|source| RecordFileError::io("inspect", &path, source))?
                .len()
        };
        parts.push_back(RecordPart {
            path,
            file: Some(file),
            remaining,
        });
    }
    drop(lock);
    Ok(parts)
}
