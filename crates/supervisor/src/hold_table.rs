// SPDX-License-Identifier: Apache-2.0
//! The destinations whose connections wait for an answer, in the filtered way.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use egress::{HeldCount, HoldLimit};
use terok_clearance::{Dest, RequestId};

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
    /// Changes of the connections that wait for a question.
    updates: Vec<(RequestId, HeldCount)>,
}

/// The question about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldQuestion {
    pub(crate) request: RequestId,
    /// The destination that it shows: an address may have several names.
    pub(crate) dest: Dest,
}

#[derive(Debug)]
struct HeldDest {
    since: Instant,
    question: HeldQuestion,
    /// The number of connections.
    count: usize,
}

/// What becomes of a logged packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketFate {
    /// It was refused.
    Refused,
    /// It waits for the answer to a new question.
    Held,
    /// It waits for the answer to an earlier question.
    AlreadyHeld,
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
            updates: Vec::new(),
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
            for held in std::mem::take(&mut self.dests).into_values() {
                self.updates.push((held.question.request, NONE_WAIT));
            }
        }
    }

    /// Records a logged packet of a TCP connection.
    pub(crate) fn record(
        &mut self,
        destination: SocketAddr,
        question: &HeldQuestion,
        now: Instant,
    ) -> PacketFate {
        if !self.is_active {
            return PacketFate::Refused;
        }
        let is_full = self.dests.len() >= MAX_HELD_DESTS;
        match self.dests.get_mut(&destination) {
            Some(held) if held.question.dest == question.dest => PacketFate::AlreadyHeld,
            Some(held) => {
                held.question = question.clone();
                PacketFate::Held
            }
            None if is_full => PacketFate::Held,
            None => {
                let held = HeldDest {
                    since: now,
                    question: question.clone(),
                    count: 1,
                };
                let count = HeldCount {
                    count: held.count,
                    since: Some(now),
                    gave_up_after: None,
                };
                self.updates.push((question.request.clone(), count));
                self.dests.insert(destination, held);
                PacketFate::Held
            }
        }
    }

    /// Counts the TCP connections that wait, by the remote addresses of all that still connect.
    /// Forgets the destinations that have none any more: the next attempt is a new question.
    pub(crate) fn count_connections(&mut self, connecting: &[SocketAddr], now: Instant) {
        let mut counts: HashMap<SocketAddr, usize> = HashMap::new();
        for remote in connecting {
            let count = counts.entry(*remote).or_default();
            *count = count.saturating_add(1);
        }
        let mut changed = Vec::new();
        self.dests.retain(|destination, held| {
            let count = counts.get(destination).copied().unwrap_or_default();
            if count != held.count {
                let waited = now.saturating_duration_since(held.since);
                changed.push((destination.port(), held.question.clone(), waited));
            }
            held.count = count;
            count > 0
        });
        // A question about a name may have several destinations.
        let mut totals: HashMap<(&Dest, u16), HeldCount> = HashMap::new();
        for (destination, held) in &self.dests {
            let key = (&held.question.dest, destination.port());
            let total = totals.entry(key).or_insert(NONE_WAIT);
            total.count = total.count.saturating_add(held.count);
            total.since = total.since.into_iter().chain([held.since]).min();
        }
        for (port, question, waited) in changed {
            let total = totals.get(&(&question.dest, port)).copied();
            let count = total.unwrap_or(HeldCount {
                gave_up_after: Some(waited),
                ..NONE_WAIT
            });
            self.updates.push((question.request, count));
        }
    }

    /// Removes and returns the changes of the connections that wait for questions, oldest first.
    pub(crate) fn take_updates(&mut self) -> Vec<(RequestId, HeldCount)> {
        std::mem::take(&mut self.updates)
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
        let updates = &mut self.updates;
        self.dests.retain(|destination, held| {
            let keeps = !is_taken(destination, held);
            if !keeps {
                let waited = now.saturating_duration_since(held.since);
                updates.push((held.question.request.clone(), NONE_WAIT));
                taken.push(OverdueDest {
                    destination: *destination,
                    question: held.question.dest.clone(),
                    refuse_for: waited.max(MIN_REFUSAL),
                });
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

const NONE_WAIT: HeldCount = HeldCount {
    count: 0,
    since: None,
    gave_up_after: None,
};

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
    fn now() -> Instant {
        Instant::now()
    }

    fn question(dest: &str, number: u16) -> HeldQuestion {
        HeldQuestion {
            request: format!("box:{number}").parse().unwrap(),
            dest: dest.parse().unwrap(),
        }
    }

    fn at(port: u16) -> SocketAddr {
        host(7, port)
    }

    fn host(last: u8, port: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, last], port))
    }

    fn active(limit: HoldLimit) -> HoldTable {
        let mut table = HoldTable::new(limit);
        table.set_active(true);
        table
    }

    #[test]
    fn a_waiting_destination_is_asked_about_once_per_name() {
        let mut table = HoldTable::new(HoldLimit::For(LIMIT));
        let begin = now();
        let (one, other) = (question("one.test", 1), question("other.test", 2));
        assert_eq!(table.record(at(443), &one, begin), PacketFate::Refused);
        assert_eq!(table.next_due(), None);
        table.set_active(true);
        assert_eq!(table.record(at(443), &one, begin), PacketFate::Held);
        let later = begin + LIMIT / 2;
        assert_eq!(table.record(at(443), &one, later), PacketFate::AlreadyHeld);
        assert_eq!(table.record(at(443), &other, later), PacketFate::Held);
        assert_eq!(table.record(at(80), &one, later), PacketFate::Held);
        assert_eq!(table.next_due(), Some(begin + LIMIT));

        assert_eq!(table.take_overdue(later), []);
        let overdue = OverdueDest {
            destination: at(443),
            question: other.dest,
            refuse_for: LIMIT,
        };
        assert_eq!(table.take_overdue(begin + LIMIT), [overdue]);
        assert_eq!(table.next_due(), Some(later + LIMIT));
        table.remove_answered(|destination| destination == at(80));
        assert_eq!(table.next_due(), None);
        let again = table.record(at(80), &one, begin + LIMIT);
        assert_eq!(again, PacketFate::Held, "asked anew");
        table.set_active(false);
        assert_eq!(table.next_due(), None);
    }

    #[test]
    fn the_connections_of_a_question_are_counted() {
        let mut table = active(HoldLimit::For(LIMIT));
        let begin = now();
        let count = |count, since, gave_up_after| HeldCount {
            count,
            since,
            gave_up_after,
        };
        // Two addresses of one name.
        table.record(host(7, 443), &question("one.test", 1), begin);
        table.record(host(8, 443), &question("one.test", 2), begin + SECOND);
        table.record(host(9, 443), &question("two.test", 3), begin + SECOND);
        let started = table.take_updates();
        assert_eq!(started.len(), 3);
        assert_eq!(started[0].1, count(1, Some(begin), None));
        let connecting = [
            host(7, 443),
            host(7, 443),
            host(8, 443),
            host(9, 443),
            at(1),
        ];
        table.count_connections(&connecting, begin + 2 * SECOND);
        let request = |number| question("one.test", number).request;
        let expected = [(request(1), count(3, Some(begin), None))];
        assert_eq!(table.take_updates(), expected);
        table.count_connections(&connecting, begin + 3 * SECOND);
        assert_eq!(table.take_updates(), [], "no change");
        table.count_connections(&connecting[2..3], begin + 4 * SECOND);
        let expected = [
            (request(1), count(1, Some(begin + SECOND), None)),
            (request(3), count(0, None, Some(3 * SECOND))),
        ];
        assert_eq!(table.take_updates(), expected);
        // A new attempt waits for the whole time.
        let again = table.record(host(9, 443), &question("two.test", 4), begin + 5 * SECOND);
        assert_eq!(again, PacketFate::Held);
        table.set_active(false);
        let ended = table.take_updates();
        assert_eq!(ended.last(), Some(&(request(4), NONE_WAIT)));
    }

    #[test]
    fn the_limit_may_be_short_or_missing() {
        let begin = now();
        let one = question("one.test", 1);
        let mut table = active(HoldLimit::For(SECOND));
        assert_eq!(table.record(at(1), &one, begin), PacketFate::Held);
        let overdue = table.take_overdue(begin + SECOND);
        assert_eq!(overdue[0].refuse_for, MIN_REFUSAL);
        let mut table = active(HoldLimit::Forever);
        assert_eq!(table.record(at(1), &one, begin), PacketFate::Held);
        assert_eq!(table.next_due(), None);
        assert_eq!(table.take_overdue(begin + LIMIT * 1000), []);
        assert!(!HoldTable::new(HoldLimit::Refuse).may_hold());
    }

    #[test]
    fn the_destinations_of_an_address_can_be_taken() {
        let mut table = active(HoldLimit::Forever);
        for (last, port) in [(7, 443), (8, 443), (7, 80)] {
            table.record(host(last, port), &question("one.test", 1), now());
        }
        let taken = table.take_address(at(1).ip(), now());
        let taken: Vec<_> = taken.iter().map(|one| one.destination).collect();
        assert_eq!(taken, [host(7, 80), host(7, 443)]);
        assert_eq!(table.dests.len(), 1);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut table = active(HoldLimit::For(LIMIT));
        let one = question("one.test", 1);
        for port in 1..=5000 {
            assert_eq!(table.record(at(port), &one, now()), PacketFate::Held);
        }
        assert_eq!(table.dests.len(), MAX_HELD_DESTS);
        assert_eq!(table.record(at(1), &one, now()), PacketFate::AlreadyHeld);
        let again = table.record(at(5000), &one, now());
        assert_eq!(again, PacketFate::Held, "asked again");
    }
}
