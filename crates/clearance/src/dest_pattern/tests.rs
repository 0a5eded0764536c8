// SPDX-License-Identifier: Apache-2.0
//! Tests of the text form and of matching.

use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> DestPattern {
    match text.parse() {
        Ok(pattern) => pattern,
        Err(error) => panic!("{text:?}: {error}"),
    }
}

#[test]
fn a_pattern_has_one_text_form() {
    for (text, shown) in [
        ("example.com", "example.com"),
        ("Example.COM.", "example.com"),
        ("example.com.:443", "example.com:443"),
        ("example.com:443/tcp", "example.com:443/tcp"),
        ("example.com:443/TCP", "example.com:443/tcp"),
        ("example.com/udp", "example.com/udp"),
        ("example.com/icmp", "example.com/icmp"),
        ("example.com:8000-8100", "example.com:8000-8100"),
        ("example.com:80-80", "example.com:80"),
        ("example.com:1-65535/udp", "example.com:1-65535/udp"),
        ("*.example.com", "*.example.com"),
        ("*.Example.com.:443", "*.example.com:443"),
        ("host.internal:5432", "host.internal:5432"),
        ("localhost", "localhost"),
        ("_srv.example.com", "_srv.example.com"),
        ("b\u{fc}cher.example", "xn--bcher-kva.example"),
        ("*.B\u{dc}CHER.example:443", "*.xn--bcher-kva.example:443"),
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:53/udp", "203.0.113.7:53/udp"),
        ("203.0.113.7/tcp", "203.0.113.7/tcp"),
        ("203.0.113.7/32", "203.0.113.7"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/8:80", "10.0.0.0/8:80"),
        ("10.0.0.0/8/tcp", "10.0.0.0/8/tcp"),
        ("10.0.0.0/8:80-90/tcp", "10.0.0.0/8:80-90/tcp"),
        ("0.0.0.0/0:443", "0.0.0.0/0:443"),
        ("2001:DB8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[::1]:80", "[::1]:80"),
        ("::1/tcp", "::1/tcp"),
        ("::1/128", "::1"),
        ("abcd::/16", "abcd::/16"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
        ("[2001:db8::/32]:443/tcp", "[2001:db8::/32]:443/tcp"),
        ("2001:db8::/32/udp", "2001:db8::/32/udp"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:80", "203.0.113.7:80"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
    ] {
        assert_eq!(pattern(text).to_string(), shown, "of {text:?}");
        assert_eq!(pattern(shown), pattern(text));
    }
}

/// The suggestion for a text without a usable host.
const ANY_HOST: &str = "a host with or without a port, such as example.com:443";
/// The suggestion for numbers that are no address.
const FOUR_NUMBERS: &str = "four decimal numbers up to 255 without leading zeros";

#[test]
fn an_error_suggests_the_form_to_write() {
    type Phrase = fn(&str, &str) -> String;
    let url: Phrase = |text, form| format!("\"{text}\" is a URL: write {form}");
    let user_info: Phrase = |text, form| {
        format!("\"{text}\" contains a user name, which is not part of a destination: write {form}")
    };
    let path: Phrase = |text, form| {
        format!(
            "\"{text}\" contains a path; a rule covers whole hosts, ports and protocols: \
             write {form}"
        )
    };
    let wildcard: Phrase = |text, form| {
        format!(
            "\"{text}\" has its wildcard in the wrong place: * stands for whole names below a \
             domain; write {form}"
        )
    };
    let number: Phrase =
        |text, form| format!("\"{text}\" is a number, not a name: write the address as {form}");
    let check = |phrase: Phrase, text: &str, part: &str, form: &str| {
        let pattern = text.parse::<DestPattern>();
        let message = pattern.map_err(|error| error.to_string());
        assert_eq!(message, Err(phrase(part, form)), "of {text:?}");
    };
    for (phrase, text, form) in [
        (url, "https://a.example/x", "a.example:443"),
        (url, "HTTP://A.example:8080/?q#f", "a.example:8080"),
        (url, "ssh://git@a.example/x", "a.example:22"),
        (url, "https://[2001:db8::7]/", "[2001:db8::7]:443"),
        (url, "odd://a.example", "a.example"),
        (url, "https://", ANY_HOST),
        (user_info, "git@a.example:22", "a.example:22"),
        (path, "a.example/index.html", "a.example"),
        (path, "a.example/", "a.example"),
        (path, "a.example:80/a/b", "a.example:80"),
        (wildcard, "*example.com", "*.example.com"),
        (wildcard, "a.*.example", "*.example"),
        (wildcard, "*.*.example.com", "*.example.com"),
        (wildcard, ".example.com", "*.example.com"),
        (wildcard, "a.example.*", "*.example.com"),
        (number, "127.1", "127.0.0.1"),
        (number, "0x7f000001", "127.0.0.1"),
        (number, "0X7F.1", "127.0.0.1"),
        (number, "2852039166", "169.254.169.254"),
        (number, "010.0.0.1", FOUR_NUMBERS),
        (number, "1.2.3.4.5", FOUR_NUMBERS),
    ] {
        check(phrase, text, text, form);
    }
    // The message names a part of the text.
    check(number, "127.1:80/tcp", "127.1", "127.0.0.1");
    check(number, "10/8", "10", "0.0.0.10");
}

fn check_error(text: &str, message: &str) {
    let pattern = text
        .parse::<DestPattern>()
        .map(|pattern| pattern.to_string());
    let found = pattern.map_err(|error| error.to_string());
    assert_eq!(found, Err(message.to_owned()), "of {text:?}");
}

#[test]
fn errors_of_wildcards_and_ports_say_what_is_wrong() {
    for (text, message) in [
        (
            "*",
            "* alone would cover everything: write the names needed, such as *.example.com",
        ),
        (
            "*:443",
            "* alone would cover everything: write the names needed, such as *.example.com",
        ),
        (
            "a.example:0",
            "there is no port 0: leave the port out to cover every port",
        ),
        (
            "a.example:0-80",
            "there is no port 0: leave the port out to cover every port",
        ),
        (
            "a.example:90-80",
            "the ports 90-80 are in the wrong order: write 80-90",
        ),
        (
            "a.example:65536",
            "\"65536\" is not a port: write a number up to 65535 or a range such as \
             8000-8100",
        ),
        (
            "a.example:",
            "\"\" is not a port: write a number up to 65535 or a range such as 8000-8100",
        ),
        (
            "a.example:https",
            "\"https\" is not a port: write a number up to 65535 or a range such as \
             8000-8100",
        ),
        (
            "a.example:+80",
            "\"+80\" is not a port: write a number up to 65535 or a range such as 8000-8100",
        ),
        (
            "a.example:1-2-3",
            "\"1-2-3\" is not a port: write a number up to 65535 or a range such as \
             8000-8100",
        ),
    ] {
        check_error(text, message);
    }
}

#[test]
fn other_errors_say_what_is_wrong() {
    for (text, message) in [
        (
            "10.0.0.1/8",
            "10.0.0.1/8 is not the start of a network: write 10.0.0.0/8, or 10.0.0.1 \
             for one address",
        ),
        (
            "10.0.0.0/33",
            "/33 is longer than an address: write a length of at most 32",
        ),
        (
            "a.example/sctp",
            "\"sctp\" is not a protocol of a rule: write /tcp, /udp or /icmp, or leave \
             it out",
        ),
        (
            "a.example/https",
            "\"https\" is not a protocol of a rule: write /tcp, /udp or /icmp, or leave \
             it out",
        ),
        (
            "a.example:1/icmp",
            "ICMP has no ports: leave out the port or /icmp",
        ),
        (
            "fe80::1%eth0",
            "\"fe80::1%eth0\" names an interface; link-local addresses are never opened",
        ),
        (
            "[fe80::1%eth0]:80",
            "\"fe80::1%eth0\" names an interface; link-local addresses are never opened",
        ),
        (
            "::1:80:x",
            "\"::1:80:x\" is not an IPv6 address; for an address with a port write \
             [2001:db8::1]:443",
        ),
        (
            "[a.example]:80",
            "\"[a.example]:80\" has brackets in the wrong place: write [2001:db8::1]:443",
        ),
        (
            "[::1]80",
            "\"[::1]80\" has brackets in the wrong place: write [2001:db8::1]:443",
        ),
        (
            "[::1",
            "\"[::1\" has brackets in the wrong place: write [2001:db8::1]:443",
        ),
        (
            "",
            "the destination is empty: write a name, an address or a network",
        ),
        (
            ":80",
            "the destination is empty: write a name, an address or a network",
        ),
        (
            "a b",
            "\"a b\" is neither a host name nor an address: a name consists of letters, \
             digits, - and _, in parts of at most 63 separated by dots",
        ),
    ] {
        check_error(text, message);
    }
}

#[test]
fn other_texts_are_no_patterns() {
    for text in [
        "/",
        "//",
        "/tcp",
        ":",
        "a..b",
        "-a.example",
        "*.",
        "*.10.0.0.1",
        "*.127.1",
        "*.*",
        "a.example/8",
        "a.example/tcp/udp",
        "10.0.0.0/8/8",
        "10.0.0.0/8/8/tcp",
        "10.0.0.0/tcp/8",
        "2001:db8::/32:443/",
        "a\u{ff1a}80",
        "\u{ff0a}.example",
        "\u{ff11}\u{ff12}\u{ff17}.1",
        "0x",
        "a.0x",
        "[10.0.0.0/8]:80",
        "[]",
        "[]:80",
        "a.example:80:90",
        "a@b@c",
        "a\u{1b}b",
        "10.0.0.0/",
        "10.0.0.0/-8",
        "10.0.0.0/8:",
        "10.0.0.0/8:0",
        "::/0:",
        "[::/0]:0",
    ] {
        assert!(text.parse::<DestPattern>().is_err(), "{text:?}");
    }
}

fn dest(host: &str, port: u16, protocol: Protocol) -> PacketDest {
    let host = match host.parse() {
        Ok(address) => PacketHost::Address(address),
        Err(_) => PacketHost::Name(host.parse().unwrap()),
    };
    PacketDest {
        host,
        port,
        protocol,
    }
}

#[test]
fn a_pattern_matches_what_it_says() {
    for (text, host, port, protocol, expected) in [
        ("example.com", "example.com", 443, Protocol::TCP, true),
        ("example.com", "example.com", 0, Protocol::ICMPV6, true),
        ("example.com", "example.com", 5, Protocol::SCTP, true),
        ("example.com", "a.example.com", 443, Protocol::TCP, false),
        ("*.example.com", "a.example.com", 443, Protocol::TCP, true),
        ("*.example.com", "a.b.example.com", 443, Protocol::TCP, true),
        ("*.example.com", "example.com", 443, Protocol::TCP, false),
        ("*.example.com", "badexample.com", 443, Protocol::TCP, false),
        ("example.com:443", "example.com", 443, Protocol::UDP, true),
        ("example.com:443", "example.com", 80, Protocol::TCP, false),
        ("example.com:443", "example.com", 443, Protocol::ICMP, false),
        (
            "example.com:443/tcp",
            "example.com",
            443,
            Protocol::UDP,
            false,
        ),
        ("example.com:80-90", "example.com", 90, Protocol::TCP, true),
        ("example.com:80-90", "example.com", 91, Protocol::TCP, false),
        ("example.com/icmp", "example.com", 0, Protocol::ICMP, true),
        ("example.com/icmp", "example.com", 0, Protocol::ICMPV6, true),
        ("example.com/icmp", "example.com", 80, Protocol::TCP, false),
        ("203.0.113.7", "203.0.113.7", 80, Protocol::TCP, true),
        ("203.0.113.7", "::ffff:203.0.113.7", 80, Protocol::TCP, true),
        ("203.0.113.7", "203.0.113.8", 80, Protocol::TCP, false),
        ("10.0.0.0/8", "10.255.0.1", 80, Protocol::TCP, true),
        ("10.0.0.0/8", "::ffff:10.255.0.1", 80, Protocol::TCP, true),
        ("10.0.0.0/8", "11.0.0.0", 80, Protocol::TCP, false),
        ("0.0.0.0/0", "2001:db8::7", 80, Protocol::TCP, false),
        ("::/0", "203.0.113.7", 80, Protocol::TCP, false),
        ("::/0", "2001:db8::7", 80, Protocol::TCP, true),
        ("0.0.0.0/0", "example.com", 80, Protocol::TCP, false),
    ] {
        assert_eq!(
            pattern(text).matches(&dest(host, port, protocol)),
            expected,
            "{text} of {host} {port} {protocol}"
        );
    }
}

#[test]
fn an_internationalised_pattern_is_shown_decoded_beside_it() {
    let decoded = |text| pattern(text).display_unicode();
    assert_eq!(
        decoded("*.xn--bcher-kva.example:443/tcp").as_deref(),
        Some("*.b\u{fc}cher.example:443/tcp")
    );
    assert_eq!(decoded("example.com"), None);
    assert_eq!(decoded("10.0.0.0/8"), None);
}

#[test]
fn a_pattern_without_a_text_form_is_refused() {
    let host = || HostPattern::Name("example.com".parse().unwrap());
    let ports = PortRange::new(80, 80);
    assert_eq!(
        DestPattern::new(host(), ports, Some(Protocol::ICMPV6)),
        Err(DestPatternError::PortOfIcmp)
    );
    assert!(DestPattern::new(host(), None, Some(Protocol::SCTP)).is_err());
    assert_eq!((PortRange::new(0, 5), PortRange::new(6, 5)), (None, None));
    let json = serde_json::to_string(&pattern("example.com:443")).unwrap();
    assert_eq!(json, "\"example.com:443\"");
    assert_eq!(
        serde_json::from_str::<DestPattern>(&json).unwrap(),
        pattern("example.com:443")
    );
}

fn any_host() -> impl Strategy<Value = HostPattern> {
    let name = "[a-z_][a-z0-9_-]{0,8}(\\.[a-z_][a-z0-9_-]{0,8}){0,3}"
        .prop_map(|text| text.parse::<DomainName>().unwrap());
    prop_oneof![
        name.clone().prop_map(HostPattern::Name),
        name.prop_map(HostPattern::Subdomains),
        any::<IpAddr>().prop_map(HostPattern::Address),
        (any::<IpAddr>(), 0_u8..=128).prop_map(|(address, length)| {
            HostPattern::Network(IpPrefix::containing(address, length))
        }),
    ]
}

proptest! {
    #[test]
    fn the_text_form_survives_a_round_trip(
        host in any_host(),
        ports in proptest::option::of((1_u16.., 1_u16..)),
        protocol in proptest::option::of(proptest::sample::select(vec![
            Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::ICMPV6,
        ])),
    ) {
        let ports = ports.and_then(|(a, b)| PortRange::new(a.min(b), a.max(b)));
        if let Ok(made) = DestPattern::new(host, ports, protocol) {
            prop_assert_eq!(made.to_string().parse::<DestPattern>(), Ok(made));
        }
    }

    #[test]
    fn any_text_is_refused_or_has_one_form(text in "[a-z0-9.:/*\\[\\]@x%-]{0,24}|\\PC{0,24}") {
        if let Ok(parsed) = text.parse::<DestPattern>() {
            prop_assert_eq!(parsed.to_string().parse::<DestPattern>(), Ok(parsed));
        }
    }
}
