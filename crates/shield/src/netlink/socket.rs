// SPDX-License-Identifier: Apache-2.0
//! Transactions and dumps over a netlink socket.
//!
//! The kernel executes a request before `send` returns and has queued the reply by then. Nothing
//! here waits: a missing reply is an error.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;

use netns::netlink::{
    AttributeBuilder, IncompleteNetlinkMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR,
    NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkAttribute, NetlinkHeader, NetlinkMessage,
    append_message, find_attribute, netfilter_header, parse_messages,
};
use rustix::io::Errno;
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recvfrom, send,
    socket_with,
};

use super::attribute_kind;
use super::encode::{NftMessage, NftMessageKind};

/// The kernel did not execute a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
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

impl From<IncompleteNetlinkMessage> for NetlinkError {
    fn from(_: IncompleteNetlinkMessage) -> Self {
        Self::ReplyLost
    }
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

/// Size of `struct nfgenmsg`.
pub(crate) const NFGENMSG_BYTES: usize = 4;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFTABLES_SUBSYSTEM: u16 = 10;
const FAMILY_INET: u8 = 1;
/// The netfilter header of messages about the table.
const TABLE_HEADER: [u8; NFGENMSG_BYTES] = netfilter_header(FAMILY_INET, 0);
/// The netfilter header of a batch, whose resource id is the subsystem.
const BATCH_HEADER: [u8; NFGENMSG_BYTES] = netfilter_header(0, NFTABLES_SUBSYSTEM);

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
        // From here on only the kernel can send to the socket. A failure costs nothing but the
        // buffer that forged messages could fill: `receive` checks the sender.
        connect(&socket, &SocketAddrNetlink::new(0, 0)).ok();
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
            for message in parse_messages(self.buffer.get(..length).unwrap_or_default()) {
                let message = message?;
                let NetlinkHeader { kind, sequence, .. } = message.header;
                let at = sequence.wrapping_sub(begin);
                if kind != NLMSG_ERROR || at > last.wrapping_sub(begin) {
                    continue;
                }
                let code = error_code(&message)?;
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
        attributes: &AttributeBuilder,
    ) -> Result<Vec<NftReply>, NetlinkError> {
        self.dump_messages(message_type(kind), TABLE_HEADER, attributes)
    }

    /// Returns the replies to a dump of any subsystem of netfilter.
    pub(crate) fn dump_messages(
        &mut self,
        kind: u16,
        netfilter: [u8; NFGENMSG_BYTES],
        attributes: &AttributeBuilder,
    ) -> Result<Vec<NftReply>, NetlinkError> {
        for _ in 0..MAX_DUMP_ATTEMPTS {
            match self.dump_once(kind, netfilter, attributes) {
                Err(NetlinkError::DumpInterrupted) => {}
                other => return other,
            }
        }
        Err(NetlinkError::DumpInterrupted)
    }

    /// Executes one message of any subsystem of netfilter.
    pub(crate) fn execute_message(
        &mut self,
        kind: u16,
        netfilter: [u8; NFGENMSG_BYTES],
        attributes: &AttributeBuilder,
    ) -> Result<(), NetlinkError> {
        self.discard_stale_replies();
        let expected = self.reserve_sequences(1);
        let header = NetlinkHeader {
            kind,
            flags: NLM_F_REQUEST | NLM_F_ACK,
            sequence: expected,
        };
        let mut bytes = Vec::with_capacity(128);
        append_message(&mut bytes, header, &netfilter, attributes);
        self.send(&bytes)?;
        loop {
            let length = self.receive()?;
            for message in parse_messages(self.buffer.get(..length).unwrap_or_default()) {
                let message = message?;
                if message.header.sequence == expected && message.header.kind == NLMSG_ERROR {
                    return match error_code(&message)? {
                        0 => Ok(()),
                        code => Err(refused_error(code)),
                    };
                }
            }
        }
    }

    fn dump_once(
        &mut self,
        kind: u16,
        netfilter: [u8; NFGENMSG_BYTES],
        attributes: &AttributeBuilder,
    ) -> Result<Vec<NftReply>, NetlinkError> {
        self.discard_stale_replies();
        let expected = self.reserve_sequences(1);
        let mut bytes = Vec::with_capacity(64);
        let header = NetlinkHeader {
            kind,
            flags: NLM_F_REQUEST | NLM_F_DUMP,
            sequence: expected,
        };
        append_message(&mut bytes, header, &netfilter, attributes);
        self.send(&bytes)?;
        let mut replies = Vec::new();
        loop {
            let length = self.receive()?;
            for message in parse_messages(self.buffer.get(..length).unwrap_or_default()) {
                let message = message?;
                if message.header.sequence != expected {
                    continue;
                }
                if message.header.flags & NLM_F_DUMP_INTR != 0 {
                    return Err(NetlinkError::DumpInterrupted);
                }
                match message.header.kind {
                    NLMSG_DONE => {
                        return match error_code(&message)? {
                            0 => Ok(replies),
                            code => Err(refused_error(code)),
                        };
                    }
                    NLMSG_ERROR => match error_code(&message)? {
                        code if code == Errno::INTR.raw_os_error() => {
                            return Err(NetlinkError::DumpInterrupted);
                        }
                        code => return Err(refused_error(code)),
                    },
                    _ => replies.push(parse_reply(&message)?),
                }
            }
        }
    }

    /// Returns one object, identified by name.
    pub(crate) fn request_one(
        &mut self,
        kind: NftMessageKind,
        attributes: &AttributeBuilder,
    ) -> Result<NftReply, NetlinkError> {
        self.discard_stale_replies();
        let expected = self.reserve_sequences(1);
        let mut bytes = Vec::with_capacity(64);
        let header = NetlinkHeader {
            kind: message_type(kind),
            flags: NLM_F_REQUEST,
            sequence: expected,
        };
        append_message(&mut bytes, header, &TABLE_HEADER, attributes);
        self.send(&bytes)?;
        loop {
            let length = self.receive()?;
            for message in parse_messages(self.buffer.get(..length).unwrap_or_default()) {
                let message = message?;
                if message.header.sequence == expected {
                    return match message.header.kind {
                        NLMSG_ERROR => Err(refused_error(error_code(&message)?)),
                        _ => parse_reply(&message),
                    };
                }
            }
        }
    }

    /// Returns the ruleset's generation; every transaction of any program changes it.
    pub(crate) fn read_generation(&mut self) -> Result<u32, NetlinkError> {
        self.request_one(NftMessageKind::GetGeneration, &AttributeBuilder::default())?
            .find(attribute_kind::GENERATION_ID)
            .and_then(NetlinkAttribute::u32_be)
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
            AttributeBuilder::default().u32_be(attribute_kind::GENERATION_ID, generation)
        }
        None => AttributeBuilder::default(),
    };
    let batch = |kind, sequence| NetlinkHeader {
        kind,
        flags: NLM_F_REQUEST,
        sequence,
    };
    append_message(&mut bytes, batch(BATCH_BEGIN, first), &BATCH_HEADER, &head);
    for (at, message) in (1..).zip(messages) {
        // One acknowledgement covers the transaction; errors are reported in any case.
        let ack = if at == messages.len() { NLM_F_ACK } else { 0 };
        let header = NetlinkHeader {
            kind: message_type(message.kind),
            flags: NLM_F_REQUEST | message.flags | ack,
            sequence: sequence_at(first, at),
        };
        append_message(&mut bytes, header, &TABLE_HEADER, &message.attributes);
    }
    let end = batch(
        BATCH_END,
        sequence_at(first, messages.len().saturating_add(1)),
    );
    append_message(&mut bytes, end, &BATCH_HEADER, &AttributeBuilder::default());
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

/// Returns the positive errno of an error message; 0 means success.
fn error_code(message: &NetlinkMessage<'_>) -> Result<i32, NetlinkError> {
    message.error_code().ok_or(NetlinkError::ReplyLost)
}

fn parse_reply(message: &NetlinkMessage<'_>) -> Result<NftReply, NetlinkError> {
    let attributes = message
        .payload
        .get(NFGENMSG_BYTES..)
        .ok_or(NetlinkError::ReplyLost)?
        .to_vec();
    Ok(NftReply { attributes })
}
