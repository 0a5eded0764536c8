// SPDX-License-Identifier: Apache-2.0
//! What waits to be told to a hub that is not there.
//!
//! Pure. One question of each destination waits, at most so many; the rest is counted.

use std::collections::{HashSet, VecDeque};

use terok_clearance::Dest;

/// Lines for a hub, in their order, bounded in number.
///
/// Over the bound the oldest question goes: what asked it tries again, and is asked about then.
/// Lines that are no question (a start, an end) are few and stay.
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
    /// The lines that wait, unless told otherwise.
    pub const MAX_LINES: usize = 1024;

    /// Returns an empty one of at most `limit` lines.
    pub fn new(limit: usize) -> Self {
        Self {
            max_lines: limit,
            entries: VecDeque::new(),
            queued_dests: HashSet::new(),
            dropped: 0,
        }
    }

    /// Says whether a question about `dest` waits.
    pub fn has_question(&self, dest: &Dest) -> bool {
        self.queued_dests.contains(dest)
    }

    /// Adds a line, and what it asks about if it is a question.
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

    /// Returns the line that is next.
    pub fn front(&self) -> Option<&[u8]> {
        self.entries.front().map(|waiting| waiting.line.as_slice())
    }

    /// Takes the line that was next away: it is delivered. Returns what it asked about.
    pub fn pop_delivered(&mut self) -> Option<Dest> {
        let about = self.entries.pop_front()?.question_dest;
        self.remove_dest(about.as_ref());
        about
    }

    /// Returns how many questions went since this was last asked, because too many waited.
    pub const fn take_dropped(&mut self) -> u64 {
        let lost = self.dropped;
        self.dropped = 0;
        lost
    }

    /// Returns how many lines wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Says whether nothing waits.
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
    fn lines_go_in_their_order_and_each_once() {
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
        fn too_many_questions_cost_the_oldest_and_are_counted(questions in 0..40_usize) {
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
