// SPDX-License-Identifier: Apache-2.0
//! Transactions and dumps over a netlink socket.
//!
//! The kernel executes a request before `send` returns and has queued the reply by then. Nothing
//! here waits: a missing reply is an error.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recvfrom, send, socket_with,
};

use super::attribute::{AttributeBuilder, NetlinkAttribute, find_attribute};
use super::attribute_kind;
use super::encode::{NftMessage, NftMessageKind};

/// The kernel did not execute a request.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The request could not be sent.
    #[error("the request could not be sent")]
    Send(#[source] io::Error),
    /// The reply could not be read.
    #[error("the reply could not be read")]
    Receive(#[source] io::Error),
    /// The kernel refused the request without changing anything.
    #[error("the kernel refused message {message} of the request")]
    Refused {
        /// The index of the refused message; 0 also stands for the whole transaction.
        message: usize,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// The reply was lost or unreadable: the outcome is unknown.
    #[error("the kernel's reply was lost")]
    ReplyLost,
    /// The listed objects changed during every attempt.
    #[error("the ruleset kept changing while it was listed")]
    DumpInterrupted,
}

impl NetlinkError {
    /// Returns the kernel's error number of a refusal.
    pub(crate) fn refused_errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { source, .. } => Errno::from_io_error(source),
            Self::Send(_) | Self::Receive(_) | Self::ReplyLost | Self::DumpInterrupted => None,
        }
    }
}

/// A socket to nftables in one network namespace.
pub(crate) struct NftSocket {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl fmt::Debug for NftSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NftSocket").field(&self.socket).finish()
    }
}

/// The attributes of one message of a reply.
pub(crate) struct NftReply {
    attributes: Vec<u8>,
}

impl NftReply {
    pub(crate) fn find(&self, kind: u16) -> Option<NetlinkAttribute<'_>> {
        find_attribute(&self.attributes, kind)
    }

    pub(crate) fn text(&self, kind: u16) -> Option<&str> {
        self.find(kind)?.text()
    }
}

const NLMSG_HEADER_BYTES: usize = 16;
const NFGENMSG_BYTES: usize = 4;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFTABLES_SUBSYSTEM: u16 = 10;
const FAMILY_INET: u8 = 1;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// Maximum attempts of a dump that the kernel interrupts because of changes.
const MAX_DUMP_ATTEMPTS: usize = 16;

/// Opens a netlink socket to nftables in the caller's network namespace.
pub fn open_nftables_socket() -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(NETFILTER),
    )?;
    Ok(socket)
}

impl NftSocket {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            sequence: 0,
            // The kernel fills up to 32 KiB at once; no message is longer.
            buffer: vec![0; 65_536],
        }
    }

    /// Executes all of `messages` or none; with a generation, only if it is still current.
    pub(crate) fn commit_transaction(
        &mut self,
        messages: &[NftMessage],
        generation: Option<u32>,
    ) -> Result<(), NetlinkError> {
        let Some(last) = messages.len().checked_sub(1) else {
            return Ok(());
        };
        self.discard_stale_replies();
        let first = self.reserve_sequences(messages.len().saturating_add(2));
        self.send(&encode_transaction(messages, generation, first))?;
        self.read_transaction_result(first, sequence_at(first, last.saturating_add(1)))
    }

    /// Reads the replies of a transaction from its first to its last message.
    fn read_transaction_result(&mut self, begin: u32, last: u32) -> Result<(), NetlinkError> {
        let mut refused = None;
        loop {
            let length = self.receive()?;
            for message in parse_frames(self.buffer.get(..length).unwrap_or_default()) {
                let NetlinkFrame {
                    kind,
                    sequence,
                    payload,
                    ..
                } = message?;
                let at = sequence.wrapping_sub(begin);
                if kind != NLMSG_ERROR || at > last.wrapping_sub(begin) {
                    continue;
                }
                let code = parse_error_code(payload)?;
                if code != 0 && refused.is_none() {
                    refused = Some(NetlinkError::Refused {
                        message: usize::try_from(at.saturating_sub(1)).unwrap_or(usize::MAX),
                        source: io::Error::from_raw_os_error(code),
                    });
                }
                if sequence == last || (sequence == begin && code != 0) {
                    return refused.map_or(Ok(()), Err);
                }
            }
        }
    }

    /// Returns all objects of a kind as a consistent snapshot.
    pub(crate) fn dump(
        &mut self,
        kind: NftMessageKind,
        attributes: AttributeBuilder,
    ) -> Result<Vec<NftReply>, NetlinkError> {
        let attributes = attributes.into_bytes();
        for _ in 0..MAX_DUMP_ATTEMPTS {
            match self.dump_once(kind, &attributes) {
                Err(NetlinkError::DumpInterrupted) => {}
                other => return other,
            }
        }
        Err(NetlinkError::DumpInterrupted)
    }

    fn dump_once(
        &mut self,
        kind: NftMessageKind,
        attributes: &[u8],
    ) -> Result<Vec<NftReply>, NetlinkError> {
        self.discard_stale_replies();
        let expected = self.reserve_sequences(1);
        let mut bytes = Vec::with_capacity(64);
        write_frame(
            &mut bytes,
            message_type(kind),
            NLM_F_REQUEST | NLM_F_DUMP,
            expected,
            FAMILY_INET,
            attributes,
        );
        self.send(&bytes)?;
        let mut replies = Vec::new();
        loop {
            let length = self.receive()?;
            for message in parse_frames(self.buffer.get(..length).unwrap_or_default()) {
                let NetlinkFrame {
                    kind,
                    flags,
                    sequence,
                    payload,
                } = message?;
                if sequence != expected {
                    continue;
                }
                if flags & NLM_F_DUMP_INTR != 0 {
                    return Err(NetlinkError::DumpInterrupted);
                }
                match kind {
                    NLMSG_DONE => {
                        return match parse_error_code(payload)? {
                            0 => Ok(replies),
                            code => Err(refused_error(code)),
                        };
                    }
                    NLMSG_ERROR => match parse_error_code(payload)? {
                        code if code == Errno::INTR.raw_os_error() => {
                            return Err(NetlinkError::DumpInterrupted);
                        }
                        code => return Err(refused_error(code)),
                    },
                    _ => replies.push(parse_reply(payload)?),
                }
            }
        }
    }

    /// Returns one object, identified by name.
    pub(crate) fn request_one(
        &mut self,
        kind: NftMessageKind,
        attributes: AttributeBuilder,
    ) -> Result<NftReply, NetlinkError> {
        self.discard_stale_replies();
        let expected = self.reserve_sequences(1);
        let mut bytes = Vec::with_capacity(64);
        write_frame(
            &mut bytes,
            message_type(kind),
            NLM_F_REQUEST,
            expected,
            FAMILY_INET,
            &attributes.into_bytes(),
        );
        self.send(&bytes)?;
        loop {
            let length = self.receive()?;
            for message in parse_frames(self.buffer.get(..length).unwrap_or_default()) {
                let NetlinkFrame {
                    kind,
                    sequence,
                    payload,
                    ..
                } = message?;
                if sequence == expected {
                    return match kind {
                        NLMSG_ERROR => Err(refused_error(parse_error_code(payload)?)),
                        _ => parse_reply(payload),
                    };
                }
            }
        }
    }

    /// Returns the ruleset's generation; every transaction of any program changes it.
    pub(crate) fn read_generation(&mut self) -> Result<u32, NetlinkError> {
        self.request_one(NftMessageKind::GetGeneration, AttributeBuilder::default())?
            .find(attribute_kind::GENERATION_ID)
            .and_then(NetlinkAttribute::u32)
            .ok_or(NetlinkError::ReplyLost)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), NetlinkError> {
        loop {
            return match send(&self.socket, bytes, SendFlags::empty()) {
                Ok(sent) if sent == bytes.len() => Ok(()),
                Ok(_) => Err(NetlinkError::ReplyLost),
                Err(Errno::INTR) => continue,
                Err(error) => Err(NetlinkError::Send(error.into())),
            };
        }
    }

    /// Reads one datagram from the kernel and returns its length.
    fn receive(&mut self) -> Result<usize, NetlinkError> {
        loop {
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            let (_, length, from) = match recvfrom(&self.socket, self.buffer.as_mut_slice(), flags)
            {
                Ok(received) => received,
                Err(Errno::INTR) => continue,
                // The reply did not fit, or none is queued.
                Err(Errno::NOBUFS | Errno::AGAIN) => return Err(NetlinkError::ReplyLost),
                Err(error) => return Err(NetlinkError::Receive(error.into())),
            };
            let kernel = from
                .and_then(|from| SocketAddrNetlink::try_from(from).ok())
                .is_some_and(|from| from.pid() == 0);
            if !kernel {
                continue;
            }
            if length > self.buffer.len() {
                return Err(NetlinkError::ReplyLost);
            }
            return Ok(length);
        }
    }

    /// Discards queued replies of earlier, aborted requests.
    fn discard_stale_replies(&mut self) {
        let mut buffer = [0; 1];
        loop {
            match recvfrom(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::INTR | Errno::NOBUFS) => {}
                Err(_) => return,
            }
        }
    }

    fn reserve_sequences(&mut self, count: usize) -> u32 {
        let first = self.sequence.wrapping_add(1);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }
}

/// Encodes a transaction: messages between batch begin and batch end, numbered from `first`; the
/// last one requests an acknowledgement.
pub(crate) fn encode_transaction(
    messages: &[NftMessage],
    generation: Option<u32>,
    first: u32,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    let head = match generation {
        Some(generation) => {
            AttributeBuilder::default().u32(attribute_kind::GENERATION_ID, generation)
        }
        None => AttributeBuilder::default(),
    };
    let head = head.into_bytes();
    write_frame(&mut bytes, BATCH_BEGIN, NLM_F_REQUEST, first, 0, &head);
    for (at, message) in (1..).zip(messages) {
        // One acknowledgement covers the transaction; errors are reported in any case.
        let ack = if at == messages.len() { NLM_F_ACK } else { 0 };
        let flags = NLM_F_REQUEST | message.flags | ack;
        let (kind, sequence) = (message_type(message.kind), sequence_at(first, at));
        write_frame(
            &mut bytes,
            kind,
            flags,
            sequence,
            FAMILY_INET,
            &message.attributes,
        );
    }
    let end = sequence_at(first, messages.len().saturating_add(1));
    write_frame(&mut bytes, BATCH_END, NLM_F_REQUEST, end, 0, &[]);
    bytes
}

fn sequence_at(first: u32, at: usize) -> u32 {
    first.wrapping_add(u32::try_from(at).unwrap_or(u32::MAX))
}

fn refused_error(code: i32) -> NetlinkError {
    NetlinkError::Refused {
        message: 0,
        source: io::Error::from_raw_os_error(code),
    }
}

fn message_type(kind: NftMessageKind) -> u16 {
    (NFTABLES_SUBSYSTEM << 8) | u16::from(kind as u8)
}

fn write_frame(
    to: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    attributes: &[u8],
) {
    let length = NLMSG_HEADER_BYTES + NFGENMSG_BYTES + attributes.len();
    to.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(flags.to_ne_bytes());
    to.extend(sequence.to_ne_bytes());
    to.extend(0u32.to_ne_bytes());
    // The resource id of a batch is the subsystem.
    let resource = if family == 0 { NFTABLES_SUBSYSTEM } else { 0 };
    to.extend([family, 0]);
    to.extend(resource.to_be_bytes());
    to.extend(attributes);
    to.resize(to.len().next_multiple_of(4), 0);
}

struct NetlinkFrame<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

fn parse_frames(mut bytes: &[u8]) -> impl Iterator<Item = Result<NetlinkFrame<'_>, NetlinkError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let frame = parse_first_frame(bytes);
        bytes = match &frame {
            Some(frame) => {
                let length = frame
                    .payload
                    .len()
                    .saturating_add(NLMSG_HEADER_BYTES)
                    .next_multiple_of(4);
                bytes.get(length..).unwrap_or_default()
            }
            None => &[],
        };
        Some(frame.ok_or(NetlinkError::ReplyLost))
    })
}

fn parse_first_frame(bytes: &[u8]) -> Option<NetlinkFrame<'_>> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first_chunk::<2>()?;
    let (flags, rest) = rest.split_first_chunk::<2>()?;
    let (sequence, _) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
    Some(NetlinkFrame {
        kind: u16::from_ne_bytes(*kind),
        flags: u16::from_ne_bytes(*flags),
        sequence: u32::from_ne_bytes(*sequence),
        payload: bytes.get(NLMSG_HEADER_BYTES..length)?,
    })
}

/// Returns the positive error number at the start of a reply; 0 means success.
fn parse_error_code(payload: &[u8]) -> Result<i32, NetlinkError> {
    let (code, _) = payload
        .split_first_chunk::<4>()
        .ok_or(NetlinkError::ReplyLost)?;
    Ok(i32::from_ne_bytes(*code).saturating_neg())
}

fn parse_reply(payload: &[u8]) -> Result<NftReply, NetlinkError> {
    let attributes = payload
        .get(NFGENMSG_BYTES..)
        .ok_or(NetlinkError::ReplyLost)?
        .to_vec();
    Ok(NftReply { attributes })
}
