// SPDX-License-Identifier: Apache-2.0
//! The default-deny ruleset as one value, from which both renderings come.
//!
//! [`tiers`] writes it down in the order in which a packet meets it, [`text`] prints it in nft's
//! syntax, and [`crate::netlink::encode`] makes the kernel's messages of it. What a [`Match`] or a
//! [`Statement`] means is said once, here.

mod text;
mod tiers;

pub(crate) use tiers::{asked, resolver};

use std::net::IpAddr;
use std::time::Duration;

use terok_clearance::Protocol;

use crate::Policy;
use crate::ranges::{Family, Span};

/// The table's name, in the family `inet`.
pub(crate) const TABLE: &str = "terok_shield";

/// Everything in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) sets: Vec<Set>,
    pub(crate) chains: Vec<Chain>,
}

impl Ruleset {
    pub(crate) fn new(policy: &Policy) -> Self {
        tiers::ruleset(policy)
    }
}

/// A named set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    pub(crate) key: Key,
    pub(crate) content: Content,
}

/// What a set holds, and who may change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Addresses that stay as they are.
    Addresses(Vec<IpAddr>),
    /// Ranges that stay as they are.
    Ranges(Vec<Span>),
    /// One-byte values that stay as they are, with nft's word for each.
    Words(Vec<(u8, &'static str)>),
    /// Orders: elements come and go, some by time.
    Orders,
    /// What packets themselves put in, for so long.
    Recent(Duration),
}

/// The most packets that a set remembers; past it every packet is logged again.
///
/// The kernel sets a table aside for as many at once, 64 KiB for these. That is why the sets of
/// orders have no size, and [`crate::orders`] counts instead.
pub(crate) const RECENT_SIZE: u32 = 4_096;

/// What of a packet a set is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// The address.
    Address(Family),
    /// The destination and the transport protocol.
    Protocol(Family),
    /// The destination, the transport protocol and the destination port.
    Port(Family),
    /// The transport protocol.
    Transport,
    /// The type of an `ICMPv6` message.
    Icmpv6,
}

/// A chain of rules; with a hook, packets enter it there and are dropped at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) hook: Option<Hook>,
    pub(crate) rules: Vec<Rule>,
}

/// Where a packet meets a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Input,
    Forward,
    Output,
}

/// What happens to packets of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Why it is there, a comment of the text.
    pub(crate) note: Option<&'static str>,
    pub(crate) matches: Vec<Match>,
    pub(crate) statements: Vec<Statement>,
}

/// Which end of a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// What a packet must be for a rule to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Match {
    /// It leaves by the loopback interface, or came by it.
    Loopback(Hook),
    /// Its connection is in one of these states, [`ESTABLISHED`] and [`RELATED`].
    Connection(u32),
    /// It is of this transport protocol.
    Transport(Protocol),
    /// Its protocol has ports, or has none.
    Ported(bool),
    /// It is from or to this port of TCP or UDP.
    Port(Protocol, Side, u16),
    /// It is from or to an address of the set.
    Address(Family, Side, &'static str),
    /// What the key takes of it is in the set.
    Member(Key, &'static str),
    /// It is an `ICMPv6` message of a type in the set.
    Icmpv6(&'static str),
    /// It has crossed no router: IPv6 hop limit 255.
    OnLink,
    /// A process made it, not the kernel itself.
    ByProcess,
}

/// Bit of the connection state: an answer was seen.
pub(crate) const ESTABLISHED: u32 = 2;
/// Bit of the connection state: belongs to one that is established, as an ICMP error does.
pub(crate) const RELATED: u32 = 4;

/// What is done with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Statement {
    Accept,
    Drop,
    /// Goes on in that chain, and does not come back.
    Goto(&'static str),
    /// Goes on only for so many packets a second.
    Limit {
        per_second: u64,
        burst: u32,
    },
    /// Sends a copy to a netlink group, at once.
    Log {
        group: u16,
        prefix: &'static str,
        /// The bytes of the copy; absent, as many as the listener wants.
        snaplen: Option<u32>,
    },
    /// Puts what the key takes of the packet in the set, and ends the rule if there is no room.
    Remember(Key, &'static str),
    /// Refuses with a TCP reset.
    Reset,
    /// Refuses with ICMP "administratively prohibited".
    Prohibit,
}

/// Protocols with a destination port at the same place: set `ported`.
pub(crate) const PORTED: [(u8, &str); 5] = [
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (132, "sctp"),
    (136, "udplite"),
];
