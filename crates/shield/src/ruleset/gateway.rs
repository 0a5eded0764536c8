// SPDX-License-Identifier: Apache-2.0
//! Builds the ruleset of a gateway: which packets of the sandbox reach which socket.
//!
//! Nothing here opens a way out: the gateway has none. The first packet of a TCP connection is
//! logged and dropped, so that the connection waits; all other traffic ends in sockets of the
//! gateway's owner. No rule uses the connection tracker.

use std::net::IpAddr;

use netns::gateway::{
    DNS_PORT, GATEWAY_V4, GATEWAY_V6, REPLAY_MARK, SANDBOX_V4, SANDBOX_V6, TCP_PORT, UDP_PORT,
};
use terok_clearance::address_class::IpFamily;
use terok_clearance::{Protocol, nflog};

use super::tiers::{neighbour_out_set, new_rule};
use super::{
    NftChain, NftHook, NftMatch, NftRule, NftSet, NftSetContent, NftSetKey, NftStatement,
    PacketSide, Ruleset,
};

/// Logged bytes of a packet. The first packet of a connection may carry data (RFC 7413).
const LOGGED_BYTES: u32 = 4_096;
/// Logged packets per second of protocols that the gateway does not pass on.
const OTHER_PACKETS_PER_SECOND: u64 = 20;

impl Ruleset {
    /// Returns the ruleset of a gateway.
    pub(crate) fn of_gateway(has_ipv6: bool) -> Self {
        let families: &[IpFamily] = if has_ipv6 {
            &IpFamily::BOTH
        } else {
            &[IpFamily::V4]
        };
        let mut sets: Vec<_> = families
            .iter()
            .map(|family| NftSet {
                name: sandbox_set_name(*family),
                key: NftSetKey::Address(*family),
                content: NftSetContent::Addresses(vec![sandbox_address(*family)]),
            })
            .collect();
        sets.push(neighbour_out_set());
        Self {
            sets,
            chains: vec![
                prerouting_chain(families),
                NftChain {
                    name: "forward",
                    hook: Some(NftHook::Forward),
                    rules: vec![new_rule([], [NftStatement::Drop])],
                },
            ],
        }
    }
}

fn prerouting_chain(families: &[IpFamily]) -> NftChain {
    let mut rules = Vec::new();
    for family in families.iter().copied() {
        rules.push(replay_rule(family));
    }
    rules.push(
        new_rule([NftMatch::Loopback(NftHook::Input)], [NftStatement::Drop])
            .with_comment("Other packets of the gateway to itself are errors."),
    );
    rules.push(new_rule(
        [NftMatch::Icmpv6("neighbour_out"), NftMatch::OnLink],
        [NftStatement::Accept],
    ));
    for family in families.iter().copied() {
        rules.extend(sandbox_rules(family));
    }
    rules.push(
        new_rule([], [NftStatement::Drop]).with_comment("Sources that the sandbox does not have."),
    );
    NftChain {
        name: "prerouting",
        hook: Some(NftHook::Prerouting),
        rules,
    }
}

/// A repeated first packet reaches the accepting socket, whatever its destination.
fn replay_rule(family: IpFamily) -> NftRule {
    new_rule(
        [
            NftMatch::Loopback(NftHook::Input),
            NftMatch::PacketMark(REPLAY_MARK),
            NftMatch::Family(family),
            NftMatch::ConnectionRequest,
        ],
        [to_socket(family, TCP_PORT), NftStatement::Accept],
    )
}

fn sandbox_rules(family: IpFamily) -> Vec<NftRule> {
    use NftStatement::{Accept, Drop};
    let source = || NftMatch::Address(family, PacketSide::Source, sandbox_set_name(family));
    let log = |group| NftStatement::Log {
        group,
        prefix: nflog::GATEWAY_PREFIX,
        snaplen: Some(LOGGED_BYTES),
    };
    let limit = NftStatement::Limit {
        per_second: OTHER_PACKETS_PER_SECOND,
        burst: 50,
    };
    vec![
        new_rule(
            [
                source(),
                NftMatch::Port(Protocol::TCP, PacketSide::Destination, 53),
                NftMatch::ConnectionRequest,
            ],
            [to_socket(family, DNS_PORT), Accept],
        )
        .with_comment("Port 53 of any address is the gateway's name server."),
        new_rule(
            [source(), NftMatch::ConnectionRequest],
            [log(nflog::HELD_CONNECTIONS_GROUP), Drop],
        )
        .with_comment("A new connection waits: its first packet is repeated when it is allowed."),
        new_rule([source(), NftMatch::Transport(Protocol::TCP)], [Accept]),
        new_rule(
            [source(), NftMatch::Transport(Protocol::UDP)],
            [to_socket(family, UDP_PORT), Accept],
        ),
        new_rule(
            [source(), NftMatch::EchoRequest(family)],
            [log(nflog::OTHER_PACKETS_GROUP), Drop],
        ),
        new_rule([source()], [limit, log(nflog::OTHER_PACKETS_GROUP), Drop]),
    ]
}

fn to_socket(family: IpFamily, port: u16) -> NftStatement {
    NftStatement::ToSocket(gateway_address(family), port)
}

const fn gateway_address(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => IpAddr::V4(GATEWAY_V4),
        IpFamily::V6 => IpAddr::V6(GATEWAY_V6),
    }
}

const fn sandbox_address(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => IpAddr::V4(SANDBOX_V4),
        IpFamily::V6 => IpAddr::V6(SANDBOX_V6),
    }
}

const fn sandbox_set_name(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "sandbox4",
        IpFamily::V6 => "sandbox6",
    }
}
