// SPDX-License-Identifier: Apache-2.0
//! Lines waiting for an absent hub.
//!
//! Pure. One question per destination waits, up to a limit; dropped ones are counted.

use std::collections::{HashSet, VecDeque};

use terok_clearance::Dest;

/// Lines for a hub, in order, bounded in number.
///
/// Over the limit the oldest question is dropped: a retry of its program asks again. Other lines
/// (start, end) are few and stay.
#[derive(Debug)]
pub struct ReaderOutbox {
    max_lines: usize,
    entries: VecDeque<OutboxEntry>,
    queued_dests: HashSet<Dest>,
    dropped: u64,
}

#[derive(Debug)]
struct OutboxEntry {
    question_dest: Option<Dest>,
    line: Vec<u8>,
}

impl ReaderOutbox {
    /// Default limit of lines.
    pub const MAX_LINES: usize = 1024;

    /// Creates an outbox of at most `limit` lines.
    pub fn new(limit: usize) -> Self {
        Self {
            max_lines: limit,
            entries: VecDeque::new(),
            queued_dests: HashSet::new(),
            dropped: 0,
        }
    }

    /// Returns `true` if a question about `dest` is queued.
    pub fn has_question(&self, dest: &Dest) -> bool {
        self.queued_dests.contains(dest)
    }

    /// Queues a line, with its destination if the line is a question.
    pub fn push(&mut self, about: Option<Dest>, line: Vec<u8>) {
        if self.entries.len() >= self.max_lines
            && let Some(oldest) = self.entries.iter().position(|w| w.question_dest.is_some())
            && let Some(OutboxEntry {
                question_dest: about,
                ..
            }) = self.entries.remove(oldest)
        {
            self.dropped = self.dropped.saturating_add(1);
            self.remove_dest(about.as_ref());
        }
        self.queued_dests.extend(about.clone());
        self.entries.push_back(OutboxEntry {
            question_dest: about,
            line,
        });
    }

    /// Returns the next line.
    pub fn front(&self) -> Option<&[u8]> {
        self.entries.front().map(|waiting| waiting.line.as_slice())
    }

    /// Removes the next line after its delivery. Returns its destination if the line is a question.
    pub fn pop_delivered(&mut self) -> Option<Dest> {
        let about = self.entries.pop_front()?.question_dest;
        self.remove_dest(about.as_ref());
        about
    }

    /// Takes the count of questions dropped since the last call.
    pub const fn take_dropped(&mut self) -> u64 {
        let lost = self.dropped;
        self.dropped = 0;
        lost
    }

    /// Returns the number of queued lines.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns `true` if no line is queued.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn remove_dest(&mut self, about: Option<&Dest>) {
        if let Some(dest) = about {
            self.queued_dests.remove(dest);
        }
    }
}

impl Default for ReaderOutbox {
    fn default() -> Self {
        Self::new(Self::MAX_LINES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dest(text: &str) -> Dest {
        text.parse().unwrap()
    }

    #[test]
    fn lines_leave_in_order_once_each() {
        let mut outbox = ReaderOutbox::default();
        outbox.push(None, b"started".to_vec());
        outbox.push(Some(dest("a")), b"a".to_vec());
        assert!(outbox.has_question(&dest("a")) && !outbox.has_question(&dest("b")));
        assert_eq!(outbox.front(), Some(b"started".as_slice()));
        assert_eq!(
            outbox.front(),
            Some(b"started".as_slice()),
            "until delivered"
        );
        assert_eq!(outbox.pop_delivered(), None);
        assert_eq!(outbox.pop_delivered(), Some(dest("a")));
        assert!(outbox.is_empty() && !outbox.has_question(&dest("a")));
        assert_eq!(outbox.pop_delivered(), None);
    }

    proptest::proptest! {
        #[test]
        fn the_oldest_questions_are_dropped_and_counted_over_the_limit(questions in 0..40_usize) {
            let mut outbox = ReaderOutbox::new(8);
            outbox.push(None, b"started".to_vec());
            for number in 0..questions {
                let name = number.to_string();
                outbox.push(Some(dest(&name)), name.into_bytes());
                assert!(outbox.len() <= 8);
                assert_eq!(outbox.queued_dests.len(), outbox.len() - 1);
            }
            let lost = questions.saturating_sub(7);
            assert_eq!(outbox.take_dropped(), u64::try_from(lost).unwrap());
            assert_eq!(outbox.take_dropped(), 0);
            assert_eq!(outbox.front(), Some(b"started".as_slice()));
            outbox.pop_delivered();
            for number in lost..questions {
                assert_eq!(outbox.front(), Some(number.to_string().as_bytes()));
                assert_eq!(outbox.pop_delivered(), Some(dest(&number.to_string())));
            }
        }
    }
}
