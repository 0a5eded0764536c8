// SPDX-License-Identifier: Apache-2.0
//! How fast popups may come: a few at once, then two a second, however fast questions do.

use std::time::Duration;

/// As many may come at once after a quiet time.
const BURST_SIZE: u32 = 6;
/// Then one may come in so long a time.
const REFILL_INTERVAL: Duration = Duration::from_millis(500);

/// When the next popup may come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PopupRateLimiter {
    /// When all that have come are paid for.
    theoretical_arrival: Duration,
    /// Nothing may come before.
    blocked_until: Duration,
}

impl PopupRateLimiter {
    /// Says whether a popup may come now, and if so counts it; else returns when to ask again.
    pub(super) fn try_acquire(&mut self, now: Duration) -> Result<(), Duration> {
        let room = REFILL_INTERVAL.saturating_mul(BURST_SIZE.saturating_sub(1));
        let due = self
            .theoretical_arrival
            .saturating_sub(room)
            .max(self.blocked_until);
        if now < due {
            return Err(due);
        }
        self.theoretical_arrival = self
            .theoretical_arrival
            .max(now)
            .saturating_add(REFILL_INTERVAL);
        Ok(())
    }

    /// Lets nothing come before `until`.
    pub(super) fn block_until(&mut self, until: Duration) {
        self.blocked_until = self.blocked_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_come_at_once_and_then_two_a_second() {
        let mut pace = PopupRateLimiter::default();
        let mut came = Vec::new();
        for ms in 10_000..20_000 {
            if pace.try_acquire(Duration::from_millis(ms)).is_ok() {
                came.push(ms);
            }
        }
        assert_eq!(came.iter().filter(|ms| **ms < 10_100).count(), 6);
        assert_eq!(came.len(), 6 + 19);
        assert_eq!(pace.try_acquire(Duration::from_secs(20)), Ok(()));
        let due = pace.try_acquire(Duration::from_secs(20)).unwrap_err();
        assert_eq!(due, Duration::from_millis(20_500));
        assert!(pace.try_acquire(due).is_ok());
    }

    #[test]
    fn nothing_comes_while_it_is_barred() {
        let mut pace = PopupRateLimiter::default();
        pace.block_until(Duration::from_secs(9));
        assert_eq!(
            pace.try_acquire(Duration::from_secs(8)),
            Err(Duration::from_secs(9))
        );
        assert!(pace.try_acquire(Duration::from_secs(9)).is_ok());
    }
}
