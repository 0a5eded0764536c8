// SPDX-License-Identifier: Apache-2.0
//! Pending questions outside of a ledger: those of an earlier hub of the same sandbox.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use terok_clearance::{
    BlockedPacket, ContainerId, Dest, DisplayText, DomainName, Dossier, NetworkZone,
    PreviousAnswer, Process, Protocol, RequestId, Timestamp,
};

use super::Ledger;
use super::entry::{self, AliasIds, LedgerEntry, MAX_ALIASES};

/// A pending question without its sandbox's dossier and the connections that wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredQuestion {
    request: RequestId,
    /// The ids of the newest repeated packets, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<RequestId>,
    container: ContainerId,
    address: Dest,
    port: u16,
    protocol: Protocol,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    domain: Option<Dest>,
    #[serde(default, skip_serializing_if = "NetworkZone::is_public")]
    zone: NetworkZone,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    looked_up_as: Option<DomainName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<Arc<Process>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Arc<PreviousAnswer>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<DisplayText>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    approver_note: Option<DisplayText>,
    first_seen: Timestamp,
    last_seen: Timestamp,
    count: u64,
}

/// A change of a ledger's pending questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuestionChange {
    /// A question is pending, with this content.
    Pending {
        /// The number in the ledger.
        number: u64,
        /// The question.
        question: Box<StoredQuestion>,
    },
    /// The question with this number is not pending any more.
    Ended {
        /// The number in the ledger.
        number: u64,
    },
}

impl StoredQuestion {
    /// Returns the question's own id.
    pub const fn request(&self) -> &RequestId {
        &self.request
    }

    /// Returns every id of the question.
    pub fn ids(&self) -> impl Iterator<Item = &RequestId> {
        std::iter::once(&self.request).chain(&self.aliases)
    }

    /// Returns the sandbox.
    pub const fn container(&self) -> &ContainerId {
        &self.container
    }

    /// Returns the destination of an answer.
    pub fn dest(&self) -> &Dest {
        self.domain.as_ref().unwrap_or(&self.address)
    }

    /// Returns the port; 0 for a protocol without ports.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the transport protocol.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns the part of the network that the destination belongs to.
    pub const fn zone(&self) -> NetworkZone {
        self.zone
    }

    /// Returns the reason that a program in the sandbox gave, if it asked ahead of a connection.
    pub const fn reason(&self) -> Option<&DisplayText> {
        self.reason.as_ref()
    }
}

impl LedgerEntry {
    pub(super) fn to_stored(&self) -> StoredQuestion {
        let blocked = self.blocked();
        let BlockedPacket {
            container,
            request,
            address,
            port,
            protocol,
            domain,
            dossier: _,
            process,
            zone,
            looked_up_as,
            previous,
            reason,
        } = blocked.clone();
        StoredQuestion {
            aliases: self.ids().skip(1).cloned().collect(),
            request,
            container,
            address,
            port,
            protocol,
            domain,
            zone,
            looked_up_as,
            process,
            previous,
            reason,
            approver_note: self.approver_note().cloned(),
            first_seen: self.first_seen(),
            last_seen: self.last_seen(),
            count: self.count(),
        }
    }
}

impl Ledger {
    /// Records the changes from now on, for [`take_changes`](Self::take_changes).
    pub fn record_changes(&mut self) {
        self.changed.get_or_insert_default();
    }

    /// Returns the questions that have changed since the last call, as they are now, in the order
    /// of their numbers. The connections that wait are no change.
    pub fn take_changes(&mut self) -> Vec<QuestionChange> {
        let numbers = self.changed.as_mut().map(std::mem::take);
        let numbers = numbers.unwrap_or_default().into_iter();
        let changes = numbers.map(|number| match self.questions.get(&number) {
            Some(entry) => QuestionChange::Pending {
                number,
                question: Box::new(entry.to_stored()),
            },
            None => QuestionChange::Ended { number },
        });
        changes.collect()
    }

    /// Adds a question of an earlier ledger under its number, before any other question is
    /// recorded. Returns `false` if the ledger has a question with this number, packet or id, or is
    /// full.
    pub fn restore(&mut self, number: u64, question: StoredQuestion, dossier: Dossier) -> bool {
        let StoredQuestion {
            request,
            aliases,
            container,
            address,
            port,
            protocol,
            domain,
            zone,
            looked_up_as,
            process,
            previous,
            reason,
            approver_note,
            first_seen,
            last_seen,
            count,
        } = question;
        let blocked = BlockedPacket {
            container,
            request,
            address,
            port,
            protocol,
            domain,
            dossier,
            process,
            zone,
            looked_up_as,
            previous,
            reason,
        };
        let packet = entry::hash_packet(&blocked, &self.hasher);
        let is_known = |number| {
            let known = self.questions.get(&number);
            known.is_some_and(|entry| entry.matches_packet(&blocked))
        };
        if self.by_packet.find(packet, is_known).is_some()
            || self.questions.contains_key(&number)
            || self.questions.len() >= self.max_pending
            || self
                .numbers_with_id(blocked.request.as_str())
                .next()
                .is_some()
        {
            return false;
        }
        let mut entry = Box::new(LedgerEntry::new(blocked, packet, first_seen));
        let aliases: VecDeque<_> = aliases.into_iter().take(MAX_ALIASES).collect();
        entry.restore_history(AliasIds(aliases), last_seen, count);
        if let Some(note) = approver_note {
            entry.set_approver_note(note);
        }
        self.newest_number = self.newest_number.max(number);
        self.insert(number, entry);
        true
    }

    pub(super) fn insert(&mut self, number: u64, mut entry: Box<LedgerEntry>) {
        self.add_to_sandbox(number, &mut entry);
        for id in entry.ids() {
            let hash = entry::hash_id(id.as_str(), &self.hasher);
            self.by_id.insert(hash, number);
        }
        self.by_packet.insert(entry.packet_hash(), number);
        entry.recompute_text_bytes();
        self.text_bytes = self.text_bytes.saturating_add(entry.text_bytes());
        self.questions.insert(number, entry);
        self.note_change(number);
    }

    pub(super) fn note_change(&mut self, number: u64) {
        if let Some(changed) = &mut self.changed {
            changed.insert(number);
        }
    }
}
