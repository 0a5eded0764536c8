// SPDX-License-Identifier: Apache-2.0
//! The requests of a sandbox and their limits; pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use terok_clearance::{DisplayText, PacketDest, RequestId};

/// Mean time between two requests: 30 in a minute.
const REQUEST_INTERVAL: Duration = Duration::from_secs(2);
/// Requests that may come at once.
const REQUEST_BURST: u32 = 30;
/// Mean time between two calls of any kind, and calls that may come at once.
const CALL_INTERVAL: Duration = Duration::from_millis(20);
const CALL_BURST: u32 = 100;
/// Maximum requests that wait for the operator.
const MAX_PENDING: usize = 32;
/// Maximum requests whose outcome can be asked for; the oldest is forgotten for a new one.
const MAX_KNOWN: usize = 256;

/// A request is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BookRefusal {
    /// There were too many in a short time.
    TooFast {
        /// The time until the next one is possible, rounded up.
        seconds: u64,
    },
    /// Too many wait for the operator.
    TooManyPending,
}

/// The newest requests, oldest first.
#[derive(Debug, Default)]
pub(super) struct RequestBook {
    known: VecDeque<(RequestId, PacketDest)>,
    requests: CellRate,
    calls: CellRate,
}

impl RequestBook {
    /// Counts a call, and returns the time that its reply is to be delayed.
    pub(super) fn pace_call(&mut self, now: Instant) -> Duration {
        self.calls.reserve(CALL_INTERVAL, CALL_BURST, now)
    }

    /// Admits a request about `dest`, or returns the one that is pending already. `is_pending`
    /// tells whether the hub still has a question.
    pub(super) fn admit(
        &mut self,
        dest: &PacketDest,
        now: Instant,
        is_pending: impl Fn(&RequestId) -> bool,
    ) -> Result<Option<RequestId>, BookRefusal> {
        let pending = self.known.iter().filter(|(id, _)| is_pending(id));
        let pending: Vec<_> = pending.collect();
        if let Some((id, _)) = pending.iter().find(|(_, known)| known == dest) {
            return Ok(Some(id.clone()));
        }
        if pending.len() >= MAX_PENDING {
            return Err(BookRefusal::TooManyPending);
        }
        let delay = self.requests.delay(REQUEST_INTERVAL, REQUEST_BURST, now);
        if !delay.is_zero() {
            let seconds = delay.as_secs().saturating_add(1);
            return Err(BookRefusal::TooFast { seconds });
        }
        self.requests.reserve(REQUEST_INTERVAL, REQUEST_BURST, now);
        Ok(None)
    }

    /// Adds a request that was passed on.
    pub(super) fn insert(&mut self, id: RequestId, dest: PacketDest) {
        self.known.retain(|(known, _)| *known != id);
        if self.known.len() >= MAX_KNOWN {
            self.known.pop_front();
        }
        self.known.push_back((id, dest));
    }

    /// Returns the request with this id.
    pub(super) fn find(&self, id: &DisplayText) -> Option<(RequestId, PacketDest)> {
        let mut known = self.known.iter();
        known
            .find(|(known, _)| known.as_str() == id.as_str())
            .cloned()
    }
}

/// The generic cell rate algorithm: one deadline instead of a counter.
#[derive(Debug, Default)]
struct CellRate {
    /// The time at which the cells so far would have come at the mean rate.
    due: Option<Instant>,
}

impl CellRate {
    /// Returns the time until the next cell is within the rate.
    fn delay(&self, interval: Duration, burst: u32, now: Instant) -> Duration {
        let ahead = self.due.unwrap_or(now).saturating_duration_since(now);
        let room = interval.saturating_mul(burst.saturating_sub(1));
        ahead.saturating_sub(room)
    }

    /// Counts a cell, and returns the time until it is within the rate.
    fn reserve(&mut self, interval: Duration, burst: u32, now: Instant) -> Duration {
        let delay = self.delay(interval, burst, now);
        let due = self.due.map_or(now, |due| due.max(now));
        self.due = due.checked_add(interval);
        delay
    }
}

#[cfg(test)]
mod tests {
    use terok_clearance::{PacketHost, Protocol};

    use super::*;

    fn dest(number: usize) -> PacketDest {
        PacketDest {
            host: PacketHost::Name(format!("h{number}.test").parse().unwrap()),
            port: 443,
            protocol: Protocol::TCP,
        }
    }

    fn id(number: usize) -> RequestId {
        format!("c:{number}").parse().unwrap()
    }

    fn start() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn a_burst_passes_and_then_the_mean_rate() {
        let (mut book, start) = (RequestBook::default(), start());
        let mut admitted = |at: u64, tries: usize| {
            let now = start + Duration::from_secs(at);
            let admit = |_| book.admit(&dest(0), now, |_| false).is_ok();
            (0..tries).map(admit).filter(|ok| *ok).count()
        };
        assert_eq!(admitted(0, 1_000), 30);
        assert_eq!(admitted(1, 1_000), 0);
        assert_eq!(admitted(60, 1_000), 30);
        assert_eq!(admitted(64, 1_000), 2);
        let refused = book.admit(&dest(0), start + Duration::from_secs(64), |_| false);
        assert_eq!(refused, Err(BookRefusal::TooFast { seconds: 3 }));
    }

    #[test]
    fn a_pending_destination_is_one_request_and_the_pending_ones_have_a_limit() {
        let (mut book, start) = (RequestBook::default(), start());
        let at = |number: usize| start + REQUEST_INTERVAL * u32::try_from(number).unwrap();
        for number in 0..MAX_PENDING {
            assert_eq!(book.admit(&dest(number), at(number), |_| true), Ok(None));
            book.insert(id(number), dest(number));
        }
        let now = at(MAX_PENDING);
        assert_eq!(book.admit(&dest(7), now, |_| true), Ok(Some(id(7))));
        let more = book.admit(&dest(MAX_PENDING), now, |_| true);
        assert_eq!(more, Err(BookRefusal::TooManyPending));
        let answered = |request: &RequestId| *request != id(3);
        assert_eq!(book.admit(&dest(MAX_PENDING), now, answered), Ok(None));
        // An answered one is asked anew.
        let later = at(MAX_PENDING + 1);
        assert_eq!(book.admit(&dest(3), later, answered), Ok(None));
    }

    #[test]
    fn the_oldest_request_is_forgotten_at_the_limit() {
        let mut book = RequestBook::default();
        for number in 0..=MAX_KNOWN {
            book.insert(id(number), dest(number));
        }
        assert_eq!(book.find(&"c:0".into()), None);
        assert_eq!(book.find(&"c:1".into()), Some((id(1), dest(1))));
        assert_eq!(book.known.len(), MAX_KNOWN);
    }

    #[test]
    fn calls_over_the_rate_are_delayed() {
        let (mut book, start) = (RequestBook::default(), start());
        for _ in 0..CALL_BURST {
            assert_eq!(book.pace_call(start), Duration::ZERO);
        }
        assert_eq!(book.pace_call(start), CALL_INTERVAL);
        assert_eq!(book.pace_call(start), CALL_INTERVAL * 2);
        let later = start + Duration::from_secs(60);
        assert_eq!(book.pace_call(later), Duration::ZERO);
    }
}
