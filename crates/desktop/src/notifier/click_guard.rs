// SPDX-License-Identifier: Apache-2.0
//! The guard against clicking through a popup that nobody can have read yet.
//!
//! A popup appears under a pointer that moves, or moves under it because another one went away;
//! the click that was meant for something else would then be an answer. So a choice that comes
//! sooner than a person can have read what is there is no choice.

use std::time::Duration;

use tokio::time::Instant;

/// When what is on the screen last changed its place.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClickGuard {
    changed_at: Option<Instant>,
}

impl ClickGuard {
    /// How long a person needs at least to see what a button under the pointer has become.
    pub const MIN_READ_TIME: Duration = Duration::from_millis(600);

    /// Notes that a popup appeared, changed its question or its size, or went away: any of these
    /// may have put another button under the pointer.
    pub const fn record_change(&mut self, now: Instant) {
        self.changed_at = Some(now);
    }

    /// Says whether a choice that comes `now` comes less than `least` after the last change.
    pub fn is_too_soon(&self, least: Duration, now: Instant) -> bool {
        let since = self.changed_at.map(|at| now.saturating_duration_since(at));
        since.is_some_and(|since| since < least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_choice_counts_when_what_is_shown_has_stood_still_for_long_enough() {
        let mut guard = ClickGuard::default();
        assert!(!guard.is_too_soon(ClickGuard::MIN_READ_TIME, Instant::now()));
        for (waits, too_soon) in [(0, true), (599, true), (600, false), (60_000, false)] {
            guard.record_change(Instant::now());
            tokio::time::advance(Duration::from_millis(waits)).await;
            let said = guard.is_too_soon(ClickGuard::MIN_READ_TIME, Instant::now());
            assert_eq!(said, too_soon, "after {waits} ms");
        }
        // A clock that went back makes it wait, not answer.
        let past = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        guard.record_change(Instant::now());
        assert!(guard.is_too_soon(ClickGuard::MIN_READ_TIME, past));
    }
}
