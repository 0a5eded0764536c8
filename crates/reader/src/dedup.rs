// SPDX-License-Identifier: Apache-2.0
//! Suppresses repeated questions about a destination for half a minute.
//!
//! Pure: the caller passes the time.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use terok_clearance::Dest;
use tokio::time::Instant;

/// The recently reported destinations, bounded in number and time.
///
/// As in the Python stack, two are in use: for questions delivered to a hub and for audit log
/// lines. An absent hub thus does not affect the audit log.
#[derive(Debug)]
pub struct DedupWindow {
    span: Duration,
    max_dests: usize,
    last_seen: HashMap<Dest, Instant>,
    /// The reports, oldest first; a repeated destination occurs more than once.
    by_age: VecDeque<(Instant, Dest)>,
}

impl DedupWindow {
    /// Duration of the suppression, as in the Python stack.
    pub const DEFAULT_SPAN: Duration = Duration::from_secs(30);
    /// Default limit of destinations. A sandbox exceeding the limit within the span causes some
    /// repeated questions, with bounded memory.
    pub const MAX_DESTS: usize = 4096;

    /// Creates a window of at most `limit` destinations, each suppressed for `span`.
    pub fn new(span: Duration, limit: usize) -> Self {
        Self {
            span,
            max_dests: limit,
            last_seen: HashMap::new(),
            by_age: VecDeque::new(),
        }
    }

    /// Returns `true` unless `dest` was recorded within the span before `now`.
    pub fn permits(&self, dest: &Dest, now: Instant) -> bool {
        let mark = self.last_seen.get(dest);
        mark.is_none_or(|mark| now.saturating_duration_since(*mark) >= self.span)
    }

    /// Records a report of `dest` at `now`.
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

    /// Forgets all destinations.
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
    fn a_destination_is_permitted_once_per_span() {
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
    fn the_oldest_is_forgotten_over_the_limit() {
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
        fn the_window_behaves_like_a_plain_table(
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
