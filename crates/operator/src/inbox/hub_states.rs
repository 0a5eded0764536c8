// SPDX-License-Identifier: Apache-2.0
//! What is known of the hubs, besides their questions.

use terok_clearance::client::ProtocolVersion;

use super::{HubId, Inbox};

impl Inbox {
    /// Returns the hubs; the flag is `true` for a connected hub.
    pub fn hubs(&self) -> impl ExactSizeIterator<Item = (&HubId, bool)> {
        self.hubs.iter().map(|(id, hub)| (id, hub.connected))
    }

    /// Returns `true` if a connected hub tells only its new questions, so that others may be
    /// pending.
    pub fn has_unlisted_hubs(&self) -> bool {
        self.hubs
            .values()
            .any(|hub| hub.connected && hub.protocol_version == ProtocolVersion::Clearance1)
    }

    /// Returns the number of unreachable hubs. The rows lack the questions of these hubs.
    pub fn unreachable_count(&self) -> usize {
        self.unreachable_hubs.len()
    }

    /// Returns `true` if `hub` is connected.
    pub fn is_connected(&self, hub: &HubId) -> bool {
        self.hubs.get(hub).is_some_and(|hub| hub.connected)
    }
}
