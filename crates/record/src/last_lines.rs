// SPDX-License-Identifier: Apache-2.0
//! The last lines of a record, for a quick look back.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::files::{RecordPaths, open_own_to_read};
use crate::{ReadRecordError, RecordFileError};

/// The last lines of a record. A line at which the limit cuts is left out.
///
/// Neither waits for writers nor disturbs them. A rotation meanwhile may hide or repeat lines.
#[derive(Debug, Default)]
pub struct LastLines {
    /// The ends of the files, the newest file first.
    parts: Vec<Vec<u8>>,
}

impl LastLines {
    /// Reads at most `max_bytes` from the end of the record whose newest file is `path`. The
    /// files must belong to the user alone.
    pub fn read(path: &Path, max_bytes: u64) -> Result<Self, ReadRecordError> {
        let paths = RecordPaths::new(path);
        let mut lines = Self::default();
        let mut left = max_bytes;
        let mut number = 0;
        while left > 0 {
            let path = match number {
                0 => paths.newest().to_owned(),
                number => paths.older(number),
            };
            match read_end(&path, left) {
                Ok((part, length)) => {
                    left = left.saturating_sub(length);
                    lines.parts.push(part);
                }
                // In the middle of a rotation there is no newest file.
                Err(error) if error.is_not_found() && number == 0 => {}
                Err(error) if error.is_not_found() => break,
                Err(error) => return Err(error.into()),
            }
            number = number.saturating_add(1);
        }
        if lines.parts.is_empty() {
            return Err(ReadRecordError::Missing(path.to_owned()));
        }
        Ok(lines)
    }

    /// Iterates over the lines without their line breaks, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().flat_map(|part| {
            let mut rest = part.as_slice();
            let lines = std::iter::from_fn(move || {
                if rest.is_empty() {
                    return None;
                }
                let body = rest.strip_suffix(b"\n").unwrap_or(rest);
                let start = memchr::memrchr(b'\n', body).map_or(0, |at| at.saturating_add(1));
                let line = body.get(start..).unwrap_or_default();
                rest = rest.get(..start).unwrap_or_default();
                Some(line)
            });
            lines.filter(|line| !line.is_empty())
        })
    }
}

/// Returns the whole lines in the last bytes of a file, and the number of bytes that were read.
fn read_end(path: &Path, max_bytes: u64) -> Result<(Vec<u8>, u64), RecordFileError> {
    let file = open_own_to_read(path)?;
    let read = |mut file: &std::fs::File| -> io::Result<(Vec<u8>, u64)> {
        let size = file.metadata()?.len();
        let start = size.saturating_sub(max_bytes);
        // One byte before the part tells whether a line begins with it.
        let from = start.saturating_sub(1);
        file.seek(SeekFrom::Start(from))?;
        let length = size.saturating_sub(from);
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        file.take(length).read_to_end(&mut bytes)?;
        if start > 0 {
            let cut = memchr::memchr(b'\n', &bytes).map_or(bytes.len(), |at| at.saturating_add(1));
            bytes.drain(..cut);
        }
        Ok((bytes, size.saturating_sub(start)))
    };
    read(&file).map_err(|source| RecordFileError::io("read", path, source))
}
