// SPDX-License-Identifier: Apache-2.0
//! Netlink messages and attributes: the encoding shared by rtnetlink, nftables and NFLOG.
//!
//! A message is `struct nlmsghdr`, a fixed header of its family, and attributes. Headers, lengths
//! and rtnetlink's values are in host byte order; netfilter's values are big-endian.

mod attribute;

pub use attribute::{AttributeBuilder, NetlinkAttribute, find_attribute, parse_attributes};

/// Message type: an error, or an acknowledgement if its code is 0.
pub const NLMSG_ERROR: u16 = 2;
/// Message type: the end of a multipart message.
pub const NLMSG_DONE: u16 = 3;

/// Flag of every request.
pub const NLM_F_REQUEST: u16 = 0x1;
/// Flag of a request: acknowledge it.
pub const NLM_F_ACK: u16 = 0x4;
/// Flag of a part of a dump: the listed objects changed meanwhile.
pub const NLM_F_DUMP_INTR: u16 = 0x10;
/// Flags of a request: list all objects.
pub const NLM_F_DUMP: u16 = 0x300;
/// Flag of a request: fail if the object exists.
pub const NLM_F_EXCL: u16 = 0x200;
/// Flag of a request: create the object.
pub const NLM_F_CREATE: u16 = 0x400;
/// Flag of a request: append to the end of a list.
pub const NLM_F_APPEND: u16 = 0x800;

const NLMSG_HEADER_BYTES: usize = 16;
/// Alignment of messages and attributes.
const ALIGNMENT: usize = 4;

/// The fields of `struct nlmsghdr` that a sender chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetlinkHeader {
    /// The message type.
    pub kind: u16,
    /// The flags, such as [`NLM_F_REQUEST`].
    pub flags: u16,
    /// The sequence number, repeated in replies.
    pub sequence: u32,
}

/// A parsed netlink message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetlinkMessage<'a> {
    /// The header.
    pub header: NetlinkHeader,
    /// The bytes after the header.
    pub payload: &'a [u8],
}

/// A netlink message is incomplete or has an invalid length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a netlink message is incomplete")]
pub struct IncompleteNetlinkMessage;

/// Appends a message to a datagram, with the fixed header of its family.
pub fn append_message(
    datagram: &mut Vec<u8>,
    header: NetlinkHeader,
    family_header: &[u8],
    attributes: &AttributeBuilder,
) {
    let attributes = attributes.as_bytes();
    let length = NLMSG_HEADER_BYTES
        .saturating_add(family_header.len())
        .saturating_add(attributes.len());
    datagram.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    datagram.extend(header.kind.to_ne_bytes());
    datagram.extend(header.flags.to_ne_bytes());
    datagram.extend(header.sequence.to_ne_bytes());
    datagram.extend(0_u32.to_ne_bytes()); // the port of the kernel
    datagram.extend(family_header);
    datagram.extend(attributes);
    datagram.resize(datagram.len().next_multiple_of(ALIGNMENT), 0);
}

/// Returns `struct nfgenmsg`, the header of netfilter's messages.
pub const fn netfilter_header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// Iterates over the messages of a datagram, up to the first incomplete one.
pub fn parse_messages(
    mut datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkMessage<'_>, IncompleteNetlinkMessage>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let Some((message, rest)) = split_first_message(datagram) else {
            datagram = &[];
            return Some(Err(IncompleteNetlinkMessage));
        };
        datagram = rest;
        Some(Ok(message))
    })
}

fn split_first_message(datagram: &[u8]) -> Option<(NetlinkMessage<'_>, &[u8])> {
    let (length, rest) = datagram.split_first_chunk()?;
    let (kind, rest) = rest.split_first_chunk()?;
    let (flags, rest) = rest.split_first_chunk()?;
    let (sequence, _) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
    let message = NetlinkMessage {
        header: NetlinkHeader {
            kind: u16::from_ne_bytes(*kind),
            flags: u16::from_ne_bytes(*flags),
            sequence: u32::from_ne_bytes(*sequence),
        },
        payload: datagram.get(NLMSG_HEADER_BYTES..length)?,
    };
    let rest = datagram
        .get(length.next_multiple_of(ALIGNMENT)..)
        .unwrap_or_default();
    Some((message, rest))
}

impl NetlinkMessage<'_> {
    /// Returns the positive errno of an [`NLMSG_ERROR`] or [`NLMSG_DONE`], 0 for success; `None` if
    /// the message is too short.
    pub fn error_code(&self) -> Option<i32> {
        let code = self.payload.first_chunk()?;
        Some(i32::from_ne_bytes(*code).saturating_neg())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, family_header: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let header = NetlinkHeader {
            kind,
            flags: NLM_F_REQUEST,
            sequence,
        };
        let attributes = AttributeBuilder::default();
        append_message(&mut bytes, header, family_header, &attributes);
        bytes
    }

    #[test]
    fn messages_survive_a_round_trip() {
        let mut datagram = message(NLMSG_DONE, 7, &[1, 2, 3, 4, 5]);
        datagram.extend(message(NLMSG_ERROR, 8, &(-13_i32).to_ne_bytes()));
        let all: Vec<_> = parse_messages(&datagram).map(Result::unwrap).collect();
        let [first, second] = all.as_slice() else {
            panic!("{all:?}")
        };
        let header = NetlinkHeader {
            kind: NLMSG_DONE,
            flags: NLM_F_REQUEST,
            sequence: 7,
        };
        assert_eq!(
            (first.header, first.payload),
            (header, &[1, 2, 3, 4, 5][..])
        );
        assert_eq!((second.header.sequence, second.error_code()), (8, Some(13)));
        assert_eq!(datagram.len(), 24 + 20, "the first one is padded");
    }

    #[test]
    fn truncated_and_mislabelled_messages_are_incomplete() {
        let whole = message(NLMSG_ERROR, 1, &[0; 4]);
        for length in 1..whole.len() {
            let mut found = parse_messages(&whole[..length]);
            assert_eq!(
                found.next(),
                Some(Err(IncompleteNetlinkMessage)),
                "{length} bytes"
            );
            assert_eq!(found.next(), None);
        }
        for length in [0_u32, 15, 21, u32::MAX] {
            let mut mislabelled = whole.clone();
            mislabelled[..4].copy_from_slice(&length.to_ne_bytes());
            let mut found = parse_messages(&mislabelled);
            assert_eq!(
                found.next(),
                Some(Err(IncompleteNetlinkMessage)),
                "a length of {length}"
            );
        }
        assert_eq!(parse_messages(&[]).count(), 0);
    }
}
