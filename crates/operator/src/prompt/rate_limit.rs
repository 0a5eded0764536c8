// SPDX-License-Identifier: Apache-2.0
//! Limits the rate of question lines, so that the flood of one sandbox cannot scroll the questions
//! of others off the screen. The list always has all questions.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets a limited number of lines through per second, and counts the rest.
#[derive(Debug, Default)]
pub(super) struct PromptRateLimiter {
    /// The end of the current window, and its number of lines.
    window: Option<(Instant, u32)>,
    suppressed: u64,
}

impl PromptRateLimiter {
    const RATE_WINDOW: Duration = Duration::from_secs(1);
    const MAX_LINES_PER_WINDOW: u32 = 20;

    /// Counts a line. Returns `true` if the line exceeds the limit.
    pub(super) fn should_suppress(&mut self) -> bool {
        let now = Instant::now();
        let (until, lines) = match self.window {
            Some((until, lines)) if now < until => (until, lines.saturating_add(1)),
            _ => (now.checked_add(Self::RATE_WINDOW).unwrap_or(now), 1),
        };
        self.window = Some((until, lines));
        let suppressed = lines > Self::MAX_LINES_PER_WINDOW;
        self.suppressed = self.suppressed.saturating_add(u64::from(suppressed));
        suppressed
    }

    /// Clears the count of suppressed lines before the list shows them.
    pub(super) const fn reset(&mut self) {
        self.suppressed = 0;
    }

    /// Waits for the end of a window with suppressed lines, and returns their number.
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
        let quiet = tokio::time::timeout(Duration::from_secs(60), limiter.next_suppressed_count());
        assert!(quiet.await.is_err());
    }
}
