// SPDX-License-Identifier: Apache-2.0
//! The TCP connections that wait for an answer.
//!
//! A held connection is nothing but a dropped first packet and its copy: whatever happens to this
//! process, no packet passes. The table is pure: callers pass the time.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use terok_clearance::PacketDest;

use crate::RuleTag;

/// Maximum connections that wait at the same time.
pub const MAX_HELD_CONNECTIONS: usize = 16_384;
/// The time after the expected repetition of a first packet at which the program has given up.
const REPETITION_GRACE: Duration = Duration::from_millis(1_500);
/// The pause before the first repetition (RFC 6298).
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The addresses of a connection: the sandbox's end and the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ConnectionKey {
    pub(crate) client: SocketAddr,
    pub(crate) remote: SocketAddr,
}

/// A connection that waits.
#[derive(Debug)]
pub(crate) struct HeldConnection {
    /// The initial sequence number: another one is another connection with the same addresses.
    pub(crate) sequence: u32,
    /// The copy of the first packet.
    pub(crate) packet: Box<[u8]>,
    /// The destination of the question about the connection.
    pub(crate) dest: PacketDest,
    pub(crate) since: Instant,
    pub(crate) last_seen: Instant,
    /// The longest pause between two packets. Kernels before 6.5 double it each time.
    pub(crate) pause: Duration,
    pub(crate) state: HoldState,
}

/// The reason why a connection waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoldState {
    /// For an answer to the question about its destination.
    Asked,
    /// For the connection outside, which this rule allows.
    Dialing(RuleTag),
}

/// The effect of a first packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FirstPacket {
    /// The packet of a connection that is waiting already.
    Repeated,
    /// A new connection.
    New {
        /// The destination of one with the same addresses, which was withdrawn.
        replaced: Option<PacketDest>,
    },
    /// The table is full.
    Full,
}

/// Every held connection, by its addresses and by its destination.
#[derive(Debug, Default)]
pub(crate) struct HeldConnections {
    connections: HashMap<ConnectionKey, HeldConnection>,
    /// The connections that wait for an answer.
    asked: HashMap<PacketDest, BTreeSet<ConnectionKey>>,
}

impl HeldConnections {
    /// Returns the effect of a first packet, and records its time.
    pub(crate) fn note_first_packet(
        &mut self,
        key: &ConnectionKey,
        sequence: u32,
        now: Instant,
    ) -> FirstPacket {
        let is_full = self.connections.len() >= MAX_HELD_CONNECTIONS;
        match self.connections.get_mut(key) {
            Some(held) if held.sequence == sequence => {
                let pause = now.saturating_duration_since(held.last_seen);
                held.pause = held.pause.max(pause);
                held.last_seen = now;
                FirstPacket::Repeated
            }
            Some(_) => FirstPacket::New {
                replaced: self.remove(key).map(|held| held.dest),
            },
            None if is_full => FirstPacket::Full,
            None => FirstPacket::New { replaced: None },
        }
    }

    pub(crate) fn insert(&mut self, key: ConnectionKey, held: HeldConnection) {
        self.remove(&key);
        if held.state == HoldState::Asked {
            self.asked.entry(held.dest.clone()).or_default().insert(key);
        }
        self.connections.insert(key, held);
    }

    pub(crate) fn get(&self, key: &ConnectionKey) -> Option<&HeldConnection> {
        self.connections.get(key)
    }

    pub(crate) fn remove(&mut self, key: &ConnectionKey) -> Option<HeldConnection> {
        let held = self.connections.remove(key)?;
        self.forget_asked(key, &held.dest);
        Some(held)
    }

    /// Marks a connection as being dialed because of a rule. Returns `false` if it does not wait
    /// any more.
    pub(crate) fn start_dialing(&mut self, key: &ConnectionKey, rule: RuleTag) -> bool {
        let Some(held) = self.connections.get_mut(key) else {
            return false;
        };
        held.state = HoldState::Dialing(rule);
        let dest = held.dest.clone();
        self.forget_asked(key, &dest);
        true
    }

    /// Returns the destinations that connections wait for an answer about.
    pub(crate) fn asked_dests(&self) -> impl Iterator<Item = &PacketDest> {
        self.asked.keys()
    }

    /// Returns the connections that wait for an answer about `dest`.
    pub(crate) fn waiting_for(&self, dest: &PacketDest) -> Vec<ConnectionKey> {
        let keys = self.asked.get(dest).into_iter().flatten();
        keys.copied().collect()
    }

    /// Returns the number of connections that wait for an answer about `dest`, and the time of the
    /// oldest.
    pub(crate) fn waiting(&self, dest: &PacketDest) -> (usize, Option<Instant>) {
        let keys = self.asked.get(dest);
        let since = keys
            .into_iter()
            .flatten()
            .filter_map(|key| Some(self.connections.get(key)?.since))
            .min();
        (keys.map_or(0, BTreeSet::len), since)
    }

    /// Removes the connections whose programs have given up, and returns them.
    pub(crate) fn take_given_up(&mut self, now: Instant) -> Vec<(ConnectionKey, HeldConnection)> {
        self.take_where(|held| {
            let next = held.pause.max(FIRST_PAUSE).saturating_mul(2);
            now.saturating_duration_since(held.last_seen) >= next.saturating_add(REPETITION_GRACE)
        })
    }

    /// Removes the connections that have waited for an answer for `limit`, and returns them.
    pub(crate) fn take_over_limit(
        &mut self,
        limit: Duration,
        now: Instant,
    ) -> Vec<(ConnectionKey, HeldConnection)> {
        self.take_where(|held| {
            held.state == HoldState::Asked && now.saturating_duration_since(held.since) >= limit
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    fn take_where(
        &mut self,
        is_taken: impl Fn(&HeldConnection) -> bool,
    ) -> Vec<(ConnectionKey, HeldConnection)> {
        let taken = self.connections.iter().filter(|(_, held)| is_taken(held));
        let keys: Vec<_> = taken.map(|(key, _)| *key).collect();
        keys.into_iter()
            .filter_map(|key| Some((key, self.remove(&key)?)))
            .collect()
    }

    fn forget_asked(&mut self, key: &ConnectionKey, dest: &PacketDest) {
        if let Some(keys) = self.asked.get_mut(dest) {
            keys.remove(key);
            if keys.is_empty() {
                self.asked.remove(dest);
            }
        }
    }
}

#[cfg(test)]
mod tests;
