// SPDX-License-Identifier: Apache-2.0
//! Limits the rate of question lines, so that a sandbox with a flood of questions cannot scroll the
//! questions of other sandboxes off the screen. The list (`l`) always shows all questions.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Allows a limited number of lines per second, and counts the suppressed lines.
#[derive(Debug, Default)]
pub(super) struct PromptRateLimiter {
    /// The end of the current window, and the number of lines so far.
    window: Option<(Instant, u32)>,
    suppressed: u64,
}

impl PromptRateLimiter {
    const RATE_WINDOW: Duration = Duration::from_secs(1);
    const MAX_LINES_PER_WINDOW: u32 = 20;

    /// Counts the line of a question. Returns `true` for a line beyond the limit.
    pub(super) fn should_suppress(&mut self) -> bool {
        let suppressed = !self.admit();
        self.suppressed = self.suppressed.saturating_add(u64::from(suppressed));
        suppressed
    }

    /// Counts a line. Returns `false` for a line beyond the limit, which nothing reports: the list
    /// shows what it says.
    pub(super) fn admit(&mut self) -> bool {
        let now = Instant::now();
        let (until, lines) = match self.window {
            Some((until, lines)) if now < until => (until, lines.saturating_add(1)),
            _ => (now.checked_add(Self::RATE_WINDOW).unwrap_or(now), 1),
        };
        self.window = Some((until, lines));
        lines <= Self::MAX_LINES_PER_WINDOW
    }

    /// Clears the count of suppressed lines before the list shows them.
    pub(super) const fn reset(&mut self) {
        self.suppressed = 0;
    }

    /// Waits for the end of a window with suppressed lines. Returns the number of these lines.
    ///
    /// Waits forever if no line was suppressed. Cancel safe.
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
    async fn suppressed_lines_are_reported_once_a_second() {
        let mut limiter = PromptRateLimiter::default();
        let shown = (0..1000).filter(|_| !limiter.should_suppress()).count();
        assert_eq!(shown, 20);
        assert_eq!(limiter.next_suppressed_count().await, 980);
        assert!(!limiter.should_suppress());
        // Other lines count, and are not reported.
        let shown = (0..1000).filter(|_| limiter.admit()).count();
        assert_eq!(shown, 19);
        let quiet = tokio::time::timeout(Duration::from_secs(60), limiter.next_suppressed_count());
        assert!(quiet.await.is_err());
    }
}
