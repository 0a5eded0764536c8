// SPDX-License-Identifier: Apache-2.0
//! One pending question in the ledger.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::{Arc, Weak};

use terok_clearance::wire::clearance2::Request;
use terok_clearance::{
    Action, BlockedPacket, ContainerId, Decision, Dest, DisplayText, Dossier, NetworkZone, Process,
    Protocol, RequestId, Scope, Timestamp, WaitingConnections,
};

use super::claim::{Claim, ClaimReceipt, ClaimTarget};
use crate::scope_support::{ScopeSupport, scope_covers_dest};

/// Maximum ids of repeated packets that identify a question, besides its first id.
pub(super) const MAX_ALIASES: usize = 8;

/// Estimated memory of a dossier entry, besides its two texts.
const DOSSIER_ENTRY_OVERHEAD_BYTES: usize = 64;

/// A pending question with its bookkeeping.
#[derive(Debug)]
pub(super) struct LedgerEntry {
    blocked: BlockedPacket,
    /// The ids of the newest repeated packets, oldest first.
    aliases: BoxedAliases,
    first_seen: Timestamp,
    last_seen: Timestamp,
    count: u64,
    in_flight: Option<Box<InFlightDecision>>,
    /// Boxed, because most questions hold no connection.
    waiting: Option<Box<WaitingConnections>>,
    /// What an approver says. Boxed, because most questions have none.
    approver_note: Option<Box<DisplayText>>,
    /// The bytes of the question's dossier; 0 for a dossier shared with an earlier question.
    dossier_bytes: usize,
    /// The result of the last [`Self::recompute_text_bytes`].
    text_bytes: usize,
    /// The result of [`hash_packet`] for the question's packets.
    packet_hash: u32,
}

/// Boxed, because most questions have no repeated packet.
type BoxedAliases = Option<Box<AliasIds>>;

#[derive(Debug, Default)]
pub(super) struct AliasIds(pub(super) VecDeque<RequestId>);

/// An answer in progress, until its receipt is dropped.
#[derive(Debug)]
struct InFlightDecision {
    decision: Decision,
    receipt_alive: Weak<()>,
}

impl LedgerEntry {
    pub(super) fn new(blocked: BlockedPacket, packet: u32, now: Timestamp) -> Self {
        Self {
            blocked,
            aliases: None,
            first_seen: now,
            last_seen: now,
            count: 1,
            in_flight: None,
            waiting: None,
            approver_note: None,
            dossier_bytes: 0,
            text_bytes: 0,
            packet_hash: packet,
        }
    }

    /// Sets what the question has from its time in an earlier ledger.
    pub(super) fn restore_history(&mut self, aliases: AliasIds, last_seen: Timestamp, count: u64) {
        self.aliases = (!aliases.0.is_empty()).then(|| Box::new(aliases));
        self.last_seen = last_seen;
        self.count = count;
    }

    pub(super) fn approver_note(&self) -> Option<&DisplayText> {
        self.approver_note.as_deref()
    }

    pub(super) const fn first_seen(&self) -> Timestamp {
        self.first_seen
    }

    pub(super) const fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Assigns an id that is unique in the ledger; the reader's id becomes an alias.
    pub(super) fn assign_unique_id(&mut self, number: u64) {
        let own = format!("{}.{number}", self.blocked.request);
        // Only an id at the length limit has no room for the number. Such an id stays ambiguous,
        // and answers are matched by sandbox and destination.
        if let Ok(own) = own.parse() {
            let given = std::mem::replace(&mut self.blocked.request, own);
            self.aliases = Some(Box::new(AliasIds(VecDeque::from([given]))));
        }
    }

    /// Records a repeated packet. Returns the id that was added, and the id that was dropped for
    /// it.
    pub(super) fn record_repeat(
        &mut self,
        blocked: BlockedPacket,
        now: Timestamp,
    ) -> (Option<RequestId>, Option<RequestId>) {
        self.count = self.count.saturating_add(1);
        self.last_seen = now;
        if blocked.process.is_some() {
            self.blocked.process = blocked.process;
        }
        if blocked.looked_up_as.is_some() {
            self.blocked.looked_up_as = blocked.looked_up_as;
        }
        // Once told, it stays: a line that a workload could change would delay the answer.
        if self.blocked.reason.is_none() {
            self.blocked.reason = blocked.reason;
        }
        if !blocked.dossier.is_empty() && blocked.dossier != self.blocked.dossier {
            self.blocked.dossier = blocked.dossier;
        }
        if self.has_id(blocked.request.as_str()) {
            return (None, None);
        }
        let AliasIds(aliases) = &mut **self.aliases.get_or_insert_default();
        let forgotten = if aliases.len() < MAX_ALIASES {
            None
        } else {
            aliases.pop_front()
        };
        aliases.push_back(blocked.request.clone());
        (Some(blocked.request), forgotten)
    }

    /// Returns `true` if `blocked` is a repeated packet of this question.
    pub(super) fn matches_packet(&self, blocked: &BlockedPacket) -> bool {
        let own = &self.blocked;
        own.container == blocked.container
            && own.domain == blocked.domain
            && own.address == blocked.address
            && (own.port, own.protocol) == (blocked.port, blocked.protocol)
            && own.zone == blocked.zone
    }

    /// Sets the process that sent the packet. Returns `true` if the value changed.
    pub(super) fn set_process(&mut self, process: Arc<Process>) -> bool {
        let changed = self.blocked.process.as_ref() != Some(&process);
        self.blocked.process = Some(process);
        changed
    }

    /// Sets the held connections. Returns `true` if the value changed.
    pub(super) fn set_waiting(&mut self, waiting: WaitingConnections) -> bool {
        let changed = self.waiting() != waiting;
        if changed {
            let is_empty = waiting == WaitingConnections::default();
            self.waiting = (!is_empty).then(|| Box::new(waiting));
        }
        changed
    }

    /// Sets what an approver says. Returns `true` if the value changed.
    pub(super) fn set_approver_note(&mut self, note: DisplayText) -> bool {
        let changed = self.approver_note.as_deref() != Some(&note);
        self.approver_note = Some(Box::new(note));
        changed
    }

    fn waiting(&self) -> WaitingConnections {
        self.waiting.as_deref().copied().unwrap_or_default()
    }

    pub(super) const fn packet_hash(&self) -> u32 {
        self.packet_hash
    }

    pub(super) fn has_id(&self, id: &str) -> bool {
        self.ids().any(|own| own.as_str() == id)
    }

    /// Returns every id of the question.
    pub(super) fn ids(&self) -> impl Iterator<Item = &RequestId> {
        let aliases = self.aliases.iter().flat_map(|ids| &ids.0);
        std::iter::once(&self.blocked.request).chain(aliases)
    }

    pub(super) fn is_about(&self, container: &str, dest: &str) -> bool {
        self.blocked.container.as_str() == container && self.blocked.dest().as_str() == dest
    }

    /// Returns the newest packet, with the question's own id.
    pub(super) const fn blocked(&self) -> &BlockedPacket {
        &self.blocked
    }

    pub(super) const fn id(&self) -> &RequestId {
        &self.blocked.request
    }

    pub(super) const fn container(&self) -> &ContainerId {
        &self.blocked.container
    }

    pub(super) const fn zone(&self) -> NetworkZone {
        self.blocked.zone
    }

    /// Shares the dossier of the sandbox if the two are equal. Otherwise this question's dossier
    /// becomes the shared one.
    pub(super) fn share_dossier(&mut self, shared: &mut Dossier) {
        let own = &mut self.blocked.dossier;
        if Arc::ptr_eq(own, shared) {
            return;
        }
        if own == shared {
            own.clone_from(shared);
            self.dossier_bytes = 0;
        } else {
            shared.clone_from(own);
            let bytes = |(key, value): (&DisplayText, &DisplayText)| {
                let texts = key.as_str().len().saturating_add(value.as_str().len());
                texts.saturating_add(DOSSIER_ENTRY_OVERHEAD_BYTES)
            };
            self.dossier_bytes = own.iter().map(bytes).fold(0, usize::saturating_add);
        }
    }

    /// Returns the bytes of the question's texts, without a shared dossier.
    pub(super) const fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Updates [`Self::text_bytes`]; required after each change of a text.
    pub(super) fn recompute_text_bytes(&mut self) {
        let process = self.blocked.process.as_ref().map_or(0, |process| {
            let parents = process.parents.iter().map(|parent| &parent.name);
            let texts = process
                .command
                .iter()
                .chain(&process.directory)
                .chain(parents);
            let bytes = texts.map(|text| text.as_str().len());
            bytes.fold(process.name.as_str().len(), usize::saturating_add)
        });
        self.text_bytes = self
            .ids()
            .map(|id| id.as_str().len())
            .chain(
                self.blocked
                    .domain
                    .iter()
                    .map(|domain| domain.as_str().len()),
            )
            .chain(
                self.blocked
                    .looked_up_as
                    .iter()
                    .map(|name| name.as_str().len()),
            )
            .chain(
                self.blocked
                    .reason
                    .iter()
                    .chain(self.approver_note.as_deref())
                    .map(|text| text.as_str().len()),
            )
            .chain([
                self.blocked.address.as_str().len(),
                process,
                self.dossier_bytes,
            ])
            .fold(0, usize::saturating_add);
    }

    /// Returns the answer in progress.
    pub(super) fn in_flight_decision(&self) -> Option<Decision> {
        let claim = self.in_flight.as_ref()?;
        claim
            .receipt_alive
            .upgrade()
            .map(|_| claim.decision.clone())
    }

    pub(super) fn claim(
        &mut self,
        number: u64,
        answered_id: &str,
        action: Action,
        scope: Scope,
        by: DisplayText,
        now: Timestamp,
    ) -> (Claim, ClaimReceipt) {
        let answered_id = self.ids().find(|id| id.as_str() == answered_id);
        let answered_id = answered_id.unwrap_or_else(|| self.id()).clone();
        let target = ClaimTarget::Pending(number);
        let (claim, receipt) =
            Claim::issue(&self.blocked, target, answered_id, action, scope, by, now);
        self.in_flight = Some(Box::new(InFlightDecision {
            decision: (*receipt.decision).clone(),
            receipt_alive: receipt.alive(),
        }));
        (claim, receipt)
    }

    /// Returns the packet and the ids of the question.
    pub(super) fn into_packet(self) -> (BlockedPacket, Vec<RequestId>) {
        let ids = self.ids().cloned().collect();
        (self.blocked, ids)
    }

    pub(super) const fn question(&self, support: ScopeSupport) -> LedgerQuestion<'_> {
        LedgerQuestion {
            entry: self,
            support,
        }
    }
}

/// Hashes the fields that identify a question, with a key that no sandbox knows.
pub(super) fn hash_packet(blocked: &BlockedPacket, hasher: &RandomState) -> u32 {
    let BlockedPacket {
        container,
        address,
        port,
        protocol,
        domain,
        zone,
        ..
    } = blocked;
    let (container, address) = (container.as_str(), address.as_str());
    let domain = domain.as_ref().map_or("", Dest::as_str);
    let mut hash = hasher.build_hasher();
    // One combined write is faster than several. The lengths separate the texts.
    let zone: u64 = match zone {
        NetworkZone::Public => 0,
        NetworkZone::LocalNetwork => 1,
        NetworkZone::ThisHost => 2,
    };
    hash.write_u64(
        (zone << 56)
            | (u64::from(*port) << 40)
            | (u64::from(protocol.0) << 32)
            | (masked_length(container) << 20)
            | (masked_length(address) << 10)
            | masked_length(domain),
    );
    hash.write(container.as_bytes());
    hash.write(address.as_bytes());
    hash.write(domain.as_bytes());
    upper_half(hash.finish())
}

/// Hashes a request id, with a key that no sandbox knows.
pub(super) fn hash_id(id: &str, hasher: &RandomState) -> u32 {
    let mut hash = hasher.build_hasher();
    hash.write(id.as_bytes());
    upper_half(hash.finish())
}

/// Returns a text's length in 10 bits; hashed texts are shorter than 1024 bytes.
fn masked_length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX) & 0x3ff
}

fn upper_half(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or(u32::MAX)
}

/// A view of a pending question.
#[derive(Debug, Clone, Copy)]
pub struct LedgerQuestion<'a> {
    entry: &'a LedgerEntry,
    support: ScopeSupport,
}

impl<'a> LedgerQuestion<'a> {
    /// Returns the question's id, which never changes.
    pub const fn id(&self) -> &'a RequestId {
        &self.entry.blocked.request
    }

    /// Returns the reader's id of the newest packet.
    pub fn newest_id(&self) -> &'a RequestId {
        let newest = self.entry.aliases.as_ref().and_then(|ids| ids.0.back());
        newest.unwrap_or(&self.entry.blocked.request)
    }

    /// Returns every id by which an answer may name the question.
    pub fn ids(&self) -> impl Iterator<Item = &'a RequestId> {
        self.entry.ids()
    }

    /// Returns the newest packet as the reader reported it, but with the question's own id.
    pub const fn blocked(&self) -> &'a BlockedPacket {
        &self.entry.blocked
    }

    /// Returns the sandbox.
    pub const fn container(&self) -> &'a ContainerId {
        &self.entry.blocked.container
    }

    /// Returns the destination of an answer: the name if known, otherwise the address.
    pub fn dest(&self) -> &'a Dest {
        self.entry.blocked.dest()
    }

    /// Returns the address that the packet was sent to.
    pub const fn address(&self) -> &'a Dest {
        &self.entry.blocked.address
    }

    /// Returns the name that the sandbox looked up for the address.
    pub const fn domain(&self) -> Option<&'a Dest> {
        self.entry.blocked.domain.as_ref()
    }

    /// Returns the port; 0 for a protocol without ports.
    pub const fn port(&self) -> u16 {
        self.entry.blocked.port
    }

    /// Returns the transport protocol.
    pub const fn protocol(&self) -> Protocol {
        self.entry.blocked.protocol
    }

    /// Returns the last known sending process.
    pub fn process(&self) -> Option<&'a Process> {
        self.entry.blocked.process.as_deref()
    }

    /// Returns the dossier of the sandbox.
    pub const fn dossier(&self) -> &'a Dossier {
        &self.entry.blocked.dossier
    }

    /// Returns the arrival of the first packet, in microseconds since the epoch.
    pub const fn first_seen(&self) -> Timestamp {
        self.entry.first_seen
    }

    /// Returns the arrival of the newest packet, in microseconds since the epoch.
    pub const fn last_seen(&self) -> Timestamp {
        self.entry.last_seen
    }

    /// Returns the number of packets of the question.
    pub const fn count(&self) -> u64 {
        self.entry.count
    }

    /// Returns the part of the network that the destination belongs to.
    pub const fn zone(&self) -> NetworkZone {
        self.entry.zone()
    }

    /// Returns the connections that are held for the question.
    pub fn waiting(&self) -> WaitingConnections {
        self.entry.waiting()
    }

    /// Converts the question to its Clearance2 form.
    pub fn to_request(&self) -> Request {
        let mut request = Request {
            last_seen: self.last_seen(),
            count: self.count(),
            ..Request::new(
                self.entry.blocked.clone(),
                self.default_scope(),
                self.first_seen(),
            )
        };
        request.set_waiting(self.waiting());
        request.approver = self.entry.approver_note.as_deref().cloned();
        request.wider = self.support.wider_names(self.blocked());
        request.lifetimes = self.support.offer.lifetimes.to_vec();
        request
    }

    /// Returns `true` if a rule of this scope covers the question's packets, without regard to the
    /// zone.
    pub fn is_covered_by(&self, scope: &Scope) -> bool {
        scope_covers_dest(&scope.dest, self.dest())
            && scope.port.is_none_or(|port| port == self.port())
            && scope.protocol.is_none_or(|p| p == self.protocol())
    }

    /// Returns the scope of an answer without an explicit scope.
    ///
    /// The scope is the packet's port and protocol; if the protocol has no ports, the whole
    /// destination. If the firewall cannot open single ports, the scope is that of
    /// [`Self::whole_dest`].
    pub fn default_scope(&self) -> Scope {
        self.support.default_scope(self.blocked())
    }

    /// Returns the scope of the whole destination, with the lifetime that the firewall enforces.
    pub fn whole_dest(&self) -> Scope {
        self.support.whole_dest(self.dest())
    }
}
