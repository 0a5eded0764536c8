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
pub struct Outbox {
    limit: usize,
    waiting: VecDeque<Waiting>,
    asked: HashSet<Dest>,
    lost: u64,
}

#[derive(Debug)]
struct Waiting {
    about: Option<Dest>,
    line: Vec<u8>,
}

impl Outbox {
    /// The lines that wait, unless told otherwise.
    pub const LIMIT: usize = 1024;

    /// Returns an empty one of at most `limit` lines.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            waiting: VecDeque::new(),
            asked: HashSet::new(),
            lost: 0,
        }
    }

    /// Says whether a question about `dest` waits.
    pub fn asks(&self, dest: &Dest) -> bool {
        self.asked.contains(dest)
    }

    /// Adds a line, and what it asks about if it is a question.
    pub fn push(&mut self, about: Option<Dest>, line: Vec<u8>) {
        if self.waiting.len() >= self.limit
            && let Some(oldest) = self.waiting.iter().position(|w| w.about.is_some())
            && let Some(Waiting { about, .. }) = self.waiting.remove(oldest)
        {
            self.lost = self.lost.saturating_add(1);
            self.forget(about.as_ref());
        }
        self.asked.extend(about.clone());
        self.waiting.push_back(Waiting { about, line });
    }

    /// Returns the line that is next.
    pub fn next(&self) -> Option<&[u8]> {
        self.waiting.front().map(|waiting| waiting.line.as_slice())
    }

    /// Takes the line that was next away: it is delivered. Returns what it asked about.
    pub fn delivered(&mut self) -> Option<Dest> {
        let about = self.waiting.pop_front()?.about;
        self.forget(about.as_ref());
        about
    }

    /// Returns how many questions went since this was last asked, because too many waited.
    pub const fn take_lost(&mut self) -> u64 {
        let lost = self.lost;
        self.lost = 0;
        lost
    }

    /// Returns how many lines wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Says whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn forget(&mut self, about: Option<&Dest>) {
        if let Some(dest) = about {
            self.asked.remove(dest);
        }
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new(Self::LIMIT)
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
        let mut outbox = Outbox::default();
        outbox.push(None, b"started".to_vec());
        outbox.push(Some(dest("a")), b"a".to_vec());
        assert!(outbox.asks(&dest("a")) && !outbox.asks(&dest("b")));
        assert_eq!(outbox.next(), Some(b"started".as_slice()));
        assert_eq!(
            outbox.next(),
            Some(b"started".as_slice()),
            "until delivered"
        );
        assert_eq!(outbox.delivered(), None);
        assert_eq!(outbox.delivered(), Some(dest("a")));
        assert!(outbox.is_empty() && !outbox.asks(&dest("a")));
        assert_eq!(outbox.delivered(), None);
    }

    proptest::proptest! {
        #[test]
        fn too_many_questions_cost_the_oldest_and_are_counted(questions in 0..40_usize) {
            let mut outbox = Outbox::new(8);
            outbox.push(None, b"started".to_vec());
            for number in 0..questions {
                let name = number.to_string();
                outbox.push(Some(dest(&name)), name.into_bytes());
                assert!(outbox.len() <= 8);
                assert_eq!(outbox.asked.len(), outbox.len() - 1);
            }
            let lost = questions.saturating_sub(7);
            assert_eq!(outbox.take_lost(), u64::try_from(lost).unwrap());
            assert_eq!(outbox.take_lost(), 0);
            assert_eq!(outbox.next(), Some(b"started".as_slice()));
            outbox.delivered();
            for number in lost..questions {
                assert_eq!(outbox.next(), Some(number.to_string().as_bytes()));
                assert_eq!(outbox.delivered(), Some(dest(&number.to_string())));
            }
        }
    }
}
