// SPDX-License-Identifier: Apache-2.0
//! ICMP echo (ping), and packets of protocols that the gateway does not pass on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use names::NameLookup;

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
        let key = ConnectionKey {
            client: SocketAddr::new(parsed.source, 0),
            remote,
        };
        let destination = self.destination(remote, protocol);
        match self.decide(&destination.dest, destination.zone) {
            EgressVerdict::Allow => self.ping(packet, echo, destination),
            // Another ping follows in a second, so that none needs to wait.
            EgressVerdict::Ask => drop(self.ask(&destination, key)),
            EgressVerdict::Deny => {
                self.send_icmp_error(packet, IcmpErrorKind::AdministrativelyProhibited);
            }
            EgressVerdict::Floor => {
                self.tell_floor(destination.dest);
                self.send_icmp_error(packet, IcmpErrorKind::AdministrativelyProhibited);
            }
        }
    }

    /// Pings an allowed destination, and answers the sandbox's own request.
    fn ping(&mut self, request: &[u8], echo: &EchoFields, destination: ZonedDest) {
        if self.pings.len() >= MAX_PINGS {
            return; // lost, like a ping on a busy link
        }
        let payload = request
            .get(echo.payload.clone())
            .unwrap_or_default()
            .to_vec();
        let request: Box<[u8]> = request.into();
        let sequence = echo.sequence;
        let client = ParsedPacket::parse(&request).map(|parsed| parsed.source);
        let dialer = Arc::clone(&self.dialer);
        let raw = Arc::clone(&self.sockets.raw);
        self.pings.spawn(async move {
            let answer = match dialer.ping_address(&destination.dest).await {
                Ok(address) => match ping(address, sequence, &payload, PING_TIMEOUT).await {
                    Ok(reply) => echo_reply(&request, &reply.payload),
                    Err(PingError::TimedOut) => None,
                    Err(error) => {
                        tracing::debug!(%error, "a ping failed");
                        icmp_error(&request, IcmpErrorKind::AdministrativelyProhibited)
                    }
                },
                Err(error) => {
                    tracing::debug!(%error, "the destination of a ping is not known");
                    icmp_error(&request, IcmpErrorKind::HostUnreachable)
                }
            };
            if let (Some(answer), Some(client)) = (answer, client)
                && let Err(error) = raw.send(&answer, client)
            {
                tracing::debug!(%error, "the reply to a ping was lost");
            }
        });
    }
}

/// The ICMP type of an echo request (RFC 792).
const ECHO_REQUEST: u8 = 8;
/// The `ICMPv6` type of an echo request (RFC 4443).
const ECHO_REQUEST_V6: u8 = 128;
