// SPDX-License-Identifier: Apache-2.0
//! Parses IP and transport headers in the way nftables matches them.
//!
//! The displayed destination must be the one matched by a set element later. The address is that of
//! the IP header, not of a routing header. IPv6 extension headers are walked like the kernel's
//! `ipv6_find_hdr`, including authentication headers, while IPv4's is a protocol of its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use terok_clearance::Protocol;

use super::LoggedPacket;

/// `NFPROTO_IPV4` and `NFPROTO_IPV6`, the kernel's families of logged packets.
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

/// Parses a packet from its first header; `None` without a complete IP header of `family`.
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
    // The header length counts words of four bytes, options included: at most 60 bytes.
    let length = usize::from(first & 0x0f)
        .checked_mul(4)
        .filter(|l| *l >= 20)?;
    let offset = u16::from_be_bytes([f0, f1]) & 0x1fff;
    let rest = bytes.get(length..).unwrap_or_default();
    let transport = if offset == 0 { rest } else { &[] };
    let header = TransportHeader::parse(protocol, transport);
    Some(LoggedPacket {
        source: Ipv4Addr::new(s0, s1, s2, s3).into(),
        destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
        protocol: Protocol(protocol),
        source_port: header.source_port,
        destination_port: header.destination_port,
        payload: header.payload,
    })
}

fn parse_ipv6(bytes: &[u8]) -> Option<LoggedPacket<'_>> {
    let (&[_, _, _, _, _, _, next, _], rest) = bytes.split_first_chunk::<8>()?;
    let (source, rest) = rest.split_first_chunk::<16>()?;
    let (destination, rest) = rest.split_first_chunk::<16>()?;
    let (protocol, transport) = skip_extensions(next, rest);
    let header = TransportHeader::parse(protocol, transport);
    Some(LoggedPacket {
        source: Ipv6Addr::from(*source).into(),
        destination: Ipv6Addr::from(*destination).into(),
        protocol: Protocol(protocol),
        source_port: header.source_port,
        destination_port: header.destination_port,
        payload: header.payload,
    })
}

/// Walks the extension headers; each has at least eight bytes, so the packet's length is the bound.
///
/// Returns the transport protocol and its bytes. The bytes are empty for later fragments and for a
/// truncated chain, whose protocol is that of the missing header.
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

/// The parsed fields of a transport header; zero and empty if it is missing.
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
            // The header length is in the upper half of byte 12, in words of four bytes.
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
