// SPDX-License-Identifier: Apache-2.0
//! The names of stand-in addresses in the journal.

use std::net::Ipv4Addr;

use names::StandInObserver;
use terok_clearance::DomainName;

use super::{JournalChange, OpenedJournal};

impl OpenedJournal {
    /// Returns the names that the earlier supervisor gave stand-in addresses.
    pub(crate) fn earlier_names(&self) -> Vec<(DomainName, Ipv4Addr)> {
        let names = self.state.names.iter();
        names
            .map(|(name, address)| (name.clone(), *address))
            .collect()
    }

    /// Returns what records further ones.
    pub(crate) fn name_observer(&self) -> StandInObserver {
        let journal = self.journal.clone();
        StandInObserver::new(move |name, address| {
            let name = name.clone();
            journal.record(vec![JournalChange::Name { name, address }]);
        })
    }
}
