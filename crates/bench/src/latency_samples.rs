// SPDX-License-Identifier: Apache-2.0
//! Clocks and percentiles.

use std::time::{Duration, Instant};

/// Measures one span of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanTimer(Instant);

impl SpanTimer {
    #[expect(
        clippy::disallowed_methods,
        reason = "to read the clock is what a benchmark is for"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Measures from a moment that was noted before.
    pub(crate) const fn started(at: Instant) -> Self {
        Self(at)
    }

    /// Returns when it was started.
    pub(crate) const fn started_at(self) -> Instant {
        self.0
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Returns the time between two starts.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.duration_since(earlier.0)
    }
}

/// A set of times.
#[derive(Debug, Default)]
pub(crate) struct LatencySamples(Vec<Duration>);

impl LatencySamples {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Returns the time that this many of a hundred stay below, in microseconds.
    pub(crate) fn percentile_us(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let at = self.0.len() * percent / 100;
        let time = self.0.get(at.min(self.0.len().saturating_sub(1)));
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }
}

/// Returns the median of some figures.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
