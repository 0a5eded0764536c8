// SPDX-License-Identifier: Apache-2.0
//! The steps of a packet's way, for whoever wants to show or to measure them.

use std::net::IpAddr;
use std::time::Duration;

use terok_clearance::{Action, BlockedPacket, Dest, DisplayText, DomainName, RequestId};

/// One step on the way from a dropped packet to a set element.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum TraceEvent<'a> {
    /// A DNS answer was seen on its way into the sandbox.
    DnsAnswered {
        /// The name that was asked for.
        name: &'a DomainName,
        /// Its addresses.
        addresses: &'a [IpAddr],
        /// How many of them an order on the name opened or closed just now.
        added: usize,
    },
    /// A packet was dropped; the hub gets the question next.
    Asked(&'a BlockedPacket),
    /// A packet was dropped, but an order decides about the next one: there is no question.
    AlreadyDecided(&'a BlockedPacket, Action),
    /// The kernel holds the answer as a set element.
    Enforced {
        /// The question.
        request: &'a RequestId,
        /// What the answer is about.
        dest: &'a Dest,
        /// What it asked of the firewall.
        action: Action,
        /// How long the shield took.
        duration: Duration,
    },
    /// The shield refused the answer: the question is pending again.
    Refused {
        /// The question.
        request: &'a RequestId,
        /// What the answer is about.
        dest: &'a Dest,
        /// Why.
        reason: &'a DisplayText,
    },
    /// The kernel dropped so many messages of a log group before they could be read.
    Lost(reader::NflogLoss),
}

/// Is called at each step, in the supervisor's thread: it must not wait.
pub type TraceObserver = Box<dyn FnMut(TraceEvent<'_>) + Send>;
