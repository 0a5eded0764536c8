// SPDX-License-Identifier: Apache-2.0
//! TCP: hold, dial, hand over, relay, refuse.

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use names::NameLookup;
use terok_clearance::{DestZone, DomainName, PacketDest, PacketHost, Protocol};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::dialing::DialRefusal;
use super::{AskOutcome, EgressEngine, MAX_DIALS, TaskEnd, ZonedDest};
use crate::dial::{DialError, DialSockets};
use crate::held_connections::{ConnectionKey, FirstPacket, HeldConnection, HoldState};
use crate::live_connections::{ConnectionEnd, ConnectionGuard, DialedConnection};
use crate::packet_build::{
    IcmpErrorKind, ParsedPacket, TransportFields, icmp_error, replay_syn, reset_for,
};
use crate::relay::{RelayEnd, relay_tcp, relay_tcp_checked};
use crate::{EgressNotice, EgressPolicy, EgressSink, EgressVerdict};

/// Maximum time between the repeated first packet and the accepted connection: the sandbox's kernel
/// answers at once, or never.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(1);

/// A dialed connection whose end in the sandbox is about to be accepted.
#[derive(Debug)]
pub(super) struct HandOver {
    outside: TcpStream,
    /// Keeps a descriptor free for the accepted connection.
    reserved: Option<OwnedFd>,
    dialed: DialedConnection,
    sequence: u32,
    since: Instant,
}

impl From<RelayEnd> for ConnectionEnd {
    fn from(end: RelayEnd) -> Self {
        match end {
            RelayEnd::Closed => Self::Closed,
            RelayEnd::Reset(_) | RelayEnd::Failed(..) => Self::Broken,
        }
    }
}

impl<P: EgressPolicy, N: NameLookup, D: DialSockets, S: EgressSink> EgressEngine<P, N, D, S> {
    /// Handles the first packet of a TCP connection, as the gateway logged it.
    pub fn handle_connection_request(&mut self, packet: &[u8]) {
        let Some(parsed) = ParsedPacket::parse(packet) else {
            return;
        };
        let TransportFields::Tcp(tcp) = &parsed.transport else {
            return; // not a whole header: the rules match the flags of the header
        };
        let key = ConnectionKey {
            client: SocketAddr::new(parsed.source, tcp.source_port),
            remote: SocketAddr::new(parsed.destination, tcp.destination_port),
        };
        let sequence = tcp.sequence;
        if self
            .hand_overs
            .get(&key)
            .is_some_and(|handed| handed.sequence == sequence)
        {
            return;
        }
        if parsed.has_options || parsed.has_extension_headers || parsed.is_truncated {
            // Options could route the packet elsewhere, and a part cannot be repeated.
            return self.reset(packet);
        }
        let now = Instant::now();
        match self.held.note_first_packet(&key, sequence, now.into_std()) {
            FirstPacket::Repeated => {}
            FirstPacket::Full => {
                self.tell(EgressNotice::TooManyHeld);
                let destination = self.destination(key.remote, Protocol::TCP);
                let verdict = self.decide(&destination.dest, destination.zone);
                if verdict == EgressVerdict::Ask {
                    drop(self.ask(&destination, key)); // the answer serves the next attempt
                }
                self.reset(packet);
            }
            FirstPacket::New { replaced } => {
                self.abort_dial(&key);
                let destination = self.destination(key.remote, Protocol::TCP);
                let held = HeldConnection {
                    sequence,
                    packet: packet.into(),
                    dest: destination.dest.clone(),
                    since: now.into_std(),
                    last_seen: now.into_std(),
                    pause: Duration::ZERO,
                    state: HoldState::Asked,
                };
                self.decide_connection(key, held, &destination);
                if let Some(replaced) = replaced.filter(|dest| *dest != destination.dest) {
                    self.report_waiting(&replaced, None);
                }
            }
        }
    }

    /// Dials, refuses, or asks about a connection.
    fn decide_connection(
        &mut self,
        key: ConnectionKey,
        mut held: HeldConnection,
        destination: &ZonedDest,
    ) {
        match self.decide(&destination.dest, destination.zone) {
            EgressVerdict::Allow(rule) => {
                self.policy.note_uses(rule, 1);
                held.state = HoldState::Dialing(rule);
                self.held.insert(key, held);
                self.dial_connection(key);
            }
            EgressVerdict::Deny(rule) => {
                self.held.remove(&key);
                self.report_refused(&destination.dest, rule);
                self.reset(&held.packet);
            }
            EgressVerdict::Floor => {
                self.held.remove(&key);
                self.tell_floor(destination.dest.clone());
                self.reset(&held.packet);
            }
            EgressVerdict::Ask => {
                self.held.remove(&key);
                match self.ask_and_hold(destination, key) {
                    AskOutcome::Hold => {
                        held.dest = destination.dest.clone();
                        held.state = HoldState::Asked;
                        self.held.insert(key, held);
                        self.report_waiting(&destination.dest, None);
                    }
                    AskOutcome::Refuse => self.reset(&held.packet),
                    AskOutcome::Later => {}
                }
            }
        }
    }

    fn dial_connection(&mut self, key: ConnectionKey) {
        if self.dials.len() >= MAX_DIALS {
            self.tell(EgressNotice::TooManyHeld);
            if let Some(held) = self.held.remove(&key) {
                self.reset(&held.packet);
            }
            return;
        }
        let Some(held) = self.held.get(&key) else {
            return;
        };
        let (dest, sequence) = (held.dest.clone(), held.sequence);
        let dialer = Arc::clone(&self.dialer);
        let dial = self.tasks.spawn(async move {
            let result = dialer.dial_tcp(&dest).await;
            TaskEnd::TcpDialed {
                key,
                sequence,
                result,
            }
        });
        self.dials.insert(key, dial);
    }

    /// Ends the dial of a connection that does not wait any more.
    fn abort_dial(&mut self, key: &ConnectionKey) {
        if let Some(dial) = self.dials.remove(key) {
            dial.abort();
        }
    }

    /// Repeats the first packet of a dialed connection, or passes the error of the dial on.
    pub(super) fn finish_tcp_dial(
        &mut self,
        key: ConnectionKey,
        sequence: u32,
        result: Result<(TcpStream, SocketAddr), DialRefusal>,
    ) {
        // The dial may have ended at the moment that the program gave up, or began another
        // connection with the same addresses.
        let waits = |held: &HeldConnection| held.sequence == sequence;
        if !self.held.get(&key).is_some_and(waits) {
            return;
        }
        self.dials.remove(&key);
        let Some(held) = self.held.remove(&key) else {
            return;
        };
        match result {
            Ok((outside, address)) => {
                let HoldState::Dialing(rule) = held.state else {
                    return self.reset(&held.packet);
                };
                let mut dialed = DialedConnection {
                    rule,
                    dest: held.dest.clone(),
                    zone: self.zone_of(&held.dest),
                    address,
                    is_proxied: self.dialer.is_proxied_dest(&held.dest),
                    client: key.client,
                    remote: key.remote,
                };
                // The rules may have changed during the dial.
                let rule = self.policy.rule_to_go_on(&dialed);
                let (Some(rule), Some(packet)) = (rule, replay_syn(&held.packet)) else {
                    return self.reset(&held.packet);
                };
                dialed.rule = rule;
                let reserved = match outside.as_fd().try_clone_to_owned() {
                    Ok(reserved) => reserved,
                    Err(error) => {
                        return self.refuse_connection(&held, &DialError::from(error).into());
                    }
                };
                let handed = HandOver {
                    outside,
                    reserved: Some(reserved),
                    dialed,
                    sequence,
                    since: Instant::now(),
                };
                self.hand_overs.insert(key, handed);
                if let Err(error) = self.sockets.raw.send(&packet, key.remote.ip()) {
                    tracing::warn!(%error, "a first packet could not be repeated");
                    self.hand_overs.remove(&key);
                    self.reset(&held.packet);
                }
            }
            Err(DialRefusal::AskAddress(destination)) => {
                self.decide_connection(key, held, &destination);
            }
            Err(refusal) => self.refuse_connection(&held, &refusal),
        }
    }

    fn refuse_connection(&mut self, held: &HeldConnection, refusal: &DialRefusal) {
        match self.tell_refusal(&held.dest, refusal) {
            Some(kind) => self.send_icmp_error(&held.packet, kind),
            None => self.reset(&held.packet),
        }
    }

    /// Closes the descriptors that were kept for accepted connections. Returns `false` without any.
    pub(super) fn release_reserved_files(&mut self) -> bool {
        let hand_overs = self.hand_overs.values_mut();
        hand_overs
            .filter_map(|handed| handed.reserved.take())
            .count()
            > 0
    }

    /// Connects an accepted connection with its dialed one.
    pub(super) fn finish_hand_over(&mut self, inside: TcpStream, client: SocketAddr) {
        let handed = inside
            .local_addr()
            .ok()
            .and_then(|remote| self.hand_overs.remove(&ConnectionKey { client, remote }));
        let Some(handed) = handed else {
            // Its dialed connection timed out.
            if let Err(error) = inside.set_zero_linger() {
                tracing::debug!(%error, "a connection without a dialed one is closed in order");
            }
            return;
        };
        let HandOver {
            outside,
            mut dialed,
            ..
        } = handed;
        let Some(rule) = self.policy.rule_to_go_on(&dialed) else {
            if let Err(error) = inside.set_zero_linger() {
                tracing::debug!(%error, "a revoked connection is closed in order");
            }
            return;
        };
        dialed.rule = rule;
        let (connection, guard) = self.connections.open(dialed);
        self.policy.note_opened(rule);
        self.sink.connected(&connection);
        let dest = connection.dialed.dest;
        match &dest.host {
            PacketHost::Name(name) if self.check_server_names => {
                let name = name.clone();
                self.spawn_checked_relay(inside, outside, dest, name, guard);
            }
            _ => {
                self.relays.spawn(async move {
                    tokio::select! {
                        biased;
                        () = guard.revoked() => drop(guard),
                        ended = relay_tcp(inside, outside, guard.stats()) => {
                            tracing::debug!(?ended, "a connection ended");
                            guard.finish(ended.end.into());
                        }
                    }
                    None
                });
            }
        }
    }

    /// Relays a connection if its first bytes ask for `name`, or for another name that is allowed
    /// at the same port.
    fn spawn_checked_relay(
        &mut self,
        inside: TcpStream,
        outside: TcpStream,
        dest: PacketDest,
        name: DomainName,
        guard: ConnectionGuard,
    ) {
        let policy = Arc::clone(&self.policy);
        self.relays.spawn(async move {
            let accepts = |found: &str| match DomainName::from_unicode(found) {
                Ok(found) if found == name => true,
                Ok(found) => {
                    let found = PacketDest {
                        host: PacketHost::Name(found),
                        ..dest.clone()
                    };
                    matches!(
                        policy.decide(&found, DestZone::Public),
                        EgressVerdict::Allow(_)
                    )
                }
                Err(_) => false,
            };
            let ended = tokio::select! {
                biased;
                () = guard.revoked() => return None,
                ended = relay_tcp_checked(inside, outside, guard.stats(), accepts) => ended,
            };
            tracing::debug!(?ended, "a connection ended");
            match ended {
                Ok(ended) => {
                    guard.finish(ended.end.into());
                    None
                }
                Err(refusal) => {
                    guard.finish(ConnectionEnd::Refused);
                    let found = refusal.found;
                    Some(EgressNotice::ServerNameMismatch { dest, found })
                }
            }
        });
    }

    pub(super) fn apply_rules_to_connections(&mut self) {
        let dests: Vec<_> = self.held.asked_dests().cloned().collect();
        for dest in dests {
            let zone = self.zone_of(&dest);
            match self.decide(&dest, zone) {
                EgressVerdict::Ask => {}
                EgressVerdict::Allow(rule) => {
                    let mut dialed = 0_u64;
                    for key in self.held.waiting_for(&dest) {
                        if !self.sink.still_waits(key.client, key.remote) {
                            self.held.remove(&key);
                        } else if self.held.start_dialing(&key, rule) {
                            self.dial_connection(key);
                            dialed = dialed.saturating_add(1);
                        }
                    }
                    if dialed > 0 {
                        self.policy.note_uses(rule, dialed);
                    }
                    self.finish_question(&dest);
                }
                EgressVerdict::Deny(_) | EgressVerdict::Floor => {
                    for key in self.held.waiting_for(&dest) {
                        if let Some(held) = self.held.remove(&key) {
                            self.reset(&held.packet);
                        }
                    }
                    self.finish_question(&dest);
                }
            }
        }
    }

    /// Gives up on connections whose program, operator or hand-over is gone.
    pub(super) fn expire_connections(&mut self) {
        let now = Instant::now();
        for (key, held) in self.held.take_given_up(now.into_std()) {
            self.abort_dial(&key);
            if held.state == HoldState::Asked {
                let waited = held.last_seen.saturating_duration_since(held.since);
                self.report_waiting(&held.dest, Some(waited));
            }
        }
        let is_unattended = self.is_unattended();
        for (_, held) in self.held.take_over_limit(self.hold_time(), now.into_std()) {
            self.reset(&held.packet);
            self.report_waiting(&held.dest, None);
            self.tell_hold_ended(held.dest, is_unattended);
        }
        self.hand_overs
            .retain(|_, handed| now.saturating_duration_since(handed.since) < HAND_OVER_TIMEOUT);
    }

    /// Refuses a connection: the program gets `ECONNREFUSED`.
    pub(super) fn reset(&self, packet: &[u8]) {
        let Some(parsed) = ParsedPacket::parse(packet) else {
            return;
        };
        if let Some(reset) = reset_for(&parsed) {
            self.send_raw(&reset, parsed.source);
        }
    }

    pub(super) fn send_icmp_error(&self, packet: &[u8], kind: IcmpErrorKind) {
        let Some(parsed) = ParsedPacket::parse(packet) else {
            return;
        };
        if let Some(error) = icmp_error(packet, kind) {
            self.send_raw(&error, parsed.source);
        }
    }

    /// Sends a packet into the sandbox. A full queue loses it, like any packet.
    pub(super) fn send_raw(&self, packet: &[u8], to: std::net::IpAddr) {
        if let Err(error) = self.sockets.raw.send(packet, to) {
            tracing::debug!(%error, "a packet to the sandbox was not sent");
        }
    }
}
