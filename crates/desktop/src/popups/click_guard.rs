// SPDX-License-Identifier: Apache-2.0
//! The guard against clicks on a popup that the operator cannot have read yet.
//!
//! A popup may appear under a moving pointer, or move there because another popup disappeared. A
//! click meant for another window would then be an answer.

use std::time::Duration;

/// Accepts a click only if no popup appeared, moved or disappeared shortly before. Pure: the caller
/// passes all times, measured on the same clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ClickGuard {
    changed_at: Option<Duration>,
}

impl ClickGuard {
    /// The time that an operator needs to notice a change under the pointer.
    pub(crate) const MIN_READ_TIME: Duration = Duration::from_millis(600);

    /// Records that a popup appeared, disappeared, or changed in question or size. The latest
    /// change counts.
    pub(crate) fn record_change(&mut self, at: Duration) {
        self.changed_at = self.changed_at.max(Some(at));
    }

    /// Returns `true` if a click at `clicked_at` may be an answer. Clicks from before the last
    /// change are refused.
    pub(crate) fn accepts(self, clicked_at: Duration) -> bool {
        self.accepts_after(Self::MIN_READ_TIME, clicked_at)
    }

    /// Like [`Self::accepts`], with `read_time` instead of [`Self::MIN_READ_TIME`].
    pub(crate) fn accepts_after(self, read_time: Duration, clicked_at: Duration) -> bool {
        self.changed_at
            .is_none_or(|changed| clicked_at.saturating_sub(changed) >= read_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_click_counts_when_the_popups_stood_still_for_long_enough() {
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
