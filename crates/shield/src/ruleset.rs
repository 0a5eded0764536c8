// SPDX-License-Identifier: Apache-2.0
//! The default-deny ruleset as a value, the source of both renderings.
//!
//! [`tiers`] builds it in evaluation order, [`nft_text`] prints it in nft's syntax, and
//! [`crate::netlink::encode`] encodes it for the kernel. [`NftMatch`] and [`NftStatement`] define
//! the meaning of their variants once.

mod gateway;
mod names;
mod nft_text;
mod tiers;

pub(crate) use tiers::{HELD_SET, asked_set_names, overdue_set_name, resolver_set_name};

use std::net::IpAddr;
use std::time::Duration;

use terok_clearance::Protocol;
use terok_clearance::address_class::{AddressRange, IpFamily};

use crate::Policy;

/// The name of the table, in the family `inet`.
pub(crate) const TABLE: &str = "terok_shield";

/// The contents of the table.
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

/// The contents of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NftSetContent {
    /// Constant addresses.
    Addresses(Vec<IpAddr>),
    /// Constant ranges.
    Ranges(Vec<AddressRange>),
    /// Constant one-byte values, with nft's keyword for each.
    NamedBytes(Vec<(u8, &'static str)>),
    /// Elements of orders or of the supervisor, some with timeouts.
    Orders,
    /// A map from the key to an IPv4 address. The elements are those of orders, with timeouts.
    OrderedAddresses,
    /// Elements added by packets, with this timeout.
    Recent(Duration),
}

/// Maximum elements of a set filled by packets; over the limit every packet is logged again.
///
/// The kernel allocates memory for the size of a set, 64 KiB for these. Therefore the order sets
/// have no size, and [`crate::order_table`] counts their elements.
pub(crate) const MAX_RECENT_PACKETS: u32 = 4_096;

/// The packet fields forming the key of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum NftSetKey {
    /// The destination address.
    Address(IpFamily),
    /// Destination address and transport protocol.
    Protocol(IpFamily),
    /// Destination address, transport protocol and destination port.
    Port(IpFamily),
    /// The transport protocol.
    Transport,
    /// The type of an `ICMPv6` message.
    Icmpv6,
}

/// A chain of rules. A hooked chain drops packets at its end, unless
/// [`NftHook::accepts_at_end`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NftChain {
    pub(crate) name: &'static str,
    pub(crate) hook: Option<NftHook>,
    pub(crate) rules: Vec<NftRule>,
}

/// The hook of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NftHook {
    Input,
    Forward,
    Output,
    /// Before routing, where packets can be given to a socket.
    Prerouting,
    /// The first packet of each connection of the namespace, whose destination can be translated.
    TranslateOutput,
    /// Packets that leave, after their destination was translated.
    Postrouting,
    /// Packets of the namespace, before the connection tracker.
    RawOutput,
    /// Received packets, before the connection tracker.
    RawPrerouting,
}

/// Conditions and actions for packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NftRule {
    /// A comment in nft's text.
    pub(crate) comment: Option<&'static str>,
    pub(crate) matches: Vec<NftMatch>,
    pub(crate) statements: Vec<NftStatement>,
}

/// The sender's or the receiver's side of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketSide {
    Source,
    Destination,
}

/// A condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NftMatch {
    /// Sent or received over the loopback interface.
    Loopback(NftHook),
    /// Sent over another interface than the loopback interface.
    LeavesNamespace,
    /// The connection is in one of these states, [`ESTABLISHED`] and [`RELATED`].
    Connection(u32),
    /// A rule of this table marked the connection with [`ALLOWED_MARK`].
    AllowedConnection,
    /// The connection is a lookup of the sandbox's name server: it has the mark
    /// [`LOOKUP_MARK`](crate::LOOKUP_MARK).
    LookupConnection,
    /// The destination of the connection was translated.
    Translated,
    /// The IPv4 destination that the connection had before its translation is in the set.
    OriginalDestination(&'static str),
    /// Has this transport protocol.
    Transport(Protocol),
    /// The protocol has ports (`true`) or none (`false`).
    HasPorts(bool),
    /// Has this TCP or UDP port.
    Port(Protocol, PacketSide, u16),
    /// The address is in the set.
    Address(IpFamily, PacketSide, &'static str),
    /// The key fields are in the set.
    InSet(NftSetKey, &'static str),
    /// An `ICMPv6` message with a type in the set.
    Icmpv6(&'static str),
    /// Has not crossed a router: IPv6 hop limit 255.
    OnLink,
    /// Sent by a process, not by the kernel itself.
    FromProcess,
    /// Has this IP version.
    Family(IpFamily),
    /// A packet mark (`SO_MARK`) that only a socket of the same namespace can set.
    PacketMark(u32),
    /// The first packet of a TCP connection: SYN without ACK.
    ConnectionRequest,
    /// An ICMP echo request (ping).
    EchoRequest(IpFamily),
}

/// Bit of the connection state: a reply was seen.
pub(crate) const ESTABLISHED: u32 = 2;
/// Bit of the connection state: related to an established connection, such as an ICMP error.
pub(crate) const RELATED: u32 = 4;

/// The mark of each connection that a rule opened: `ct mark`, a value that no other software is
/// known to use.
///
/// The connection tracker also has entries of packets that a workload sent to itself over the
/// loopback interface, with a foreign source address (`IPV6_FREEBIND`). The reply direction of such
/// an entry leads outside, and counts as established; only the mark tells the two apart. The chains
/// before the connection tracker avoid such entries; the mark holds without them, too.
pub(crate) const ALLOWED_MARK: u32 = 0x7465_726f;

/// An action of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NftStatement {
    Accept,
    /// Marks the connection with [`ALLOWED_MARK`].
    MarkAllowed,
    /// Marks the connection with [`LOOKUP_MARK`](crate::LOOKUP_MARK). A workload that takes over
    /// the port of an ended lookup must not continue its connection, as it could with
    /// [`ALLOWED_MARK`].
    MarkLookup,
    Drop,
    /// Hides the packet from the connection tracker.
    Untrack,
    /// Continues in another chain without return.
    Goto(&'static str),
    /// Continues up to a packet rate.
    Limit {
        per_second: u64,
        burst: u32,
    },
    /// Sends a copy to a netlink group at once.
    Log {
        group: u16,
        prefix: &'static str,
        /// The bytes to copy; `None` leaves the choice to the listener.
        snaplen: Option<u32>,
    },
    /// Adds the packet's key fields to the set; ends the rule if the set is full.
    AddToSet(NftSetKey, &'static str),
    /// Refuses with a TCP reset.
    Reset,
    /// Translates the destination to this port of a loopback address.
    RedirectToLoopback(u16),
    /// Translates the IPv4 destination to the address that the map has for the key fields; ends
    /// the rule if it has none.
    TranslateBy(NftSetKey, &'static str),
    /// Delivers the packet to the socket at this address and port, which is not the packet's own
    /// destination: the socket has `IP_TRANSPARENT`.
    ToSocket(IpAddr, u16),
    /// Refuses with ICMP "administratively prohibited".
    Prohibit,
}

/// Protocols with a destination port at the same offset: the set `ported`.
pub(crate) const PROTOCOLS_WITH_PORTS: [(u8, &str); 5] = [
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (132, "sctp"),
    (136, "udplite"),
];
