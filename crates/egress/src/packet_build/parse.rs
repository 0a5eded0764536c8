// SPDX-License-Identifier: Apache-2.0
//! Parses a whole IP packet, as the packet log copies it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use terok_clearance::Protocol;

pub(super) const IPV4_HEADER_BYTES: usize = 20;
pub(super) const IPV6_HEADER_BYTES: usize = 40;

/// The next header of an IPv6 fragment.
const IPV6_FRAGMENT: Protocol = Protocol(44);

/// An IP packet that a sandbox sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is independent of the others"
)]
pub struct ParsedPacket<'a> {
    /// The packet, without what follows its own length.
    pub bytes: &'a [u8],
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// The number of the protocol after the fixed header and the IPv4 options. With IPv6 extension
    /// headers, the number of the first one.
    pub protocol: Protocol,
    /// The offset of that protocol's header.
    pub transport_offset: usize,
    /// The IPv4 header has options.
    pub has_options: bool,
    /// An IPv6 extension header follows the fixed header.
    pub has_extension_headers: bool,
    /// The packet is a fragment, of either family.
    pub is_fragment: bool,
    /// The packet is longer than the copy.
    pub is_truncated: bool,
    /// The fields of the protocol's header.
    pub transport: TransportFields,
}

/// Fields of a transport header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportFields {
    /// TCP.
    Tcp(TcpFields),
    /// UDP: ports, and the range of the payload in the packet.
    Udp {
        /// The source port.
        source_port: u16,
        /// The destination port.
        destination_port: u16,
        /// The payload, as the UDP header gives its length.
        payload: Range<usize>,
    },
    /// ICMP or `ICMPv6`.
    Icmp {
        /// The message type.
        kind: u8,
        /// The code.
        code: u8,
        /// The fields of an echo request or reply.
        echo: Option<EchoFields>,
    },
    /// Another protocol, an IPv6 extension header, or a later fragment.
    Other,
    /// The header is incomplete or contradicts itself.
    Malformed,
}

/// Fields of a TCP header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpFields {
    /// The source port.
    pub source_port: u16,
    /// The destination port.
    pub destination_port: u16,
    /// The sequence number; of a SYN, the initial one.
    pub sequence: u32,
    /// The acknowledgement number.
    pub acknowledgement: u32,
    /// The flags.
    pub flags: TcpFlags,
    /// The range of the payload in the packet.
    pub payload: Range<usize>,
}

/// TCP flags that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "these are the bits of the header"
)]
pub struct TcpFlags {
    /// No more data from the sender.
    pub fin: bool,
    /// The sequence number is the initial one.
    pub syn: bool,
    /// The connection is reset.
    pub rst: bool,
    /// The acknowledgement number is valid.
    pub ack: bool,
}

impl TcpFlags {
    /// Returns `true` for the first segment of a connection.
    pub fn is_syn(self) -> bool {
        self.syn && !self.ack && !self.rst
    }

    fn from_bits(bits: u8) -> Self {
        Self {
            fin: bits & 0x01 != 0,
            syn: bits & 0x02 != 0,
            rst: bits & 0x04 != 0,
            ack: bits & 0x10 != 0,
        }
    }
}

/// Fields of an echo message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EchoFields {
    /// The identifier; unprivileged sockets put their port here.
    pub identifier: u16,
    /// The sequence number.
    pub sequence: u16,
    /// The range of the payload in the packet.
    pub payload: Range<usize>,
}

impl<'a> ParsedPacket<'a> {
    /// Parses a packet; `None` without a complete IPv4 or IPv6 header.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => Self::parse_v4(bytes),
            6 => Self::parse_v6(bytes),
            _ => None,
        }
    }

    fn parse_v4(bytes: &'a [u8]) -> Option<Self> {
        let header: &[u8; IPV4_HEADER_BYTES] = bytes.first_chunk()?;
        let [
            first,
            _,
            total_high,
            total_low,
            _,
            _,
            fragment_high,
            fragment_low,
            ..,
        ] = *header;
        let [.., _, number, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = *header;
        let header_bytes = usize::from(first & 0x0f).checked_mul(4)?;
        let total = usize::from(u16::from_be_bytes([total_high, total_low]));
        if header_bytes < IPV4_HEADER_BYTES || total < header_bytes || bytes.len() < header_bytes {
            return None;
        }
        let fragment = u16::from_be_bytes([fragment_high, fragment_low]);
        let mut packet = Self {
            bytes: bytes.get(..total).unwrap_or(bytes),
            source: Ipv4Addr::new(s0, s1, s2, s3).into(),
            destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
            protocol: Protocol(number),
            transport_offset: header_bytes,
            has_options: header_bytes > IPV4_HEADER_BYTES,
            has_extension_headers: false,
            // The bit "more fragments", or an offset.
            is_fragment: fragment & 0x3fff != 0,
            is_truncated: total > bytes.len(),
            transport: TransportFields::Other,
        };
        let offset = fragment & 0x1fff;
        if offset == 0 {
            packet.transport = packet.parse_transport();
        }
        Some(packet)
    }

    fn parse_v6(bytes: &'a [u8]) -> Option<Self> {
        let (header, _) = bytes.split_first_chunk::<IPV6_HEADER_BYTES>()?;
        let [_, _, _, _, length_high, length_low, next_header, ..] = *header;
        let (source, rest) = header.get(8..)?.split_first_chunk::<16>()?;
        let destination = rest.first_chunk::<16>()?;
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        let total = length.checked_add(IPV6_HEADER_BYTES)?;
        let protocol = Protocol(next_header);
        let mut packet = Self {
            bytes: bytes.get(..total).unwrap_or(bytes),
            source: Ipv6Addr::from(*source).into(),
            destination: Ipv6Addr::from(*destination).into(),
            protocol,
            transport_offset: IPV6_HEADER_BYTES,
            has_options: false,
            has_extension_headers: is_extension_header(protocol),
            is_fragment: protocol == IPV6_FRAGMENT,
            is_truncated: total > bytes.len(),
            transport: TransportFields::Other,
        };
        packet.transport = packet.parse_transport();
        Some(packet)
    }

    fn parse_transport(&self) -> TransportFields {
        let fields = match (self.protocol, self.source) {
            (Protocol::TCP, _) => self.parse_tcp(),
            (Protocol::UDP, _) => self.parse_udp(),
            (Protocol::ICMP, IpAddr::V4(_)) => self.parse_icmp(&[8, 0]),
            (Protocol::ICMPV6, IpAddr::V6(_)) => self.parse_icmp(&[128, 129]),
            _ => return TransportFields::Other,
        };
        fields.unwrap_or(TransportFields::Malformed)
    }

    fn parse_tcp(&self) -> Option<TransportFields> {
        let segment = self.bytes.get(self.transport_offset..)?;
        let [
            s0,
            s1,
            d0,
            d1,
            q0,
            q1,
            q2,
            q3,
            a0,
            a1,
            a2,
            a3,
            offset,
            flags,
            _,
            _,
            _,
            _,
            _,
            _,
        ] = *segment.first_chunk()?;
        let header_bytes = usize::from(offset >> 4).checked_mul(4)?;
        if header_bytes < super::write::TCP_HEADER_BYTES || header_bytes > segment.len() {
            return None;
        }
        Some(TransportFields::Tcp(TcpFields {
            source_port: u16::from_be_bytes([s0, s1]),
            destination_port: u16::from_be_bytes([d0, d1]),
            sequence: u32::from_be_bytes([q0, q1, q2, q3]),
            acknowledgement: u32::from_be_bytes([a0, a1, a2, a3]),
            flags: TcpFlags::from_bits(flags),
            payload: self.transport_offset.checked_add(header_bytes)?..self.bytes.len(),
        }))
    }

    fn parse_udp(&self) -> Option<TransportFields> {
        let segment = self.bytes.get(self.transport_offset..)?;
        let [s0, s1, d0, d1, l0, l1, _, _] = *segment.first_chunk()?;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        // A first fragment or a truncated copy holds a part only.
        let incomplete = self.is_fragment || self.is_truncated;
        if length < super::write::UDP_HEADER_BYTES || (length > segment.len() && !incomplete) {
            return None;
        }
        let start = self
            .transport_offset
            .checked_add(super::write::UDP_HEADER_BYTES)?;
        let end = self
            .transport_offset
            .checked_add(length)?
            .min(self.bytes.len());
        Some(TransportFields::Udp {
            source_port: u16::from_be_bytes([s0, s1]),
            destination_port: u16::from_be_bytes([d0, d1]),
            payload: start..end,
        })
    }

    fn parse_icmp(&self, echo_kinds: &[u8]) -> Option<TransportFields> {
        let segment = self.bytes.get(self.transport_offset..)?;
        let [kind, code, _, _, i0, i1, s0, s1] = *segment.first_chunk()?;
        let start = self.transport_offset.checked_add(8)?;
        let echo = (code == 0 && echo_kinds.contains(&kind)).then(|| EchoFields {
            identifier: u16::from_be_bytes([i0, i1]),
            sequence: u16::from_be_bytes([s0, s1]),
            payload: start..self.bytes.len(),
        });
        Some(TransportFields::Icmp { kind, code, echo })
    }
}

/// Returns `true` for the extension headers of RFC 8200 and of IANA's registry.
fn is_extension_header(next_header: Protocol) -> bool {
    matches!(
        next_header.0,
        0 | 43 | 44 | 50 | 51 | 60 | 135 | 139 | 140 | 253 | 254
    )
}
