// SPDX-License-Identifier: Apache-2.0

use super::*;

const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Decodes hex text; spaces, newlines and comments after `#` are ignored.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .lines()
        .flat_map(|line| line.split('#').next().unwrap().bytes())
        .filter(u8::is_ascii_hexdigit)
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn message(family: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = vec![family, 0, 0, 100];
    for (kind, value) in attributes {
        body.extend(u16::try_from(value.len() + 4).unwrap().to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut bytes = u32::try_from(body.len() + 16)
        .unwrap()
        .to_ne_bytes()
        .to_vec();
    bytes.extend(PACKET_MESSAGE.to_ne_bytes());
    bytes.extend([0; 10]);
    bytes.extend(body);
    bytes
}

/// Parses a packet and returns `destination protocol port`.
fn read(family: u8, packet: &[u8]) -> Option<String> {
    let packet = ip::parse_packet(family, packet)?;
    Some(format!(
        "{} {} {}",
        packet.destination, packet.protocol, packet.destination_port
    ))
}

fn check(family: u8, packet: &str, expected: &str) {
    assert_eq!(
        read(family, &hex(packet)).as_deref(),
        Some(expected),
        "{packet}"
    );
}

#[test]
fn a_message_from_the_kernel_is_parsed() {
    // connect() to 203.0.113.7:443, as Linux 6.18 logs it at the output hook.
    let bytes = message(
        IPV4,
        &[
            (1, &hex("0800 03 00")),
            (10, b"TEROK_SHIELD_BLOCKED: \0"),
            (5, &hex("00000001")),
            (11, &hex("000003e8")),
            (14, &hex("00000064")),
            (12, &hex("00000007")),
            (
                9,
                &hex("4500003c1a2b40004006 0000 c0000202 cb007107  # IPv4
                      d2f0 01bb 00000001 00000000 a002faf0 0000 0000  # TCP, 20 bytes of options
                      020405b40402080a00000001000000000103030a"),
            ),
        ],
    );
    let log = NflogMessage::parse(&bytes).unwrap();
    assert_eq!((log.group, log.reason), (100, LogReason::Blocked));
    assert_eq!(
        (log.sequence, log.uid, log.gid),
        (Some(7), Some(1000), Some(100))
    );
    assert_eq!((log.hook, log.timestamp_micros), (Some(3), None));
    let packet = log.packet.unwrap();
    assert_eq!(packet.source.to_string(), "192.0.2.2");
    assert_eq!(packet.destination.to_string(), "203.0.113.7");
    assert_eq!(
        (packet.protocol, packet.source_port, packet.destination_port),
        (Protocol::TCP, 54_000, 443)
    );
    assert!(packet.payload.is_empty());
}

#[test]
fn the_prefix_determines_the_reason() {
    for (prefix, rule) in [
        (b"TEROK_SHIELD_BLOCKED: \0".as_slice(), LogReason::Blocked),
        (b"TEROK_SHIELD_BLOCKED: ", LogReason::Blocked),
        (b"TEROK_SHIELD_DENIED: \0", LogReason::Denied),
        (b"TEROK_SHIELD_PRIVATE: \0", LogReason::Private),
        (b"TEROK_SHIELD_ANSWER: \0", LogReason::Answer),
        (b"TEROK_SHIELD_ALLOWED: \0", LogReason::Other),
        (b"xTEROK_SHIELD_BLOCKED: \0", LogReason::Blocked),
        (b"MY_BLOCKED_PACKETS\0", LogReason::Blocked),
        (b"TEROK_SHIELD_BLOCKED: \0\0", LogReason::Blocked),
        (b"TEROK_SHIELD_BLOCK: \0", LogReason::Other),
        (b"TEROK_SHIELD_blocked: \0", LogReason::Other),
        (b"\0", LogReason::Other),
        (b"", LogReason::Other),
    ] {
        let bytes = message(IPV4, &[(10, prefix)]);
        let log = NflogMessage::parse(&bytes).unwrap();
        assert_eq!((log.reason, log.packet), (rule, None), "{prefix:?}");
    }
}

#[test]
fn a_time_is_microseconds_since_the_epoch() {
    for (value, expected) in [
        ("0000000000000001 0000000000000002", Some(1_000_002)),
        ("ffffffffffffffff 0000000000000002", None),
        ("0000000000000001", None),
    ] {
        assert_eq!(parse_timestamp(&hex(value)), expected);
    }
}

#[test]
fn malformed_messages_are_rejected() {
    let whole = message(IPV4, &[(12, &[0, 0, 0, 1]), (10, b"x\0")]);
    for (cut, expected) in [
        (0, NflogParseError::Truncated),
        (15, NflogParseError::Truncated),
        (19, NflogParseError::Truncated),
        (22, NflogParseError::Truncated),
        (27, NflogParseError::Truncated),
    ] {
        assert_eq!(NflogMessage::parse(&whole[..cut]), Err(expected), "{cut}");
    }
    let mut other = whole.clone();
    other[4] = 3;
    other[5] = 0;
    assert_eq!(
        NflogMessage::parse(&other),
        Err(NflogParseError::UnexpectedType(3))
    );
    for length in [0_u16, 3, 9, u16::MAX] {
        let mut bad = whole.clone();
        bad[20..22].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(
            NflogMessage::parse(&bad),
            Err(NflogParseError::Truncated),
            "{length}"
        );
    }
}

#[test]
fn a_datagram_contains_several_messages() {
    let one = message(IPV4, &[(12, &[0, 0, 0, 1])]);
    let two = message(IPV6, &[]);
    let mut row = [one.clone(), two.clone()].concat();
    assert_eq!(
        netlink_messages(&row).collect::<Vec<_>>(),
        [&one[..], &two[..]]
    );
    row.truncate(row.len() - 1);
    assert_eq!(netlink_messages(&row).collect::<Vec<_>>(), [&one[..]]);
    for length in [0_u32, 15, u32::MAX] {
        row[..4].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(netlink_messages(&row).count(), 0, "{length}");
    }
}

#[test]
fn ipv4() {
    let header = |protocol: &str, fragment: &str| {
        format!("45000054 0001{fragment} 40{protocol}0000 c0000202 cb007107")
    };
    for (protocol, fragment, rest, expected) in [
        ("06", "4000", "d2f001bb00000000", "203.0.113.7 tcp 443"),
        ("11", "0000", "d2f0003500080000", "203.0.113.7 udp 53"),
        ("84", "0000", "d2f0096100000000", "203.0.113.7 sctp 2401"),
        ("21", "0000", "d2f0096100000000", "203.0.113.7 33 2401"),
        ("88", "0000", "d2f0096100000000", "203.0.113.7 136 2401"),
        ("01", "0000", "0800f7ff00000000", "203.0.113.7 icmp 0"),
        ("2f", "0000", "0000080045000000", "203.0.113.7 47 0"),
        // An authentication header is a protocol of its own, as in nftables.
        ("33", "0000", "0604000000000001", "203.0.113.7 51 0"),
        ("06", "2000", "d2f001bb00000000", "203.0.113.7 tcp 443"), // the first of several fragments
        ("06", "2001", "d2f001bb00000000", "203.0.113.7 tcp 0"),   // a later fragment
        ("11", "00b9", "d2f001bb00000000", "203.0.113.7 udp 0"),   // the last fragment
        ("06", "0000", "d2f001", "203.0.113.7 tcp 0"),
        ("06", "0000", "", "203.0.113.7 tcp 0"),
    ] {
        check(
            IPV4,
            &format!("{}{rest}", header(protocol, fragment)),
            expected,
        );
    }
    // Options: 24 and 60 bytes of header.
    let addresses = "c0000202 cb007107";
    check(
        IPV4,
        &format!("46000000 00000000 40060000 {addresses} 94040000 d2f01f90"),
        "203.0.113.7 tcp 8080",
    );
    check(
        IPV4,
        &format!(
            "4f000000 00000000 40060000 {addresses} {} d2f01f90",
            "00".repeat(40)
        ),
        "203.0.113.7 tcp 8080",
    );
    check(
        IPV4,
        &format!("4f000000 00000000 40060000 {addresses} {}", "00".repeat(39)),
        "203.0.113.7 tcp 0",
    );
}

#[test]
fn ipv6() {
    const ADDRESSES: &str = "20010db8000000000000000000000002 20010db8000000000000000000000007";
    for (next, rest, expected) in [
        ("06", "d2f001bb", "tcp 443"),
        ("11", "d2f00035", "udp 53"),
        ("84", "d2f00961", "sctp 2401"),
        ("3a", "80001234", "ipv6-icmp 0"),
        ("3b", "", "59 0"),
        // hop-by-hop, 8 bytes; routing, 24; destination options, 16; then TCP
        (
            "00",
            &format!(
                "2b00000000000000 3c0200{} 060100{} d2f001bb",
                "00".repeat(21),
                "00".repeat(13)
            ),
            "tcp 443",
        ),
        ("2c", "11000001 00000001 d2f00035", "udp 53"), // the first of several fragments
        ("2c", "11000008 00000001 d2f00035", "udp 0"),  // a later fragment
        ("2c", "3c0000b1 00000001 d2f00035", "60 0"),   // a later fragment; options precede
        (
            "33",
            &format!("060400{} d2f001bb", "00".repeat(21)),
            "tcp 443",
        ), // authentication
        ("32", "0000000100000001", "50 0"),             // encrypted
        // A truncated chain names the missing header.
        ("00", "", "0 0"),
        ("00", "060000", "0 0"),
        ("2b", "06ff0000", "43 0"),
        ("00", "2c000000000000000600", "44 0"),
        ("06", "d2f0", "tcp 0"),
    ] {
        check(
            IPV6,
            &format!("60000000 0014 {next} 40 {ADDRESSES} {rest}"),
            &format!("2001:db8::7 {expected}"),
        );
    }
}

#[test]
fn a_long_chain_of_extensions_ends_with_the_packet() {
    let chain = "3c00000000000000".repeat(100);
    let addresses = "00".repeat(32);
    check(
        IPV6,
        &format!("60000000 0000 3c 40 {addresses} {chain}"),
        ":: 60 0",
    );
}

#[test]
fn headers_of_another_family_are_rejected() {
    let v4 = hex("45000054 00010000 40010000 c0000202 cb007107");
    let v6 = hex(&format!("60000000 00003b40 {}", "00".repeat(32)));
    for (family, bytes) in [
        (IPV4, &v6[..]),
        (IPV6, &v4),
        (7, &v4), // NFPROTO_BRIDGE
        (IPV4, &v4[..19]),
        (IPV6, &v6[..39]),
        (IPV4, &[]),
        (IPV4, &hex("44000054 00010000 40010000 c0000202 cb007107")), // a header of 16 bytes
        (IPV4, &hex("40000054 00010000 40010000 c0000202 cb007107")),
    ] {
        assert_eq!(read(family, bytes), None, "{bytes:02x?}");
    }
}

#[test]
fn the_payload_follows_the_transport_header() {
    let ip = |protocol: &str| format!("45000054 00010000 40{protocol}0000 c0000202 cb007107");
    for (protocol, rest, body) in [
        ("11", "0035d2f0000a0000 abcd", "abcd"),
        ("11", "0035d2f0000a00", ""),
        (
            "06",
            "0035d2f00000000000000000 5000000000000000 abcd",
            "abcd",
        ),
        (
            "06",
            "0035d2f00000000000000000 6000000000000000 01010101 abcd",
            "abcd",
        ),
        ("06", "0035d2f00000000000000000 4000000000000000 abcd", ""), // a header of 16 bytes
        ("06", "0035d2f00000000000000000 f000000000000000 abcd", ""), // a truncated header
        ("84", "0035d2f0000000000000000000000000", ""),
    ] {
        let packet = hex(&format!("{}{rest}", ip(protocol)));
        let packet = ip::parse_packet(IPV4, &packet).unwrap();
        assert_eq!(
            (packet.source_port, packet.payload),
            (53, &hex(body)[..]),
            "{rest}"
        );
    }
}

#[test]
fn link_local_multicast_is_recognised() {
    for (address, noise) in [
        ("224.0.0.0", true),
        ("224.0.0.251", true),
        ("224.0.1.1", false),
        ("239.255.255.250", false),
        ("223.0.0.1", false),
        ("ff02::1:ff00:1", true),
        ("ff02::fb", true),
        ("ff05::2", false),
        ("fe80::1", false),
    ] {
        let packet = LoggedPacket {
            source: address.parse().unwrap(),
            destination: address.parse().unwrap(),
            protocol: Protocol::UDP,
            source_port: 0,
            destination_port: 0,
            payload: &[],
        };
        assert_eq!(packet.is_link_local_multicast(), noise, "{address}");
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        for message in netlink_messages(&bytes) {
            NflogMessage::parse(message).ok();
        }
        NflogMessage::parse(&bytes).ok();
        for family in [IPV4, IPV6] {
            let mut bytes = bytes.clone();
            if let Some(first) = bytes.first_mut() {
                *first = (*first & 0x0f) | if family == IPV4 { 0x40 } else { 0x60 };
            }
            let read = ip::parse_packet(family, &bytes);
            assert!(family == IPV4 || read.is_some() == (bytes.len() >= 40));
        }
    }

    #[test]
    fn truncating_a_packet_changes_no_address(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 60..200),
        cut in 0..200_usize,
        v6 in proptest::bool::ANY,
    ) {
        let (family, header, first) = if v6 { (IPV6, 40, 0x60) } else { (IPV4, 20, 0x45) };
        let mut bytes = bytes;
        bytes[0] = first;
        let cut = cut.clamp(header, bytes.len());
        let whole = ip::parse_packet(family, &bytes).unwrap();
        let part = ip::parse_packet(family, &bytes[..cut]).unwrap();
        assert_eq!(part.destination, whole.destination);
        assert!(part.destination_port == whole.destination_port || part.destination_port == 0);
    }
}
