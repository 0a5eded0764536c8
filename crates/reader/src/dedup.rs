// SPDX-License-Identifier: Apache-2.0
//! One mention of a destination in half a minute: a program that retries asks once.
//!
//! Pure: the time comes in.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use terok_clearance::Dest;
use tokio::time::Instant;

/// Remembers which destinations were mentioned lately, bounded in number and time.
///
/// Two are in use, as in the Python stack: one for questions that reached a hub, one for lines of
/// the audit log. So a hub that is away keeps neither from the other.
#[derive(Debug)]
pub struct DedupWindow {
    span: Duration,
    max_dests: usize,
    last_seen: HashMap<Dest, Instant>,
    /// The marks, oldest first. One that was renewed is here more than once.
    by_age: VecDeque<(Instant, Dest)>,
}

impl DedupWindow {
    /// How long a destination is not mentioned again: the Python stack's half minute.
    pub const DEFAULT_SPAN: Duration = Duration::from_secs(30);
    /// The destinations that are remembered, unless told otherwise. A sandbox that goes through
    /// more of them within the span is asked about some twice; memory stays bounded.
    pub const MAX_DESTS: usize = 4096;

    /// Returns an empty memory of at most `limit` destinations, each for `span`.
    pub fn new(span: Duration, limit: usize) -> Self {
        Self {
            span,
            max_dests: limit,
            last_seen: HashMap::new(),
            by_age: VecDeque::new(),
        }
    }

    /// Says whether `dest` was not mentioned within the span before `now`.
    pub fn permits(&self, dest: &Dest, now: Instant) -> bool {
        let mark = self.last_seen.get(dest);
        mark.is_none_or(|mark| now.saturating_duration_since(*mark) >= self.span)
    }

    /// Remembers that `dest` is mentioned at `now`.
    pub fn record(&mut self, dest: Dest, now: Instant) {
        self.last_seen.insert(dest.clone(), now);
        self.by_age.push_back((now, dest));
        while let Some((at, _)) = self.by_age.front() {
            let over = now.saturating_duration_since(*at) >= self.span;
            if !over && self.by_age.len() <= self.max_dests {
                break;
            }
            if let Some((at, dest)) = self.by_age.pop_front()
                && self.last_seen.get(&dest) == Some(&at)
            {
                self.last_seen.remove(&dest);
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.last_seen.clear();
        self.by_age.clear();
    }
}

impl Default for DedupWindow {
    fn default() -> Self {
        Self::new(Self::DEFAULT_SPAN, Self::MAX_DESTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dest(text: &str) -> Dest {
        text.parse().unwrap()
    }

    #[test]
    fn a_destination_is_mentioned_once_in_the_span() {
        let (mut window, start) = (DedupWindow::default(), Instant::now());
        let (one, two) = (dest("192.0.2.1"), dest("api.example.com"));
        assert!(window.permits(&one, start));
        window.record(one.clone(), start);
        let last = start + DedupWindow::DEFAULT_SPAN - Duration::from_nanos(1);
        assert!(!window.permits(&one, start) && !window.permits(&one, last));
        assert!(window.permits(&two, last));
        assert!(window.permits(&one, start + DedupWindow::DEFAULT_SPAN));
        window.clear();
        assert!(window.permits(&one, start));
    }

    #[test]
    fn over_the_limit_the_oldest_is_forgotten() {
        let (mut window, now) = (
            DedupWindow::new(DedupWindow::DEFAULT_SPAN, 2),
            Instant::now(),
        );
        for name in ["a", "b", "c"] {
            window.record(dest(name), now);
        }
        assert!(window.permits(&dest("a"), now));
        assert!(!window.permits(&dest("b"), now) && !window.permits(&dest("c"), now));
    }

    proptest::proptest! {
        #[test]
        fn it_does_what_a_plain_table_does(
            steps in proptest::collection::vec((0..6_u8, 0..20_u64, proptest::bool::ANY), 0..200)
        ) {
            let mut now = Instant::now();
            let mut window = DedupWindow::new(Duration::from_secs(30), 1000);
            let mut table: HashMap<u8, Instant> = HashMap::new();
            for (name, seconds, mark) in steps {
                now += Duration::from_secs(seconds);
                let key = dest(&name.to_string());
                let open = table.get(&name).is_none_or(|at| now - *at >= Duration::from_secs(30));
                assert_eq!(window.permits(&key, now), open);
                if mark {
                    window.record(key, now);
                    table.insert(name, now);
                    let span = Duration::from_secs(30);
                    assert!(window.by_age.iter().all(|(at, _)| now - *at < span));
                }
                assert!(window.last_seen.len() <= window.by_age.len());
            }
        }
    }
}
