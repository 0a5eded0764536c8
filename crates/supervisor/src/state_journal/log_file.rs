// SPDX-License-Identifier: Apache-2.0
//! An append-only log of records in one file, that is readable whenever its writer is killed.
//!
//! The file has two halves and two header slots. A header names the generation in force, which is
//! in the half of its parity. Records are appended there; each is a line with its length and a
//! checksum, so that a record that was cut by a kill ends the log before it. To make the log
//! shorter, the other half gets a complete new generation, and then its header is written: a kill
//! leaves the old or the new one in force.
//!
//! The checksum of a record includes that of the record before, the first one the random seed of
//! the generation. So what is left of other generations, or after a cut record, never continues a
//! log.

use std::fmt::Debug;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{FallocateFlags, fallocate};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher24;

/// The format of the file; a file of another one is not read.
const FORMAT: &str = "terok-clearance-state-1";
/// Bytes between the starts of the two header slots, and to the first half.
const SLOT_BYTES: u64 = 4096;
/// Maximum bytes of a generation.
pub(super) const HALF_BYTES: u64 = 256 << 20;
/// Maximum bytes of a record.
pub(super) const MAX_RECORD_BYTES: usize = 16 << 20;
/// Bytes of a line before its record: length, checksum, and a space after each.
const HEAD_BYTES: usize = 26;
/// Bytes of a new generation that are written at once.
const CHUNK_BYTES: usize = 64 << 10;

/// The place of a log: bytes at offsets. Bytes that were never written are zero.
pub(super) trait LogStorage: Debug + Send {
    /// Reads up to the length of the buffer; fewer bytes only at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all bytes.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Frees the memory of a part, whose bytes do not count any more.
    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()>;
}

impl LogStorage for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(to_u64(filled));
            match std::os::unix::fs::FileExt::read_at(self, rest, at) {
                Ok(0) => break,
                Ok(length) => filled = filled.saturating_add(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(fallocate(self, flags, offset, length)?)
    }
}

/// What a file contains.
#[derive(Debug)]
pub(super) enum LogContents {
    /// Nothing was written yet.
    New,
    /// These records, in the order of their additions.
    Records(Vec<Vec<u8>>),
    /// Something else.
    Unreadable(&'static str),
}

/// The log in its file.
#[derive(Debug)]
pub(super) struct LogFile<S> {
    storage: S,
    generation: u64,
    /// The bytes of the generation.
    used: u64,
    checksum: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: String,
    generation: u64,
    seed: u64,
    /// The number of records with which the generation began: all of them are there.
    records: u64,
}

impl<S: LogStorage> LogFile<S> {
    /// Reads the log. Before the first addition, [`rewrite`](Self::rewrite) must begin a
    /// generation.
    pub(super) fn open(storage: S) -> io::Result<(Self, LogContents)> {
        let mut newest: Option<Header> = None;
        let mut is_new = true;
        for slot in 0..2 {
            let mut start = [0; 1];
            storage.read_at(slot_offset(slot), &mut start)?;
            is_new &= start == [0];
            let header = read_frame(&storage, slot_offset(slot), SLOT_BYTES, 0)?
                .and_then(|(json, _)| serde_json::from_slice::<Header>(&json).ok())
                .filter(|header| header.format == FORMAT && header.generation % 2 == slot);
            let best = newest.as_ref().map(|header| header.generation);
            if header.as_ref().map(|header| header.generation) > best {
                newest = header;
            }
        }
        let mut log = Self {
            storage,
            generation: 0,
            used: 0,
            checksum: 0,
        };
        let contents = match newest {
            None if is_new => LogContents::New,
            None => LogContents::Unreadable("it has no valid header"),
            Some(header) => {
                log.generation = header.generation;
                log.read_records(&header)?
            }
        };
        Ok((log, contents))
    }

    fn read_records(&self, header: &Header) -> io::Result<LogContents> {
        let base = half_offset(header.generation);
        let (mut used, mut checksum) = (0_u64, header.seed);
        let mut records = Vec::new();
        while let Some((record, next)) = read_frame(
            &self.storage,
            base.saturating_add(used),
            HALF_BYTES.saturating_sub(used),
            checksum,
        )? {
            used = used.saturating_add(frame_bytes(record.len()));
            checksum = next;
            records.push(record);
        }
        Ok(if to_u64(records.len()) < header.records {
            LogContents::Unreadable("its first records are damaged")
        } else {
            LogContents::Records(records)
        })
    }

    /// Returns the bytes of the generation.
    pub(super) const fn used(&self) -> u64 {
        self.used
    }

    /// Adds a record. After an error, the log ends before it.
    pub(super) fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let length = frame_bytes(record.len());
        let end = self.used.saturating_add(length);
        if self.generation == 0 || record.len() > MAX_RECORD_BYTES || end > HALF_BYTES {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let (frame, checksum) = encode_frame(record, self.checksum);
        let at = half_offset(self.generation).saturating_add(self.used);
        self.storage.write_at(at, &frame)?;
        self.used = end;
        self.checksum = checksum;
        Ok(())
    }

    /// Begins a generation with these records. After an error, the earlier one is in force.
    pub(super) fn rewrite(&mut self, records: impl Iterator<Item = Vec<u8>>) -> io::Result<()> {
        let generation = self.generation.saturating_add(1);
        let base = half_offset(generation);
        let seed = RandomState::new().build_hasher().finish();
        let (mut written, mut checksum, mut count) = (0_u64, seed, 0_u64);
        let mut chunk = Vec::new();
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        for record in records {
            let (frame, next) = encode_frame(&record, checksum);
            let end = written.saturating_add(to_u64(chunk.len().saturating_add(frame.len())));
            if record.len() > MAX_RECORD_BYTES || end > HALF_BYTES {
                return Err(full());
            }
            chunk.extend(frame);
            checksum = next;
            count = count.saturating_add(1);
            if chunk.len() >= CHUNK_BYTES {
                self.storage
                    .write_at(base.saturating_add(written), &chunk)?;
                written = written.saturating_add(to_u64(chunk.len()));
                chunk.clear();
            }
        }
        self.storage
            .write_at(base.saturating_add(written), &chunk)?;
        written = written.saturating_add(to_u64(chunk.len()));
        let header = serde_json::to_vec(&Header {
            format: FORMAT.to_owned(),
            generation,
            seed,
            records: count,
        })?;
        let (header, _) = encode_frame(&header, 0);
        self.storage.write_at(slot_offset(generation), &header)?;
        let old = std::mem::replace(&mut self.generation, generation);
        (self.used, self.checksum) = (written, checksum);
        // Nothing depends on these two: the newer generation counts.
        let cleared = self
            .storage
            .write_at(slot_offset(old), &[0; HEAD_BYTES])
            .and_then(|()| self.storage.discard(half_offset(old), HALF_BYTES));
        if let Err(error) = cleared {
            tracing::debug!(%error, "an old generation of the state is not freed");
        }
        Ok(())
    }

    /// Makes the file one that nothing was written to.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        (self.used, self.checksum) = (HALF_BYTES, 0);
        for slot in 0..2 {
            self.storage.write_at(slot_offset(slot), &[0; HEAD_BYTES])?;
        }
        Ok(())
    }
}

const fn slot_offset(generation: u64) -> u64 {
    generation % 2 * SLOT_BYTES
}

const fn half_offset(generation: u64) -> u64 {
    2 * SLOT_BYTES + generation % 2 * HALF_BYTES
}

fn frame_bytes(record_bytes: usize) -> u64 {
    to_u64(record_bytes.saturating_add(HEAD_BYTES).saturating_add(1))
}

/// Returns the line of a record, and its checksum.
fn encode_frame(record: &[u8], before: u64) -> (Vec<u8>, u64) {
    let checksum = checksum(record, before);
    let mut frame = format!("{:08x} {checksum:016x} ", record.len()).into_bytes();
    frame.extend_from_slice(record);
    frame.push(b'\n');
    (frame, checksum)
}

/// Reads the record at `offset`, within `room` bytes, and returns it with its checksum; `None` if
/// none is complete there.
fn read_frame(
    storage: &impl LogStorage,
    offset: u64,
    room: u64,
    before: u64,
) -> io::Result<Option<(Vec<u8>, u64)>> {
    let mut head = [0; HEAD_BYTES];
    if room < to_u64(HEAD_BYTES) || storage.read_at(offset, &mut head)? < HEAD_BYTES {
        return Ok(None);
    }
    let Some((length, expected)) = parse_head(&head) else {
        return Ok(None);
    };
    if length > MAX_RECORD_BYTES || frame_bytes(length) > room {
        return Ok(None);
    }
    let mut record = vec![0; length.saturating_add(1)];
    let at = offset.saturating_add(to_u64(HEAD_BYTES));
    if storage.read_at(at, &mut record)? < record.len() || record.pop() != Some(b'\n') {
        return Ok(None);
    }
    Ok((checksum(&record, before) == expected).then_some((record, expected)))
}

fn parse_head(head: &[u8; HEAD_BYTES]) -> Option<(usize, u64)> {
    let text = std::str::from_utf8(head).ok()?;
    let (length, rest) = text.split_at_checked(8)?;
    let checksum = rest.strip_prefix(' ')?.strip_suffix(' ')?;
    let length = u32::from_str_radix(length, 16).ok()?;
    let checksum = u64::from_str_radix(checksum, 16).ok()?;
    Some((usize::try_from(length).ok()?, checksum))
}

fn checksum(record: &[u8], before: u64) -> u64 {
    let mut hash = SipHasher24::new();
    hash.write_u64(before);
    hash.write(record);
    hash.finish()
}

fn to_u64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What a writer did to its file, to be replayed up to any byte.
    #[derive(Debug, Clone)]
    pub(in crate::state_journal) enum StorageCall {
        Write(u64, Vec<u8>),
        Discard(u64, u64),
    }

    /// A file in memory that remembers how it was written.
    #[derive(Debug, Clone, Default)]
    pub(in crate::state_journal) struct RecordedStorage {
        /// Non-zero bytes alone.
        bytes: BTreeMap<u64, u8>,
        pub(in crate::state_journal) calls: Vec<StorageCall>,
    }

    impl RecordedStorage {
        /// Returns the file of a writer that was killed after `limit` bytes; a discard counts as
        /// one byte.
        pub(in crate::state_journal) fn cut(calls: &[StorageCall], limit: usize) -> Self {
            let mut storage = Self::default();
            let mut left = limit;
            for call in calls {
                let length = call_bytes(call);
                match call {
                    StorageCall::Write(at, bytes) => {
                        storage.write_at(*at, &bytes[..length.min(left)]).unwrap();
                    }
                    StorageCall::Discard(at, length) if left > 0 => {
                        storage.discard(*at, *length).unwrap();
                    }
                    StorageCall::Discard(..) => {}
                }
                if left <= length {
                    break;
                }
                left -= length;
            }
            storage.calls.clear();
            storage
        }

        pub(in crate::state_journal) fn used_offsets(&self) -> Vec<u64> {
            self.bytes.keys().copied().collect()
        }

        pub(in crate::state_journal) fn written(&self) -> usize {
            self.calls.iter().map(call_bytes).sum()
        }
    }

    fn call_bytes(call: &StorageCall) -> usize {
        match call {
            StorageCall::Write(_, bytes) => bytes.len(),
            StorageCall::Discard(..) => 1,
        }
    }

    impl LogStorage for RecordedStorage {
        fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
            for (at, byte) in (offset..).zip(buffer.iter_mut()) {
                *byte = self.bytes.get(&at).copied().unwrap_or_default();
            }
            Ok(buffer.len())
        }

        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            for (at, byte) in (offset..).zip(bytes) {
                if *byte == 0 {
                    self.bytes.remove(&at);
                } else {
                    self.bytes.insert(at, *byte);
                }
            }
            self.calls.push(StorageCall::Write(offset, bytes.to_vec()));
            Ok(())
        }

        fn discard(&mut self, offset: u64, length: u64) -> io::Result<()> {
            let mut rest = self.bytes.split_off(&offset);
            self.bytes.append(&mut rest.split_off(&(offset + length)));
            self.calls.push(StorageCall::Discard(offset, length));
            Ok(())
        }
    }

    fn records(storage: RecordedStorage) -> Vec<Vec<u8>> {
        match LogFile::open(storage).unwrap().1 {
            LogContents::Records(records) => records,
            LogContents::New => Vec::new(),
            LogContents::Unreadable(reason) => panic!("{reason}"),
        }
    }

    #[test]
    fn a_file_keeps_its_records_over_writers() {
        let file = tempfile::tempfile().unwrap();
        let (mut log, contents) = LogFile::open(file.try_clone().unwrap()).unwrap();
        assert!(matches!(contents, LogContents::New));
        assert!(log.append(b"too early").is_err());
        log.rewrite([b"a".to_vec(), b"b".to_vec()].into_iter())
            .unwrap();
        log.append(b"c").unwrap();
        let (mut log, contents) = LogFile::open(file.try_clone().unwrap()).unwrap();
        let LogContents::Records(found) = contents else {
            panic!("{contents:?}");
        };
        assert_eq!(found, [b"a", b"b", b"c"]);
        log.rewrite(found.into_iter().skip(1)).unwrap();
        let (mut log, contents) = LogFile::open(file.try_clone().unwrap()).unwrap();
        assert!(matches!(contents, LogContents::Records(found) if found == [b"b", b"c"]));
        log.clear().unwrap();
        assert!(log.append(b"d").is_err());
        let (_, contents) = LogFile::open(file).unwrap();
        assert!(matches!(contents, LogContents::New));
    }

    #[test]
    fn what_is_no_log_is_unreadable() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"something else", 0).unwrap();
        let (_, contents) = LogFile::open(file).unwrap();
        assert!(matches!(contents, LogContents::Unreadable(_)));
        // A damaged first record of a generation.
        let mut log = LogFile::open(RecordedStorage::default()).unwrap().0;
        log.rewrite([b"a".to_vec(), b"b".to_vec()].into_iter())
            .unwrap();
        let mut storage = log.storage;
        storage
            .write_at(half_offset(1) + to_u64(HEAD_BYTES), b"x")
            .unwrap();
        let (_, contents) = LogFile::open(storage).unwrap();
        assert!(matches!(contents, LogContents::Unreadable(_)));
    }

    #[test]
    fn records_after_a_cut_one_never_come_back() {
        let mut log = LogFile::open(RecordedStorage::default()).unwrap().0;
        log.rewrite(std::iter::empty()).unwrap();
        let before = log.storage.clone();
        log.append(b"old 1").unwrap();
        log.append(b"old 2").unwrap();
        // A writer that did not see "old 1" writes another record of its length there.
        let mut storage = log.storage.clone();
        let (other, _) = encode_frame(b"new 1", checksum(b"", 0));
        storage.write_at(half_offset(1), &other).unwrap();
        assert!(records(storage).is_empty(), "the checksum is another one");
        let (mut other, _) = LogFile::open(before).unwrap();
        let seed = log.checksum; // of another log: no record of it fits
        other.checksum = seed;
        other.generation = 1;
        other.append(b"new 1").unwrap();
        assert!(records(other.storage).is_empty());
    }

    #[derive(Debug, Clone)]
    enum LogStep {
        Append(Vec<u8>),
        Rewrite,
        Reopen,
    }

    fn steps() -> impl Strategy<Value = Vec<LogStep>> {
        let record = proptest::collection::vec(any::<u8>(), 0..40);
        let step = prop_oneof![
            6 => record.prop_map(LogStep::Append),
            2 => Just(LogStep::Rewrite),
            1 => Just(LogStep::Reopen),
        ];
        proptest::collection::vec(step, 1..20)
    }

    proptest! {
        /// Killed at any byte, the records are those before or after the step in progress.
        #[test]
        fn a_log_that_is_cut_anywhere_has_the_records_of_a_prefix(
            steps in steps(),
            cut in any::<proptest::sample::Index>(),
        ) {
            let (mut log, _) = LogFile::open(RecordedStorage::default()).unwrap();
            log.rewrite(std::iter::empty()).unwrap();
            let mut model: Vec<Vec<u8>> = Vec::new();
            let mut states = vec![(log.storage.written(), model.clone())];
            for step in steps {
                match step {
                    LogStep::Append(record) => {
                        log.append(&record).unwrap();
                        model.push(record);
                    }
                    LogStep::Rewrite => {
                        model = model.split_off(model.len() / 2);
                        log.rewrite(model.clone().into_iter()).unwrap();
                    }
                    LogStep::Reopen => {
                        let (opened, contents) = LogFile::open(log.storage.clone()).unwrap();
                        prop_assert!(
                            matches!(contents, LogContents::Records(found) if found == model)
                        );
                        log = opened;
                        log.rewrite(model.clone().into_iter()).unwrap();
                    }
                }
                states.push((log.storage.written(), model.clone()));
            }
            let first = states[0].0;
            let total = log.storage.written();
            let limit = first + cut.index(total - first + 1);
            let found = records(RecordedStorage::cut(&log.storage.calls, limit));
            let done = states.iter().rposition(|(written, _)| *written <= limit).unwrap();
            let next = (done + 1).min(states.len() - 1);
            prop_assert!(found == states[done].1 || found == states[next].1);
        }
    }
}
