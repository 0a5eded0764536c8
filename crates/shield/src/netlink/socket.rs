// SPDX-License-Identifier: Apache-2.0
//! Transactions and listings over one netlink socket.
//!
//! The kernel carries out a request before `send` returns and has queued the answer by then, so
//! nothing here waits: no answer in the queue is an error, not a reason to be patient.

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

/// Why the kernel did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The request could not be sent.
    #[error("the request could not be sent")]
    Send(#[source] io::Error),
    /// The answer could not be read.
    #[error("the answer could not be read")]
    Receive(#[source] io::Error),
    /// The kernel said no, and has changed nothing.
    #[error("the kernel refused message {message} of the request")]
    Refused {
        /// Which message, counted from 0; the transaction as a whole where it is none of them.
        message: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The answer, or a part of it, was lost or is unreadable: what was done is not known.
    #[error("the kernel's answer was lost")]
    ReplyLost,
    /// What was being listed kept changing.
    #[error("what was listed kept changing")]
    DumpInterrupted,
}

impl NetlinkError {
    /// Returns the kernel's own error number, if it refused.
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
        f.debug_tuple("Netlink").field(&self.socket).finish()
    }
}

/// One message of an answer: its kind and its attributes.
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

/// How often a listing is begun again because the ruleset changed meanwhile.
const MAX_DUMP_ATTEMPTS: usize = 16;

/// Opens a netlink socket to nftables in the caller's own network namespace.
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
            // The kernel fills up to 32 KiB at once; nothing that it says is longer.
            buffer: vec![0; 65_536],
        }
    }

    /// Does all of `messages` or nothing; with a generation, only if nothing has changed since.
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

    /// Reads the answers of a transaction from its first message's to its last one's.
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

    /// Returns everything of a kind, as it was at one moment.
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
        let wanted = self.reserve_sequences(1);
        let mut bytes = Vec::with_capacity(64);
        write_frame(
            &mut bytes,
            message_type(kind),
            NLM_F_REQUEST | NLM_F_DUMP,
            wanted,
            FAMILY_INET,
            attributes,
        );
        self.send(&bytes)?;
        let mut answers = Vec::new();
        loop {
            let length = self.receive()?;
            for message in parse_frames(self.buffer.get(..length).unwrap_or_default()) {
                let NetlinkFrame {
                    kind,
                    flags,
                    sequence,
                    payload,
                } = message?;
                if sequence != wanted {
                    continue;
                }
                if flags & NLM_F_DUMP_INTR != 0 {
                    return Err(NetlinkError::DumpInterrupted);
                }
                match kind {
                    NLMSG_DONE => {
                        return match parse_error_code(payload)? {
                            0 => Ok(answers),
                            code => Err(refused_error(code)),
                        };
                    }
                    NLMSG_ERROR => match parse_error_code(payload)? {
                        code if code == Errno::INTR.raw_os_error() => {
                            return Err(NetlinkError::DumpInterrupted);
                        }
                        code => return Err(refused_error(code)),
                    },
                    _ => answers.push(parse_reply(payload)?),
                }
            }
        }
    }

    /// Returns one thing, asked for by name.
    pub(crate) fn request_one(
        &mut self,
        kind: NftMessageKind,
        attributes: AttributeBuilder,
    ) -> Result<NftReply, NetlinkError> {
        self.discard_stale_replies();
        let wanted = self.reserve_sequences(1);
        let mut bytes = Vec::with_capacity(64);
        write_frame(
            &mut bytes,
            message_type(kind),
            NLM_F_REQUEST,
            wanted,
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
                if sequence == wanted {
                    return match kind {
                        NLMSG_ERROR => Err(refused_error(parse_error_code(payload)?)),
                        _ => parse_reply(payload),
                    };
                }
            }
        }
    }

    /// Returns the number of the ruleset's present state: every transaction of anybody changes it.
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

    /// Reads one datagram of the kernel's and returns its length.
    fn receive(&mut self) -> Result<usize, NetlinkError> {
        loop {
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            let (_, length, from) = match recvfrom(&self.socket, self.buffer.as_mut_slice(), flags)
            {
                Ok(received) => received,
                Err(Errno::INTR) => continue,
                // An answer did not fit, or there is none.
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

    /// Throws away what an earlier, broken-off request has left in the queue.
    fn discard_stale_replies(&mut self) {
        let mut scrap = [0; 1];
        loop {
            match recvfrom(&self.socket, &mut scrap, RecvFlags::DONTWAIT) {
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

/// Returns a transaction's bytes: its messages between a beginning and an end, numbered from
/// `first`; the last one asks for an answer.
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
        // One answer is enough: the transaction is one, and its errors come unasked.
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
    // The resource of a batch is the subsystem that it is for.
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

/// Returns the positive error number at the start of an answer; 0 is success.
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
