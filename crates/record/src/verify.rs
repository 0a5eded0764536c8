// SPDX-License-Identifier: Apache-2.0
//! Checks that each line has the hash of the line before.

use std::path::{Path, PathBuf};

use crate::line::chain_position;
use crate::{ChainHash, ReadRecordError, RecordReader};

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainReport {
    /// The number of files.
    pub files: usize,
    /// The number of entries before the first break.
    pub entries: u64,
    /// The number of the first entry; more than 1 if older files were removed.
    pub first_sequence: Option<u64>,
    /// The number of the last entry.
    pub last_sequence: Option<u64>,
    /// The number of places at which a writer ended within a line. Later entries report them.
    pub unfinished_lines: u64,
    /// Whether the record ends with an unfinished line, which the next writer will report.
    pub ends_unfinished: bool,
    /// The first line at which the chain breaks.
    pub first_break: Option<ChainBreak>,
}

/// A line that does not continue the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainBreak {
    /// The file.
    pub file: PathBuf,
    /// The number of the line in the file, from 1.
    pub line: u64,
    /// The reason.
    pub reason: ChainBreakReason,
}

/// The reason for which a line does not continue the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainBreakReason {
    /// The line is no entry, and no later entry says that a writer ended within it.
    #[error("the line is no entry of the record")]
    NotAnEntry,
    /// The hash in the line is not that of the line before.
    #[error("a line before it was changed, added or removed")]
    OtherHash,
    /// The number of the line does not follow that of the line before.
    #[error("its number is {found}, and {expected} was expected")]
    OtherSequence {
        /// The number that follows the line before.
        expected: u64,
        /// The number of the line.
        found: u64,
    },
    /// The line reports unfinished lines that are not there.
    #[error("unfinished lines before it were changed or removed")]
    OtherUnfinishedLines,
}

/// Checks the chain over all files of the record whose newest file is `path`.
pub fn verify_record(path: &Path) -> Result<ChainReport, ReadRecordError> {
    let mut reader = RecordReader::open(path)?;
    let mut verifier = ChainVerifier::default();
    let mut report = ChainReport {
        files: reader.files_left(),
        entries: 0,
        first_sequence: None,
        last_sequence: None,
        unfinished_lines: 0,
        ends_unfinished: false,
        first_break: None,
    };
    // Lines that are no entries, and of which the next entry decides.
    let mut unfinished: Option<(PathBuf, u64)> = None;
    while let Some(line) = reader.next_line()? {
        let was_unfinished = unfinished.is_some();
        match verifier.push(line.bytes, line.length) {
            Ok(Some(sequence)) => {
                report.entries = report.entries.saturating_add(1);
                report.first_sequence.get_or_insert(sequence);
                report.last_sequence = Some(sequence);
                if was_unfinished {
                    report.unfinished_lines = report.unfinished_lines.saturating_add(1);
                }
                unfinished = None;
            }
            Ok(None) if was_unfinished => {}
            Ok(None) => unfinished = Some((line.file.to_owned(), line.number)),
            Err(reason) => {
                let here = || (line.file.to_owned(), line.number);
                let (file, line) = match reason {
                    ChainBreakReason::NotAnEntry => unfinished.unwrap_or_else(here),
                    _ => here(),
                };
                report.first_break = Some(ChainBreak { file, line, reason });
                return Ok(report);
            }
        }
    }
    report.ends_unfinished = unfinished.is_some();
    Ok(report)
}

/// Checks a chain line by line.
#[derive(Debug, Clone, Default)]
pub struct ChainVerifier {
    /// The number and the hash of the last entry.
    last: Option<(u64, ChainHash)>,
    /// The bytes of the lines since then that are no entries.
    unfinished_bytes: Option<u64>,
}

impl ChainVerifier {
    /// Checks the next line, whose whole length is `length`. Returns the number of the entry;
    /// `None` for a line that is no entry, which is an error unless the next entry reports it.
    pub fn push(&mut self, line: &[u8], length: u64) -> Result<Option<u64>, ChainBreakReason> {
        let Ok(position) = chain_position(line) else {
            let before = self.unfinished_bytes.unwrap_or(0);
            self.unfinished_bytes = Some(before.saturating_add(length));
            return Ok(None);
        };
        match (self.unfinished_bytes.take(), position.cut_bytes) {
            (Some(_), None) => return Err(ChainBreakReason::NotAnEntry),
            (found, reported) if found != reported => {
                return Err(ChainBreakReason::OtherUnfinishedLines);
            }
            _ => {}
        }
        let (expected, hash) = match self.last {
            Some((sequence, hash)) => (sequence.saturating_add(1), hash),
            // The first line that is kept: the line before is not known, unless there is none.
            None if position.sequence == 1 => (1, ChainHash::START),
            None => (position.sequence, position.previous),
        };
        if position.previous != hash {
            return Err(ChainBreakReason::OtherHash);
        }
        if position.sequence != expected {
            let found = position.sequence;
            return Err(ChainBreakReason::OtherSequence { expected, found });
        }
        self.last = Some((position.sequence, ChainHash::of_line(line)));
        Ok(Some(position.sequence))
    }
}
