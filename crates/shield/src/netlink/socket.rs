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

use super::attribute::{Attribute, Attributes, find};
use super::encode::{Kind, Message};
use super::number;

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
    Lost,
    /// What was being listed kept changing.
    #[error("what was listed kept changing")]
    Unsteady,
}

impl NetlinkError {
    /// Returns the kernel's own error number, if it refused.
    pub(crate) fn refusal(&self) -> Option<Errno> {
        match self {
            Self::Refused { source, .. } => Errno::from_io_error(source),
            Self::Send(_) | Self::Receive(_) | Self::Lost | Self::Unsteady => None,
        }
    }
}

/// A socket to nftables in one network namespace.
pub(crate) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl fmt::Debug for Netlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Netlink").field(&self.socket).finish()
    }
}

/// One message of an answer: its kind and its attributes.
pub(crate) struct Answer {
    attributes: Vec<u8>,
}

impl Answer {
    pub(crate) fn find(&self, kind: u16) -> Option<Attribute<'_>> {
        find(&self.attributes, kind)
    }

    pub(crate) fn text(&self, kind: u16) -> Option<&str> {
        self.find(kind)?.text()
    }
}

const HEADER: usize = 16;
const NETFILTER_HEADER: usize = 4;

const ERROR: u16 = 2;
const DONE: u16 = 3;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NFTABLES: u16 = 10;
const INET: u8 = 1;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const DUMP_INTERRUPTED: u16 = 0x10;

/// How often a listing is begun again because the ruleset changed meanwhile.
const LISTINGS: usize = 16;

/// Opens a netlink socket to nftables in the caller's own network namespace.
pub fn open() -> io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(NETFILTER),
    )?;
    Ok(socket)
}

impl Netlink {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            sequence: 0,
            // The kernel fills up to 32 KiB at once; nothing that it says is longer.
            buffer: vec![0; 65_536],
        }
    }

    /// Does all of `messages` or nothing; with a generation, only if nothing has changed since.
    pub(crate) fn commit(
        &mut self,
        messages: &[Message],
        generation: Option<u32>,
    ) -> Result<(), NetlinkError> {
        let Some(last) = messages.len().checked_sub(1) else {
            return Ok(());
        };
        self.drain();
        let first = self.next_sequences(messages.len().saturating_add(2));
        self.send(&transaction(messages, generation, first))?;
        self.outcome(first, sequence(first, last.saturating_add(1)))
    }

    /// Reads the answers of a transaction from its first message's to its last one's.
    fn outcome(&mut self, begin: u32, last: u32) -> Result<(), NetlinkError> {
        let mut refused = None;
        loop {
            let length = self.receive()?;
            for message in frames(self.buffer.get(..length).unwrap_or_default()) {
                let Frame {
                    kind,
                    sequence,
                    payload,
                    ..
                } = message?;
                let at = sequence.wrapping_sub(begin);
                if kind != ERROR || at > last.wrapping_sub(begin) {
                    continue;
                }
                let code = error_code(payload)?;
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
    pub(crate) fn list(
        &mut self,
        kind: Kind,
        attributes: Attributes,
    ) -> Result<Vec<Answer>, NetlinkError> {
        let attributes = attributes.into_bytes();
        for _ in 0..LISTINGS {
            match self.list_once(kind, &attributes) {
                Err(NetlinkError::Unsteady) => {}
                other => return other,
            }
        }
        Err(NetlinkError::Unsteady)
    }

    fn list_once(&mut self, kind: Kind, attributes: &[u8]) -> Result<Vec<Answer>, NetlinkError> {
        self.drain();
        let wanted = self.next_sequences(1);
        let mut bytes = Vec::with_capacity(64);
        frame(
            &mut bytes,
            nftables(kind),
            REQUEST | DUMP,
            wanted,
            INET,
            attributes,
        );
        self.send(&bytes)?;
        let mut answers = Vec::new();
        loop {
            let length = self.receive()?;
            for message in frames(self.buffer.get(..length).unwrap_or_default()) {
                let Frame {
                    kind,
                    flags,
                    sequence,
                    payload,
                } = message?;
                if sequence != wanted {
                    continue;
                }
                if flags & DUMP_INTERRUPTED != 0 {
                    return Err(NetlinkError::Unsteady);
                }
                match kind {
                    DONE => {
                        return match error_code(payload)? {
                            0 => Ok(answers),
                            code => Err(refused(code)),
                        };
                    }
                    ERROR => match error_code(payload)? {
                        code if code == Errno::INTR.raw_os_error() => {
                            return Err(NetlinkError::Unsteady);
                        }
                        code => return Err(refused(code)),
                    },
                    _ => answers.push(answer(payload)?),
                }
            }
        }
    }

    /// Returns one thing, asked for by name.
    pub(crate) fn get(
        &mut self,
        kind: Kind,
        attributes: Attributes,
    ) -> Result<Answer, NetlinkError> {
        self.drain();
        let wanted = self.next_sequences(1);
        let mut bytes = Vec::with_capacity(64);
        frame(
            &mut bytes,
            nftables(kind),
            REQUEST,
            wanted,
            INET,
            &attributes.into_bytes(),
        );
        self.send(&bytes)?;
        loop {
            let length = self.receive()?;
            for message in frames(self.buffer.get(..length).unwrap_or_default()) {
                let Frame {
                    kind,
                    sequence,
                    payload,
                    ..
                } = message?;
                if sequence == wanted {
                    return match kind {
                        ERROR => Err(refused(error_code(payload)?)),
                        _ => answer(payload),
                    };
                }
            }
        }
    }

    /// Returns the number of the ruleset's present state: every transaction of anybody changes it.
    pub(crate) fn generation(&mut self) -> Result<u32, NetlinkError> {
        self.get(Kind::GetGeneration, Attributes::default())?
            .find(number::GENERATION_ID)
            .and_then(Attribute::u32)
            .ok_or(NetlinkError::Lost)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), NetlinkError> {
        loop {
            return match send(&self.socket, bytes, SendFlags::empty()) {
                Ok(sent) if sent == bytes.len() => Ok(()),
                Ok(_) => Err(NetlinkError::Lost),
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
                Err(Errno::NOBUFS | Errno::AGAIN) => return Err(NetlinkError::Lost),
                Err(error) => return Err(NetlinkError::Receive(error.into())),
            };
            let kernel = from
                .and_then(|from| SocketAddrNetlink::try_from(from).ok())
                .is_some_and(|from| from.pid() == 0);
            if !kernel {
                continue;
            }
            if length > self.buffer.len() {
                return Err(NetlinkError::Lost);
            }
            return Ok(length);
        }
    }

    /// Throws away what an earlier, broken-off request has left in the queue.
    fn drain(&mut self) {
        let mut scrap = [0; 1];
        loop {
            match recvfrom(&self.socket, &mut scrap, RecvFlags::DONTWAIT) {
                Ok(_) | Err(Errno::INTR | Errno::NOBUFS) => {}
                Err(_) => return,
            }
        }
    }

    fn next_sequences(&mut self, count: usize) -> u32 {
        let first = self.sequence.wrapping_add(1);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.sequence = self.sequence.wrapping_add(count);
        first
    }
}

/// Returns a transaction's bytes: its messages between a beginning and an end, numbered from
/// `first`; the last one asks for an answer.
pub(crate) fn transaction(messages: &[Message], generation: Option<u32>, first: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    let head = match generation {
        Some(generation) => Attributes::default().u32(number::GENERATION_ID, generation),
        None => Attributes::default(),
    };
    let head = head.into_bytes();
    frame(&mut bytes, BATCH_BEGIN, REQUEST, first, 0, &head);
    for (at, message) in (1..).zip(messages) {
        // One answer is enough: the transaction is one, and its errors come unasked.
        let ack = if at == messages.len() { ACK } else { 0 };
        let flags = REQUEST | message.flags | ack;
        let (kind, sequence) = (nftables(message.kind), sequence(first, at));
        frame(&mut bytes, kind, flags, sequence, INET, &message.attributes);
    }
    let end = sequence(first, messages.len().saturating_add(1));
    frame(&mut bytes, BATCH_END, REQUEST, end, 0, &[]);
    bytes
}

fn sequence(first: u32, at: usize) -> u32 {
    first.wrapping_add(u32::try_from(at).unwrap_or(u32::MAX))
}

fn refused(code: i32) -> NetlinkError {
    NetlinkError::Refused {
        message: 0,
        source: io::Error::from_raw_os_error(code),
    }
}

fn nftables(kind: Kind) -> u16 {
    (NFTABLES << 8) | u16::from(kind as u8)
}

fn frame(to: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, family: u8, attributes: &[u8]) {
    let length = HEADER + NETFILTER_HEADER + attributes.len();
    to.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(flags.to_ne_bytes());
    to.extend(sequence.to_ne_bytes());
    to.extend(0u32.to_ne_bytes());
    // The resource of a batch is the subsystem that it is for.
    let resource = if family == 0 { NFTABLES } else { 0 };
    to.extend([family, 0]);
    to.extend(resource.to_be_bytes());
    to.extend(attributes);
    to.resize(to.len().next_multiple_of(4), 0);
}

struct Frame<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

fn frames(mut bytes: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, NetlinkError>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let frame = first_frame(bytes);
        bytes = match &frame {
            Some(frame) => {
                let length = frame
                    .payload
                    .len()
                    .saturating_add(HEADER)
                    .next_multiple_of(4);
                bytes.get(length..).unwrap_or_default()
            }
            None => &[],
        };
        Some(frame.ok_or(NetlinkError::Lost))
    })
}

fn first_frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first_chunk::<2>()?;
    let (flags, rest) = rest.split_first_chunk::<2>()?;
    let (sequence, _) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
    Some(Frame {
        kind: u16::from_ne_bytes(*kind),
        flags: u16::from_ne_bytes(*flags),
        sequence: u32::from_ne_bytes(*sequence),
        payload: bytes.get(HEADER..length)?,
    })
}

/// Returns the positive error number at the start of an answer; 0 is success.
fn error_code(payload: &[u8]) -> Result<i32, NetlinkError> {
    let (code, _) = payload.split_first_chunk::<4>().ok_or(NetlinkError::Lost)?;
    Ok(i32::from_ne_bytes(*code).saturating_neg())
}

fn answer(payload: &[u8]) -> Result<Answer, NetlinkError> {
    let attributes = payload
        .get(NETFILTER_HEADER..)
        .ok_or(NetlinkError::Lost)?
        .to_vec();
    Ok(Answer { attributes })
}
