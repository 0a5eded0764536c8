// SPDX-License-Identifier: Apache-2.0
//! Trace events for programs that display or measure the processing of packets.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use egress::EgressNotice;
use terok_clearance::{
    Action, BlockedPacket, Dest, DisplayText, DomainName, PacketDest, RequestId,
};

/// A step on the way from a dropped packet to a set element.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum TraceEvent<'a> {
    /// A DNS answer was seen on its way into the sandbox.
    DnsAnswered {
        /// The queried name.
        name: &'a DomainName,
        /// The addresses of the answer.
        addresses: &'a [IpAddr],
        /// The number of addresses newly opened or closed by an order on the name.
        added: usize,
    },
    /// A packet was dropped; the hub receives the question next.
    Asked(&'a BlockedPacket),
    /// A packet was dropped without a question, because an order covers the next one.
    AlreadyDecided(&'a BlockedPacket, Action),
    /// An answer is in force as a set element.
    Enforced {
        /// The id of the question.
        request: &'a RequestId,
        /// The destination of the answer.
        dest: &'a Dest,
        /// The action of the answer.
        action: Action,
        /// The time taken by the shield.
        duration: Duration,
    },
    /// The shield refused an answer; the question is pending again.
    Refused {
        /// The id of the question.
        request: &'a RequestId,
        /// The destination of the answer.
        dest: &'a Dest,
        /// The reason for the refusal.
        reason: &'a DisplayText,
    },
    /// A connection that a rule allowed was made.
    Connected {
        /// The destination.
        dest: &'a PacketDest,
        /// The address of the connection outside.
        address: SocketAddr,
    },
    /// A packet was refused without a question.
    Notice(&'a EgressNotice),
    /// The kernel dropped messages of a log group before they could be read.
    Lost(reader::NflogLoss),
}

/// A callback for trace events, called in the supervisor's thread. It must not block.
pub type TraceObserver = Box<dyn FnMut(TraceEvent<'_>) + Send>;
