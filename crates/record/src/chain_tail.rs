// SPDX-License-Identifier: Apache-2.0
//! The end of a file, from which the next line continues the chain.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::ChainHash;
use crate::line::{chain_position, line_ranges};

/// The parts of a file that are searched for its last entry, from its end. A batch that was not
/// written whole is shorter than the second.
const WINDOWS: [u64; 3] = [16 << 10, 1 << 20, 8 << 20];

/// The end of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChainTail {
    /// The number of the last entry; 0 without one.
    pub(crate) sequence: u64,
    /// The hash of the last entry.
    pub(crate) hash: ChainHash,
    /// The bytes of unfinished lines after the last entry.
    pub(crate) cut_bytes: Option<u64>,
    /// Whether the file ends without a line break.
    pub(crate) needs_line_break: bool,
}

impl ChainTail {
    /// The end of a record without entries.
    pub(crate) const START: Self = Self {
        sequence: 0,
        hash: ChainHash::START,
        cut_bytes: None,
        needs_line_break: false,
    };

    /// Reads the end of a file of `length` bytes.
    ///
    /// A file without an entry in its last 8 MiB begins a new chain, which a check of the chain
    /// reports.
    pub(crate) fn read(file: &File, length: u64) -> io::Result<Self> {
        let mut tail = Self::START;
        for window in WINDOWS {
            let offset = length.saturating_sub(window);
            let size = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
            let mut bytes = vec![0; size];
            file.read_exact_at(&mut bytes, offset)?;
            let whole;
            (tail, whole) = Self::find(&bytes, offset == 0);
            if whole {
                break;
            }
        }
        Ok(tail)
    }

    /// Finds the last entry in the last bytes of a file. Returns `false` as well if an earlier part
    /// of the file has to be searched, too.
    fn find(bytes: &[u8], is_whole_file: bool) -> (Self, bool) {
        let lines: Vec<_> = line_ranges(bytes).collect();
        let mut tail = Self {
            needs_line_break: !bytes.is_empty() && !bytes.ends_with(b"\n"),
            ..Self::START
        };
        let mut cut_bytes = None;
        for (number, range) in lines.into_iter().enumerate().rev() {
            let line = bytes.get(range).unwrap_or_default();
            // The first line may have begun before.
            let is_complete = number > 0 || is_whole_file;
            if is_complete && let Ok(position) = chain_position(line) {
                tail.sequence = position.sequence;
                tail.hash = ChainHash::of_line(line);
                tail.cut_bytes = cut_bytes;
                return (tail, true);
            }
            let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
            cut_bytes = Some(cut_bytes.unwrap_or(0_u64).saturating_add(length));
        }
        tail.cut_bytes = cut_bytes;
        (tail, is_whole_file)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use terok_clearance::Timestamp;

    use super::*;
    use crate::{AuditEntry, AuditEvent, AuditNote, encode_line};

    fn line(sequence: u64) -> String {
        let note = AuditEvent::Note(AuditNote { text: "x".into() });
        let entry = AuditEntry::new(Timestamp::UNIX_EPOCH, None, note);
        String::from_utf8(encode_line(&entry, sequence, ChainHash::START)).unwrap()
    }

    #[track_caller]
    fn check(text: &str, sequence: u64, cut_bytes: Option<u64>, needs_line_break: bool) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let tail = ChainTail::read(&file, text.len() as u64).unwrap();
        let hash = if sequence == 0 {
            ChainHash::START
        } else {
            ChainHash::of_line(line(sequence).as_bytes())
        };
        let expected = ChainTail {
            sequence,
            hash,
            cut_bytes,
            needs_line_break,
        };
        assert_eq!(tail, expected);
    }

    #[test]
    fn the_last_entry_is_found_before_unfinished_lines() {
        let (one, two) = (line(1), line(2));
        check("", 0, None, false);
        check(&format!("{one}\n{two}\n"), 2, None, false);
        // Only the line break is missing: the entry is whole.
        check(&format!("{one}\n{two}"), 2, None, true);
        check(&format!("{one}\n{}", &two[..20]), 1, Some(20), true);
        check(&format!("{one}\n{}\n", &two[..20]), 1, Some(20), false);
        check(
            &format!("{one}\n{}\n{}", &two[..20], &two[..7]),
            1,
            Some(27),
            true,
        );
        check(&format!("{one}\n\n"), 1, Some(0), false);
        check(&two[..30], 0, Some(30), true);
        let long = "x".repeat(200_000);
        check(&format!("{one}\n{long}"), 1, Some(200_000), true);
        check(&format!("{long}\n{one}\n"), 1, None, false);
    }
}
