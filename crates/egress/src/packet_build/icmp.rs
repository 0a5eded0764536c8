// SPDX-License-Identifier: Apache-2.0
//! Builds ICMP errors and echo replies of both families.

use std::net::IpAddr;

use terok_clearance::Protocol;

use super::parse::{ParsedPacket, TransportFields};
use super::write;

/// Maximum length of an ICMP error: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 (c).
const IPV4_ERROR_BYTES: usize = 576;
const IPV6_ERROR_BYTES: usize = 1280;

/// Lengths of the headers before the embedded packet.
const IPV4_ERROR_HEADER_BYTES: usize = 28;
const IPV6_ERROR_HEADER_BYTES: usize = 48;

/// Class of service of IPv4 errors (RFC 1812 section 4.3.2.5), as Linux sends them.
const INTERNETWORK_CONTROL: u8 = 0xc0;

/// The error that an ICMP message reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IcmpErrorKind {
    /// Nothing listens on the port.
    PortUnreachable,
    /// The host does not answer.
    HostUnreachable,
    /// No route leads to the network.
    NetworkUnreachable,
    /// A firewall forbids the packet.
    AdministrativelyProhibited,
    /// The host does not speak the protocol.
    ProtocolUnreachable,
}

impl IcmpErrorKind {
    /// The type, the code and the second word of the IPv4 header.
    fn v4_fields(self) -> (u8, u8, u32) {
        let code = match self {
            Self::NetworkUnreachable => 0,
            Self::HostUnreachable => 1,
            Self::ProtocolUnreachable => 2,
            Self::PortUnreachable => 3,
            Self::AdministrativelyProhibited => 13,
        };
        (3, code, 0)
    }

    /// The type, the code and the second word of the IPv6 header.
    fn v6_fields(self) -> (u8, u8, u32) {
        match self {
            Self::NetworkUnreachable => (1, 0, 0),
            Self::AdministrativelyProhibited => (1, 1, 0),
            Self::HostUnreachable => (1, 3, 0),
            Self::PortUnreachable => (1, 4, 0),
            // Parameter problem, unrecognised next header; the pointer is that field's offset.
            Self::ProtocolUnreachable => (4, 1, 6),
        }
    }
}

/// Returns the ICMP error for a packet, from the packet's destination to its source.
///
/// `None` where the standards forbid an error (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)):
/// for ICMP errors, later fragments, and multicast, broadcast or unspecified addresses.
pub fn icmp_error(original: &[u8], kind: IcmpErrorKind) -> Option<Vec<u8>> {
    let packet = ParsedPacket::parse(original)?;
    if !may_be_reported(&packet) {
        return None;
    }
    let (protocol, limit, service, (message, code, word)) = match packet.source {
        IpAddr::V4(_) => (
            Protocol::ICMP,
            IPV4_ERROR_BYTES.checked_sub(IPV4_ERROR_HEADER_BYTES)?,
            INTERNETWORK_CONTROL,
            kind.v4_fields(),
        ),
        IpAddr::V6(_) => (
            Protocol::ICMPV6,
            IPV6_ERROR_BYTES.checked_sub(IPV6_ERROR_HEADER_BYTES)?,
            0,
            kind.v6_fields(),
        ),
    };
    let embedded = packet.bytes.get(..limit).unwrap_or(packet.bytes);
    let mut segment = vec![message, code, 0, 0];
    segment.extend(word.to_be_bytes());
    segment.extend_from_slice(embedded);
    let route = (packet.destination, packet.source);
    write::set_checksum(&mut segment, write::ICMP_CHECKSUM_OFFSET, route, protocol)?;
    write::ip_packet(route, protocol, service, &segment)
}

fn may_be_reported(packet: &ParsedPacket<'_>) -> bool {
    let single = |address: IpAddr| {
        !address.is_multicast()
            && !address.is_unspecified()
            && !matches!(address, IpAddr::V4(address) if address.is_broadcast())
    };
    let is_icmp_error = match (&packet.transport, packet.source) {
        (TransportFields::Icmp { kind, .. }, IpAddr::V4(_)) => matches!(kind, 3 | 4 | 5 | 11 | 12),
        // Errors, and redirects (RFC 4443 section 2.4 (e.2)).
        (TransportFields::Icmp { kind, .. }, IpAddr::V6(_)) => *kind < 128 || *kind == 137,
        // A type that cannot be read may be that of an error.
        (TransportFields::Malformed, _) => {
            matches!(packet.protocol, Protocol::ICMP | Protocol::ICMPV6)
        }
        _ => false,
    };
    single(packet.source) && single(packet.destination) && !is_icmp_error && !packet.is_later()
}

impl ParsedPacket<'_> {
    /// Returns `true` for a fragment that does not hold the transport header. The offset of an
    /// IPv6 fragment stands behind the fixed header.
    fn is_later(&self) -> bool {
        if !self.is_fragment {
            return false;
        }
        let at = if self.source.is_ipv4() {
            6
        } else {
            self.transport_offset.saturating_add(2)
        };
        let field = self.bytes.get(at..).and_then(|rest| rest.first_chunk());
        let mask = if self.source.is_ipv4() {
            0x1fff
        } else {
            0xfff8
        };
        field.is_none_or(|field| u16::from_be_bytes(*field) & mask != 0)
    }
}

/// Returns the echo reply for an echo request, with `payload` as its data.
///
/// `None` for what is not an unfragmented echo request, or if the payload is too long.
pub fn echo_reply(request: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let packet = ParsedPacket::parse(request)?;
    let TransportFields::Icmp {
        kind,
        echo: Some(echo),
        ..
    } = &packet.transport
    else {
        return None;
    };
    let (protocol, reply) = match (kind, packet.source) {
        (8, IpAddr::V4(_)) => (Protocol::ICMP, 0),
        (128, IpAddr::V6(_)) => (Protocol::ICMPV6, 129),
        _ => return None,
    };
    if packet.is_fragment {
        return None;
    }
    let mut segment = vec![reply, 0, 0, 0];
    segment.extend(echo.identifier.to_be_bytes());
    segment.extend(echo.sequence.to_be_bytes());
    segment.extend_from_slice(payload);
    let route = (packet.destination, packet.source);
    write::set_checksum(&mut segment, write::ICMP_CHECKSUM_OFFSET, route, protocol)?;
    write::ip_packet(route, protocol, 0, &segment)
}
