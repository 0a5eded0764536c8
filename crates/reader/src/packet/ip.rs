// SPDX-License-Identifier: Apache-2.0
//! IP and transport headers, read the way nftables matches them.
//!
//! What is shown must be what a set element then matches: so the address is that of the IP
//! header (a routing header's is not), and IPv6's extension headers are walked as the kernel's
//! `ipv6_find_hdr` does, authentication headers included, while IPv4's is a protocol of its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use terok_clearance::Protocol;

use super::LoggedPacket;

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`, the family that the kernel gives with a logged packet.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// Reads a packet from its first header on; `None` if there is no whole IP header of `family`.
pub(super) fn parse_packet(family: u8, bytes: &[u8]) -> Option<LoggedPacket<'_>> {
    let version = bytes.first()? >> 4;
    match (family, version) {
        (IPV4, 4) => parse_ipv4(bytes),
        (IPV6, 6) => parse_ipv6(bytes),
        _ => None,
    }
}

fn parse_ipv4(bytes: &[u8]) -> Option<LoggedPacket<'_>> {
    let header = bytes.first_chunk::<20>()?;
    let &[first, _, _, _, _, _, f0, f1, _, protocol, _, _, ..] = header;
    let &[.., s0, s1, s2, s3, d0, d1, d2, d3] = header;
    // The header's length is in words of four bytes, options included: at most 60 bytes.
    let length = usize::from(first & 0x0f)
        .checked_mul(4)
        .filter(|l| *l >= 20)?;
    let offset = u16::from_be_bytes([f0, f1]) & 0x1fff;
    let rest = bytes.get(length..).unwrap_or_default();
    let transport = if offset == 0 { rest } else { &[] };
    let ends = TransportHeader::parse(protocol, transport);
    Some(LoggedPacket {
        source: Ipv4Addr::new(s0, s1, s2, s3).into(),
        destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
        protocol: Protocol(protocol),
        source_port: ends.source_port,
        destination_port: ends.destination_port,
        payload: ends.payload,
    })
}

fn parse_ipv6(bytes: &[u8]) -> Option<LoggedPacket<'_>> {
    let (&[_, _, _, _, _, _, next, _], rest) = bytes.split_first_chunk::<8>()?;
    let (source, rest) = rest.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    let (protocol, transport) = skip_extensions(next, rest);
    let ends = TransportHeader::parse(protocol, transport);
    Some(LoggedPacket {
        source: Ipv6Addr::from(*source).into(),
        destination: Ipv6Addr::from(*destination).into(),
        protocol: Protocol(protocol),
        source_port: ends.source_port,
        destination_port: ends.destination_port,
        payload: ends.payload,
    })
}

/// Walks the extension headers; each is at least eight bytes, so the packet's length is the bound.
///
/// Returns the transport protocol and what belongs to it: nothing, if this is not the first
/// fragment, or if the chain is cut, when the protocol is that of the header that is missing.
fn skip_extensions(mut next: u8, mut rest: &[u8]) -> (u8, &[u8]) {
    while matches!(
        next,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    ) {
        let Some(&[following, length, f0, f1]) = rest.first_chunk() else {
            return (next, &[]);
        };
        let length = usize::from(length);
        let length = match next {
            FRAGMENT => 8,
            AUTHENTICATION => length.saturating_add(2).saturating_mul(4),
            _ => length.saturating_add(1).saturating_mul(8),
        };
        let Some(beyond) = rest.get(length..) else {
            return (next, &[]);
        };
        let later_fragment = next == FRAGMENT && u16::from_be_bytes([f0, f1]) & 0xfff8 != 0;
        (next, rest) = (following, beyond);
        if later_fragment {
            return (next, &[]);
        }
    }
    (next, rest)
}

/// The ends of a transport header; zeros and nothing where there is none.
#[derive(Default)]
struct TransportHeader<'a> {
    source_port: u16,
    destination_port: u16,
    payload: &'a [u8],
}

impl<'a> TransportHeader<'a> {
    fn parse(protocol: u8, bytes: &'a [u8]) -> Self {
        if !matches!(protocol, TCP | UDP | DCCP | SCTP | UDP_LITE) {
            return Self::default();
        }
        let Some(&[s0, s1, d0, d1]) = bytes.first_chunk() else {
            return Self::default();
        };
        let start = match protocol {
            UDP => Some(8),
            // The header's length is in the upper half of byte 12, in words of four bytes.
            TCP => bytes
                .get(12)
                .and_then(|offset| usize::from(offset >> 4).checked_mul(4))
                .filter(|length| *length >= 20),
            _ => None,
        };
        Self {
            source_port: u16::from_be_bytes([s0, s1]),
            destination_port: u16::from_be_bytes([d0, d1]),
            payload: start
                .and_then(|start| bytes.get(start..))
                .unwrap_or_default(),
        }
    }
}
