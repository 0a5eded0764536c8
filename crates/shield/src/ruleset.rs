// SPDX-License-Identifier: Apache-2.0
//! The default-deny ruleset as one value, from which both renderings come.
//!
//! [`tiers`] writes it down in the order in which a packet meets it, [`text`] prints it in nft's
//! syntax, and [`crate::netlink::encode`] makes the kernel's messages of it. What a [`Match`] or a
//! [`Statement`] means is said once, here.

mod nft_text;
mod tiers;

pub(crate) use tiers::{asked_set_names, resolver_set_name};

use std::net::IpAddr;
use std::time::Duration;

use terok_clearance::Protocol;

use crate::Policy;
use crate::address_class::{AddressRange, IpFamily};

/// The table's name, in the family `inet`.
pub(crate) const TABLE: &str = "terok_shield";

/// Everything in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) sets: Vec<NftSet>,
    pub(crate) chains: Vec<NftChain>,
}

impl Ruleset {
    pub(crate) fn new(policy: &Policy) -> Self {
        tiers::build_ruleset(policy)
    }
}

/// A named set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NftSet {
    pub(crate) name: &'static str,
    pub(crate) key: NftSetKey,
    pub(crate) content: NftSetContent,
}

/// What a set holds, and who may change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NftSetContent {
    /// Addresses that stay as they are.
    Addresses(Vec<IpAddr>),
    /// Ranges that stay as they are.
    Ranges(Vec<AddressRange>),
    /// One-byte values that stay as they are, with nft's word for each.
    NamedBytes(Vec<(u8, &'static str)>),
    /// Orders: elements come and go, some by time.
    Orders,
    /// What packets themselves put in, for so long.
    Recent(Duration),
}

/// The most packets that a set remembers; past it every packet is logged again.
///
/// The kernel sets a table aside for as many at once, 64 KiB for these. That is why the sets of
/// orders have no size, and [`crate::orders`] counts instead.
pub(crate) const MAX_RECENT_PACKETS: u32 = 4_096;

/// What of a packet a set is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NftSetKey {
    /// The address.
    Address(IpFamily),
    /// The destination and the transport protocol.
    Protocol(IpFamily),
    /// The destination, the transport protocol and the destination port.
    Port(IpFamily),
    /// The transport protocol.
    Transport,
    /// The type of an `ICMPv6` message.
    Icmpv6,
}

/// A chain of rules; with a hook, packets enter it there and are dropped at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NftChain {
    pub(crate) name: &'static str,
    pub(crate) hook: Option<NftHook>,
    pub(crate) rules: Vec<NftRule>,
}

/// Where a packet meets a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NftHook {
    Input,
    Forward,
    Output,
}

/// What happens to packets of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NftRule {
    /// Why it is there, a comment of the text.
    pub(crate) comment: Option<&'static str>,
    pub(crate) matches: Vec<NftMatch>,
    pub(crate) statements: Vec<NftStatement>,
}

/// Which end of a packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketSide {
    Source,
    Destination,
}

/// What a packet must be for a rule to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NftMatch {
    /// It leaves by the loopback interface, or came by it.
    Loopback(NftHook),
    /// Its connection is in one of these states, [`ESTABLISHED`] and [`RELATED`].
    Connection(u32),
    /// It is of this transport protocol.
    Transport(Protocol),
    /// Its protocol has ports, or has none.
    HasPorts(bool),
    /// It is from or to this port of TCP or UDP.
    Port(Protocol, PacketSide, u16),
    /// It is from or to an address of the set.
    Address(IpFamily, PacketSide, &'static str),
    /// What the key takes of it is in the set.
    InSet(NftSetKey, &'static str),
    /// It is an `ICMPv6` message of a type in the set.
    Icmpv6(&'static str),
    /// It has crossed no router: IPv6 hop limit 255.
    OnLink,
    /// A process made it, not the kernel itself.
    FromProcess,
}

/// Bit of the connection state: an answer was seen.
pub(crate) const ESTABLISHED: u32 = 2;
/// Bit of the connection state: belongs to one that is established, as an ICMP error does.
pub(crate) const RELATED: u32 = 4;

/// What is done with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NftStatement {
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
    AddToSet(NftSetKey, &'static str),
    /// Refuses with a TCP reset.
    Reset,
    /// Refuses with ICMP "administratively prohibited".
    Prohibit,
}

/// Protocols with a destination port at the same place: set `ported`.
pub(crate) const PROTOCOLS_WITH_PORTS: [(u8, &str); 5] = [
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (132, "sctp"),
    (136, "udplite"),
];
