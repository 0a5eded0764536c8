// SPDX-License-Identifier: Apache-2.0
//! The tiers, in the order in which a packet meets them.

use std::net::IpAddr;
use std::time::Duration;

use terok_clearance::{Action, Protocol, nflog};

use super::{
    Chain, Content, ESTABLISHED, Hook, Key, Match, PORTED, RELATED, Rule, Ruleset, Set, Side,
    Statement,
};
use crate::Policy;
use crate::order::{OrderSet, Shape};
use crate::ranges::{Family, floor, noise, private};

/// For how long a packet like one that was just asked about is not logged again.
const ASKED: Duration = Duration::from_secs(5);
/// As much of a packet as says who wanted what: headers and options, not its content.
const HEADERS: u32 = 256;

pub(super) fn ruleset(policy: &Policy) -> Ruleset {
    let resolvers: Vec<_> = Family::BOTH
        .into_iter()
        .filter_map(|family| {
            let of_family = |ip: &IpAddr| Family::of(*ip) == family;
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
        .map(|(family, addresses)| Set {
            name: resolver(family),
            key: Key::Address(family),
            content: Content::Addresses(addresses),
        })
        .collect();
    sets.extend(constants());
    for action in [Action::Deny, Action::Allow] {
        sets.extend(OrderSet::of(action).map(|set| Set {
            name: set.name(),
            key: set.key(),
            content: Content::Orders,
        }));
    }
    sets.extend(ASKED_SETS.map(|(key, name)| Set {
        name,
        key,
        content: Content::Recent(ASKED),
    }));
    Ruleset {
        sets,
        chains: vec![
            refuse(),
            told("denied", nflog::DENIED_PREFIX),
            told("private", nflog::PRIVATE_PREFIX),
            ask(),
            output(&families),
            input(&families),
            forward(),
        ],
    }
}

fn constants() -> Vec<Set> {
    let words = |name, key, words: &[(u8, &'static str)]| Set {
        name,
        key,
        content: Content::Words(words.to_vec()),
    };
    let ranges = |name, family, spans: &[crate::ranges::Span]| Set {
        name,
        key: Key::Address(family),
        content: Content::Ranges(spans.to_vec()),
    };
    vec![
        words("ported", Key::Transport, &PORTED),
        words(
            "neighbour_out",
            Key::Icmpv6,
            &[
                (133, "nd-router-solicit"),
                (135, "nd-neighbor-solicit"),
                (136, "nd-neighbor-advert"),
            ],
        ),
        words(
            "neighbour_in",
            Key::Icmpv6,
            &[
                (134, "nd-router-advert"),
                (135, "nd-neighbor-solicit"),
                (136, "nd-neighbor-advert"),
            ],
        ),
        words(
            "listener",
            Key::Icmpv6,
            &[
                (130, "mld-listener-query"),
                (131, "mld-listener-report"),
                (132, "mld-listener-done"),
                (143, "mld2-listener-report"),
            ],
        ),
        ranges("noise4", Family::V4, &noise(Family::V4)),
        ranges("noise6", Family::V6, &noise(Family::V6)),
        ranges("floor4", Family::V4, floor(Family::V4)),
        ranges("floor6", Family::V6, floor(Family::V6)),
        ranges("private4", Family::V4, private(Family::V4)),
        ranges("private6", Family::V6, private(Family::V6)),
    ]
}

fn output(resolvers: &[Family]) -> Chain {
    use Statement::{Accept, Drop, Goto};
    let to = |family, set| Match::Address(family, Side::Destination, set);
    let mut rules = vec![
        rule([Match::Loopback(Hook::Output)], [Accept]),
        rule([Match::Connection(ESTABLISHED | RELATED)], [Accept])
            .note("What was let through once goes on; a deny is for the next connection."),
    ];
    for family in resolvers {
        for protocol in [Protocol::UDP, Protocol::TCP] {
            let port = Match::Port(protocol, Side::Destination, 53);
            rules.push(rule([to(*family, resolver(*family)), port], [Accept]));
        }
    }
    rules.extend([
        rule(
            [Match::ByProcess, Match::Icmpv6("neighbour_out")],
            [Goto("denied")],
        )
        .note("Only the kernel speaks to neighbours; a forged message could carry anything."),
        rule([Match::Icmpv6("neighbour_out"), Match::OnLink], [Accept]),
        rule([to(Family::V4, "noise4")], [Drop]),
        rule([to(Family::V6, "noise6")], [Drop]),
        rule([Match::Transport(Protocol(2))], [Drop]),
        rule([Match::Icmpv6("listener")], [Drop]),
        rule([to(Family::V4, "floor4")], [Goto("denied")])
            .note("The floor: no order opens what stands here."),
        rule([to(Family::V6, "floor6")], [Goto("denied")]),
    ]);
    rules.extend([
        rule([to(Family::V4, "private4")], [Goto("private")]),
        rule([to(Family::V6, "private6")], [Goto("private")]),
    ]);
    rules.extend(orders());
    rules.push(rule([], [Goto("ask")]));
    Chain {
        name: "output",
        hook: Some(Hook::Output),
        rules,
    }
}

/// One rule for each set of orders: the narrowest order that is about a packet decides, and of
/// two that are as narrow the refusal. So no order uncovers what another one keeps closed.
fn orders() -> Vec<Rule> {
    let mut rules = Vec::new();
    for shape in Shape::NARROW_FIRST {
        for action in [Action::Deny, Action::Allow] {
            rules.extend(
                OrderSet::of(action)
                    .filter(|set| set.shape == shape)
                    .map(|set| {
                        let wanted = match shape {
                            Shape::Whole => {
                                Match::Address(set.family, Side::Destination, set.name())
                            }
                            Shape::Protocol | Shape::Port => Match::Member(set.key(), set.name()),
                        };
                        // Without this, the bytes where other protocols have a port would be looked at.
                        let ported = (shape == Shape::Port).then_some(Match::Ported(true));
                        let statement = match action {
                            Action::Deny => Statement::Goto("denied"),
                            Action::Allow => Statement::Accept,
                        };
                        rule(ported.into_iter().chain([wanted]), [statement])
                    }),
            );
        }
    }
    if let Some(first) = rules.first_mut() {
        first.note = Some("Orders, the narrowest first: a port, a protocol, an address.");
    }
    rules
}

/// A question, unless the same one was asked just now.
///
/// The log rule stands alone between looking and remembering, so that a set without room, or a
/// packet without the bytes that make a key, makes more questions and never fewer.
fn ask() -> Chain {
    let wanted = |key| Match::Ported(matches!(key, Key::Port(_)));
    let mut rules: Vec<_> = ASKED_SETS
        .iter()
        .map(|(key, set)| {
            rule(
                [wanted(*key), Match::Member(*key, set)],
                [Statement::Goto("refuse")],
            )
        })
        .collect();
    rules.push(rule([], [log(nflog::BLOCKED_PREFIX)]));
    rules.extend(
        ASKED_SETS
            .iter()
            .map(|(key, set)| rule([wanted(*key)], [Statement::Remember(*key, set)])),
    );
    rules.push(rule([], [Statement::Goto("refuse")]));
    Chain {
        name: "ask",
        hook: None,
        rules,
    }
}

/// A refusal that is told and is no question.
fn told(name: &'static str, prefix: &'static str) -> Chain {
    let limit = Statement::Limit {
        per_second: 10,
        burst: 50,
    };
    Chain {
        name,
        hook: None,
        rules: vec![
            rule([], [limit, log(prefix)]),
            rule([], [Statement::Goto("refuse")]),
        ],
    }
}

fn refuse() -> Chain {
    Chain {
        name: "refuse",
        hook: None,
        rules: vec![
            rule([Match::Transport(Protocol::TCP)], [Statement::Reset]),
            rule([], [Statement::Prohibit]),
        ],
    }
}

fn input(resolvers: &[Family]) -> Chain {
    let mut rules = Vec::new();
    for family in resolvers {
        for protocol in [Protocol::UDP, Protocol::TCP] {
            let answer = Statement::Log {
                group: nflog::DNS_ANSWERS_GROUP,
                prefix: nflog::DNS_ANSWER_PREFIX,
                snaplen: None,
            };
            rules.push(rule(
                [
                    Match::Connection(ESTABLISHED),
                    Match::Address(*family, Side::Source, resolver(*family)),
                    Match::Port(protocol, Side::Source, 53),
                ],
                [answer],
            ));
        }
    }
    rules.extend([
        rule([Match::Loopback(Hook::Input)], [Statement::Accept]),
        rule(
            [Match::Connection(ESTABLISHED | RELATED)],
            [Statement::Accept],
        ),
        rule(
            [Match::Icmpv6("neighbour_in"), Match::OnLink],
            [Statement::Accept],
        ),
        rule([], [Statement::Drop]).note(END),
    ]);
    Chain {
        name: "input",
        hook: Some(Hook::Input),
        rules,
    }
}

fn forward() -> Chain {
    Chain {
        name: "forward",
        hook: Some(Hook::Forward),
        rules: vec![rule([], [Statement::Drop]).note(END)],
    }
}

const END: &str =
    "Said although it is the policy: when a ruleset replaces another, rules come first.";

const ASKED_SETS: [(Key, &str); 4] = [
    (Key::Port(Family::V4), "asked_port4"),
    (Key::Port(Family::V6), "asked_port6"),
    (Key::Protocol(Family::V4), "asked_proto4"),
    (Key::Protocol(Family::V6), "asked_proto6"),
];

/// Returns the sets that remember what was asked just now.
pub(crate) fn asked() -> impl Iterator<Item = &'static str> {
    ASKED_SETS.iter().map(|(_, name)| *name)
}

/// Returns the name of the set of resolvers.
pub(crate) const fn resolver(family: Family) -> &'static str {
    match family {
        Family::V4 => "resolver4",
        Family::V6 => "resolver6",
    }
}

const fn log(prefix: &'static str) -> Statement {
    Statement::Log {
        group: nflog::BLOCKED_GROUP,
        prefix,
        snaplen: Some(HEADERS),
    }
}

fn rule(
    matches: impl IntoIterator<Item = Match>,
    statements: impl IntoIterator<Item = Statement>,
) -> Rule {
    Rule {
        note: None,
        matches: matches.into_iter().collect(),
        statements: statements.into_iter().collect(),
    }
}

impl Rule {
    fn note(self, note: &'static str) -> Self {
        Self {
            note: Some(note),
            ..self
        }
    }
}
