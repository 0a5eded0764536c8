// SPDX-License-Identifier: Apache-2.0
//! Appends entries to a record that several processes write.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use terok_clearance::Timestamp;

use crate::chain_tail::ChainTail;
use crate::files::{RecordPaths, is_at_path, open_own_to_read, open_to_append};
use crate::lock::RecordLock;
use crate::{
    AuditEntry, AuditEvent, AuditLoss, ChainHash, RecordConfig, RecordFileError, encode_line,
};

/// Time to wait for the lock of the record.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Approximate maximum of bytes per write; the last line may exceed the limit.
const BATCH_BYTES: usize = 256 << 10;

/// Entries were not appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// A file or the directory cannot be used.
    #[error(transparent)]
    File(#[from] RecordFileError),
    /// Another process has held the lock for too long.
    #[error("another process has locked {} for {} s", .0.display(), LOCK_TIMEOUT.as_secs())]
    Locked(std::path::PathBuf),
}

/// Appends entries to a record. Each call locks the record; between two calls other processes may
/// append.
#[derive(Debug)]
pub struct RecordAppender {
    config: RecordConfig,
    paths: RecordPaths,
    lock: Option<File>,
    newest: Option<OpenFile>,
}

/// The newest file, as this process left it.
#[derive(Debug)]
struct OpenFile {
    file: File,
    length: u64,
    tail: ChainTail,
}

impl RecordAppender {
    /// Returns an appender. Files are opened by the first call of [`RecordAppender::append`].
    pub fn new(config: RecordConfig) -> Self {
        Self {
            paths: RecordPaths::new(&config.path),
            config,
            lock: None,
            newest: None,
        }
    }

    /// Appends `entries` in their order. Returns the number of those that were appended, and the
    /// error that stopped the others.
    pub fn append(&mut self, entries: &[AuditEntry]) -> (usize, Result<(), AppendError>) {
        let mut appended = 0;
        while let Some(rest) = entries.get(appended..).filter(|rest| !rest.is_empty()) {
            match self.append_batch(rest) {
                Ok(written) => appended = appended.saturating_add(written),
                Err(error) => {
                    // A changed or replaced file is opened again.
                    (self.newest, self.lock) = (None, None);
                    return (appended, Err(error));
                }
            }
        }
        (appended, Ok(()))
    }

    /// Writes all that was appended to the disk.
    pub fn sync(&self) -> Result<(), AppendError> {
        if let Some(newest) = &self.newest {
            let error = |source| RecordFileError::io("synchronise", self.paths.newest(), source);
            newest.file.sync_data().map_err(error)?;
        }
        Ok(())
    }

    fn append_batch(&mut self, entries: &[AuditEntry]) -> Result<usize, AppendError> {
        let lock_path = self.paths.lock();
        let lock = match self.lock.take() {
            // A lock file that was removed locks out no others.
            Some(lock) if is_at_path(&lock, &lock_path) => lock,
            _ => {
                self.paths.ensure_directory()?;
                open_to_append(&lock_path)?
            }
        };
        let lock = &*self.lock.insert(lock);
        let locked = RecordLock::exclusive(lock, LOCK_TIMEOUT)
            .map_err(|source| RecordFileError::io("lock", &lock_path, source))?;
        let Some(_locked) = locked else {
            return Err(AppendError::Locked(lock_path));
        };
        let mut newest = reopen(self.newest.take(), &self.paths)?;
        let mut batch = Batch::new(&newest.tail, entries);
        let length = u64::try_from(batch.bytes.len()).unwrap_or(u64::MAX);
        if newest.length > 0 && newest.length.saturating_add(length) > self.config.rotate_bytes {
            rotate(&self.paths, self.config.kept_files())?;
            newest = OpenFile {
                tail: ChainTail {
                    needs_line_break: false,
                    ..newest.tail
                },
                ..open_newest(&self.paths)?
            };
            batch = Batch::new(&newest.tail, entries);
        }
        let path = self.paths.newest();
        write_whole(&newest.file, newest.length, &batch.bytes)
            .map_err(|source| RecordFileError::io("write to", path, source))?;
        let written = u64::try_from(batch.bytes.len()).unwrap_or(u64::MAX);
        newest.length = newest.length.saturating_add(written);
        newest.tail = batch.tail;
        self.newest = Some(newest);
        Ok(batch.entries)
    }
}

/// The lines of one write.
struct Batch {
    bytes: Vec<u8>,
    tail: ChainTail,
    /// The number of entries.
    entries: usize,
}

impl Batch {
    fn new(tail: &ChainTail, entries: &[AuditEntry]) -> Self {
        let mut batch = Self {
            bytes: Vec::new(),
            tail: *tail,
            entries: 0,
        };
        if tail.needs_line_break {
            batch.bytes.push(b'\n');
            batch.tail.needs_line_break = false;
        }
        if let Some(cut_bytes) = batch.tail.cut_bytes.take() {
            let time = entries
                .first()
                .map_or(Timestamp::UNIX_EPOCH, |entry| entry.time);
            let loss = AuditLoss {
                count: None,
                since: None,
                why: "a writer ended within a line".into(),
                cut_bytes: Some(cut_bytes),
            };
            batch.push(&AuditEntry::new(time, None, AuditEvent::Lost(loss)));
        }
        for entry in entries {
            if batch.bytes.len() >= BATCH_BYTES {
                break;
            }
            batch.push(entry);
            batch.entries = batch.entries.saturating_add(1);
        }
        batch
    }

    fn push(&mut self, entry: &AuditEntry) {
        self.tail.sequence = self.tail.sequence.saturating_add(1);
        let line = encode_line(entry, self.tail.sequence, self.tail.hash);
        self.tail.hash = ChainHash::of_line(&line);
        self.bytes.extend_from_slice(&line);
        self.bytes.push(b'\n');
    }
}

/// Returns the newest file, opened again unless it is as this process left it.
fn reopen(known: Option<OpenFile>, paths: &RecordPaths) -> Result<OpenFile, RecordFileError> {
    let path = paths.newest();
    if let Some(known) = known
        && is_at_path(&known.file, path)
        && known
            .file
            .metadata()
            .is_ok_and(|found| found.len() == known.length)
    {
        return Ok(known);
    }
    let mut opened = open_newest(paths)?;
    let read_error = |path: &Path| {
        let path = path.to_owned();
        move |source| RecordFileError::io("read", &path, source)
    };
    if opened.length > 0 {
        opened.tail = ChainTail::read(&opened.file, opened.length).map_err(read_error(path))?;
        return Ok(opened);
    }
    // The file is new, or a writer ended between the two steps of a rotation.
    let older = paths.older(1);
    match open_own_to_read(&older) {
        Ok(file) => {
            let length = file.metadata().map_err(read_error(&older))?.len();
            opened.tail = ChainTail {
                needs_line_break: false,
                ..ChainTail::read(&file, length).map_err(read_error(&older))?
            };
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    Ok(opened)
}

fn open_newest(paths: &RecordPaths) -> Result<OpenFile, RecordFileError> {
    let path = paths.newest();
    let file = open_to_append(path)?;
    let inspect_error = |source| RecordFileError::io("inspect", path, source);
    Ok(OpenFile {
        length: file.metadata().map_err(inspect_error)?.len(),
        tail: ChainTail::START,
        file,
    })
}

/// Renames the files, each to the next number, and removes the oldest. A process that is killed
/// meanwhile leaves a gap in the numbers, and no file without a name.
fn rotate(paths: &RecordPaths, keep: u32) -> Result<(), RecordFileError> {
    let read_error = |source| RecordFileError::io("read", paths.directory(), source);
    let numbers = paths.older_numbers().map_err(read_error)?;
    let has = |number: u32| numbers.contains(&number);
    // The first free number: files after it stay where they are.
    let free = (1..=keep).find(|number| !has(*number)).unwrap_or(keep);
    for number in (1..free).rev() {
        rename(&paths.older(number), &paths.older(number.saturating_add(1)))?;
    }
    rename(paths.newest(), &paths.older(1))?;
    for number in numbers.into_iter().filter(|number| *number > keep) {
        let path = paths.older(number);
        fs::remove_file(&path).map_err(|source| RecordFileError::io("remove", &path, source))?;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<(), RecordFileError> {
    fs::rename(from, to).map_err(|source| RecordFileError::io("rename", from, source))
}

/// Writes all of `bytes` to the end of a file of `length` bytes, or nothing.
fn write_whole(file: &File, length: u64, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                // The next writer copes with an unfinished line if this fails.
                if rest.len() < bytes.len()
                    && let Err(error) = file.set_len(length)
                {
                    tracing::debug!(%error, "an unfinished line stays in the record");
                }
                return Err(error.into());
            }
        }
    }
    Ok(())
}
