// SPDX-License-Identifier: Apache-2.0
//! Delays between attempts that fail.

use std::time::Duration;

/// A delay that doubles with each failure in a row, from a first delay up to a maximum.
///
/// Pure: the caller sleeps. [`Backoff::reset`] after a success starts over.
///
/// ```
/// use std::time::Duration;
/// use terok_clearance::Backoff;
/// let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
/// assert_eq!(backoff.record_failure(), Duration::from_millis(100));
/// assert_eq!(backoff.record_failure(), Duration::from_millis(200));
/// backoff.reset();
/// assert_eq!(backoff.delay(), Duration::ZERO);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    max_after: u32,
    failures: u32,
}

impl Backoff {
    /// Creates a back-off without failures.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            max_after: u32::MAX,
            failures: 0,
        }
    }

    /// Limits the doubled delays to the first `failures` failures: from the next one on, the
    /// delay is the maximum.
    #[must_use]
    pub const fn max_after(self, failures: u32) -> Self {
        Self {
            max_after: failures,
            ..self
        }
    }

    /// Counts a failure, and returns the delay before the next attempt.
    pub fn record_failure(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.delay()
    }

    /// Returns the delay before the next attempt: zero without a failure.
    pub fn delay(&self) -> Duration {
        let Some(doublings) = self.failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        if self.failures > self.max_after {
            return self.max;
        }
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.max)
    }

    /// Returns the number of failures in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Makes the delay the maximum, for a failure that a quick second attempt cannot fix.
    pub fn skip_to_max(&mut self) {
        self.failures = self.failures.max(self.max_after.saturating_add(1));
    }

    /// Forgets the failures.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(mut backoff: Backoff, count: usize) -> Vec<u128> {
        let next = || backoff.record_failure().as_millis();
        std::iter::repeat_with(next).take(count).collect()
    }

    #[test]
    fn the_delay_doubles_up_to_the_maximum() {
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        assert_eq!(delays(backoff, 6), [10, 20, 40, 80, 100, 100]);
        let long = Backoff::new(Duration::from_millis(1), Duration::MAX);
        assert!(delays(long, 100).is_sorted(), "no overflow");
    }

    #[test]
    fn quick_attempts_can_be_limited() {
        let quick = Backoff::new(Duration::from_millis(2), Duration::from_secs(10)).max_after(3);
        assert_eq!(delays(quick, 5), [2, 4, 8, 10_000, 10_000]);
        let mut skipped = quick;
        skipped.record_failure();
        skipped.skip_to_max();
        assert_eq!(skipped.delay(), Duration::from_secs(10));
        assert_eq!(skipped.failures(), 4);
    }
}
