// SPDX-License-Identifier: Apache-2.0
//! The undelivered frames, stored once for all readers.
//!
//! A reader is a cursor. Frames are stored in segments of about 64 KiB: a reader sends many frames
//! with one write, and a segment is freed after its last reader has left.

use std::collections::VecDeque;

/// The size from which a segment accepts no further frame.
const SEGMENT_BYTES: usize = 64 << 10;

/// A position in the log, between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameCursor {
    segment: u64,
    offset: usize,
}

/// The frames after the position of the slowest reader.
#[derive(Debug)]
pub(super) struct FrameLog {
    segments: VecDeque<LogSegment>,
    /// The number of the first stored segment.
    first_segment: u64,
    /// Count of the frames in all segments before the first.
    dropped_frames: u64,
    readers: usize,
    /// The number of the newest question when the last frame was appended.
    newest_question: u64,
}

#[derive(Debug, Default)]
struct LogSegment {
    bytes: Vec<u8>,
    boundaries: Vec<FrameBoundary>,
    readers: usize,
    /// Count of the frames before this segment since the log was created.
    frames_before: u64,
    /// The number of the newest question before this segment's frames.
    newest_question_before: u64,
}

#[derive(Debug, Clone, Copy)]
struct FrameBoundary {
    /// The offset of the frame's end in its segment.
    end: usize,
    /// The number of the newest question when the frame was appended.
    newest_question: u64,
}

/// The frames that a reader skips by moving to the end of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SkippedFrames {
    /// The rest of a frame that was sent in part.
    pub(super) partial_frame: Vec<u8>,
    /// The number of the newest question in the frames before those skipped.
    pub(super) newest_question: u64,
    /// Count of the skipped frames.
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

    /// Appends one frame, encoded by `write`, and returns its length in bytes. `newest` is the
    /// number of the newest question.
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

    /// Returns the bytes from the cursor to the end of its segment; none at the end of the log.
    pub(super) fn unread(&self, cursor: FrameCursor) -> &[u8] {
        let cursor = self.normalize(cursor);
        self.segment(cursor)
            .and_then(|segment| segment.bytes.get(cursor.offset..))
            .unwrap_or_default()
    }

    /// Returns the cursor after `read` bytes of [`Self::unread`].
    pub(super) fn advance(&self, cursor: FrameCursor, read: usize) -> FrameCursor {
        let FrameCursor { segment, offset } = self.normalize(cursor);
        self.normalize(FrameCursor {
            segment,
            offset: offset.saturating_add(read),
        })
    }

    /// Returns the bytes that the cursor is behind, rounded to whole segments.
    pub(super) fn bytes_behind(&self, cursor: FrameCursor) -> usize {
        let segments = self.last_segment().saturating_sub(cursor.segment);
        usize::try_from(segments)
            .unwrap_or(usize::MAX)
            .saturating_mul(SEGMENT_BYTES)
    }

    /// Returns `true` if the oldest stored segment is more than `limit` bytes behind.
    pub(super) fn exceeds(&self, limit: usize) -> bool {
        self.segments
            .len()
            .saturating_sub(1)
            .saturating_mul(SEGMENT_BYTES)
            > limit
    }

    /// Keeps the log from the cursor on, until [`Self::remove_reader`].
    pub(super) fn add_reader(&mut self, cursor: FrameCursor) {
        if let Some(segment) = self.segment_mut(cursor) {
            segment.readers = segment.readers.saturating_add(1);
            self.readers = self.readers.saturating_add(1);
        }
    }

    /// Removes a reader that [`Self::add_reader`] added.
    pub(super) fn remove_reader(&mut self, cursor: FrameCursor) {
        if let Some(segment) = self.segment_mut(cursor) {
            segment.readers = segment.readers.saturating_sub(1);
            self.readers = self.readers.saturating_sub(1);
        }
    }

    /// Moves a reader, and frees the segments without readers.
    pub(super) fn move_reader(&mut self, from: FrameCursor, to: FrameCursor) {
        if from.segment != to.segment {
            self.add_reader(to);
            self.remove_reader(from);
            self.trim();
        }
    }

    /// Frees the segments before those of the first reader; all frames if there are no readers.
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
            // A new segment number, so that an old cursor never refers to new bytes.
            self.first_segment = self.first_segment.saturating_add(1);
        }
    }

    /// Frees all frames and their memory if there are no readers.
    pub(super) fn release_memory(&mut self) {
        self.trim();
        if self.readers == 0
            && let Some(tail) = self.segments.back_mut()
        {
            tail.bytes = Vec::new();
            tail.boundaries = Vec::new();
        }
    }

    /// Returns the frames that a reader at `cursor` skips by moving to the end.
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
        // A frame that was sent in part must be completed.
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

    /// Returns the number of stored bytes.
    #[cfg(test)]
    pub(super) fn stored_bytes(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| segment.bytes.len())
            .sum()
    }

    /// Returns the same position, at the start of a segment instead of the end of the previous one.
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
    /// Returns the count of the frames up to the segment's end since the log was created.
    fn frames_through_end(&self) -> u64 {
        self.frames_before
            .saturating_add(u64::try_from(self.boundaries.len()).unwrap_or(u64::MAX))
    }
}
