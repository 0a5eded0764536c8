// SPDX-License-Identifier: Apache-2.0
//! Timers, samples of durations, and percentiles.

use std::time::{Duration, Instant};

/// Measures a duration from a start time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpanTimer(Instant);

impl SpanTimer {
    #[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns a timer with an earlier start time.
    pub(crate) const fn started(at: Instant) -> Self {
        Self(at)
    }

    /// Returns the start time.
    pub(crate) const fn started_at(self) -> Instant {
        self.0
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Returns the time between the starts of two timers.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.duration_since(earlier.0)
    }
}

/// A collection of measured durations.
#[derive(Debug, Default)]
pub(crate) struct LatencySamples(Vec<Duration>);

impl LatencySamples {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(crate) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// Returns a percentile in microseconds.
    pub(crate) fn percentile_us(&mut self, percent: usize) -> f64 {
        self.0.sort_unstable();
        let at = self.0.len() * percent / 100;
        let time = self.0.get(at.min(self.0.len().saturating_sub(1)));
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }
}

pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
