// SPDX-License-Identifier: Apache-2.0
//! Parses the packets that a sandbox sent, and builds those that it receives instead.
//!
//! Pure, without I/O. The bytes come from a sandbox: parsing never panics and never allocates by a
//! length field. What is built is a whole IP packet with its checksums, for a raw socket. Layouts:
//! RFC 791, 792, 768, 8200, 4443, 9293.

mod checksum;
mod icmp;
mod parse;
mod write;

use std::net::{IpAddr, SocketAddr};

pub use icmp::{IcmpErrorKind, echo_reply, icmp_error};
pub use parse::{EchoFields, ParsedPacket, TcpFields, TcpFlags, TransportFields};

use terok_clearance::Protocol;

/// Returns the packet of a held SYN with correct checksums: the copy of the packet log has a
/// partial one, because the sender leaves it to its network device.
///
/// `None` for what is not a whole SYN.
pub fn replay_syn(copy: &[u8]) -> Option<Vec<u8>> {
    let packet = ParsedPacket::parse(copy)?;
    let TransportFields::Tcp(tcp) = packet.transport else {
        return None;
    };
    let unusual = packet.is_fragment || packet.is_truncated || packet.has_extension_headers;
    if unusual || !tcp.flags.is_syn() {
        return None;
    }
    let (header, segment) = packet.bytes.split_at_checked(packet.transport_offset)?;
    let mut header = header.to_vec();
    write::set_ipv4_checksum(&mut header);
    let mut segment = segment.to_vec();
    write::set_checksum(
        &mut segment,
        write::TCP_CHECKSUM_OFFSET,
        (packet.source, packet.destination),
        Protocol::TCP,
    )?;
    header.append(&mut segment);
    Some(header)
}

/// Returns the reset that refuses a TCP segment, as a host without a listener sends it (RFC 9293
/// section 3.10.7.1). Data in a SYN (TCP fast open) is acknowledged too.
///
/// `None` for another protocol, and for a reset: it is never answered.
pub fn reset_for(packet: &ParsedPacket<'_>) -> Option<Vec<u8>> {
    let TransportFields::Tcp(tcp) = &packet.transport else {
        return None;
    };
    if tcp.flags.rst {
        return None;
    }
    let (sequence, acknowledgement, flags) = if tcp.flags.ack {
        (tcp.acknowledgement, 0, write::RST)
    } else {
        let payload = u32::try_from(tcp.payload.len()).ok()?;
        let counted = u32::from(tcp.flags.syn).wrapping_add(u32::from(tcp.flags.fin));
        let next = tcp.sequence.wrapping_add(payload).wrapping_add(counted);
        (0, next, write::RST | write::ACK)
    };
    let mut segment = Vec::with_capacity(write::TCP_HEADER_BYTES);
    segment.extend(tcp.destination_port.to_be_bytes());
    segment.extend(tcp.source_port.to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledgement.to_be_bytes());
    // Header length in words, flags, no window, checksum to come, no urgent pointer.
    segment.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
    let route = (packet.destination, packet.source);
    write::set_checksum(
        &mut segment,
        write::TCP_CHECKSUM_OFFSET,
        route,
        Protocol::TCP,
    )?;
    write::ip_packet(route, Protocol::TCP, 0, &segment)
}

/// Returns a UDP datagram.
///
/// `None` if the addresses are of different families or the payload is too long for one datagram.
/// A raw socket sends it only if the MTU of its way is as large as the packet.
pub fn udp_datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(payload.len().checked_add(write::UDP_HEADER_BYTES)?).ok()?;
    let mut segment = Vec::with_capacity(usize::from(length));
    segment.extend(from.port().to_be_bytes());
    segment.extend(to.port().to_be_bytes());
    segment.extend(length.to_be_bytes());
    segment.extend([0, 0]);
    segment.extend_from_slice(payload);
    let route: (IpAddr, IpAddr) = (from.ip(), to.ip());
    write::set_checksum(
        &mut segment,
        write::UDP_CHECKSUM_OFFSET,
        route,
        Protocol::UDP,
    )?;
    write::ip_packet(route, Protocol::UDP, 0, &segment)
}

#[cfg(test)]
mod tests;
