// SPDX-License-Identifier: Apache-2.0
//! Reports each notice once.

use std::collections::{HashMap, HashSet};
use std::mem::{Discriminant, discriminant};

use crate::EgressNotice;

/// Maximum notices of one kind. A workload chooses the destinations in them, and must not hide
/// those of another kind.
const MAX_TOLD_PER_KIND: usize = 1_024;

/// The notices that were told.
#[derive(Debug, Default)]
pub(crate) struct ToldNotices {
    by_kind: HashMap<Discriminant<EgressNotice>, HashSet<EgressNotice>>,
}

impl ToldNotices {
    /// Returns a notice if it is new; at the first one over the limit, that others are omitted.
    pub(crate) fn admit(&mut self, notice: EgressNotice) -> Option<EgressNotice> {
        let told = self.by_kind.entry(discriminant(&notice)).or_default();
        if told.contains(&notice) {
            None
        } else if told.len() >= MAX_TOLD_PER_KIND {
            self.admit(EgressNotice::NoticesOmitted)
        } else {
            told.insert(notice.clone());
            Some(notice)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_one_kind_hides_no_other() {
        let floor = |port| {
            EgressNotice::Floor(terok_clearance::PacketDest {
                host: terok_clearance::PacketHost::Address([169, 254, 169, 254].into()),
                port,
                protocol: terok_clearance::Protocol::TCP,
            })
        };
        let mut told = ToldNotices::default();
        assert_eq!(told.admit(floor(1)), Some(floor(1)));
        assert_eq!(told.admit(floor(1)), None);
        let of_flood: Vec<_> = (2..=u16::MAX)
            .filter_map(|port| told.admit(floor(port)))
            .collect();
        assert_eq!(of_flood.len(), MAX_TOLD_PER_KIND);
        assert_eq!(of_flood.last(), Some(&EgressNotice::NoticesOmitted));
        for other in [EgressNotice::TooManyHeld, EgressNotice::LookupsOutOfSockets] {
            assert_eq!(told.admit(other.clone()), Some(other.clone()));
            assert_eq!(told.admit(other), None);
        }
    }
}
