// SPDX-License-Identifier: Apache-2.0
//! The time of the last datagram of a UDP flow, and the wait for a deadline.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// The time of the last datagram of a flow, in either direction.
#[derive(Debug)]
pub(crate) struct FlowActivity {
    start: Instant,
    milliseconds: AtomicU64,
}

impl FlowActivity {
    /// Creates the record of a flow that begins now.
    pub(crate) fn begin() -> Self {
        Self {
            start: Instant::now(),
            milliseconds: AtomicU64::new(0),
        }
    }

    /// Records a datagram.
    pub(crate) fn touch(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.milliseconds.store(now, Ordering::Relaxed);
    }

    /// Returns the time of the last datagram.
    pub(crate) fn last(&self) -> Instant {
        let since_start = Duration::from_millis(self.milliseconds.load(Ordering::Relaxed));
        self.start.checked_add(since_start).unwrap_or(self.start)
    }
}

/// Waits until a time; forever without one. Cancel safe.
pub(crate) async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_last_datagram_counts() {
        let activity = FlowActivity::begin();
        let start = Instant::now();
        assert_eq!(activity.last(), start);
        tokio::time::advance(Duration::from_secs(5)).await;
        activity.touch();
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(activity.last(), start + Duration::from_secs(5));
    }
}
