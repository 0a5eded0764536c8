// SPDX-License-Identifier: Apache-2.0
//! A limit on the log lines that a peer can cause.

use std::time::Duration;

use tokio::time::Instant;

/// Admits five log lines per second, and counts the suppressed ones.
///
/// For lines whose number a client, a reader or a sandbox chooses: a flood of mistakes must not
/// fill the log.
#[derive(Debug, Default)]
pub struct LogLimiter {
    window_end: Option<Instant>,
    lines_in_window: u32,
    suppressed: u64,
}

impl LogLimiter {
    const MAX_LINES_PER_WINDOW: u32 = 5;
    const WINDOW: Duration = Duration::from_secs(1);

    /// Creates a limiter that has admitted no line yet.
    pub const fn new() -> Self {
        Self {
            window_end: None,
            lines_in_window: 0,
            suppressed: 0,
        }
    }

    /// Returns the number of lines suppressed since the last admitted one, `None` if this line
    /// is to be suppressed too.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.window_end.is_none_or(|end| now >= end) {
            self.window_end = now.checked_add(Self::WINDOW);
            self.lines_in_window = 0;
        }
        if self.lines_in_window >= Self::MAX_LINES_PER_WINDOW {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.lines_in_window = self.lines_in_window.saturating_add(1);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_admits_five_lines_and_the_next_one_reports_the_rest() {
        let start = Instant::now();
        let mut limiter = LogLimiter::default();
        let admitted: Vec<_> = (0..8).map(|_| limiter.admit(start)).collect();
        assert_eq!(admitted.iter().flatten().count(), 5);
        assert!(admitted.iter().flatten().all(|suppressed| *suppressed == 0));
        let next = start + LogLimiter::WINDOW;
        assert_eq!(limiter.admit(next), Some(3));
        assert_eq!(limiter.admit(next), Some(0));
    }
}
