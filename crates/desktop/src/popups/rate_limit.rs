// SPDX-License-Identifier: Apache-2.0
//! The rate limit of popups: six at once, then two a second.

use std::time::Duration;

/// Maximum popups at once after a quiet period.
const BURST_SIZE: u32 = 6;
/// The interval between popups after a burst.
const REFILL_INTERVAL: Duration = Duration::from_millis(500);

/// Limits the rate of popups (a generic cell rate algorithm).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PopupRateLimiter {
    /// When a whole burst is available again.
    theoretical_arrival: Duration,
    /// No popup is allowed before this time.
    blocked_until: Duration,
}

impl PopupRateLimiter {
    /// Counts a popup if one is allowed now. Otherwise returns when the next popup is allowed.
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

    /// Allows no popup before `until`.
    pub(super) fn block_until(&mut self, until: Duration) {
        self.blocked_until = self.blocked_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_two_a_second() {
        let mut limiter = PopupRateLimiter::default();
        let mut came = Vec::new();
        for ms in 10_000..20_000 {
            if limiter.try_acquire(Duration::from_millis(ms)).is_ok() {
                came.push(ms);
            }
        }
        assert_eq!(came.iter().filter(|ms| **ms < 10_100).count(), 6);
        assert_eq!(came.len(), 6 + 19);
        assert_eq!(limiter.try_acquire(Duration::from_secs(20)), Ok(()));
        let due = limiter.try_acquire(Duration::from_secs(20)).unwrap_err();
        assert_eq!(due, Duration::from_millis(20_500));
        assert!(limiter.try_acquire(due).is_ok());
    }

    #[test]
    fn no_popup_is_allowed_while_blocked() {
        let mut limiter = PopupRateLimiter::default();
        limiter.block_until(Duration::from_secs(9));
        assert_eq!(
            limiter.try_acquire(Duration::from_secs(8)),
            Err(Duration::from_secs(9))
        );
        assert!(limiter.try_acquire(Duration::from_secs(9)).is_ok());
    }
}
