// SPDX-License-Identifier: Apache-2.0
//! The steps of a packet's way, for whoever wants to show or to measure them.

use std::net::IpAddr;

use terok_clearance::{Action, Blocked, Dest, DomainName, RequestId};

/// One step on the way from a dropped packet to a set element.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Step<'a> {
    /// A DNS answer was seen on its way into the sandbox.
    Answered {
        /// The name that was asked for.
        name: &'a DomainName,
        /// Its addresses.
        addresses: &'a [IpAddr],
        /// How many of them an order on the name opened or closed.
        placed: usize,
    },
    /// A packet was dropped: the question is on its way to the hub.
    Asked(&'a Blocked),
    /// A packet was dropped, and an order already decides about the next one: no question.
    Settled(&'a Blocked),
    /// The kernel holds the answer as a set element.
    Enforced {
        /// The question.
        request: &'a RequestId,
        /// What the answer is about.
        dest: &'a Dest,
        /// What it asked of the firewall.
        action: Action,
        /// The microseconds that the shield took.
        micros: u64,
    },
    /// The shield refused the answer: the question is pending again.
    Refused {
        /// The question.
        request: &'a RequestId,
        /// What the answer is about.
        dest: &'a Dest,
        /// Why.
        reason: &'a str,
    },
    /// The kernel dropped so many log messages before they could be read.
    Lost(u64),
}

/// Is called at each step, in the supervisor's thread: it must not wait.
pub type Observer = Box<dyn FnMut(Step<'_>)>;
