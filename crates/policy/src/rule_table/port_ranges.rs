// SPDX-License-Identifier: Apache-2.0
//! Sets of ports, for the question whether some port of a name is allowed.

use terok_clearance::PortRange;

/// The first port that can be dialed.
const FIRST_PORT: u16 = 1;

/// Ranges of ports, sorted and disjoint.
#[derive(Debug, Default)]
pub(super) struct PortRanges(Vec<(u16, u16)>);

impl PortRanges {
    /// Adds the ports of another set.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
        self.normalise();
    }

    /// Returns the ports that are not in the set.
    pub(super) fn complement(self) -> Self {
        let mut next = Some(FIRST_PORT);
        let mut gaps = Vec::new();
        for (low, high) in self.0 {
            if let Some(start) = next.filter(|start| *start < low) {
                gaps.push((start, low.saturating_sub(1)));
            }
            next = high.checked_add(1);
        }
        gaps.extend(next.map(|start| (start, u16::MAX)));
        Self(gaps)
    }

    /// Returns `true` if the set contains every port of the range; `None` is every port.
    pub(super) fn covers(&self, ports: Option<PortRange>) -> bool {
        let (low, high) = ends(ports);
        self.0.iter().any(|range| range.0 <= low && high <= range.1)
    }

    fn normalise(&mut self) {
        self.0.sort_unstable();
        self.0.dedup_by(|next, last| {
            let joined = next.0 <= last.1.saturating_add(1);
            if joined {
                last.1 = last.1.max(next.1);
            }
            joined
        });
    }
}

impl FromIterator<Option<PortRange>> for PortRanges {
    fn from_iter<I: IntoIterator<Item = Option<PortRange>>>(ranges: I) -> Self {
        let mut set = Self(ranges.into_iter().map(ends).collect());
        set.normalise();
        set
    }
}

fn ends(ports: Option<PortRange>) -> (u16, u16) {
    ports.map_or((FIRST_PORT, u16::MAX), |ports| (ports.low(), ports.high()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u16, u16)]) -> PortRanges {
        let ranges = ranges.iter();
        ranges
            .map(|(low, high)| PortRange::new(*low, *high))
            .collect()
    }

    #[test]
    fn ranges_that_touch_cover_together() {
        let range = |low, high| PortRange::new(low, high);
        assert!(!set(&[]).covers(range(80, 80)));
        let touching = set(&[(80, 89), (100, 200), (90, 99)]);
        assert!(touching.covers(range(80, 200)));
        assert!(!touching.covers(range(79, 200)));
        assert!(!touching.covers(None));
        assert!(set(&[(1, 150), (80, 99), (151, 65_535)]).covers(None));
        let mut both = set(&[(1, 10)]);
        both.extend(set(&[(11, 20)]));
        assert!(both.covers(range(5, 15)));
    }

    #[test]
    fn the_complement_has_the_other_ports() {
        let all = || [None].into_iter().collect::<PortRanges>();
        assert!(set(&[]).complement().covers(None));
        assert!(all().complement().0.is_empty());
        assert_eq!(
            set(&[(80, 89), (443, 443)]).complement().0,
            [(1, 79), (90, 442), (444, 65_535)]
        );
        assert_eq!(set(&[(1, 1)]).complement().0, [(2, 65_535)]);
        assert_eq!(set(&[(9, 65_535)]).complement().0, [(1, 8)]);
    }
}
