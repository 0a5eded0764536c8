// SPDX-License-Identifier: Apache-2.0
//! Splits a file into lines, with bounded memory.

use std::io::{self, ErrorKind, Read};

use crate::MAX_LINE_BYTES;

/// Bytes per read.
const READ_BYTES: usize = 256 << 10;

/// A line of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScannedLine<'a> {
    /// The line without its line break; of a longer line, the first `MAX_LINE_BYTES` + 1 bytes.
    pub bytes: &'a [u8],
    /// The length of the line without its line break.
    pub length: u64,
}

/// The place of a line in the buffer of a scanner.
#[derive(Debug)]
pub(crate) struct FoundLine {
    start: usize,
    end: usize,
    dropped: u64,
}

/// Splits the bytes of a reader into lines of at most `MAX_LINE_BYTES`.
#[derive(Debug)]
pub struct LineScanner<R> {
    input: R,
    buffer: Vec<u8>,
    /// The unread part of the buffer.
    start: usize,
    end: usize,
    /// The bytes before `end` that have no line break.
    searched: usize,
    /// The bytes of an overlong line that were dropped from the buffer.
    dropped: u64,
}

impl<R: Read> LineScanner<R> {
    /// Returns a scanner of `input`.
    pub fn new(input: R) -> Self {
        Self {
            input,
            buffer: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            searched: 0,
            dropped: 0,
        }
    }

    /// Continues with another input. The unread rest of the former one is discarded.
    pub(crate) fn replace_input(&mut self, input: R) {
        self.input = input;
        (self.start, self.end, self.searched, self.dropped) = (0, 0, 0, 0);
    }

    pub(crate) const fn input(&self) -> &R {
        &self.input
    }

    /// Returns the next line that has a line break; `None` at the end of the input, after which
    /// more may be appended.
    pub fn next_line(&mut self) -> io::Result<Option<ScannedLine<'_>>> {
        let found = self.find_line()?;
        Ok(found.map(|found| self.line(&found)))
    }

    /// Returns the rest after the last line break, if there is one.
    pub fn take_rest(&mut self) -> Option<ScannedLine<'_>> {
        let found = self.find_rest();
        found.map(|found| self.line(&found))
    }

    pub(crate) fn find_line(&mut self) -> io::Result<Option<FoundLine>> {
        loop {
            let rest = self.buffer.get(self.searched..self.end).unwrap_or_default();
            if let Some(length) = memchr::memchr(b'\n', rest) {
                let end = self.searched.saturating_add(length);
                let start = std::mem::replace(&mut self.start, end.saturating_add(1));
                self.searched = self.start;
                let dropped = std::mem::take(&mut self.dropped);
                return Ok(Some(FoundLine {
                    start,
                    end,
                    dropped,
                }));
            }
            self.searched = self.end;
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    pub(crate) fn find_rest(&mut self) -> Option<FoundLine> {
        let (start, end) = (self.start, self.end);
        let dropped = std::mem::take(&mut self.dropped);
        (self.start, self.searched) = (end, end);
        (start < end || dropped > 0).then_some(FoundLine {
            start,
            end,
            dropped,
        })
    }

    /// Returns a line, which must be the last one that was found.
    pub(crate) fn line(&self, found: &FoundLine) -> ScannedLine<'_> {
        let line = self.buffer.get(found.start..found.end).unwrap_or_default();
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let kept = line.len().min(MAX_LINE_BYTES.saturating_add(1));
        ScannedLine {
            bytes: line.get(..kept).unwrap_or_default(),
            length: length.saturating_add(found.dropped),
        }
    }

    /// Reads more. Returns `false` at the end of the input.
    fn fill(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end = self.end.saturating_sub(self.start);
            (self.start, self.searched) = (0, self.end);
        }
        // An overlong line keeps its beginning; the rest of it is only counted.
        let kept = MAX_LINE_BYTES.saturating_add(1);
        if self.end > kept {
            let dropped = self.end.saturating_sub(kept);
            let dropped = u64::try_from(dropped).unwrap_or(u64::MAX);
            self.dropped = self.dropped.saturating_add(dropped);
            (self.end, self.searched) = (kept, kept);
        }
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let read = loop {
            match self.input.read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.end = self.end.saturating_add(read);
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns at most a few bytes per read.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let limit = self.1.min(buffer.len());
            self.0.read(&mut buffer[..limit])
        }
    }

    fn scan(bytes: &[u8], chunk: usize) -> Vec<(Vec<u8>, u64)> {
        let mut scanner = LineScanner::new(Trickle(bytes, chunk));
        let mut lines = Vec::new();
        while let Some(line) = scanner.next_line().unwrap() {
            lines.push((line.bytes.to_vec(), line.length));
        }
        lines.extend(
            scanner
                .take_rest()
                .map(|line| (line.bytes.to_vec(), line.length)),
        );
        lines
    }

    #[test]
    fn an_overlong_line_is_cut_and_counted() {
        let long = vec![b'x'; READ_BYTES * 2 + 5];
        let input = [b"a\n", long.as_slice(), b"\nb\n\nc"].concat();
        for chunk in [7_000, READ_BYTES, usize::MAX] {
            let lines = scan(&input, chunk);
            assert_eq!(lines.len(), 5);
            assert_eq!(lines[1].0.len(), MAX_LINE_BYTES + 1);
            assert_eq!(lines[1].1, long.len() as u64);
            assert_eq!(lines[2], (b"b".to_vec(), 1));
            assert_eq!(lines[4], (b"c".to_vec(), 1));
        }
    }

    proptest::proptest! {
        #[test]
        fn the_lines_are_those_of_split(bytes in "[a\n]{0,200}", chunk in 1_usize..20) {
            let mut expected: Vec<_> = bytes.split('\n').collect();
            if expected.last() == Some(&"") {
                expected.pop();
            }
            let found: Vec<_> = scan(bytes.as_bytes(), chunk)
                .into_iter()
                .map(|(line, _)| String::from_utf8(line).unwrap())
                .collect();
            assert_eq!(found, expected);
        }
    }
}
