// SPDX-License-Identifier: Apache-2.0
//! The frames that somebody still has to read, once for all readers.
//!
//! A reader is a cursor. The frames lie one after the other in segments of 64 KiB, so that a
//! reader takes many at once, and a segment is freed when its last reader has left it.

use std::collections::VecDeque;

/// The bytes after which a segment takes no further frame.
const SEGMENT: usize = 64 << 10;

/// A place in the log, between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    segment: u64,
    offset: usize,
}

/// The frames from the slowest reader's place on.
#[derive(Debug)]
pub(super) struct Log {
    segments: VecDeque<Segment>,
    /// The number of the first segment.
    first: u64,
    /// The frames in segments before the first.
    dropped: u64,
    readers: usize,
    /// The newest question's number at the last frame.
    newest: u64,
}

#[derive(Debug, Default)]
struct Segment {
    bytes: Vec<u8>,
    marks: Vec<Mark>,
    readers: usize,
    /// The frames before it, of the log's whole life.
    before: u64,
    /// The number of the newest question that a reader knows who has read what is before it.
    knew: u64,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    /// Where the frame ends in its segment.
    end: usize,
    /// The number of the newest question that a reader knows who has read it.
    newest: u64,
}

/// What a reader misses that is moved to the end of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// The rest of the frame in the middle of which it stood.
    pub(super) rest: Vec<u8>,
    /// The number of the newest question that it knows.
    pub(super) knows: u64,
    /// The frames it misses.
    pub(super) frames: u64,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            segments: VecDeque::from([Segment::default()]),
            first: 0,
            dropped: 0,
            readers: 0,
            newest: 0,
        }
    }

    /// Adds what `write` writes as one frame, and returns its bytes; `newest` is the number of the
    /// newest question now.
    pub(super) fn append(&mut self, newest: u64, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let seal = self
            .segments
            .back()
            .is_none_or(|s| s.bytes.len() >= SEGMENT);
        if seal {
            let before = self.segments.back().map_or(self.dropped, Segment::after);
            self.segments.push_back(Segment {
                before,
                knew: self.newest,
                ..Segment::default()
            });
        }
        let Some(tail) = self.segments.back_mut() else {
            return 0;
        };
        let start = tail.bytes.len();
        write(&mut tail.bytes);
        let end = tail.bytes.len();
        if end > start {
            tail.marks.push(Mark { end, newest });
            self.newest = newest;
        }
        end.saturating_sub(start)
    }

    /// Returns the end of the log.
    pub(super) fn end(&self) -> Cursor {
        Cursor {
            segment: self.last(),
            offset: self.segments.back().map_or(0, |tail| tail.bytes.len()),
        }
    }

    /// Returns the bytes between the cursor and the end of its segment: none at the log's end.
    pub(super) fn rest(&self, cursor: Cursor) -> &[u8] {
        let cursor = self.onward(cursor);
        self.segment(cursor)
            .and_then(|segment| segment.bytes.get(cursor.offset..))
            .unwrap_or_default()
    }

    /// Returns the cursor after `read` bytes of [`Log::rest`].
    pub(super) fn after(&self, cursor: Cursor, read: usize) -> Cursor {
        let Cursor { segment, offset } = self.onward(cursor);
        self.onward(Cursor {
            segment,
            offset: offset.saturating_add(read),
        })
    }

    /// Returns how many bytes the cursor is behind, to the nearest segment.
    pub(super) fn behind(&self, cursor: Cursor) -> usize {
        let segments = self.last().saturating_sub(cursor.segment);
        usize::try_from(segments)
            .unwrap_or(usize::MAX)
            .saturating_mul(SEGMENT)
    }

    /// Says whether the oldest segment that is read is more than `limit` bytes behind.
    pub(super) fn is_over(&self, limit: usize) -> bool {
        self.segments
            .len()
            .saturating_sub(1)
            .saturating_mul(SEGMENT)
            > limit
    }

    /// Keeps the log from the cursor on, until [`Log::leave`].
    pub(super) fn enter(&mut self, cursor: Cursor) {
        if let Some(segment) = self.segment_mut(cursor) {
            segment.readers = segment.readers.saturating_add(1);
            self.readers = self.readers.saturating_add(1);
        }
    }

    /// Ends what [`Log::enter`] began.
    pub(super) fn leave(&mut self, cursor: Cursor) {
        if let Some(segment) = self.segment_mut(cursor) {
            segment.readers = segment.readers.saturating_sub(1);
            self.readers = self.readers.saturating_sub(1);
        }
    }

    /// Moves a reader that entered, and frees what nobody reads any more.
    pub(super) fn step(&mut self, from: Cursor, to: Cursor) {
        if from.segment != to.segment {
            self.enter(to);
            self.leave(from);
            self.trim();
        }
    }

    /// Frees the segments before the first reader's, and everything if there is none.
    pub(super) fn trim(&mut self) {
        while self.segments.len() > 1 && self.segments.front().is_some_and(|s| s.readers == 0) {
            if let Some(gone) = self.segments.pop_front() {
                self.dropped = gone.after();
            }
            self.first = self.first.saturating_add(1);
        }
        if self.readers == 0
            && let Some(tail) = self.segments.back_mut()
        {
            self.dropped = tail.after();
            tail.before = self.dropped;
            tail.knew = self.newest;
            tail.marks.clear();
            tail.bytes.clear();
            // The number moves on, so that an old cursor never finds new bytes.
            self.first = self.first.saturating_add(1);
        }
    }

    /// Gives the memory back too; for when nobody listens.
    pub(super) fn shrink(&mut self) {
        self.trim();
        if self.readers == 0
            && let Some(tail) = self.segments.back_mut()
        {
            tail.bytes = Vec::new();
            tail.marks = Vec::new();
        }
    }

    /// Returns what a reader misses that goes from `cursor` to the end.
    pub(super) fn gap(&self, cursor: Cursor) -> Gap {
        let cursor = self.onward(cursor);
        let Some(segment) = self.segment(cursor) else {
            return Gap {
                rest: Vec::new(),
                knows: 0,
                frames: 0,
            };
        };
        let read = segment.marks.partition_point(|m| m.end <= cursor.offset);
        let start = match read.checked_sub(1) {
            Some(last) => segment.marks.get(last).map_or(0, |mark| mark.end),
            None => 0,
        };
        // The frame it is in the middle of has to be finished.
        let partial = if start == cursor.offset {
            None
        } else {
            segment.marks.get(read)
        };
        let rest = partial
            .and_then(|mark| segment.bytes.get(cursor.offset..mark.end))
            .unwrap_or_default()
            .to_vec();
        let has = read.saturating_add(usize::from(partial.is_some()));
        let knows = match has.checked_sub(1) {
            Some(last) => segment.marks.get(last).map_or(0, |mark| mark.newest),
            None => segment.knew,
        };
        let all = self.segments.back().map_or(self.dropped, Segment::after);
        let has = segment
            .before
            .saturating_add(u64::try_from(has).unwrap_or(u64::MAX));
        Gap {
            rest,
            knows,
            frames: all.saturating_sub(has),
        }
    }

    /// Returns how many bytes it keeps.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| segment.bytes.len())
            .sum()
    }

    /// Returns the same place, as the start of a segment rather than the end of the one before.
    fn onward(&self, cursor: Cursor) -> Cursor {
        let ended = self
            .segment(cursor)
            .is_none_or(|segment| cursor.offset >= segment.bytes.len());
        if ended && cursor.segment < self.last() {
            Cursor {
                segment: cursor.segment.saturating_add(1),
                offset: 0,
            }
        } else {
            cursor
        }
    }

    fn last(&self) -> u64 {
        let after = u64::try_from(self.segments.len().saturating_sub(1)).unwrap_or(u64::MAX);
        self.first.saturating_add(after)
    }

    fn segment(&self, cursor: Cursor) -> Option<&Segment> {
        let at = cursor.segment.checked_sub(self.first)?;
        self.segments.get(usize::try_from(at).ok()?)
    }

    fn segment_mut(&mut self, cursor: Cursor) -> Option<&mut Segment> {
        let at = cursor.segment.checked_sub(self.first)?;
        self.segments.get_mut(usize::try_from(at).ok()?)
    }
}

impl Segment {
    /// Returns the frames up to its end, of the log's whole life.
    fn after(&self) -> u64 {
        self.before
            .saturating_add(u64::try_from(self.marks.len()).unwrap_or(u64::MAX))
    }
}
