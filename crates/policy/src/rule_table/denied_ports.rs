// SPDX-License-Identifier: Apache-2.0
//! The ports that narrower rules deny.

use terok_clearance::PortRange;

/// Ranges of ports, sorted and disjoint once they were asked about.
#[derive(Debug, Default)]
pub(super) struct DeniedPorts(Vec<(u16, u16)>);

impl DeniedPorts {
    /// Adds a range, every port for `None`.
    pub(super) fn add(&mut self, ports: Option<PortRange>) {
        self.0.push(ends(ports));
    }

    /// Returns `true` if every port of the range was added.
    pub(super) fn covers(&mut self, ports: Option<PortRange>) -> bool {
        self.0.sort_unstable();
        self.0.dedup_by(|next, last| {
            let joined = next.0 <= last.1.saturating_add(1);
            if joined {
                last.1 = last.1.max(next.1);
            }
            joined
        });
        let (low, high) = ends(ports);
        self.0.iter().any(|range| range.0 <= low && high <= range.1)
    }
}

fn ends(ports: Option<PortRange>) -> (u16, u16) {
    // Port 0 cannot be dialed.
    ports.map_or((1, u16::MAX), |ports| (ports.low(), ports.high()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_cover_together() {
        let mut denied = DeniedPorts::default();
        let range = |low, high| PortRange::new(low, high);
        assert!(!denied.covers(range(80, 80)));
        denied.add(range(80, 89));
        denied.add(range(100, 200));
        denied.add(range(90, 99));
        assert!(denied.covers(range(80, 200)));
        assert!(!denied.covers(range(79, 200)));
        assert!(!denied.covers(None));
        denied.add(range(1, 150));
        denied.add(range(201, 65_535));
        assert!(denied.covers(None));
    }
}
