// SPDX-License-Identifier: Apache-2.0
//! The destinations whose connections wait for an answer, in the filtered way.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use egress::HoldLimit;
use terok_clearance::Dest;

/// Maximum destinations; those over the limit wait without a time limit and ask again and again.
const MAX_HELD_DESTS: usize = 4096;
/// Shortest time for which a destination is refused after its time limit.
pub(crate) const MIN_REFUSAL: Duration = Duration::from_secs(5);

/// The waiting destinations and the times since when they wait.
#[derive(Debug)]
pub(crate) struct HoldTable {
    limit: HoldLimit,
    is_active: bool,
    dests: BTreeMap<SocketAddr, HeldDest>,
}

#[derive(Debug)]
struct HeldDest {
    since: Instant,
    /// The destination of the question: an address may have several names.
    question: Dest,
}

/// A destination whose connections waited in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OverdueDest {
    pub(crate) destination: SocketAddr,
    pub(crate) question: Dest,
    /// The time for which its connections are refused. A program repeats its first packet at the
    /// latest after the time that it has waited already.
    pub(crate) refuse_for: Duration,
}

impl HoldTable {
    pub(crate) const fn new(limit: HoldLimit) -> Self {
        Self {
            limit,
            is_active: false,
            dests: BTreeMap::new(),
        }
    }

    /// Returns `true` if connections may wait for an answer at all.
    pub(crate) fn may_hold(&self) -> bool {
        self.limit != HoldLimit::Refuse
    }

    pub(crate) const fn is_active(&self) -> bool {
        self.is_active
    }

    /// Returns `true` if no destination waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.dests.is_empty()
    }

    /// Records that the kernel lets connections wait, or refuses them.
    pub(crate) fn set_active(&mut self, is_active: bool) {
        self.is_active = is_active;
        if !is_active {
            self.dests.clear();
        }
    }

    /// Records a logged packet. Returns `false` if its connection waits for the answer to the same
    /// question, which need not be asked again.
    pub(crate) fn record(
        &mut self,
        destination: SocketAddr,
        question: &Dest,
        now: Instant,
    ) -> bool {
        if !self.is_active {
            return true;
        }
        let is_full = self.dests.len() >= MAX_HELD_DESTS;
        match self.dests.get_mut(&destination) {
            Some(held) if held.question == *question => false,
            Some(held) => {
                held.question = question.clone();
                true
            }
            None if is_full => true,
            None => {
                let held = HeldDest {
                    since: now,
                    question: question.clone(),
                };
                self.dests.insert(destination, held);
                true
            }
        }
    }

    /// Forgets the destinations for which `is_answered` returns `true`.
    pub(crate) fn remove_answered(&mut self, is_answered: impl Fn(SocketAddr) -> bool) {
        self.dests
            .retain(|destination, _| !is_answered(*destination));
    }

    /// Removes and returns the destinations at `address`.
    pub(crate) fn take_address(&mut self, address: IpAddr, now: Instant) -> Vec<OverdueDest> {
        self.take(now, |destination, _| destination.ip() == address)
    }

    /// Returns the next time at which a destination is overdue.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let since = self.dests.values().map(|held| held.since).min()?;
        since.checked_add(self.wait_time()?)
    }

    /// Removes and returns the overdue destinations.
    pub(crate) fn take_overdue(&mut self, now: Instant) -> Vec<OverdueDest> {
        let Some(limit) = self.wait_time() else {
            return Vec::new();
        };
        self.take(now, |_, held| {
            now.saturating_duration_since(held.since) >= limit
        })
    }

    fn take(
        &mut self,
        now: Instant,
        is_taken: impl Fn(&SocketAddr, &HeldDest) -> bool,
    ) -> Vec<OverdueDest> {
        let mut taken = Vec::new();
        self.dests.retain(|destination, held| {
            let keeps = !is_taken(destination, held);
            if !keeps {
                taken.push(held.to_overdue(*destination, now));
            }
            keeps
        });
        taken
    }

    /// Returns the time that a connection waits; `None` for no limit.
    const fn wait_time(&self) -> Option<Duration> {
        match self.limit {
            HoldLimit::Refuse => Some(Duration::ZERO),
            HoldLimit::For(limit) => Some(limit),
            HoldLimit::Forever => None,
        }
    }
}

impl HeldDest {
    fn to_overdue(&self, destination: SocketAddr, now: Instant) -> OverdueDest {
        let waited = now.saturating_duration_since(self.since);
        OverdueDest {
            destination,
            question: self.question.clone(),
            refuse_for: waited.max(MIN_REFUSAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
    fn now() -> Instant {
        Instant::now()
    }

    fn dest(text: &str) -> Dest {
        text.parse().unwrap()
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 7], port))
    }

    #[test]
    fn a_waiting_destination_is_asked_about_once_per_name() {
        let mut table = HoldTable::new(HoldLimit::For(LIMIT));
        let begin = now();
        let (one, other) = (dest("one.test"), dest("other.test"));
        assert!(table.record(at(443), &one, begin));
        assert!(table.record(at(443), &one, begin), "nobody answers yet");
        assert_eq!(table.next_due(), None);
        table.set_active(true);
        assert!(table.record(at(443), &one, begin));
        assert!(!table.record(at(443), &one, begin + LIMIT / 2));
        assert!(table.record(at(443), &other, begin + LIMIT / 2));
        assert!(table.record(at(80), &one, begin + LIMIT / 2));
        assert_eq!(table.next_due(), Some(begin + LIMIT));

        assert_eq!(table.take_overdue(begin + LIMIT / 2), []);
        let overdue = OverdueDest {
            destination: at(443),
            question: other,
            refuse_for: LIMIT,
        };
        assert_eq!(table.take_overdue(begin + LIMIT), [overdue]);
        assert_eq!(table.next_due(), Some(begin + LIMIT / 2 + LIMIT));
        table.remove_answered(|destination| destination == at(80));
        assert_eq!(table.next_due(), None);
        assert!(table.record(at(80), &one, begin + LIMIT), "asked anew");
        table.set_active(false);
        assert_eq!(table.next_due(), None);
    }

    #[test]
    fn the_limit_may_be_short_or_missing() {
        let begin = now();
        let second = Duration::from_secs(1);
        let mut table = HoldTable::new(HoldLimit::For(second));
        table.set_active(true);
        assert!(table.record(at(1), &dest("one.test"), begin));
        assert_eq!(
            table.take_overdue(begin + second)[0].refuse_for,
            MIN_REFUSAL
        );
        let mut table = HoldTable::new(HoldLimit::Forever);
        table.set_active(true);
        assert!(table.record(at(1), &dest("one.test"), begin));
        assert_eq!(table.next_due(), None);
        assert_eq!(table.take_overdue(begin + LIMIT * 1000), []);
        assert!(!HoldTable::new(HoldLimit::Refuse).may_hold());
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = HoldTable::new(HoldLimit::For(LIMIT));
        table.set_active(true);
        for port in 1..=5000 {
            assert!(table.record(at(port), &dest("one.test"), now()));
        }
        assert_eq!(table.dests.len(), MAX_HELD_DESTS);
        assert!(!table.record(at(1), &dest("one.test"), now()));
        assert!(
            table.record(at(5000), &dest("one.test"), now()),
            "asked again"
        );
    }
}
