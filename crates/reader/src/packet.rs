// SPDX-License-Identifier: Apache-2.0
//! Parses NFLOG messages: the log rule and the packet's destination.
//!
//! Pure. The attributes come from the kernel, but the packet inside comes from the sandbox and may
//! be truncated at any byte. Layouts: `linux/netfilter/nfnetlink_log.h`, RFC 791, RFC 8200.

mod ip;

use std::net::IpAddr;

use terok_clearance::Protocol;
use terok_clearance::nflog::{
    BLOCKED_PREFIX, DENIED_PREFIX, DNS_ANSWER_PREFIX, PRIVATE_RANGE_PREFIX,
};

/// One message of the kernel's packet log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NflogMessage<'a> {
    /// The log group.
    pub group: u16,
    /// The reason for logging, taken from the rule's prefix.
    pub reason: LogReason,
    /// The sequence number within the group, if numbering is enabled.
    pub sequence: Option<u32>,
    /// The user of the sending socket, in the reader's user namespace.
    pub uid: Option<u32>,
    /// The group of the sending socket, in the reader's user namespace.
    pub gid: Option<u32>,
    /// The netfilter hook (`NF_INET_LOCAL_OUT` is 3).
    pub hook: Option<u8>,
    /// The packet's timestamp in microseconds since the epoch; usually absent.
    pub timestamp_micros: Option<u64>,
    /// The packet; `None` without a complete IPv4 or IPv6 header.
    pub packet: Option<LoggedPacket<'a>>,
}

/// The reason for logging a packet, from the prefix of its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogReason {
    /// Neither allowed nor denied: a question.
    Blocked,
    /// Refused by a deny verdict or by the hard-deny floor.
    Denied,
    /// Sent to a private range.
    Private,
    /// A DNS answer on its way in.
    Answer,
    /// Logged by a foreign rule.
    Other,
}

/// Source and destination of a packet, from its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoggedPacket<'a> {
    /// The source address of the IP header.
    pub source: IpAddr,
    /// The destination address of the IP header.
    pub destination: IpAddr,
    /// The transport protocol behind IPv6 extension headers. If the headers are truncated or
    /// malformed, the number of the first unreadable one.
    pub protocol: Protocol,
    /// The source port; 0 for protocols without ports and for later fragments.
    pub source_port: u16,
    /// The destination port; 0 for protocols without ports and for later fragments.
    pub destination_port: u16,
    /// The logged part of the UDP or TCP payload; empty for other protocols.
    pub payload: &'a [u8],
}

impl LoggedPacket<'_> {
    /// Returns `true` for link-local multicast, background traffic without a question:
    /// `224.0.0.0/24` (RFC 5771 section 4) and `ff02::/16` (RFC 4291 section 2.7).
    pub fn is_link_local_multicast(&self) -> bool {
        match self.destination {
            IpAddr::V4(address) => matches!(address.octets(), [224, 0, 0, _]),
            IpAddr::V6(address) => matches!(address.octets(), [0xff, 0x02, ..]),
        }
    }
}

/// The bytes are not a logged packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NflogParseError {
    /// Another message type.
    #[error("message type {0:#x} is not a logged packet")]
    UnexpectedType(u16),
    /// The message or an attribute is truncated.
    #[error("the message is truncated")]
    Truncated,
}

/// `NFNL_SUBSYS_ULOG << 8 | NFULNL_MSG_PACKET`.
const PACKET_MESSAGE: u16 = 0x0400;
/// The upper bits of an attribute's type are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const TYPE_MASK: u16 = 0x3fff;

const PACKET_HEADER: u16 = 1;
const TIMESTAMP: u16 = 3;
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;
const UID: u16 = 11;
const SEQUENCE: u16 = 12;
const GID: u16 = 14;

impl<'a> NflogMessage<'a> {
    /// Parses one netlink message, including its header.
    pub fn parse(message: &'a [u8]) -> Result<Self, NflogParseError> {
        let (header, body) = message
            .split_first_chunk::<16>()
            .ok_or(NflogParseError::Truncated)?;
        let [_, _, _, _, k0, k1, ..] = *header;
        let kind = u16::from_ne_bytes([k0, k1]);
        if kind != PACKET_MESSAGE {
            return Err(NflogParseError::UnexpectedType(kind));
        }
        let (&[family, _version, g0, g1], attributes) = body
            .split_first_chunk::<4>()
            .ok_or(NflogParseError::Truncated)?;

        let mut rule = LogReason::Other;
        let (mut sequence, mut uid, mut gid, mut hook, mut at) = (None, None, None, None, None);
        let mut payload = None;
        for attribute in NflogAttributes(attributes) {
            let (kind, value) = attribute?;
            match kind {
                PACKET_HEADER => hook = value.get(2).copied(),
                TIMESTAMP => at = parse_timestamp(value),
                PAYLOAD => payload = Some(value),
                PREFIX => rule = LogReason::from_prefix(value),
                UID => uid = parse_u32(value),
                SEQUENCE => sequence = parse_u32(value),
                GID => gid = parse_u32(value),
                _ => {}
            }
        }
        Ok(Self {
            group: u16::from_be_bytes([g0, g1]),
            reason: rule,
            sequence,
            uid,
            gid,
            hook,
            timestamp_micros: at,
            packet: payload.and_then(|bytes| ip::parse_packet(family, bytes)),
        })
    }
}

impl LogReason {
    /// Recognises the project's own prefixes; a foreign prefix with `BLOCKED` in it counts as a
    /// question, as in the Python readers. The firewall sets prefixes, not the sandbox. The kernel
    /// truncates them to 127 bytes and appends a NUL.
    fn from_prefix(prefix: &[u8]) -> Self {
        let prefix = prefix.strip_suffix(b"\0").unwrap_or(prefix);
        [
            (BLOCKED_PREFIX, Self::Blocked),
            (DENIED_PREFIX, Self::Denied),
            (PRIVATE_RANGE_PREFIX, Self::Private),
            (DNS_ANSWER_PREFIX, Self::Answer),
        ]
        .into_iter()
        .find(|(known, _)| known.as_bytes() == prefix)
        .map_or_else(|| Self::from_foreign_prefix(prefix), |(_, rule)| rule)
    }

    fn from_foreign_prefix(prefix: &[u8]) -> Self {
        let blocked = b"BLOCKED";
        if prefix.windows(blocked.len()).any(|word| word == blocked) {
            Self::Blocked
        } else {
            Self::Other
        }
    }
}

/// Iterates over the netlink messages of a datagram, each with its header, up to the first with an
/// invalid length.
pub fn netlink_messages(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
        if length < 16 {
            return None;
        }
        let message = rest.get(..length)?;
        rest = rest.get(align_to_4(length)..).unwrap_or_default();
        Some(message)
    })
}

/// Returns the copied bytes of a logged packet, from one netlink message with its header.
pub fn packet_copy(message: &[u8]) -> Option<&[u8]> {
    let (header, body) = message.split_first_chunk::<16>()?;
    let [_, _, _, _, k0, k1, ..] = *header;
    if u16::from_ne_bytes([k0, k1]) != PACKET_MESSAGE {
        return None;
    }
    NflogAttributes(body.get(4..)?)
        .map_while(Result::ok)
        .find_map(|(kind, value)| (kind == PAYLOAD).then_some(value))
}

/// Netlink attributes: length, type, value, padding to four bytes.
struct NflogAttributes<'a>(&'a [u8]);

impl<'a> Iterator for NflogAttributes<'a> {
    type Item = Result<(u16, &'a [u8]), NflogParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some(&[l0, l1, k0, k1]) = self.0.first_chunk() else {
            self.0 = &[];
            return Some(Err(NflogParseError::Truncated));
        };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = self.0.get(4..length);
        self.0 = self.0.get(align_to_4(length)..).unwrap_or_default();
        if value.is_none() {
            self.0 = &[];
        }
        let kind = u16::from_ne_bytes([k0, k1]) & TYPE_MASK;
        Some(
            value
                .map(|value| (kind, value))
                .ok_or(NflogParseError::Truncated),
        )
    }
}

const fn align_to_4(length: usize) -> usize {
    length.saturating_add(3) & !3
}

fn parse_u32(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Parses seconds and microseconds, 64 bits each.
fn parse_timestamp(value: &[u8]) -> Option<u64> {
    let (seconds, rest) = value.split_first_chunk::<8>()?;
    let micros = rest.first_chunk::<8>()?;
    u64::from_be_bytes(*seconds)
        .checked_mul(1_000_000)?
        .checked_add(u64::from_be_bytes(*micros))
}

#[cfg(test)]
mod tests;
