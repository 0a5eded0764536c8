// SPDX-License-Identifier: Apache-2.0
//! Tests of `shield`'s orders as set elements, judged by the `nft` program.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use shield::{ListedElement, NftShield, Policy, ShieldOrderError};
use terok_clearance::{Action, Dest, DomainName, Protocol, RuleLifetime, Scope, Target};
use test_support::namespaces::require_private_namespaces;

const IP: &str = "203.0.113.7";

#[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
fn now() -> Instant {
    Instant::now()
}

fn policy() -> Policy {
    Policy::new(["198.51.100.53".parse().unwrap()]).unwrap()
}

fn engage() -> NftShield {
    require_private_namespaces();
    NftShield::engage(shield::open_nftables_socket().unwrap(), &policy()).unwrap()
}

fn scope(dest: &str) -> Scope {
    Scope::whole_dest(dest.parse().unwrap())
}

fn target(dest: &str) -> Target {
    dest.parse().unwrap()
}

fn name(text: &str) -> DomainName {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn allow(shield: &mut NftShield, scope: &Scope) {
    shield
        .allow(&scope.dest.parse_target().unwrap(), scope, now())
        .unwrap();
}

fn deny(shield: &mut NftShield, scope: &Scope) {
    shield
        .deny(&scope.dest.parse_target().unwrap(), scope, now())
        .unwrap();
}

fn nft(arguments: &str) -> String {
    let output = Command::new("nft")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "nft {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the elements of a set as listed by `nft -j`, one text each, without the remaining time.
fn elements(set: &str) -> Vec<String> {
    let listing = nft(&format!("-j list set inet terok_shield {set}"));
    let listing: Value = serde_json::from_str(&listing).unwrap();
    let objects = listing["nftables"].as_array().unwrap();
    let set = objects.iter().find_map(|object| object.get("set")).unwrap();
    let mut all: Vec<_> = set["elem"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|element| match element.get("elem") {
            None => value(element),
            Some(more) => {
                let mut text = value(&more["val"]);
                for key in ["timeout", "comment"] {
                    if let Some(option) = more.get(key) {
                        text = format!("{text} {key} {option}");
                    }
                }
                text
            }
        })
        .collect();
    all.sort();
    all
}

fn value(element: &Value) -> String {
    match element {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let parts = fields["concat"].as_array().unwrap().iter();
            parts
                .map(|part| part.to_string().replace('"', ""))
                .collect::<Vec<_>>()
                .join(" . ")
        }
        other => other.to_string(),
    }
}

#[test]
fn an_order_is_an_element_of_its_set() {
    let mut shield = engage();
    allow(&mut shield, &scope(IP));
    allow(&mut shield, &scope("2001:db8::7"));
    assert_eq!(elements("allow4"), [IP]);
    assert_eq!(elements("allow6"), ["2001:db8::7"]);
    let web = Scope {
        port: Some(443),
        protocol: Some(Protocol::TCP),
        ..scope("203.0.113.8")
    };
    allow(&mut shield, &web);
    assert_eq!(elements("allow_port4"), ["203.0.113.8 . tcp . 443"]);
    let udp = Scope {
        protocol: Some(Protocol::UDP),
        ..scope("2001:db8::8")
    };
    deny(&mut shield, &udp);
    assert_eq!(elements("deny_proto6"), ["2001:db8::8 . udp"]);
    let port = Scope {
        port: Some(8443),
        ..scope("203.0.113.9")
    };
    deny(&mut shield, &port);
    assert_eq!(elements("deny_port4").len(), 5, "every protocol with ports");
}

#[test]
fn an_order_replaces_the_opposite_order() {
    let mut shield = engage();
    for _ in 0..3 {
        allow(&mut shield, &scope(IP));
        allow(&mut shield, &scope(IP));
        assert_eq!((elements("allow4").len(), elements("deny4").len()), (1, 0));
        deny(&mut shield, &scope(IP));
        deny(&mut shield, &scope(IP));
        assert_eq!((elements("allow4").len(), elements("deny4").len()), (0, 1));
    }
    shield.forget(&target(IP), now()).unwrap();
    shield.forget(&target(IP), now()).unwrap();
    assert_eq!(shield.list_elements().unwrap(), []);
}

#[test]
fn a_timeout_can_be_renewed_extended_and_removed() {
    let mut shield = engage();
    let once = Scope {
        keep: RuleLifetime::Once,
        ..scope(IP)
    };
    allow(&mut shield, &once);
    assert_eq!(elements("allow4"), [format!("{IP} timeout 60")]);
    let longer = Scope {
        seconds: Some(3_600),
        ..scope(IP)
    };
    allow(&mut shield, &longer);
    assert_eq!(elements("allow4"), [format!("{IP} timeout 3600")]);
    allow(&mut shield, &scope(IP));
    assert_eq!(elements("allow4"), [IP]);
    allow(&mut shield, &once);
    assert_eq!(elements("allow4"), [format!("{IP} timeout 60")]);
    let [
        ListedElement {
            remaining: Some(left),
            ..
        },
    ] = shield.list_elements().unwrap()[..]
    else {
        unreachable!("expected one element with a timeout")
    };
    assert!((55..=60).contains(&left.as_secs()), "{left:?}");
}

#[test]
fn a_name_opens_known_and_later_addresses() {
    let mut shield = engage();
    let api = name("api.example.com");
    let addresses = [ip(IP), ip("2001:db8::7"), ip("10.0.0.1")];
    let learnt = shield.learn_addresses(&api, &addresses, now()).unwrap();
    assert_eq!((learnt.added, learnt.refused), (0, 1));
    assert_eq!(shield.list_elements().unwrap(), []);
    allow(&mut shield, &scope("api.example.com"));
    assert_eq!(
        elements("allow4"),
        [format!("{IP} comment \"api.example.com\"")]
    );
    assert_eq!(elements("allow6").len(), 1);
    let more = shield
        .learn_addresses(&api, &[ip("203.0.113.8"), ip("169.254.169.254")], now())
        .unwrap();
    assert_eq!((more.added, more.refused), (1, 1));
    assert_eq!(elements("allow4").len(), 2);
    let again = shield
        .learn_addresses(&api, &[ip("203.0.113.8")], now())
        .unwrap();
    assert_eq!(again.added, 0);
    deny(&mut shield, &scope("api.example.com"));
    assert_eq!((elements("allow4").len(), elements("deny4").len()), (0, 2));
    shield
        .learn_addresses(&api, &[ip("203.0.113.9")], now())
        .unwrap();
    assert_eq!(elements("deny4").len(), 3);
    shield.forget(&target("api.example.com"), now()).unwrap();
    assert_eq!(shield.list_elements().unwrap(), []);
    shield
        .learn_addresses(&api, &[ip("203.0.113.10")], now())
        .unwrap();
    assert_eq!(shield.list_elements().unwrap(), []);
}

#[test]
fn the_timeout_of_an_order_on_a_name_covers_later_addresses() {
    let mut shield = engage();
    let api = name("api.example.com");
    let narrow = Scope {
        port: Some(443),
        protocol: Some(Protocol::TCP),
        seconds: Some(100),
        ..scope("api.example.com")
    };
    let begin = now();
    shield
        .allow(&target("api.example.com"), &narrow, begin)
        .unwrap();
    let later = begin + Duration::from_secs(40);
    shield.learn_addresses(&api, &[ip(IP)], later).unwrap();
    let expected = format!("{IP} . tcp . 443 timeout 60 comment \"api.example.com\"");
    assert_eq!(elements("allow_port4"), [expected]);
    let over = begin + Duration::from_secs(100);
    let learnt = shield
        .learn_addresses(&api, &[ip("203.0.113.8")], over)
        .unwrap();
    assert_eq!(learnt.added, 0);
    assert_eq!(elements("allow_port4").len(), 1);
}

#[test]
fn the_evicted_address_of_a_name_is_closed() {
    let mut shield = engage();
    let api = name("api.example.com");
    allow(&mut shield, &scope("api.example.com"));
    for n in 0..70 {
        let address = Ipv4Addr::from_bits(0xcb00_7100 + n).into();
        shield.learn_addresses(&api, &[address], now()).unwrap();
    }
    let open = shield.list_elements().unwrap();
    assert_eq!(open.len(), 64);
    assert_eq!(open[0].address, ip("203.0.113.6"));
}

#[test]
fn a_learnt_address_cannot_override_a_denial() {
    let mut shield = engage();
    deny(&mut shield, &scope(IP));
    allow(&mut shield, &scope("api.example.com"));
    let learnt = shield
        .learn_addresses(&name("api.example.com"), &[ip(IP)], now())
        .unwrap();
    assert_eq!(learnt.added, 0);
    assert_eq!((elements("allow4").len(), elements("deny4").len()), (0, 1));
}

#[test]
fn orders_are_restored_after_a_restart() {
    let mut shield = engage();
    let api = name("api.example.com");
    shield.learn_addresses(&api, &[ip(IP)], now()).unwrap();
    let narrow = Scope {
        port: Some(443),
        protocol: Some(Protocol::TCP),
        seconds: Some(100),
        ..scope("api.example.com")
    };
    allow(&mut shield, &narrow);
    allow(&mut shield, &scope("203.0.113.9"));
    let before = shield.list_elements().unwrap();
    drop(shield);
    let mut shield =
        NftShield::attach(shield::open_nftables_socket().unwrap(), &policy(), now()).unwrap();
    let without_time = |elements: &[ListedElement]| -> Vec<_> {
        elements
            .iter()
            .map(|e| (e.address, e.port, e.name.clone(), e.remaining.is_some()))
            .collect()
    };
    assert_eq!(
        without_time(&shield.list_elements().unwrap()),
        without_time(&before)
    );
    // The order on the name is restored as well, for its remaining time.
    shield
        .learn_addresses(&api, &[ip("203.0.113.8")], now())
        .unwrap();
    let all = shield.list_elements().unwrap();
    assert_eq!(all.len(), 3);
    let new = all
        .iter()
        .find(|element| element.address == ip("203.0.113.8"))
        .unwrap();
    assert!(
        new.remaining
            .is_some_and(|left| left <= Duration::from_secs(100)),
        "{new:?}"
    );
    deny(&mut shield, &scope("203.0.113.9"));
    assert_eq!(elements("allow4"), Vec::<String>::new());
}

#[test]
fn orders_succeed_after_foreign_changes_of_the_sets() {
    let mut shield = engage();
    allow(&mut shield, &scope(IP));
    nft(&format!(
        "delete element inet terok_shield allow4 {{ {IP} }}"
    ));
    allow(&mut shield, &scope(IP));
    assert_eq!(elements("allow4"), [IP]);
    nft("add element inet terok_shield deny4 { 203.0.113.8 }");
    allow(&mut shield, &scope("203.0.113.8"));
    assert_eq!((elements("allow4").len(), elements("deny4").len()), (2, 0));
    nft("flush set inet terok_shield allow4");
    deny(&mut shield, &scope(IP));
    assert_eq!((elements("allow4").len(), elements("deny4").len()), (0, 1));
    nft("add table inet other");
    allow(&mut shield, &scope(IP));
    assert_eq!((elements("allow4").len(), elements("deny4").len()), (1, 0));
}

#[test]
fn an_order_fails_without_its_table() {
    let mut shield = engage();
    nft("delete table inet terok_shield");
    let refused = shield.allow(&target(IP), &scope(IP), now());
    assert!(
        matches!(refused, Err(ShieldOrderError::Netlink(_))),
        "{refused:?}"
    );
}

#[test]
fn a_full_shield_refuses_orders_without_any_change() {
    let mut shield = engage();
    deny(&mut shield, &scope(IP));
    let all: Vec<_> = (0..65_534_u32)
        .map(|n| Ipv4Addr::from_bits(0xc612_0000 + n).to_string())
        .collect();
    // The maximum for one message of nft.
    for some in all.chunks(4_096) {
        let some = some.join(",");
        nft(&format!(
            "add element inet terok_shield allow4 {{ {some} }}"
        ));
    }
    let more = scope("203.0.113.8");
    let refused = shield.allow(&target("203.0.113.8"), &more, now());
    assert!(
        matches!(refused, Err(ShieldOrderError::TableFull)),
        "{refused:?}"
    );
    assert_eq!(shield.list_elements().unwrap().len(), 65_535);
    // One removal and five additions: the deny stays.
    let port = Scope {
        port: Some(443),
        ..scope(IP)
    };
    let refused = shield.allow(&target(IP), &port, now());
    assert!(
        matches!(refused, Err(ShieldOrderError::TableFull)),
        "{refused:?}"
    );
    assert_eq!(elements("deny4"), [IP]);
    // One removal and one addition.
    allow(&mut shield, &scope(IP));
    assert_eq!(elements("deny4"), Vec::<String>::new());
}

#[test]
fn unenforceable_orders_are_refused() {
    let mut shield = engage();
    let check = |shield: &mut NftShield, scope: Scope, expected: fn(&ShieldOrderError) -> bool| {
        let refused = shield.allow(&target(IP), &scope, now()).unwrap_err();
        assert!(expected(&refused), "{refused:?} of {scope:?}");
    };
    for keep in [RuleLifetime::Project, RuleLifetime::Always] {
        let scope = Scope { keep, ..scope(IP) };
        check(&mut shield, scope, |error| {
            matches!(error, ShieldOrderError::UnsupportedKeep)
        });
    }
    let other = scope("203.0.113.8");
    check(&mut shield, other, |error| {
        matches!(error, ShieldOrderError::DestMismatch)
    });
    let never = Scope {
        seconds: Some(0),
        ..scope(IP)
    };
    check(&mut shield, never, |error| {
        matches!(error, ShieldOrderError::InvalidDuration)
    });
    let icmp = Scope {
        port: Some(7),
        protocol: Some(Protocol::ICMP),
        ..scope(IP)
    };
    check(&mut shield, icmp, |error| {
        matches!(error, ShieldOrderError::NoPorts(_))
    });
    assert_eq!(shield.list_elements().unwrap(), []);
}

#[test]
fn a_name_of_maximum_length_is_stored() {
    let mut shield = engage();
    let long = format!("{}.example", vec!["a".repeat(60); 4].join("."));
    assert!(long.len() > 250);
    shield
        .learn_addresses(&name(&long), &[ip(IP)], now())
        .unwrap();
    allow(&mut shield, &scope(&long));
    assert_eq!(shield.list_elements().unwrap()[0].name, Some(name(&long)));
}

#[test]
fn the_standing_action_can_be_looked_up() {
    let mut shield = engage();
    let web = Scope {
        port: Some(443),
        protocol: Some(Protocol::TCP),
        ..scope(IP)
    };
    assert_eq!(
        shield.standing_action(ip(IP), Protocol::TCP, 443, now()),
        None
    );
    allow(&mut shield, &web);
    assert_eq!(
        shield.standing_action(ip(IP), Protocol::TCP, 443, now()),
        Some(Action::Allow)
    );
    assert_eq!(
        shield.standing_action(ip(IP), Protocol::TCP, 80, now()),
        None
    );
    deny(&mut shield, &scope(IP));
    assert_eq!(
        shield.standing_action(ip(IP), Protocol::TCP, 443, now()),
        Some(Action::Deny)
    );
}

/// Addresses that no order may open.
const FORBIDDEN: [&str; 12] = [
    "169.254.169.254",
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.5",
    "10.1.2.3",
    "192.168.0.1",
    "100.100.100.200",
    "fe80::1",
    "fd00:ec2::254",
    "::1",
    "64:ff9b::a9fe:a9fe",
];
const ORDINARY: [&str; 4] = ["203.0.113.1", "203.0.113.2", "2001:db8::1", "2001:db8::2"];

#[derive(Debug, Clone)]
enum Step {
    Order(Action, String, Option<Protocol>, Option<u16>, Option<u32>),
    Learn(String, Vec<IpAddr>),
    Forget(String),
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    let address = prop::sample::select([FORBIDDEN.as_slice(), ORDINARY.as_slice()].concat());
    let names = prop::sample::select(vec!["a.example", "b.example"]);
    let dest = prop_oneof![address.clone(), names.clone()].prop_map(str::to_owned);
    let action = prop_oneof![Just(Action::Allow), Just(Action::Deny)];
    let protocol = prop::option::of(prop_oneof![Just(Protocol::TCP), Just(Protocol::UDP)]);
    let port = prop::option::of(prop_oneof![Just(80_u16), Just(443)]);
    let seconds = prop::option::of(1_u32..1_000);
    let addresses = prop::collection::vec(address.prop_map(|text| text.parse().unwrap()), 0..4);
    prop_oneof![
        4 => (action, dest.clone(), protocol, port, seconds)
            .prop_map(|(a, d, p, q, s)| Step::Order(a, d, p, q, s)),
        3 => (names, addresses).prop_map(|(n, a)| Step::Learn(n.to_owned(), a)),
        1 => dest.prop_map(Step::Forget),
        1 => Just(Step::Restart),
    ]
}

#[test]
fn no_sequence_of_orders_touches_the_floor_or_a_private_range() {
    require_private_namespaces();
    let forbidden: Vec<_> = FORBIDDEN.map(ip).into();
    let config = Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    };
    let steps = prop::collection::vec(any_step(), 1..24);
    TestRunner::new(config)
        .run(&steps, |steps| {
            let mut shield =
                NftShield::engage(shield::open_nftables_socket().unwrap(), &policy()).unwrap();
            for step in steps {
                match step {
                    Step::Order(action, dest, protocol, port, seconds) => {
                        let dest: Dest = dest.parse().unwrap();
                        let target = dest.parse_target().unwrap();
                        let scope = Scope {
                            protocol,
                            port,
                            seconds,
                            ..Scope::whole_dest(dest)
                        };
                        let done = shield.apply_order(action, &target, &scope, now());
                        let is_forbidden =
                            matches!(target, Target::Address(ip) if forbidden.contains(&ip));
                        prop_assert_eq!(done.is_err(), is_forbidden, "{:?}", done);
                        if let (Ok(()), Target::Address(ip)) = (done, target) {
                            let protocol = protocol.unwrap_or(Protocol::TCP);
                            let standing =
                                shield.standing_action(ip, protocol, port.unwrap_or(1), now());
                            prop_assert_eq!(standing, Some(action));
                        }
                    }
                    Step::Learn(to, addresses) => {
                        shield
                            .learn_addresses(&name(&to), &addresses, now())
                            .unwrap();
                    }
                    Step::Forget(dest) => shield.forget(&target(&dest), now()).unwrap(),
                    Step::Restart => {
                        let socket = shield::open_nftables_socket().unwrap();
                        shield = NftShield::attach(socket, &policy(), now()).unwrap();
                    }
                }
                for element in shield.list_elements().unwrap() {
                    prop_assert!(!forbidden.contains(&element.address), "{:?}", element);
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn many_overdue_destinations_are_refused_in_few_transactions() {
    require_private_namespaces();
    let mut shield = engage();
    let overdue: Vec<_> = (1..=4096)
        .flat_map(|port| {
            let addresses =
                ["203.0.113.7", "2001:db8:1::7"].map(|ip| ip.parse::<IpAddr>().unwrap());
            addresses.map(|ip| ((ip, port).into(), Duration::from_secs(60)))
        })
        .collect();
    for _ in 0..2 {
        shield.refuse_waiting(&overdue, now()).unwrap();
    }
    shield.hold_connections(true, now()).unwrap();
    shield.hold_connections(true, now()).unwrap();
    shield.verify().unwrap();
    let elements = |set: &str| {
        let listing = Command::new("nft")
            .args(["list", "set", "inet", "terok_shield", set])
            .output()
            .unwrap();
        String::from_utf8(listing.stdout)
            .unwrap()
            .matches("tcp")
            .count()
    };
    let counts = ["overdue_port4", "overdue_port6", "held"].map(elements);
    assert_eq!(counts, [4096, 4096, 1]);
    // A new question about a forgotten destination; connections still wait.
    shield.forget(&target("203.0.113.7"), now()).unwrap();
    let counts = ["overdue_port4", "overdue_port6", "held"].map(elements);
    assert_eq!(counts, [0, 0, 1]);
    shield.flush_asked(now()).unwrap();
    assert_eq!(elements("held"), 0);
}
