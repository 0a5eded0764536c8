// SPDX-License-Identifier: Apache-2.0
//! A row of the inbox: all questions settled by the same answer.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::Arc;

use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::Request;
use terok_clearance::{
    Action, ContainerId, Dest, Dossier, NetworkZone, Process, Protocol, RequestId, Scope, Target,
    Timestamp, WaitingConnections,
};

use super::HubId;

/// The number of a row. Numbers increase and are never reused.
///
/// An operator who types a number late can therefore not answer an unseen question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowNumber(NonZeroU64);

/// The text is not a row number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a row number consists of digits, such as 3")]
pub struct RowNumberError;

impl RowNumber {
    /// The number of the first row.
    pub(super) const FIRST: Self = Self(NonZeroU64::MIN);

    /// Returns the next number.
    pub(super) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Returns the number as an integer, 1 or more.
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for RowNumber {
    type Err = RowNumberError;

    fn from_str(text: &str) -> Result<Self, RowNumberError> {
        // `parse` would accept a sign.
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

/// The key of a row. Questions with the same key are settled by the same answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RowKey {
    pub(super) hub: HubId,
    pub(super) container: ContainerId,
    pub(super) scope: Scope,
    pub(super) zone: NetworkZone,
}

impl RowKey {
    pub(super) fn new(hub: &HubId, request: &Request) -> Self {
        Self {
            hub: hub.clone(),
            container: request.container.clone(),
            scope: request.scope.clone(),
            zone: request.zone,
        }
    }
}

/// Address, port and protocol of packets. A hub asks one question per flow.
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
    /// The question as last sent by the hub, with the newest id.
    pub(super) request: Arc<Request>,
    /// All ids of the question, the newest last.
    pub(super) ids: VecDeque<RequestId>,
    /// Whether the hub has sent the question since the start of the last snapshot.
    pub(super) confirmed: bool,
    pub(super) failure_notice: FailureNotice,
}

/// The announcements of a failed answer. A hub announces a failure by an event and by the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FailureNotice {
    /// No failure is known.
    None,
    /// The event has arrived; the reply is still due.
    ReplyDue,
    /// The reply has arrived; the event is still due.
    EventDue,
}

/// An answer that was sent, and whose replies are due.
#[derive(Debug, Clone)]
pub(super) struct PendingAnswer {
    pub(super) action: Action,
    pub(super) scope: Scope,
    pub(super) missing_replies: usize,
}

/// A row of the inbox: the questions of a sandbox with the same scope, settled by one answer.
#[derive(Debug, Clone)]
pub struct Row {
    pub(super) number: RowNumber,
    /// The sandbox's name in short ids, as it was when the row was added.
    pub(super) short_name: Arc<str>,
    pub(super) key: RowKey,
    pub(super) protocol_version: ProtocolVersion,
    pub(super) entries: BTreeMap<RequestFlow, RowEntry>,
    /// The entry with the latest update.
    pub(super) newest: RequestFlow,
    /// The number of packets of merged or replaced entries.
    pub(super) merged_count: u64,
    pub(super) first_seen: Timestamp,
    /// The answer that waits for replies.
    pub(super) answering: Option<PendingAnswer>,
    /// Whether the hub was restarted and forgot the questions.
    pub(super) forgotten_by_hub: bool,
    /// The logarithm (base 10) of the most connections that have waited at a time.
    pub(super) waiting_magnitude: u32,
}

impl Row {
    /// Returns the number of the row.
    pub const fn number(&self) -> RowNumber {
        self.number
    }

    /// Returns the hub of the questions.
    pub const fn hub(&self) -> &HubId {
        &self.key.hub
    }

    /// Returns the protocol version of the hub; the version limits the scope of answers.
    pub const fn protocol_version(&self) -> ProtocolVersion {
        self.protocol_version
    }

    /// Returns the sandbox.
    pub const fn container(&self) -> &ContainerId {
        &self.key.container
    }

    /// Returns the destination: a name if known, otherwise an address.
    pub const fn dest(&self) -> &Dest {
        &self.key.scope.dest
    }

    /// Returns the exact scope of an answer that names no other
    /// ([`Row::scope_with`] returns that of other answers).
    pub const fn scope(&self) -> &Scope {
        &self.key.scope
    }

    /// Returns the newest question.
    ///
    /// # Panics
    /// Never: a row has at least one entry.
    pub fn request(&self) -> &Request {
        &self.entries[&self.newest].request
    }

    /// Returns the dossier of the sandbox.
    pub fn dossier(&self) -> &Dossier {
        &self.request().dossier
    }

    /// Returns the process that sent the last packet, if known.
    pub fn process(&self) -> Option<&Process> {
        self.request().process.as_deref()
    }

    /// Returns the part of the network that the destination belongs to.
    pub const fn zone(&self) -> NetworkZone {
        self.key.zone
    }

    /// Returns the name that led to the address, for a question about the address itself.
    pub fn looked_up_as(&self) -> Option<&Dest> {
        self.request().looked_up_as.as_ref()
    }

    /// Returns the connections that are held for all questions of the row.
    pub fn waiting(&self) -> WaitingConnections {
        let all = self.entries.values().map(|entry| entry.request.waiting());
        let mut sum = all.fold(WaitingConnections::default(), |sum, one| {
            WaitingConnections {
                count: sum.count.saturating_add(one.count),
                since: match (sum.since, one.since) {
                    (Some(earliest), Some(since)) => Some(earliest.min(since)),
                    (earliest, since) => earliest.or(since),
                },
                gave_up: sum.gave_up.or(one.gave_up),
            }
        });
        sum.gave_up = self.request().waiting().gave_up.or(sum.gave_up);
        sum
    }

    /// Returns `true` when the number of connections that wait reaches a power of ten from 10 on,
    /// once for each.
    pub(super) fn note_waiting_growth(&mut self) -> bool {
        let magnitude = self.waiting().count.checked_ilog10().unwrap_or(0);
        let earlier = self.waiting_magnitude;
        self.waiting_magnitude = earlier.max(magnitude);
        magnitude > earlier
    }

    /// Returns the destination addresses, sorted and without duplicates. A hub that resolves a name
    /// after the answer has no address for it.
    pub fn addresses(&self) -> Vec<&Dest> {
        let mut addresses: Vec<_> = self.entries.keys().map(|flow| &flow.address).collect();
        addresses.dedup();
        let dest = self.dest();
        if addresses.contains(&dest) && matches!(dest.parse_target(), Ok(Target::Name(_))) {
            addresses.retain(|address| *address != dest);
        }
        addresses
    }

    /// Returns the destination ports with their protocols, sorted and without duplicates.
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

    /// Returns the number of blocked packets.
    pub fn count(&self) -> u64 {
        self.entries.values().fold(self.merged_count, |sum, entry| {
            sum.saturating_add(entry.request.count)
        })
    }

    /// Returns the time of the first blocked packet.
    pub const fn first_seen(&self) -> Timestamp {
        self.first_seen
    }

    /// Returns the time of the last blocked packet.
    pub fn last_seen(&self) -> Timestamp {
        let seen = self.entries.values().map(|entry| entry.request.last_seen);
        seen.max().unwrap_or(self.first_seen)
    }

    /// Returns `true` if the hub was restarted and forgot the questions. The row cannot be answered
    /// until the sandbox's next packet asks again; the number stays the same.
    pub const fn is_forgotten_by_hub(&self) -> bool {
        self.forgotten_by_hub
    }

    /// Returns the answer that waits for replies.
    pub fn answering(&self) -> Option<Action> {
        self.answering.as_ref().map(|answer| answer.action)
    }

    /// Returns the scope of the answer that waits for replies.
    pub fn answering_scope(&self) -> Option<&Scope> {
        self.answering.as_ref().map(|answer| &answer.scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_number_is_digits_and_not_zero() {
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
