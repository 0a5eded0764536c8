// SPDX-License-Identifier: Apache-2.0
//! The connections that rules opened, in the kernel's connection tracker (`ctnetlink`).
//!
//! The rules let every packet of a connection pass that has the mark of an allow and that the
//! tracker knows. Without its entry, a packet of the connection is one of a new connection: the
//! orders decide on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netns::netlink::{AttributeBuilder, NetlinkAttribute, netfilter_header};
use rustix::io::Errno;
use terok_clearance::Protocol;

use super::NftShield;
use crate::netlink::NetlinkError;
use crate::netlink::socket::NftReply;
use crate::ruleset::ALLOWED_MARK;

/// A connection that a rule opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedConnection {
    /// What tells the connection from any other, also one between the same ports later.
    pub key: OpenedConnectionKey,
    /// The address of the socket inside.
    pub local: SocketAddr,
    /// The destination as the program inside gave it, such as a stand-in address. Port 0 for a
    /// protocol without ports.
    pub remote: SocketAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The address to which the destination was translated; `remote` without a translation.
    pub leads_to: IpAddr,
    /// `false` for the rest of a TCP connection that has ended.
    pub is_open: bool,
    zone: Option<Vec<u8>>,
}

/// The identity of a connection in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OpenedConnectionKey {
    id: u32,
    tuple: Vec<u8>,
}

impl NftShield {
    /// Returns the connections that rules opened, apart from lookups at the resolvers of the
    /// policy.
    pub fn list_connections(&mut self) -> Result<Vec<OpenedConnection>, NetlinkError> {
        let of_rules = AttributeBuilder::default()
            .u32_be(MARK, ALLOWED_MARK)
            .u32_be(MARK_MASK, u32::MAX);
        let any_family = netfilter_header(0, 0);
        let replies = self
            .netlink
            .dump_messages(GET_CONNECTION, any_family, &of_rules)?;
        let mut connections = Vec::with_capacity(replies.len());
        for reply in &replies {
            let connection = parse_connection(reply).ok_or(NetlinkError::ReplyLost)?;
            if !self.is_lookup(&connection) {
                connections.push(connection);
            }
        }
        Ok(connections)
    }

    /// Ends a connection: no further packet of it passes, unless an order allows it. Returns
    /// `false` if it had ended already.
    pub fn end_connection(&mut self, connection: &OpenedConnection) -> Result<bool, NetlinkError> {
        let OpenedConnectionKey { id, tuple } = &connection.key;
        let mut attributes = AttributeBuilder::default()
            .bytes(TUPLE_ORIGINAL | NESTED, tuple)
            .u32_be(ID, *id);
        if let Some(zone) = &connection.zone {
            attributes = attributes.bytes(ZONE, zone);
        }
        let family = if connection.remote.is_ipv4() {
            AF_INET
        } else {
            AF_INET6
        };
        let deleted = self.netlink.execute_message(
            DELETE_CONNECTION,
            netfilter_header(family, 0),
            &attributes,
        );
        match deleted {
            Ok(()) => Ok(true),
            Err(error) if error.refused_errno() == Some(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns `true` for a lookup at a resolver, which the ruleset itself allows.
    fn is_lookup(&self, connection: &OpenedConnection) -> bool {
        let remote = connection.remote;
        matches!(connection.protocol, Protocol::TCP | Protocol::UDP)
            && remote.port() == 53
            && !self.has_name_server
            && self.resolvers.contains(&remote.ip())
    }
}

/// `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE` of `NFNL_SUBSYS_CTNETLINK`.
const GET_CONNECTION: u16 = 0x101;
const DELETE_CONNECTION: u16 = 0x102;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

// Attributes of a connection (`enum ctattr_type`).
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const PROTOCOL_INFO: u16 = 4;
const MARK: u16 = 8;
const ID: u16 = 12;
const ZONE: u16 = 18;
const MARK_MASK: u16 = 21;
// Attributes of a tuple.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const V4_SOURCE: u16 = 1;
const V4_DESTINATION: u16 = 2;
const V6_SOURCE: u16 = 3;
const V6_DESTINATION: u16 = 4;
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
// Attributes of a connection's protocol.
const TCP_INFO: u16 = 1;
const TCP_STATE: u16 = 1;
/// TCP states of a connection that is being made, stands, or is half closed: `SYN_SENT` to
/// `CLOSE_WAIT` (`enum tcp_conntrack`).
const OPEN_TCP_STATES: std::ops::RangeInclusive<u8> = 1..=5;

struct ConnectionTuple {
    source: SocketAddr,
    destination: SocketAddr,
    protocol: Protocol,
}

fn parse_connection(reply: &NftReply) -> Option<OpenedConnection> {
    let original = reply.find(TUPLE_ORIGINAL)?;
    let tuple = parse_tuple(original)?;
    let state = reply
        .find(PROTOCOL_INFO)
        .and_then(|info| info.find(TCP_INFO)?.find(TCP_STATE)?.value.first().copied());
    Some(OpenedConnection {
        key: OpenedConnectionKey {
            id: reply.find(ID)?.u32_be()?,
            tuple: original.value.to_vec(),
        },
        local: tuple.source,
        remote: tuple.destination,
        protocol: tuple.protocol,
        leads_to: parse_tuple(reply.find(TUPLE_REPLY)?)?.source.ip(),
        is_open: state.is_none_or(|state| OPEN_TCP_STATES.contains(&state)),
        zone: reply.find(ZONE).map(|zone| zone.value.to_vec()),
    })
}

fn parse_tuple(tuple: NetlinkAttribute<'_>) -> Option<ConnectionTuple> {
    let addresses = tuple.find(TUPLE_IP)?;
    let address = |v4, v6| {
        let of_v4 = addresses.find(v4).map(|one| one.value);
        let of_v6 = addresses.find(v6).map(|one| one.value);
        match (of_v4, of_v6) {
            (Some(bytes), _) => <[u8; 4]>::try_from(bytes)
                .ok()
                .map(|bytes| IpAddr::from(Ipv4Addr::from(bytes))),
            (None, bytes) => <[u8; 16]>::try_from(bytes?)
                .ok()
                .map(|bytes| IpAddr::from(Ipv6Addr::from(bytes))),
        }
    };
    let protocol = tuple.find(TUPLE_PROTOCOL)?;
    let port = |kind| {
        let bytes = protocol.find(kind)?.value;
        <[u8; 2]>::try_from(bytes).ok().map(u16::from_be_bytes)
    };
    let number = *protocol.find(PROTOCOL_NUMBER)?.value.first()?;
    Some(ConnectionTuple {
        source: SocketAddr::new(
            address(V4_SOURCE, V6_SOURCE)?,
            port(SOURCE_PORT).unwrap_or_default(),
        ),
        destination: SocketAddr::new(
            address(V4_DESTINATION, V6_DESTINATION)?,
            port(DESTINATION_PORT).unwrap_or_default(),
        ),
        protocol: Protocol(number),
    })
}
