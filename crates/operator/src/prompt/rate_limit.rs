// SPDX-License-Identifier: Apache-2.0
//! Keeps a flood of questions from pushing the others off the screen.
//!
//! A sandbox that tries every port would else bury what another one asks. The list has them all.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets a handful of lines through in each second, and counts the rest.
#[derive(Debug, Default)]
pub(super) struct PromptRateLimiter {
    /// The second that runs, until when, and how many lines it has had.
    window: Option<(Instant, u32)>,
    suppressed: u64,
}

impl PromptRateLimiter {
    const RATE_WINDOW: Duration = Duration::from_secs(1);
    const MAX_LINES_PER_WINDOW: u32 = 20;

    /// Counts one more line, and says whether it is one too many.
    pub(super) fn should_suppress(&mut self) -> bool {
        let now = Instant::now();
        let (until, lines) = match self.window {
            Some((until, lines)) if now < until => (until, lines.saturating_add(1)),
            _ => (now.checked_add(Self::RATE_WINDOW).unwrap_or(now), 1),
        };
        self.window = Some((until, lines));
        let hushed = lines > Self::MAX_LINES_PER_WINDOW;
        self.suppressed = self.suppressed.saturating_add(u64::from(hushed));
        hushed
    }

    /// Forgets what was hushed: it is about to be shown.
    pub(super) const fn reset(&mut self) {
        self.suppressed = 0;
    }

    /// Waits until a second in which lines were hushed is over, and returns how many.
    ///
    /// For ever, where none were. A call that is dropped before it is done loses nothing.
    pub(super) async fn next_suppressed_count(&mut self) -> u64 {
        match self.window {
            Some((until, _)) if self.suppressed > 0 => {
                sleep_until(until).await;
                std::mem::take(&mut self.suppressed)
            }
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_counted_and_told_once_a_second() {
        let mut hush = PromptRateLimiter::default();
        let shown = (0..1000).filter(|_| !hush.should_suppress()).count();
        assert_eq!(shown, 20);
        assert_eq!(hush.next_suppressed_count().await, 980);
        assert!(!hush.should_suppress());
        let quiet = tokio::time::timeout(Duration::from_secs(60), hush.next_suppressed_count());
        assert!(quiet.await.is_err());
    }
}
