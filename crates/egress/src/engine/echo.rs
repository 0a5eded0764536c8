// SPDX-License-Identifier: Apache-2.0
//! ICMP echo (ping), and packets of protocols that the gateway does not pass on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use names::NameLookup;
use terok_clearance::PacketDest;

use super::dialing::DialRefusal;
use super::{EgressEngine, ZonedDest};
use crate::dial::DialSockets;
use crate::held_connections::ConnectionKey;
use crate::packet_build::{
    EchoFields, IcmpErrorKind, ParsedPacket, TransportFields, echo_reply, icmp_error,
};
use crate::ping::{PingError, ping};
use crate::{EgressNotice, EgressPolicy, EgressSink, EgressVerdict};

/// Maximum pings under way.
const MAX_PINGS: usize = 64;
/// Maximum time for the reply to a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

impl<P: EgressPolicy, N: NameLookup, D: DialSockets, S: EgressSink> EgressEngine<P, N, D, S> {
    /// Handles a packet that is neither TCP nor UDP, as the gateway logged it.
    pub fn handle_other_packet(&mut self, packet: &[u8]) {
        let Some(parsed) = ParsedPacket::parse(packet) else {
            return;
        };
        let remote = SocketAddr::new(parsed.destination, 0);
        if remote.ip().is_multicast() {
            return;
        }
        let protocol = parsed.protocol;
        let echo = match &parsed.transport {
            TransportFields::Icmp {
                kind: ECHO_REQUEST | ECHO_REQUEST_V6,
                echo: Some(echo),
                ..
            } if !parsed.is_truncated => echo,
            TransportFields::Icmp { .. } => return,
            _ => {
                self.tell(EgressNotice::UnsupportedProtocol(protocol));
                return self.send_icmp_error(packet, IcmpErrorKind::ProtocolUnreachable);
            }
        };
        let request = EchoRequest {
            packet: packet.into(),
            key: ConnectionKey {
                client: SocketAddr::new(parsed.source, 0),
                remote,
            },
            fields: echo.clone(),
        };
        let destination = self.destination(remote, protocol);
        self.decide_ping(request, destination);
    }

    /// Pings, refuses, or asks about a destination.
    fn decide_ping(&mut self, request: EchoRequest, destination: ZonedDest) {
        match self.decide(&destination.dest, destination.zone) {
            EgressVerdict::Allow(rule) => {
                self.policy.note_uses(rule, 1);
                self.ping(request, destination.dest);
            }
            // Another ping follows in a second, so that none needs to wait.
            EgressVerdict::Ask => drop(self.ask(&destination, request.key)),
            EgressVerdict::Deny(rule) => {
                self.report_refused(&destination.dest, rule);
                self.send_icmp_error(&request.packet, IcmpErrorKind::AdministrativelyProhibited);
            }
            EgressVerdict::Floor => {
                self.tell_floor(destination.dest);
                self.send_icmp_error(&request.packet, IcmpErrorKind::AdministrativelyProhibited);
            }
        }
    }

    /// Pings an allowed destination, and answers the sandbox's own request.
    fn ping(&mut self, request: EchoRequest, dest: PacketDest) {
        if self.pings.len() >= MAX_PINGS {
            return; // lost, like a ping on a busy link
        }
        let dialer = Arc::clone(&self.dialer);
        let raw = Arc::clone(&self.sockets.raw);
        self.pings.spawn(async move {
            match dialer.ping_address(&dest).await {
                Ok(address) => {
                    let answer = request.answer(address).await;
                    if let Some(answer) = answer
                        && let Err(error) = raw.send(&answer, request.key.client.ip())
                    {
                        tracing::debug!(%error, "the reply to a ping was lost");
                    }
                    None
                }
                Err(refusal) => Some(RefusedPing {
                    request,
                    dest,
                    refusal,
                }),
            }
        });
    }

    /// Asks about the address of a name, or tells why a ping was not sent.
    pub(super) fn finish_refused_ping(&mut self, refused: RefusedPing) {
        let RefusedPing {
            request,
            dest,
            refusal,
        } = refused;
        if let DialRefusal::AskAddress(destination) = refusal {
            return self.decide_ping(request, destination);
        }
        let kind = self.tell_refusal(&dest, &refusal);
        let kind = kind.unwrap_or(IcmpErrorKind::AdministrativelyProhibited);
        self.send_icmp_error(&request.packet, kind);
    }
}

/// An echo request of the sandbox.
#[derive(Debug)]
struct EchoRequest {
    packet: Box<[u8]>,
    key: ConnectionKey,
    fields: EchoFields,
}

impl EchoRequest {
    /// Pings an address, and returns the packet that answers the request; `None` without a reply.
    async fn answer(&self, address: IpAddr) -> Option<Vec<u8>> {
        let payload = self.packet.get(self.fields.payload.clone());
        let payload = payload.unwrap_or_default();
        match ping(address, self.fields.sequence, payload, PING_TIMEOUT).await {
            Ok(reply) => echo_reply(&self.packet, &reply.payload),
            Err(PingError::TimedOut) => None,
            Err(error) => {
                tracing::debug!(%error, "a ping failed");
                icmp_error(&self.packet, IcmpErrorKind::AdministrativelyProhibited)
            }
        }
    }
}

/// A ping that was not sent.
#[derive(Debug)]
pub(super) struct RefusedPing {
    request: EchoRequest,
    dest: PacketDest,
    refusal: DialRefusal,
}

/// The ICMP type of an echo request (RFC 792).
const ECHO_REQUEST: u8 = 8;
/// The `ICMPv6` type of an echo request (RFC 4443).
const ECHO_REQUEST_V6: u8 = 128;
