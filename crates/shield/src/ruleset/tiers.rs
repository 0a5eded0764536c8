// SPDX-License-Identifier: Apache-2.0
//! Builds the tiers of the ruleset, in evaluation order.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use terok_clearance::address_class::{
    AddressRange, IpFamily, floor_ranges, link_local_multicast, private_ranges,
};
use terok_clearance::{Action, Protocol, nflog};

use super::{
    ESTABLISHED, NftChain, NftHook, NftMatch, NftRule, NftSet, NftSetContent, NftSetKey,
    NftStatement, PROTOCOLS_WITH_PORTS, PacketSide, RELATED, Ruleset, names,
};
use crate::Policy;
use crate::order_element::{OrderSet, OrderSetShape};

/// Duration for which a similar packet is not logged again.
const ASKED_TIMEOUT: Duration = Duration::from_secs(5);
/// Logged bytes per packet: headers and options without content.
const LOGGED_BYTES: u32 = 256;

pub(super) fn build_ruleset(policy: &Policy) -> Ruleset {
    let resolvers: Vec<_> = IpFamily::BOTH
        .into_iter()
        .filter_map(|family| {
            let of_family = |ip: &IpAddr| IpFamily::of(*ip) == family;
            let addresses: Vec<_> = policy
                .resolvers()
                .iter()
                .copied()
                .filter(of_family)
                .collect();
            (!addresses.is_empty()).then_some((family, addresses))
        })
        .collect();
    let families: Vec<_> = resolvers.iter().map(|(family, _)| *family).collect();
    let mut sets: Vec<_> = resolvers
        .into_iter()
        .map(|(family, addresses)| NftSet {
            name: resolver_set_name(family),
            key: NftSetKey::Address(family),
            content: NftSetContent::Addresses(addresses),
        })
        .collect();
    sets.extend(constant_sets());
    for action in [Action::Deny, Action::Allow] {
        sets.extend(OrderSet::of_action(action).map(|set| NftSet {
            name: set.set_name(),
            key: set.set_key(),
            content: NftSetContent::Orders,
        }));
    }
    sets.extend(ASKED_SETS.map(|(key, name)| NftSet {
        name,
        key,
        content: NftSetContent::Recent(ASKED_TIMEOUT),
    }));
    sets.extend(IpFamily::BOTH.map(|family| NftSet {
        name: overdue_set_name(family),
        key: NftSetKey::Port(family),
        content: NftSetContent::Orders,
    }));
    sets.push(NftSet {
        name: HELD_SET,
        key: NftSetKey::Transport,
        content: NftSetContent::Orders,
    });
    let mut chains = vec![
        refuse_chain(),
        log_and_refuse_chain("denied", nflog::DENIED_PREFIX),
        log_and_refuse_chain("private", nflog::PRIVATE_RANGE_PREFIX),
        wait_chain(),
        ask_chain(),
    ];
    if policy.has_name_server() {
        sets.extend(names::stand_in_sets());
        chains.extend([
            names::stand_in_chain(),
            names::translate_chain(),
            names::leave_chain(),
        ]);
    }
    chains.extend([
        untrack_chain("untrack_output", NftHook::RawOutput, policy),
        untrack_chain("untrack_prerouting", NftHook::RawPrerouting, policy),
        output_chain(&families, policy),
        input_chain(&families, policy),
        forward_chain(),
    ]);
    Ruleset { sets, chains }
}

fn constant_sets() -> Vec<NftSet> {
    let words = |name, key, words: &[(u8, &'static str)]| NftSet {
        name,
        key,
        content: NftSetContent::NamedBytes(words.to_vec()),
    };
    let ranges = |name, family, spans: &[AddressRange]| NftSet {
        name,
        key: NftSetKey::Address(family),
        content: NftSetContent::Ranges(spans.to_vec()),
    };
    vec![
        words("ported", NftSetKey::Transport, &PROTOCOLS_WITH_PORTS),
        neighbour_out_set(),
        words(
            "neighbour_in",
            NftSetKey::Icmpv6,
            &[
                (134, "nd-router-advert"),
                (135, "nd-neighbor-solicit"),
                (136, "nd-neighbor-advert"),
            ],
        ),
        words(
            "listener",
            NftSetKey::Icmpv6,
            &[
                (130, "mld-listener-query"),
                (131, "mld-listener-report"),
                (132, "mld-listener-done"),
                (143, "mld2-listener-report"),
            ],
        ),
        ranges("loopback4", IpFamily::V4, &loopback_range()),
        ranges("noise4", IpFamily::V4, &link_local_multicast(IpFamily::V4)),
        ranges("noise6", IpFamily::V6, &link_local_multicast(IpFamily::V6)),
        ranges("floor4", IpFamily::V4, floor_ranges(IpFamily::V4)),
        ranges("floor6", IpFamily::V6, floor_ranges(IpFamily::V6)),
        ranges("private4", IpFamily::V4, private_ranges(IpFamily::V4)),
        ranges("private6", IpFamily::V6, private_ranges(IpFamily::V6)),
    ]
}

fn loopback_range() -> Vec<AddressRange> {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let floor = floor_ranges(IpFamily::V4).iter().copied();
    floor.filter(|range| range.contains(loopback)).collect()
}

/// Hides packets over the loopback interface from the connection tracker: a workload can send
/// itself one with a foreign address (`IPV6_FREEBIND`, `SO_BINDTODEVICE`), and an entry of it would
/// lead outside.
///
/// Packets between two loopback addresses are tracked, because their entries lead nowhere and
/// container engines redirect some of them (docker's resolver at 127.0.0.11).
fn untrack_chain(name: &'static str, hook: NftHook, policy: &Policy) -> NftChain {
    let within = |side| NftMatch::Address(IpFamily::V4, side, "loopback4");
    let mut rules = vec![new_rule(
        [
            NftMatch::Loopback(hook),
            within(PacketSide::Source),
            within(PacketSide::Destination),
        ],
        [NftStatement::Accept],
    )];
    // A received packet keeps the entry that it had when it was sent.
    if policy.has_name_server() && hook == NftHook::RawOutput {
        rules.extend(names::tracked_replies());
    }
    rules.push(
        new_rule([NftMatch::Loopback(hook)], [NftStatement::Untrack]).with_comment(
            "A packet to oneself with a foreign address makes no entry that leads outside.",
        ),
    );
    NftChain {
        name,
        hook: Some(hook),
        rules,
    }
}

/// Returns the set of neighbour messages that a host sends.
pub(super) fn neighbour_out_set() -> NftSet {
    NftSet {
        name: "neighbour_out",
        key: NftSetKey::Icmpv6,
        content: NftSetContent::NamedBytes(vec![
            (133, "nd-router-solicit"),
            (135, "nd-neighbor-solicit"),
            (136, "nd-neighbor-advert"),
        ]),
    }
}

fn output_chain(resolvers: &[IpFamily], policy: &Policy) -> NftChain {
    use NftStatement::{Accept, Drop, Goto, MarkAllowed};
    let to = |family, set| NftMatch::Address(family, PacketSide::Destination, set);
    let mut rules = vec![
        new_rule([NftMatch::Loopback(NftHook::Output)], [Accept]),
        new_rule(
            [
                NftMatch::AllowedConnection,
                NftMatch::Connection(ESTABLISHED | RELATED),
            ],
            [Accept],
        )
        .with_comment("Connections that a rule opened continue; a deny applies to new ones."),
    ];
    if policy.has_name_server() {
        rules.extend(names::first_output_rules(resolvers));
    } else {
        for family in resolvers {
            for protocol in [Protocol::UDP, Protocol::TCP] {
                let port = NftMatch::Port(protocol, PacketSide::Destination, 53);
                rules.push(new_rule(
                    [to(*family, resolver_set_name(*family)), port],
                    [MarkAllowed, Accept],
                ));
            }
        }
    }
    rules.extend([
        new_rule(
            [NftMatch::FromProcess, NftMatch::Icmpv6("neighbour_out")],
            [Goto("denied")],
        )
        .with_comment("Only the kernel sends neighbour messages; a forged one could carry data."),
        new_rule(
            [NftMatch::Icmpv6("neighbour_out"), NftMatch::OnLink],
            [Accept],
        ),
        new_rule([to(IpFamily::V4, "noise4")], [Drop]),
        new_rule([to(IpFamily::V6, "noise6")], [Drop]),
        new_rule([NftMatch::Transport(Protocol(2))], [Drop]),
        new_rule([NftMatch::Icmpv6("listener")], [Drop]),
        new_rule([to(IpFamily::V4, "floor4")], [Goto("denied")])
            .with_comment("The floor: no order opens these addresses."),
        new_rule([to(IpFamily::V6, "floor6")], [Goto("denied")]),
    ]);
    rules.extend([
        new_rule([to(IpFamily::V4, "private4")], [Goto("private")]),
        new_rule([to(IpFamily::V6, "private6")], [Goto("private")]),
    ]);
    rules.extend(order_rules());
    if policy.has_name_server() {
        rules.push(names::translated_rule());
    }
    rules.push(new_rule([], [Goto("ask")]));
    NftChain {
        name: "output",
        hook: Some(NftHook::Output),
        rules,
    }
}

/// One rule for each order set: the narrowest order decides, and a denial takes precedence over an
/// equally narrow allow.
fn order_rules() -> Vec<NftRule> {
    let mut rules = Vec::new();
    for shape in OrderSetShape::NARROW_FIRST {
        for action in [Action::Deny, Action::Allow] {
            rules.extend(
                OrderSet::of_action(action)
                    .filter(|set| set.shape == shape)
                    .map(|set| {
                        // Other protocols have no port at this offset.
                        let ported =
                            (shape == OrderSetShape::Port).then_some(NftMatch::HasPorts(true));
                        let statements = match action {
                            Action::Deny => vec![NftStatement::Goto("denied")],
                            Action::Allow => {
                                vec![NftStatement::MarkAllowed, NftStatement::Accept]
                            }
                        };
                        new_rule(ported.into_iter().chain([set.packet_match()]), statements)
                    }),
            );
        }
    }
    if let Some(first) = rules.first_mut() {
        first.comment = Some("Orders, narrowest first: port, protocol, address.");
    }
    rules
}

/// Logs a question, unless the same one was logged recently.
///
/// The log rule stands alone between lookup and insertion, so that a full set, or a packet without
/// the bytes of the key, causes more questions and never fewer.
///
/// What becomes of the first packet of a TCP connection that no order covers:
///
/// | `held` has tcp | destination | packet | next packet of the same connection |
/// |---|---|---|---|
/// | no: no operator answers | not in `asked` | logged, refused | (the program got its error) |
/// | no | in `asked` | refused | (the program got its error) |
/// | yes | not in `asked` | logged, dropped | as below |
/// | yes | in `asked` | dropped | dropped, and logged again after the time of `asked` |
/// | yes | allowed meanwhile | (does not come here) | passes |
/// | yes | denied meanwhile | (does not come here) | refused |
/// | any | in `overdue`: no answer before the limit | refused | (the program got its error) |
///
/// The program's own repetitions (after 1, 2, 3 … s) carry a held connection on, so that nothing is
/// sent on its behalf. If the supervisor dies, held connections end with the program's own limit.
fn ask_chain() -> NftChain {
    let wanted = |key| NftMatch::HasPorts(matches!(key, NftSetKey::Port(_)));
    let mut rules: Vec<_> = IpFamily::BOTH
        .into_iter()
        .map(|family| {
            let key = NftSetKey::Port(family);
            new_rule(
                [wanted(key), NftMatch::InSet(key, overdue_set_name(family))],
                [NftStatement::Goto("refuse")],
            )
        })
        .collect();
    rules.extend(ASKED_SETS.iter().map(|(key, set)| {
        new_rule(
            [wanted(*key), NftMatch::InSet(*key, set)],
            [NftStatement::Goto("wait")],
        )
    }));
    rules.push(new_rule([], [log_statement(nflog::BLOCKED_PREFIX)]));
    rules.extend(
        ASKED_SETS
            .iter()
            .map(|(key, set)| new_rule([wanted(*key)], [NftStatement::AddToSet(*key, set)])),
    );
    rules.push(new_rule([], [NftStatement::Goto("wait")]));
    NftChain {
        name: "ask",
        hook: None,
        rules,
    }
}

/// Lets connections wait while an operator who answers is connected.
fn wait_chain() -> NftChain {
    NftChain {
        name: "wait",
        hook: None,
        rules: vec![
            new_rule(
                [
                    NftMatch::InSet(NftSetKey::Transport, HELD_SET),
                    NftMatch::ConnectionRequest,
                ],
                [NftStatement::Drop],
            ),
            new_rule([], [NftStatement::Goto("refuse")]),
        ],
    }
}

/// Creates a chain that logs and refuses without a question.
fn log_and_refuse_chain(name: &'static str, prefix: &'static str) -> NftChain {
    let limit = NftStatement::Limit {
        per_second: 10,
        burst: 50,
    };
    NftChain {
        name,
        hook: None,
        rules: vec![
            new_rule([], [limit, log_statement(prefix)]),
            new_rule([], [NftStatement::Goto("refuse")]),
        ],
    }
}

fn refuse_chain() -> NftChain {
    NftChain {
        name: "refuse",
        hook: None,
        rules: vec![
            new_rule([NftMatch::Transport(Protocol::TCP)], [NftStatement::Reset]),
            new_rule([], [NftStatement::Prohibit]),
        ],
    }
}

/// Accepts replies, and logs the answers of the resolver.
///
/// Answers over the loopback interface are not logged: a workload can send itself a packet with the
/// resolver's address. Nor are answers over TCP: a workload chooses where its stream is cut, and so
/// which of the bytes that it receives look like the start of a message.
fn input_chain(resolvers: &[IpFamily], policy: &Policy) -> NftChain {
    let mut rules = Vec::new();
    let mut logged = resolvers;
    if policy.has_name_server() {
        rules.extend(names::input_rules(resolvers));
        logged = &[];
    }
    rules.push(new_rule(
        [NftMatch::Loopback(NftHook::Input)],
        [NftStatement::Accept],
    ));
    rules.extend(logged.iter().map(|family| {
        let answer = NftStatement::Log {
            group: nflog::DNS_ANSWERS_GROUP,
            prefix: nflog::DNS_ANSWER_PREFIX,
            snaplen: None,
        };
        new_rule(
            [
                NftMatch::AllowedConnection,
                NftMatch::Connection(ESTABLISHED),
                NftMatch::Address(*family, PacketSide::Source, resolver_set_name(*family)),
                NftMatch::Port(Protocol::UDP, PacketSide::Source, 53),
            ],
            [answer],
        )
    }));
    rules.extend([
        new_rule(
            [
                NftMatch::AllowedConnection,
                NftMatch::Connection(ESTABLISHED | RELATED),
            ],
            [NftStatement::Accept],
        ),
        new_rule(
            [NftMatch::Icmpv6("neighbour_in"), NftMatch::OnLink],
            [NftStatement::Accept],
        ),
        new_rule([], [NftStatement::Drop]).with_comment(FINAL_DROP_COMMENT),
    ]);
    NftChain {
        name: "input",
        hook: Some(NftHook::Input),
        rules,
    }
}

fn forward_chain() -> NftChain {
    NftChain {
        name: "forward",
        hook: Some(NftHook::Forward),
        rules: vec![new_rule([], [NftStatement::Drop]).with_comment(FINAL_DROP_COMMENT)],
    }
}

const FINAL_DROP_COMMENT: &str =
    "Explicit despite the policy: while a ruleset is replaced, rules take effect first.";

const ASKED_SETS: [(NftSetKey, &str); 4] = [
    (NftSetKey::Port(IpFamily::V4), "asked_port4"),
    (NftSetKey::Port(IpFamily::V6), "asked_port6"),
    (NftSetKey::Protocol(IpFamily::V4), "asked_proto4"),
    (NftSetKey::Protocol(IpFamily::V6), "asked_proto6"),
];

/// Returns the names of the sets of recent questions, and of those without an answer before the
/// time limit.
pub(crate) fn asked_set_names() -> impl Iterator<Item = &'static str> {
    let asked = ASKED_SETS.iter().map(|(_, name)| *name);
    asked.chain(IpFamily::BOTH.map(overdue_set_name))
}

/// The set of transport protocols whose packets wait for an answer.
pub(crate) const HELD_SET: &str = "held";

/// Returns the name of the set of destinations whose time to wait is over.
pub(crate) const fn overdue_set_name(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "overdue_port4",
        IpFamily::V6 => "overdue_port6",
    }
}

/// Returns the name of the resolvers' set.
pub(crate) const fn resolver_set_name(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "resolver4",
        IpFamily::V6 => "resolver6",
    }
}

const fn log_statement(prefix: &'static str) -> NftStatement {
    NftStatement::Log {
        group: nflog::BLOCKED_GROUP,
        prefix,
        snaplen: Some(LOGGED_BYTES),
    }
}

pub(super) fn new_rule(
    matches: impl IntoIterator<Item = NftMatch>,
    statements: impl IntoIterator<Item = NftStatement>,
) -> NftRule {
    NftRule {
        comment: None,
        matches: matches.into_iter().collect(),
        statements: statements.into_iter().collect(),
    }
}

impl NftRule {
    pub(super) fn with_comment(self, comment: &'static str) -> Self {
        Self {
            comment: Some(comment),
            ..self
        }
    }
}
