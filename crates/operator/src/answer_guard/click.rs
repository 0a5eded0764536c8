// SPDX-License-Identifier: Apache-2.0
//! The guard of clicks on popups.

use std::time::Duration;

use super::CLICK_GUARD_DELAY;

/// Accepts a click only if no popup appeared, moved or disappeared shortly before.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClickGuard {
    changed_at: Option<Duration>,
}

impl ClickGuard {
    /// Records that a popup appeared, changed its question or its size, or disappeared. The latest
    /// change counts.
    pub fn record_change(&mut self, at: Duration) {
        self.changed_at = self.changed_at.max(Some(at));
    }

    /// Returns `true` if a click that came at `clicked_at` may be an answer. A click from before
    /// the last change is none.
    pub fn accepts(self, clicked_at: Duration) -> bool {
        self.accepts_after(CLICK_GUARD_DELAY, clicked_at)
    }

    /// Returns [`Self::accepts`] for another time to read.
    pub fn accepts_after(self, read_time: Duration, clicked_at: Duration) -> bool {
        self.changed_at
            .is_none_or(|changed| clicked_at.saturating_sub(changed) >= read_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn click_counts_only_after_the_popups_stood_still() {
        let ms = Duration::from_millis;
        let mut guard = ClickGuard::default();
        assert!(guard.accepts(ms(0)), "nothing has changed yet");
        for (start, wait, accepted) in [
            (10_000, 0, false),
            (20_000, 599, false),
            (30_000, 600, true),
            (40_000, 60_000, true),
        ] {
            guard.record_change(ms(start));
            assert_eq!(guard.accepts(ms(start + wait)), accepted, "{wait} ms");
        }
        assert!(!guard.accepts(ms(39_000)), "before the change");
        guard.record_change(ms(100));
        assert!(
            !guard.accepts(ms(40_100)),
            "an older change hides no newer one"
        );
    }
}
