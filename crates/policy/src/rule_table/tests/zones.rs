// SPDX-License-Identifier: Apache-2.0
//! Tests of zones: the local network, the host, the floor, and the addresses of names.

use super::*;

#[test]
fn a_wide_rule_does_not_reach_behind_the_host() {
    let lan = |rules: &[&str], text, expected| check(rules, DestZone::LocalNetwork, text, expected);
    lan(&["allow 0.0.0.0/0"], "10.0.0.5:80", "ask");
    lan(&["allow 8.0.0.0/6"], "10.0.0.5:80", "ask");
    lan(&["allow 10.0.0.0/8"], "10.0.0.5:80", "allow 1");
    lan(&["allow 10.0.0.5"], "10.0.0.5:80", "allow 1");
    lan(&["allow 10.0.0.5:443"], "10.0.0.5:80", "ask");
    lan(&["allow ::/0"], "[fd12::5]:80", "ask");
    lan(&["allow fd12::/16"], "[fd12::5]:80", "allow 1");
    lan(&["allow nas.local"], "nas.local:80", "ask");
    lan(&["allow *.local"], "nas.local:80", "ask");
    lan(
        &["deny 0.0.0.0/0", "allow 10.0.0.0/8"],
        "10.0.0.5:80",
        "deny 1",
    );
    lan(&["deny 0.0.0.0/0"], "10.0.0.5:80", "deny 1");
    // A public address of a network that the host's routes know as local.
    lan(&["allow 203.0.113.0/24"], "203.0.113.7:80", "ask");
    lan(&["allow 203.0.113.7"], "203.0.113.7:80", "allow 1");

    let host = |rules: &[&str], text, expected| check(rules, DestZone::ThisHost, text, expected);
    host(&["allow 0.0.0.0/0"], "127.0.0.1:80", "ask");
    host(&["allow 127.0.0.0/8"], "127.0.0.1:80", "allow 1");
    host(&["allow 127.0.0.1:80"], "127.0.0.1:80", "allow 1");
    host(&["allow 10.0.0.0/8"], "10.0.0.1:80", "ask");
    host(&["allow 10.0.0.1"], "10.0.0.1:80", "allow 1");
    host(&["allow ::/0"], "[::1]:80", "ask");
    host(&["allow ::1"], "[::1]:80", "allow 1");
    host(&["allow host.internal:80"], "host.internal:80", "allow 1");
    host(&["allow *.internal"], "host.internal:80", "ask");
    host(&["allow a.example"], "a.example:80", "ask");
}

#[test]
fn a_wrong_zone_opens_nothing() {
    let public = |rules: &[&str], text, expected| check(rules, DestZone::Public, text, expected);
    public(&["allow 0.0.0.0/0"], "10.0.0.5:80", "ask");
    public(&["allow 0.0.0.0/0"], "127.0.0.1:80", "ask");
    public(&["allow *.internal"], "host.internal:80", "ask");
    public(&["allow 0.0.0.0/0"], "169.254.169.254:80", "floor");
    public(&["allow ::/0"], "[64:ff9b::a00:5]:80", "ask");
}

#[test]
fn nothing_opens_the_floor() {
    for text in [
        "169.254.169.254:80",
        "[fe80::1]:80",
        "198.18.0.1:80",
        "a.example:80",
    ] {
        let rules = [
            "allow 169.254.169.254",
            "allow a.example",
            "allow 198.18.0.1",
        ];
        check(&rules, DestZone::Floor, text, "floor");
    }
}

#[test]
fn a_denied_address_stays_denied_behind_a_translator() {
    let public = |rules: &[&str], text, expected| check(rules, DestZone::Public, text, expected);
    let rules = ["allow ::/0", "deny 203.0.113.0/24"];
    public(&rules, "[64:ff9b::203.0.113.7]:80", "deny 2");
    public(&rules, "[2002:cb00:7107::1]:80", "deny 2");
    public(&rules, "[64:ff9b::203.0.114.7]:80", "allow 1");
    public(&["allow 203.0.113.7"], "[64:ff9b::203.0.113.7]:80", "ask");
}

fn covers(rules: &[&str], name: &str, address: &str, zone: DestZone) -> bool {
    let name = name.parse().unwrap();
    let address = address.parse().unwrap();
    table(rules).covers_address(&name, address, Protocol::TCP, zone, start())
}

#[test]
fn a_name_reaches_the_internet_only() {
    use DestZone::{Floor, LocalNetwork, Public, ThisHost};
    let named: &[&str] = &["allow a.example"];
    let lan: &[&str] = &["allow 10.0.0.0/8"];
    for (rules, address, zone, expected) in [
        (named, "203.0.113.7:80", Public, true),
        (&[], "203.0.113.7:80", Public, true),
        (named, "10.0.0.5:80", LocalNetwork, false),
        (named, "10.0.0.5:80", Public, false),
        (named, "127.0.0.1:80", ThisHost, false),
        (named, "169.254.169.254:80", Floor, false),
        (lan, "10.0.0.5:80", LocalNetwork, true),
        (lan, "10.0.0.5:80", ThisHost, false),
        (&["allow 10.0.0.5:443"], "10.0.0.5:80", LocalNetwork, false),
        (&["allow 0.0.0.0/0"], "10.0.0.5:80", LocalNetwork, false),
        (&["allow 127.0.0.1"], "127.0.0.1:80", ThisHost, true),
    ] {
        let covered = covers(rules, "a.example", address, zone);
        assert_eq!(covered, expected, "{address} {zone} {rules:?}");
    }
}

#[test]
fn a_denied_address_wins_over_an_allowed_name() {
    let network: &[&str] = &["allow a.example", "deny 203.0.113.0/24:80"];
    let none: &[&str] = &["deny 0.0.0.0/0", "allow 203.0.113.7"];
    let ceiling: &[&str] = &["ceiling a.example", "deny 203.0.113.0/24:80"];
    for (rules, address, expected) in [
        (network, "203.0.113.7:80", false),
        (network, "203.0.113.7:443", true),
        (network, "[64:ff9b::203.0.113.7]:80", false),
        (none, "203.0.113.7:80", false),
        (ceiling, "203.0.113.7:80", false),
        (ceiling, "203.0.113.7:443", true),
        (&["ceiling a.example"], "10.0.0.5:443", false),
    ] {
        let covered = covers(rules, "a.example", address, DestZone::Public);
        assert_eq!(covered, expected, "{address} {rules:?}");
    }
}

#[test]
fn the_hosts_own_name_reaches_the_host_only() {
    use DestZone::{LocalNetwork, ThisHost};
    assert!(covers(&[], HOST_NAME, "127.0.0.1:80", ThisHost));
    assert!(!covers(&[], HOST_NAME, "10.0.0.5:80", LocalNetwork));
    assert!(!covers(
        &["deny 127.0.0.1"],
        HOST_NAME,
        "127.0.0.1:80",
        ThisHost
    ));
}
