// SPDX-License-Identifier: Apache-2.0
//! Limits how often refused connections to one destination are told.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use terok_clearance::PacketDest;

/// Time between two reports about one destination.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum remembered destinations; over it, the oldest report is forgotten.
const MAX_DESTS: usize = 4_096;

/// The refused connections since the last report about each destination.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    dests: HashMap<PacketDest, RefusedDest>,
}

#[derive(Debug)]
struct RefusedDest {
    reported_at: Instant,
    /// Connections since then.
    count: u64,
}

impl RefusalLog {
    /// Records a refused connection. Returns the number of connections to report now, if any: the
    /// first one, then at most once in an interval.
    pub(super) fn record(&mut self, dest: &PacketDest, now: Instant) -> Option<u64> {
        if let Some(known) = self.dests.get_mut(dest) {
            known.count = known.count.saturating_add(1);
            if now.saturating_duration_since(known.reported_at) < REPORT_INTERVAL {
                return None;
            }
            known.reported_at = now;
            return Some(std::mem::take(&mut known.count));
        }
        if self.dests.len() >= MAX_DESTS {
            let oldest = self.dests.iter().min_by_key(|(_, known)| known.reported_at);
            if let Some(oldest) = oldest.map(|(dest, _)| dest.clone()) {
                self.dests.remove(&oldest);
            }
        }
        let refused = RefusedDest {
            reported_at: now,
            count: 0,
        };
        self.dests.insert(dest.clone(), refused);
        Some(1)
    }
}

#[cfg(test)]
mod tests {
    use terok_clearance::{PacketHost, Protocol};

    use super::*;

    fn dest(port: u16) -> PacketDest {
        PacketDest {
            host: PacketHost::Address([203, 0, 113, 7].into()),
            port,
            protocol: Protocol::TCP,
        }
    }

    #[test]
    fn a_storm_is_told_once_a_minute() {
        let mut log = RefusalLog::default();
        let start = tokio::time::Instant::now().into_std();
        assert_eq!(log.record(&dest(1), start), Some(1));
        for _ in 0..9 {
            assert_eq!(log.record(&dest(1), start), None);
        }
        assert_eq!(log.record(&dest(2), start), Some(1));
        assert_eq!(log.record(&dest(1), start + REPORT_INTERVAL), Some(10));
        assert_eq!(log.record(&dest(1), start + REPORT_INTERVAL), None);
    }
}
