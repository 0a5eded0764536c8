// SPDX-License-Identifier: Apache-2.0
//! The connections of a sandbox that exist outside, each with the rule that allows it.
//!
//! The engine adds a connection when it begins and removes it at its end. The owner of the rules
//! checks all of them after a change of the rules, and ends those that no rule allows any more.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use terok_clearance::{DestZone, PacketDest};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::RuleTag;
use crate::relay::RelayStats;

/// The connections of one sandbox. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct LiveConnections {
    table: Arc<Mutex<ConnectionTable>>,
}

#[derive(Debug, Default)]
struct ConnectionTable {
    last_id: u64,
    live: HashMap<u64, LiveEntry>,
    /// Connections that have ended and were not taken yet.
    closed: Vec<ClosedConnection>,
}

#[derive(Debug)]
struct LiveEntry {
    connection: LiveConnection,
    opened_at: Instant,
    stats: Arc<RelayStats>,
    stop: CancellationToken,
}

/// A connection that was dialed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialedConnection {
    /// The rule that allows it.
    pub rule: RuleTag,
    /// The destination, as the program named it.
    pub dest: PacketDest,
    /// The part of the network that the destination lies in.
    pub zone: DestZone,
    /// The address that was dialed, or that of the operator's proxy.
    pub address: SocketAddr,
    /// The connection goes through the operator's proxy, which finds the address itself.
    pub is_proxied: bool,
    /// The sandbox's end of the connection.
    pub client: SocketAddr,
    /// The other end, as the sandbox sees it.
    pub remote: SocketAddr,
}

/// A connection outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveConnection {
    /// The number, unique in the sandbox.
    pub id: u64,
    /// The connection.
    pub dialed: DialedConnection,
}

/// A connection that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedConnection {
    /// The connection, with the rule that allowed it last.
    pub connection: LiveConnection,
    /// Bytes that the sandbox sent.
    pub bytes_out: u64,
    /// Bytes that the sandbox received.
    pub bytes_in: u64,
    /// The time from begin to end.
    pub duration: Duration,
    /// The reason for the end.
    pub end: ConnectionEnd,
}

/// The reason for the end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionEnd {
    /// Both sides closed in order, or a UDP flow was idle.
    Closed,
    /// One side reset the connection, or it failed.
    Broken,
    /// It asked the destination for a server name that is not allowed.
    Refused,
    /// No rule allows it any more.
    Revoked,
    /// The sandbox ended.
    SandboxEnded,
}

impl ConnectionEnd {
    /// Returns the reason as one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Refused => "refused",
            Self::Revoked => "revoked",
            Self::SandboxEnded => "sandbox_ended",
        }
    }
}

impl LiveConnections {
    /// Adds a connection. It counts as ended when the returned guard is dropped.
    pub(crate) fn open(&self, dialed: DialedConnection) -> (LiveConnection, ConnectionGuard) {
        let mut table = self.lock();
        table.last_id = table.last_id.saturating_add(1);
        let connection = LiveConnection {
            id: table.last_id,
            dialed,
        };
        let entry = LiveEntry {
            connection: connection.clone(),
            opened_at: Instant::now(),
            stats: Arc::default(),
            stop: CancellationToken::new(),
        };
        let guard = ConnectionGuard {
            connections: self.clone(),
            id: connection.id,
            stats: Arc::clone(&entry.stats),
            stop: entry.stop.clone(),
            end: ConnectionEnd::SandboxEnded,
        };
        table.live.insert(connection.id, entry);
        (connection, guard)
    }

    /// Checks every connection after a change of the rules: `go_on` returns the rule that allows
    /// it, or `None` to end it. Returns the number of those that end; each is reset at once.
    pub fn check(&self, mut go_on: impl FnMut(&DialedConnection) -> Option<RuleTag>) -> u64 {
        let mut ended = 0_u64;
        for entry in self.lock().live.values_mut() {
            if entry.stop.is_cancelled() {
                continue;
            }
            if let Some(rule) = go_on(&entry.connection.dialed) {
                entry.connection.dialed.rule = rule;
            } else {
                entry.stop.cancel();
                ended = ended.saturating_add(1);
            }
        }
        ended
    }

    /// Removes and returns the connections that have ended.
    pub fn take_closed(&self) -> Vec<ClosedConnection> {
        std::mem::take(&mut self.lock().closed)
    }

    /// Returns the number of connections.
    pub fn len(&self) -> usize {
        self.lock().live.len()
    }

    /// Returns `true` if there is no connection.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn close(&self, id: u64, end: ConnectionEnd) {
        let mut table = self.lock();
        let Some(entry) = table.live.remove(&id) else {
            return;
        };
        let is_revoked = entry.stop.is_cancelled();
        table.closed.push(ClosedConnection {
            bytes_out: entry.stats.bytes_out(),
            bytes_in: entry.stats.bytes_in(),
            duration: entry.opened_at.elapsed(),
            end: if is_revoked {
                ConnectionEnd::Revoked
            } else {
                end
            },
            connection: entry.connection,
        });
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The engine's hold on a connection, which ends with it.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    connections: LiveConnections,
    id: u64,
    stats: Arc<RelayStats>,
    stop: CancellationToken,
    end: ConnectionEnd,
}

impl ConnectionGuard {
    /// Waits until no rule allows the connection any more. Cancel safe.
    pub(crate) async fn revoked(&self) {
        self.stop.cancelled().await;
    }

    /// Returns a signal for [`Self::revoked`].
    pub(crate) fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Returns the counters of the connection.
    pub(crate) const fn stats(&self) -> &Arc<RelayStats> {
        &self.stats
    }

    /// Ends the connection for this reason.
    pub(crate) fn finish(mut self, end: ConnectionEnd) {
        self.end = end;
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connections.close(self.id, self.end);
    }
}

#[cfg(test)]
mod tests {
    use terok_clearance::{PacketHost, Protocol};

    use super::*;

    fn open(connections: &LiveConnections, rule: u64) -> (LiveConnection, ConnectionGuard) {
        let dest = PacketDest {
            host: PacketHost::Name("a.example".parse().unwrap()),
            port: 443,
            protocol: Protocol::TCP,
        };
        connections.open(DialedConnection {
            rule: RuleTag(rule),
            dest,
            zone: DestZone::Public,
            address: "203.0.113.7:443".parse().unwrap(),
            is_proxied: false,
            client: "198.19.0.2:40000".parse().unwrap(),
            remote: "198.18.0.7:443".parse().unwrap(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_with_its_guard() {
        let connections = LiveConnections::default();
        let (first, guard) = open(&connections, 1);
        let (second, other) = open(&connections, 1);
        assert_ne!(first.id, second.id);
        tokio::time::advance(Duration::from_secs(5)).await;
        guard.finish(ConnectionEnd::Closed);
        assert_eq!(connections.len(), 1);
        drop(other);
        let closed = connections.take_closed();
        let ends: Vec<_> = closed
            .iter()
            .map(|one| (one.connection.id, one.end))
            .collect();
        assert_eq!(
            ends,
            [
                (first.id, ConnectionEnd::Closed),
                (second.id, ConnectionEnd::SandboxEnded)
            ]
        );
        assert_eq!(closed[0].duration, Duration::from_secs(5));
        assert!(connections.take_closed().is_empty());
    }

    #[tokio::test]
    async fn connections_without_a_rule_end_once() {
        let connections = LiveConnections::default();
        let (_, ended) = open(&connections, 1);
        let (_, kept) = open(&connections, 2);
        let check = |connections: &LiveConnections| {
            connections.check(|one| (one.rule != RuleTag(1)).then_some(RuleTag(3)))
        };
        assert_eq!(check(&connections), 1);
        ended.revoked().await;
        assert_eq!(check(&connections), 0);
        ended.finish(ConnectionEnd::Broken);
        kept.finish(ConnectionEnd::Closed);
        let closed = connections.take_closed();
        assert_eq!(closed[0].end, ConnectionEnd::Revoked);
        assert_eq!(closed[1].connection.dialed.rule, RuleTag(3));
    }
}
