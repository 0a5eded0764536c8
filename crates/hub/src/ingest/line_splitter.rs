// SPDX-License-Identifier: Apache-2.0
//! Splits a stream of bytes into lines, in linear time and bounded memory.

use super::MAX_LINE_BYTES;

/// The result of [`LineSplitter::next_line`].
#[derive(Debug, PartialEq, Eq)]
pub enum SplitLine<'a> {
    /// A line without its newline.
    Complete(&'a [u8]),
    /// The start of a line longer than [`MAX_LINE_BYTES`]; the rest of the line is skipped.
    TooLong(&'a [u8]),
}

/// A buffer of received bytes that are not yet a complete line.
///
/// The buffer shrinks while little arrives, and grows under load.
#[derive(Debug)]
pub struct LineSplitter {
    bytes: Vec<u8>,
    /// The start of the next line.
    start: usize,
    /// The end of the bytes that were searched for a newline.
    searched: usize,
    /// `true` while the rest of a too long line is skipped.
    skipping: bool,
    ended: bool,
    read_size: usize,
}

impl LineSplitter {
    const MIN_READ_BYTES: usize = 4 << 10;
    const MAX_READ_BYTES: usize = 64 << 10;

    /// Creates an empty splitter.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            searched: 0,
            skipping: false,
            ended: false,
            read_size: Self::MIN_READ_BYTES,
        }
    }

    /// Returns the buffer to append the next bytes to, and its free space.
    ///
    /// Callers must consume every complete line first.
    pub fn read_buffer(&mut self) -> (&mut Vec<u8>, usize) {
        // A completely filled buffer means that the sender has more data.
        let (filled, capacity) = (self.bytes.len(), self.bytes.capacity());
        if filled > 0 && filled >= capacity {
            self.read_size = self.read_size.saturating_mul(2).min(Self::MAX_READ_BYTES);
        } else if filled < capacity / 8 {
            self.read_size = (self.read_size / 2).max(Self::MIN_READ_BYTES);
        }
        self.bytes.drain(..self.start.min(filled));
        self.searched = self.searched.saturating_sub(self.start);
        self.start = 0;
        if self.bytes.is_empty() && capacity > self.read_size.saturating_mul(4) {
            self.bytes = Vec::new();
        }
        self.bytes.reserve(self.read_size);
        let room = self.bytes.capacity().saturating_sub(self.bytes.len());
        (&mut self.bytes, room)
    }

    /// Marks the end of the stream: the remaining bytes are the last line.
    pub const fn finish(&mut self) {
        self.ended = true;
    }

    /// Returns the next line, or `None` if more bytes are needed.
    pub fn next_line(&mut self) -> Option<SplitLine<'_>> {
        loop {
            let fresh = self.bytes.get(self.searched..)?;
            let newline = memchr::memchr(b'\n', fresh).map(|at| self.searched.saturating_add(at));
            let end = newline.unwrap_or(self.bytes.len());
            let start = self.start;
            if newline.is_none() && !self.ended {
                self.searched = end;
                if end.saturating_sub(start) <= MAX_LINE_BYTES && !self.skipping {
                    return None;
                }
                self.start = end;
                if std::mem::replace(&mut self.skipping, true) {
                    return None;
                }
                return self.bytes.get(start..end).map(SplitLine::TooLong);
            }
            if newline.is_none() && start >= end {
                return None;
            }
            self.start = end.saturating_add(1).min(self.bytes.len());
            self.searched = self.start;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            let line = self.bytes.get(start..end)?;
            return Some(if line.len() > MAX_LINE_BYTES {
                SplitLine::TooLong(line)
            } else {
                SplitLine::Complete(line)
            });
        }
    }
}

impl Default for LineSplitter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces of `piece` bytes and returns the lines; `None` for a line that is
    /// too long.
    fn cut(input: &[u8], piece: usize) -> Vec<Option<Vec<u8>>> {
        let mut lines = LineSplitter::new();
        let mut found = Vec::new();
        let mut take = |lines: &mut LineSplitter| {
            while let Some(line) = lines.next_line() {
                found.push(match line {
                    SplitLine::Complete(line) => Some(line.to_vec()),
                    SplitLine::TooLong(_) => None,
                });
            }
        };
        let mut input = input;
        while !input.is_empty() {
            let (buffer, room) = lines.read_buffer();
            let (now, later) = input.split_at(piece.min(room).min(input.len()));
            buffer.extend_from_slice(now);
            input = later;
            take(&mut lines);
            let capacity = lines.bytes.capacity();
            assert!(
                capacity <= 4 * MAX_LINE_BYTES,
                "memory is bounded: {capacity}"
            );
        }
        lines.finish();
        take(&mut lines);
        found
    }

    fn check(input: &[u8], expected: &[&[u8]]) {
        let expected: Vec<_> = expected.iter().map(|line| Some(line.to_vec())).collect();
        for piece in [1, 2, 3, 7, 4096] {
            assert_eq!(cut(input, piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_line_ends_with_a_newline_or_the_stream() {
        check(b"", &[]);
        check(b"a\nbc\n", &[b"a", b"bc"]);
        check(b"a\n\nb", &[b"a", b"", b"b"]);
        check(b"a\r\nb\r\n", &[b"a\r", b"b\r"]);
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_up_to_its_newline() {
        let fits = vec![b'x'; MAX_LINE_BYTES];
        let over = vec![b'x'; MAX_LINE_BYTES + 1];
        let endless = vec![b'x'; 5 * MAX_LINE_BYTES + 17];
        for piece in [1000, MAX_LINE_BYTES, 10 * MAX_LINE_BYTES] {
            let whole = |line: &[u8]| Some(line.to_vec());
            let input = [&fits[..], b"\nnext\n"].concat();
            assert_eq!(cut(&input, piece), [whole(&fits), whole(b"next")]);
            for long in [&over, &endless] {
                let input = [b"before\n", &long[..], b"\nnext\n"].concat();
                assert_eq!(
                    cut(&input, piece),
                    [whole(b"before"), None, whole(b"next")],
                    "in pieces of {piece}"
                );
                assert_eq!(cut(long, piece), [None], "at the end");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_stream_is_cut(input in "[ab\n]{0,200}", piece in 1_usize..50) {
            let whole = cut(input.as_bytes(), 4096);
            assert_eq!(cut(input.as_bytes(), piece), whole);
            let mut lines: Vec<&str> = input.split('\n').collect();
            if lines.last() == Some(&"") {
                lines.pop();
            }
            let lines: Vec<_> = lines.into_iter().map(|l| Some(l.as_bytes().to_vec())).collect();
            assert_eq!(whole, lines);
        }
    }
}
