// SPDX-License-Identifier: Apache-2.0
//! Limits the rate of new questions of one sandbox.
//!
//! A workload can try any number of destinations. Without a limit, the hub and every operator would
//! be busy with its questions alone. A packet over the limit is dropped without an answer: the
//! sandbox's kernel repeats it, so that its question comes later.

use std::time::{Duration, Instant};

/// Mean time between two new questions.
const INTERVAL: Duration = Duration::from_micros(250);
/// Questions that may come at once.
const BURST: u32 = 8_000;

/// The generic cell rate algorithm: one deadline instead of a counter.
#[derive(Debug, Default)]
pub(crate) struct QuestionRate {
    /// The time at which the questions so far would have come at the mean rate.
    due: Option<Instant>,
}

impl QuestionRate {
    /// Returns `true` and counts one question if the rate permits it.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        let due = self.due.map_or(now, |due| due.max(now));
        if due.saturating_duration_since(now) > INTERVAL.saturating_mul(BURST) {
            return false;
        }
        self.due = due.checked_add(INTERVAL);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_mean_rate() {
        #[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
        let start = Instant::now();
        let mut rate = QuestionRate::default();
        let admitted = |rate: &mut QuestionRate, at: Duration, tries: u32| {
            (0..tries).filter(|_| rate.admit(start + at)).count()
        };
        assert_eq!(admitted(&mut rate, Duration::ZERO, 20_000), 8_001);
        assert_eq!(admitted(&mut rate, Duration::from_secs(1), 20_000), 4_000);
        assert_eq!(admitted(&mut rate, Duration::from_secs(61), 20_000), 8_001);
    }
}
