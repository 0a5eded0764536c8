// SPDX-License-Identifier: Apache-2.0
//! Writes IP headers and checksums.

use std::net::IpAddr;

use terok_clearance::Protocol;

use super::checksum::ChecksumSum;
use super::parse::{IPV4_HEADER_BYTES, IPV6_HEADER_BYTES};

pub(super) const TCP_HEADER_BYTES: usize = 20;
pub(super) const UDP_HEADER_BYTES: usize = 8;

/// Offsets of the checksums in their headers.
pub(super) const TCP_CHECKSUM_OFFSET: usize = 16;
pub(super) const UDP_CHECKSUM_OFFSET: usize = 6;
pub(super) const ICMP_CHECKSUM_OFFSET: usize = 2;
const IPV4_CHECKSUM_OFFSET: usize = 10;

/// TCP flags.
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

/// Hop limit of what is built.
const HOP_LIMIT: u8 = 64;

/// Returns a packet from `route.0` to `route.1`; `None` if the families differ or it is too long.
pub(super) fn ip_packet(
    route: (IpAddr, IpAddr),
    protocol: Protocol,
    type_of_service: u8,
    segment: &[u8],
) -> Option<Vec<u8>> {
    let mut packet = Vec::new();
    match route {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let total = u16::try_from(segment.len().checked_add(IPV4_HEADER_BYTES)?).ok()?;
            packet.reserve_exact(usize::from(total));
            packet.extend([0x45, type_of_service]);
            packet.extend(total.to_be_bytes());
            // No identification: the kernel gives one. No flags, no fragment offset.
            packet.extend([0, 0, 0, 0, HOP_LIMIT, protocol.0, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            set_ipv4_checksum(&mut packet);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let length = u16::try_from(segment.len()).ok()?;
            packet.reserve_exact(segment.len().checked_add(IPV6_HEADER_BYTES)?);
            packet.extend([0x60 | type_of_service >> 4, type_of_service << 4, 0, 0]);
            packet.extend(length.to_be_bytes());
            packet.extend([protocol.0, HOP_LIMIT]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
        }
        _ => return None,
    }
    packet.extend_from_slice(segment);
    Some(packet)
}

/// Sets the checksum of an IPv4 header; an IPv6 header has none.
pub(super) fn set_ipv4_checksum(header: &mut [u8]) {
    if header.first().is_some_and(|byte| byte >> 4 == 4) {
        put(header, IPV4_CHECKSUM_OFFSET, [0, 0]);
        let checksum = ChecksumSum::default().add(header).finish();
        put(header, IPV4_CHECKSUM_OFFSET, checksum.to_be_bytes());
    }
}

/// Sets the checksum of a segment. `None` if the families differ.
pub(super) fn set_checksum(
    segment: &mut [u8],
    offset: usize,
    route: (IpAddr, IpAddr),
    protocol: Protocol,
) -> Option<()> {
    put(segment, offset, [0, 0]);
    let sum = ChecksumSum::default().add(segment);
    let sum = if protocol == Protocol::ICMP {
        sum
    } else {
        sum.add_pseudo_header(route, protocol, segment.len())?
    };
    let checksum = match sum.finish() {
        // Zero means "no checksum" in UDP (RFC 768).
        0 if protocol == Protocol::UDP => 0xffff,
        checksum => checksum,
    };
    put(segment, offset, checksum.to_be_bytes());
    Some(())
}

fn put(bytes: &mut [u8], offset: usize, value: [u8; 2]) {
    if let Some(field) = bytes
        .get_mut(offset..)
        .and_then(|rest| rest.first_chunk_mut())
    {
        *field = value;
    }
}
