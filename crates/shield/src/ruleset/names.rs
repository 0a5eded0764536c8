// SPDX-License-Identifier: Apache-2.0
//! The part of the ruleset for a sandbox whose names are served by its supervisor.
//!
//! What becomes of a packet to a stand-in address, the address of one name:
//!
//! | orders on the stand-in | destination after `translate` | packet |
//! |---|---|---|
//! | none | the stand-in | a question, as for any address |
//! | deny | the stand-in | refused |
//! | allow, without an address yet | the stand-in | logged: the supervisor looks the name up |
//! | allow, with an address | that address | accepted, see below |
//!
//! Floor, private ranges and denials of the address itself take precedence over an allowed name.
//! A stand-in address never leaves: its packets end in chain `stand_in`, which accepts none.

use std::net::Ipv6Addr;

use terok_clearance::address_class::{IpFamily, stand_in_range};
use terok_clearance::{Action, Protocol};

use super::tiers::{new_rule, resolver_set_name};
use super::{
    ESTABLISHED, NftChain, NftHook, NftMatch, NftRule, NftSet, NftSetContent, NftSetKey,
    NftStatement, PacketSide,
};
use crate::order_element::{OrderSet, OrderSetShape};
use crate::policy::{LOOKUP_MARK, NAME_SERVER_PORT};

const STAND_IN_SET: &str = "stand_in4";
const TRANSPORTS: [Protocol; 2] = [Protocol::UDP, Protocol::TCP];
/// The sets of loopback addresses; that of IPv4 belongs to every ruleset.
const LOOPBACK_SETS: [(IpFamily, &str); 2] =
    [(IpFamily::V4, "loopback4"), (IpFamily::V6, "loopback6")];

/// Returns the sets of stand-ins.
pub(super) fn stand_in_sets() -> Vec<NftSet> {
    let mut sets = vec![
        NftSet {
            name: "loopback6",
            key: NftSetKey::Address(IpFamily::V6),
            content: NftSetContent::Addresses(vec![Ipv6Addr::LOCALHOST.into()]),
        },
        NftSet {
            name: STAND_IN_SET,
            key: NftSetKey::Address(IpFamily::V4),
            content: NftSetContent::Ranges(vec![stand_in_range()]),
        },
    ];
    sets.extend(OrderSet::of_stand_ins().map(|set| NftSet {
        name: set.set_name(),
        key: set.set_key(),
        content: NftSetContent::OrderedAddresses,
    }));
    sets
}

/// Lets the tracker see the replies of the name server, which it must translate back.
pub(super) fn tracked_replies() -> impl Iterator<Item = NftRule> {
    LOOPBACK_SETS.into_iter().flat_map(|(family, loopback)| {
        TRANSPORTS.map(|protocol| {
            new_rule(
                [
                    NftMatch::Loopback(NftHook::RawOutput),
                    NftMatch::Address(family, PacketSide::Source, loopback),
                    NftMatch::Port(protocol, PacketSide::Source, NAME_SERVER_PORT),
                ],
                [NftStatement::Accept],
            )
        })
    })
}

/// Redirects lookups to the name server, except for its own, and stand-ins to the addresses of
/// allowed names.
pub(super) fn translate_chain() -> NftChain {
    let mut rules = vec![new_rule(
        [NftMatch::PacketMark(LOOKUP_MARK)],
        [NftStatement::Accept],
    )];
    rules.extend(TRANSPORTS.map(|protocol| {
        new_rule(
            [NftMatch::Port(protocol, PacketSide::Destination, 53)],
            [NftStatement::RedirectToLoopback(NAME_SERVER_PORT)],
        )
    }));
    for shape in OrderSetShape::NARROW_FIRST {
        let deny = OrderSet::of_address(Action::Deny, shape, IpFamily::V4);
        let allow = OrderSet::of_stand_in(shape);
        let ported = || (shape == OrderSetShape::Port).then_some(NftMatch::HasPorts(true));
        rules.push(new_rule(
            ported().into_iter().chain([deny.packet_match()]),
            [NftStatement::Accept],
        ));
        rules.push(new_rule(
            ported(),
            [NftStatement::TranslateBy(allow.set_key(), allow.set_name())],
        ));
    }
    NftChain {
        name: "translate",
        hook: Some(NftHook::TranslateOutput),
        rules,
    }
}

/// Returns the rules of the output chain that precede the floor: for the name server's own lookups,
/// for those that are redirected to it, and for stand-ins.
pub(super) fn first_output_rules(resolvers: &[IpFamily]) -> impl Iterator<Item = NftRule> {
    let own_lookups = resolvers.iter().flat_map(|family| {
        TRANSPORTS.map(|protocol| {
            new_rule(
                [
                    NftMatch::PacketMark(LOOKUP_MARK),
                    NftMatch::Address(*family, PacketSide::Destination, resolver_set_name(*family)),
                    NftMatch::Port(protocol, PacketSide::Destination, 53),
                ],
                [NftStatement::MarkLookup, NftStatement::Accept],
            )
        })
    });
    let lookups = LOOPBACK_SETS.into_iter().flat_map(|(family, loopback)| {
        TRANSPORTS.map(|protocol| {
            new_rule(
                [
                    NftMatch::Translated,
                    NftMatch::Address(family, PacketSide::Destination, loopback),
                    NftMatch::Port(protocol, PacketSide::Destination, NAME_SERVER_PORT),
                ],
                [NftStatement::Accept],
            )
        })
    });
    own_lookups.chain(lookups).chain([new_rule(
        [NftMatch::Address(
            IpFamily::V4,
            PacketSide::Destination,
            STAND_IN_SET,
        )],
        [NftStatement::Goto("stand_in")],
    )])
}

/// Returns the first rules of the input chain: replies to the name server's own lookups pass,
/// unless they come over the loopback interface. There, a workload can send itself a packet with
/// the resolver's address. Redirected lookups have their replies over it, too; these are
/// translated.
pub(super) fn input_rules(resolvers: &[IpFamily]) -> impl Iterator<Item = NftRule> {
    resolvers.iter().flat_map(|family| {
        TRANSPORTS.into_iter().flat_map(|protocol| {
            let from_resolver = || {
                [
                    NftMatch::Address(*family, PacketSide::Source, resolver_set_name(*family)),
                    NftMatch::Port(protocol, PacketSide::Source, 53),
                ]
            };
            let loopback = NftMatch::Loopback(NftHook::Input);
            [
                new_rule(
                    [loopback.clone(), NftMatch::Translated]
                        .into_iter()
                        .chain(from_resolver()),
                    [NftStatement::Accept],
                ),
                new_rule(
                    [loopback].into_iter().chain(from_resolver()),
                    [NftStatement::Drop],
                ),
                new_rule(
                    [
                        NftMatch::LookupConnection,
                        NftMatch::Connection(ESTABLISHED),
                    ]
                    .into_iter()
                    .chain(from_resolver()),
                    [NftStatement::Accept],
                ),
            ]
        })
    })
}

/// Returns the rule of the output chain that follows all orders on addresses.
pub(super) fn translated_rule() -> NftRule {
    new_rule(
        [
            NftMatch::Translated,
            NftMatch::OriginalDestination(STAND_IN_SET),
        ],
        [NftStatement::MarkAllowed, NftStatement::Accept],
    )
    .with_comment("Connections to allowed names; the map that translated them has these only.")
}

/// Refuses denied stand-ins and asks about the others. No rule accepts.
pub(super) fn stand_in_chain() -> NftChain {
    let denied = OrderSetShape::NARROW_FIRST.map(|shape| {
        let deny = OrderSet::of_address(Action::Deny, shape, IpFamily::V4);
        let ported = (shape == OrderSetShape::Port).then_some(NftMatch::HasPorts(true));
        new_rule(
            ported.into_iter().chain([deny.packet_match()]),
            [NftStatement::Goto("denied")],
        )
    });
    NftChain {
        name: "stand_in",
        hook: None,
        rules: denied
            .into_iter()
            .chain([new_rule([], [NftStatement::Goto("ask")])])
            .collect(),
    }
}

/// Drops packets to loopback addresses on their way out: a socket bound to another interface sends
/// its redirected lookups there.
pub(super) fn leave_chain() -> NftChain {
    NftChain {
        name: "leave",
        hook: Some(NftHook::Postrouting),
        rules: LOOPBACK_SETS
            .map(|(family, loopback)| {
                new_rule(
                    [
                        NftMatch::LeavesNamespace,
                        NftMatch::Address(family, PacketSide::Destination, loopback),
                    ],
                    [NftStatement::Drop],
                )
            })
            .into(),
    }
}
