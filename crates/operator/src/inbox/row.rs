// SPDX-License-Identifier: Apache-2.0
//! One line of the inbox: everything that one answer would settle.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::Arc;

use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::Request;
use terok_clearance::{Action, ContainerId, Dest, Dossier, Process, Protocol, RequestId, Scope};

use super::HubId;

/// A row's number: given once, in rising order, and never to another row.
///
/// So a number that a person typed late never means a question that they have not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowNumber(NonZeroU64);

/// A text that is no row's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row's number has digits alone, such as 3")]
pub struct RowNumberError;

impl RowNumber {
    /// The first row's.
    pub(super) const FIRST: Self = Self(NonZeroU64::MIN);

    /// Returns the number after this one.
    pub(super) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Returns it as a plain number, 1 or more.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for RowNumber {
    type Err = RowNumberError;

    fn from_str(text: &str) -> Result<Self, RowNumberError> {
        // `parse` would also take a sign.
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        number.map(Self).ok_or(RowNumberError)
    }
}

impl TryFrom<u64> for RowNumber {
    type Error = RowNumberError;

    fn try_from(number: u64) -> Result<Self, RowNumberError> {
        NonZeroU64::new(number).map(Self).ok_or(RowNumberError)
    }
}

impl fmt::Display for RowNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What makes two questions one row: the same answer would open the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RowKey {
    pub(super) hub: HubId,
    pub(super) container: ContainerId,
    pub(super) scope: Scope,
}

/// Where packets went, of one sandbox: what a hub's ledger keeps apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct RequestFlow {
    pub(super) address: Dest,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
}

impl RequestFlow {
    pub(super) fn from_request(request: &Request) -> Self {
        Self {
            address: request.address.clone(),
            port: request.port,
            protocol: request.protocol,
        }
    }
}

/// One question of a row.
#[derive(Debug, Clone)]
pub(super) struct RowEntry {
    /// As the hub said it last; its `id` is the newest.
    pub(super) request: Arc<Request>,
    /// The ids it has had, the newest last.
    pub(super) ids: VecDeque<RequestId>,
    /// Whether the hub has said since it last began to say what is pending that this is.
    pub(super) confirmed: bool,
    pub(super) failure_notice: FailureNotice,
}

/// Where the two ways stand on which a hub tells that an answer of ours failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureNotice {
    /// No failure is known.
    None,
    /// The event came, the reply has not.
    ReplyDue,
    /// The reply came, the event has not.
    EventDue,
}

/// One line of the inbox: the questions of one sandbox that one answer settles, since it would
/// open or close the same.
#[derive(Debug, Clone)]
pub struct Row {
    pub(super) number: RowNumber,
    pub(super) key: RowKey,
    pub(super) protocol_version: ProtocolVersion,
    pub(super) entries: BTreeMap<RequestFlow, RowEntry>,
    /// Which entry was heard of last.
    pub(super) newest: RequestFlow,
    /// Packets of entries that are no longer kept apart.
    pub(super) merged_count: u64,
    pub(super) first_seen: u64,
    /// The answer that is on its way, and how many replies it still waits for.
    pub(super) answering: Option<(Action, usize)>,
    /// Whether the hub has forgotten it.
    pub(super) forgotten_by_hub: bool,
}

impl Row {
    /// Returns its number.
    pub const fn number(&self) -> RowNumber {
        self.number
    }

    /// Returns the hub that asks.
    pub const fn hub(&self) -> &HubId {
        &self.key.hub
    }

    /// Returns the interface the hub speaks; it says how narrow an answer can be.
    pub const fn protocol_version(&self) -> ProtocolVersion {
        self.protocol_version
    }

    /// Returns the sandbox.
    pub const fn container(&self) -> &ContainerId {
        &self.key.container
    }

    /// Returns what an answer is about: a name where one is known, else an address.
    pub const fn dest(&self) -> &Dest {
        &self.key.scope.dest
    }

    /// Returns exactly what an `allow` opens, or a `deny` closes.
    pub const fn scope(&self) -> &Scope {
        &self.key.scope
    }

    /// Returns the newest of its questions.
    ///
    /// # Panics
    /// Never: a row has an entry for as long as it is one.
    pub fn request(&self) -> &Request {
        &self.entries[&self.newest].request
    }

    /// Returns what is known about the sandbox.
    pub fn dossier(&self) -> &Dossier {
        &self.request().dossier
    }

    /// Returns the process that asked last, where it is known.
    pub fn process(&self) -> Option<&Process> {
        self.request().process.as_deref()
    }

    /// Returns the addresses that packets went to, each once, in order.
    pub fn addresses(&self) -> Vec<&Dest> {
        let mut addresses: Vec<_> = self.entries.keys().map(|flow| &flow.address).collect();
        addresses.dedup();
        addresses
    }

    /// Returns the ports and protocols that packets went to, each once, in order.
    pub fn ports(&self) -> Vec<(u16, Protocol)> {
        let mut ports: Vec<_> = self
            .entries
            .keys()
            .map(|flow| (flow.port, flow.protocol))
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Returns how often packets were blocked.
    pub fn count(&self) -> u64 {
        self.entries.values().fold(self.merged_count, |sum, entry| {
            sum.saturating_add(entry.request.count)
        })
    }

    /// Returns when the first packet was blocked, in microseconds since the epoch.
    pub const fn first_seen(&self) -> u64 {
        self.first_seen
    }

    /// Returns when the last packet was blocked, in microseconds since the epoch.
    pub fn last_seen(&self) -> u64 {
        let seen = self.entries.values().map(|entry| entry.request.last_seen);
        seen.max().unwrap_or(self.first_seen)
    }

    /// Says whether a restarted hub has forgotten it: it cannot be answered until the sandbox's
    /// next packet asks again, and then has the same number.
    pub const fn is_forgotten_by_hub(&self) -> bool {
        self.forgotten_by_hub
    }

    /// Returns the answer that is on its way, if one is.
    pub fn answering(&self) -> Option<Action> {
        self.answering.map(|(action, _)| action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_digits_and_not_zero() {
        let number = |text: &str| text.parse::<RowNumber>().map(RowNumber::get);
        assert_eq!(number("1"), Ok(1));
        assert_eq!(number("007"), Ok(7));
        for text in [
            "",
            "0",
            "-1",
            "+1",
            "1.0",
            "one",
            " 1",
            "99999999999999999999",
        ] {
            assert_eq!(number(text), Err(RowNumberError), "{text:?}");
        }
    }
}
