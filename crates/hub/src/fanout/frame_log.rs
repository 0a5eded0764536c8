// SPDX-License-Identifier: Apache-2.0
//! The frames that somebody still has to read, once for all readers.
//!
//! A reader is a cursor. The frames lie one after the other in segments of 64 KiB, so that a
//! reader takes many at once, and a segment is freed when its last reader has left it.

use std::collections::VecDeque;

/// The bytes after which a segment takes no further frame.
const SEGMENT_BYTES: usize = 64 << 10;

/// A place in the log, between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameCursor {
    segment: u64,
    offset: usize,
}

/// The frames from the slowest reader's place on.
#[derive(Debug)]
pub(super) struct FrameLog {
    segments: VecDeque<LogSegment>,
    /// The number of the first segment.
    first_segment: u64,
    /// The frames in segments before the first.
    dropped_frames: u64,
    readers: usize,
    /// The newest question's number at the last frame.
    newest_question: u64,
}

#[derive(Debug, Default)]
struct LogSegment {
    bytes: Vec<u8>,
    boundaries: Vec<FrameBoundary>,
    readers: usize,
    /// The frames before it, of the log's whole life.
    frames_before: u64,
    /// The number of the newest question that a reader knows who has read what is before it.
    newest_question_before: u64,
}

#[derive(Debug, Clone, Copy)]
struct FrameBoundary {
    /// Where the frame ends in its segment.
    end: usize,
    /// The number of the newest question that a reader knows who has read it.
    newest_question: u64,
}

/// What a reader misses that is moved to the end of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SkippedFrames {
    /// The rest of the frame in the middle of which it stood.
    pub(super) partial_frame: Vec<u8>,
    /// The number of the newest question that it knows.
    pub(super) newest_question: u64,
    /// The frames it misses.
    pub(super) frame_count: u64,
}

impl FrameLog {
    pub(super) fn new() -> Self {
        Self {
            segments: VecDeque::from([LogSegment::default()]),
            first_segment: 0,
            dropped_frames: 0,
            readers: 0,
            newest_question: 0,
        }
    }

    /// Adds what `write` writes as one frame, and returns its bytes; `newest` is the number of the
    /// newest question now.
    pub(super) fn append(&mut self, newest: u64, write: impl FnOnce(&mut Vec<u8>)) -> usize {
        let seal = self
            .segments
            .back()
            .is_none_or(|s| s.bytes.len() >= SEGMENT_BYTES);
        if seal {
            let before = self
                .segments
                .back()
                .map_or(self.dropped_frames, LogSegment::frames_through_end);
            self.segments.push_back(LogSegment {
                frames_before: before,
                newest_question_before: self.newest_question,
                ..LogSegment::default()
            });
        }
        let Some(tail) = self.segments.back_mut() else {
            return 0;
        };
        let start = tail.bytes.len();
        write(&mut tail.bytes);
        let end = tail.bytes.len();
        if end > start {
            tail.boundaries.push(FrameBoundary {
                end,
                newest_question: newest,
            });
            self.newest_question = newest;
        }
        end.saturating_sub(start)
    }

    /// Returns the end of the log.
    pub(super) fn end(&self) -> FrameCursor {
        FrameCursor {
            segment: self.last_segment(),
            offset: self.segments.back().map_or(0, |tail| tail.bytes.len()),
        }
    }

    /// Returns the bytes between the cursor and the end of its segment: none at the log's end.
    pub(super) fn unread(&self, cursor: FrameCursor) -> &[u8] {
        let cursor = self.normalize(cursor);
        self.segment(cursor)
            .and_then(|segment| segment.bytes.get(cursor.offset..))
            .unwrap_or_default()
    }

    /// Returns the cursor after `read` bytes of [`Log::rest`].
    pub(super) fn advance(&self, cursor: FrameCursor, read: usize) -> FrameCursor {
        let FrameCursor { segment, offset } = self.normalize(cursor);
        self.normalize(FrameCursor {
            segment,
            offset: offset.saturating_add(read),
        })
    }

    /// Returns how many bytes the cursor is behind, to the nearest segment.
    pub(super) fn bytes_behind(&self, cursor: FrameCursor) -> usize {
        let segments = self.last_segment().saturating_sub(cursor.segment);
        usize::try_from(segments)
            .unwrap_or(usize::MAX)
            .saturating_mul(SEGMENT_BYTES)
    }

    /// Says whether the oldest segment that is read is more than `limit` bytes behind.
    pub(super) fn exceeds(&self, limit: usize) -> bool {
        self.segments
            .len()
            .saturating_sub(1)
            .saturating_mul(SEGMENT_BYTES)
            > limit
    }

    /// Keeps the log from the cursor on, until [`Log::leave`].
    pub(super) fn add_reader(&mut self, cursor: FrameCursor) {
        if let Some(segment) = self.segment_mut(cursor) {
            segment.readers = segment.readers.saturating_add(1);
            self.readers = self.readers.saturating_add(1);
        }
    }

    /// Ends what [`Log::enter`] began.
    pub(super) fn remove_reader(&mut self, cursor: FrameCursor) {
        if let Some(segment) = self.segment_mut(cursor) {
            segment.readers = segment.readers.saturating_sub(1);
            self.readers = self.readers.saturating_sub(1);
        }
    }

    /// Moves a reader that entered, and frees what nobody reads any more.
    pub(super) fn move_reader(&mut self, from: FrameCursor, to: FrameCursor) {
        if from.segment != to.segment {
            self.add_reader(to);
            self.remove_reader(from);
            self.trim();
        }
    }

    /// Frees the segments before the first reader's, and everything if there is none.
    pub(super) fn trim(&mut self) {
        while self.segments.len() > 1 && self.segments.front().is_some_and(|s| s.readers == 0) {
            if let Some(gone) = self.segments.pop_front() {
                self.dropped_frames = gone.frames_through_end();
            }
            self.first_segment = self.first_segment.saturating_add(1);
        }
        if self.readers == 0
            && let Some(tail) = self.segments.back_mut()
        {
            self.dropped_frames = tail.frames_through_end();
            tail.frames_before = self.dropped_frames;
            tail.newest_question_before = self.newest_question;
            tail.boundaries.clear();
            tail.bytes.clear();
            // The number moves on, so that an old cursor never finds new bytes.
            self.first_segment = self.first_segment.saturating_add(1);
        }
    }

    /// Gives the memory back too; for when nobody listens.
    pub(super) fn release_memory(&mut self) {
        self.trim();
        if self.readers == 0
            && let Some(tail) = self.segments.back_mut()
        {
            tail.bytes = Vec::new();
            tail.boundaries = Vec::new();
        }
    }

    /// Returns what a reader misses that goes from `cursor` to the end.
    pub(super) fn skipped_after(&self, cursor: FrameCursor) -> SkippedFrames {
        let cursor = self.normalize(cursor);
        let Some(segment) = self.segment(cursor) else {
            return SkippedFrames {
                partial_frame: Vec::new(),
                newest_question: 0,
                frame_count: 0,
            };
        };
        let read = segment
            .boundaries
            .partition_point(|m| m.end <= cursor.offset);
        let start = match read.checked_sub(1) {
            Some(last) => segment.boundaries.get(last).map_or(0, |mark| mark.end),
            None => 0,
        };
        // The frame it is in the middle of has to be finished.
        let partial = if start == cursor.offset {
            None
        } else {
            segment.boundaries.get(read)
        };
        let rest = partial
            .and_then(|mark| segment.bytes.get(cursor.offset..mark.end))
            .unwrap_or_default()
            .to_vec();
        let has = read.saturating_add(usize::from(partial.is_some()));
        let knows = match has.checked_sub(1) {
            Some(last) => segment
                .boundaries
                .get(last)
                .map_or(0, |mark| mark.newest_question),
            None => segment.newest_question_before,
        };
        let all = self
            .segments
            .back()
            .map_or(self.dropped_frames, LogSegment::frames_through_end);
        let has = segment
            .frames_before
            .saturating_add(u64::try_from(has).unwrap_or(u64::MAX));
        SkippedFrames {
            partial_frame: rest,
            newest_question: knows,
            frame_count: all.saturating_sub(has),
        }
    }

    /// Returns how many bytes it keeps.
    #[cfg(test)]
    pub(super) fn stored_bytes(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| segment.bytes.len())
            .sum()
    }

    /// Returns the same place, as the start of a segment rather than the end of the one before.
    fn normalize(&self, cursor: FrameCursor) -> FrameCursor {
        let ended = self
            .segment(cursor)
            .is_none_or(|segment| cursor.offset >= segment.bytes.len());
        if ended && cursor.segment < self.last_segment() {
            FrameCursor {
                segment: cursor.segment.saturating_add(1),
                offset: 0,
            }
        } else {
            cursor
        }
    }

    fn last_segment(&self) -> u64 {
        let after = u64::try_from(self.segments.len().saturating_sub(1)).unwrap_or(u64::MAX);
        self.first_segment.saturating_add(after)
    }

    fn segment(&self, cursor: FrameCursor) -> Option<&LogSegment> {
        let at = cursor.segment.checked_sub(self.first_segment)?;
        self.segments.get(usize::try_from(at).ok()?)
    }

    fn segment_mut(&mut self, cursor: FrameCursor) -> Option<&mut LogSegment> {
        let at = cursor.segment.checked_sub(self.first_segment)?;
        self.segments.get_mut(usize::try_from(at).ok()?)
    }
}

impl LogSegment {
    /// Returns the frames up to its end, of the log's whole life.
    fn frames_through_end(&self) -> u64 {
        self.frames_before
            .saturating_add(u64::try_from(self.boundaries.len()).unwrap_or(u64::MAX))
    }
}
