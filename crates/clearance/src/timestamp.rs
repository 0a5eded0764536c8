// SPDX-License-Identifier: Apache-2.0
//! Times of the wall clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A time of the wall clock: microseconds since the Unix epoch, in UTC.
///
/// JSON carries the number alone. Deadlines and time-outs belong to a monotonic clock instead.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self(0);

    /// Reads the wall clock. A clock that is set before 1970 gives [`Timestamp::UNIX_EPOCH`].
    ///
    /// Every program of the workspace reads the wall clock through this function, and only at its
    /// edge: ledger, inbox and policy take timestamps as arguments.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one reading of the wall clock; callers pass the value on"
    )]
    pub fn now() -> Self {
        SystemTime::now().into()
    }

    /// Returns the time that is `micros` microseconds after the epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns the whole seconds since the epoch.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Returns the time since `earlier`, zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// Returns the time `duration` later, at most the last one that the type can hold.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// Returns the time `duration` earlier, at least the epoch.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::UNIX_EPOCH.saturating_add(since_epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_carries_the_number_alone() {
        let time = Timestamp::from_micros(1_700_000_000_000_001);
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(json, "1700000000000001");
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), time);
        assert!(serde_json::from_str::<Timestamp>("-1").is_err());
    }

    #[test]
    fn arithmetic_saturates() {
        let time = Timestamp::from_micros(5_000_000);
        assert_eq!(time.as_secs(), 5);
        let later = time.saturating_add(Duration::from_millis(1500));
        assert_eq!(later.as_micros(), 6_500_000);
        assert_eq!(later.saturating_since(time), Duration::from_millis(1500));
        assert_eq!(time.saturating_since(later), Duration::ZERO);
        let last = time.saturating_add(Duration::MAX);
        assert_eq!(last.as_micros(), u64::MAX);
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(Timestamp::from(before), Timestamp::UNIX_EPOCH);
    }
}
