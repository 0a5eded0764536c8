// SPDX-License-Identifier: Apache-2.0
//! The guard against a click on a popup that cannot have been read yet.
//!
//! A popup appears under a moving pointer, or moves there because another one disappeared; the
//! click that was meant for something else would then be an answer.

use std::time::Duration;

/// Accepts a click only if no popup appeared, moved or disappeared shortly before. Pure: every time
/// is given by the caller, on one clock.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ClickGuard {
    changed_at: Option<Duration>,
}

impl ClickGuard {
    /// The time in which an operator can see what a button under the pointer has become.
    pub(crate) const MIN_READ_TIME: Duration = Duration::from_millis(600);

    /// Records that a popup appeared, changed its question or its size, or disappeared. The latest
    /// change counts.
    pub(crate) fn record_change(&mut self, at: Duration) {
        self.changed_at = self.changed_at.max(Some(at));
    }

    /// Returns `true` if a click that came at `clicked_at` may be an answer. A click from before
    /// the last change is none.
    pub(crate) fn accepts(self, clicked_at: Duration) -> bool {
        self.accepts_after(Self::MIN_READ_TIME, clicked_at)
    }

    /// Returns [`Self::accepts`] for another time to read.
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
