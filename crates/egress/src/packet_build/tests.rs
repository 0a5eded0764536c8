// SPDX-License-Identifier: Apache-2.0
//! The packets in hex were captured on loopback from Linux 6.18, apps' packets and the kernel's own
//! answers to them. TCP and UDP checksums are partial in them, except that of the IPv4 reset.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::checksum::ChecksumSum;
use super::*;

const SYN_V4: &str = "4500003c86a740004006b6127f0000017f000001afc90009883f9c3000000000a002ffd7fe\
    3000000204ffd70402080ab965984e000000000103030a";
const RESET_V4: &str = "450000280000400040063cce7f0000017f0000010009afc900000000883f9c3150140000dd\
    8a0000";
const SYN_V6: &str = "600889810028064000000000000000000000000000000001000000000000000000000000000000\
    01afc9000987993d4500000000a002ffc4003000000204ffc40402080a94b371d4000000000103030a";
const RESET_V6: &str = "6000880500140640000000000000000000000000000000010000000000000000000000000000\
    00010009afc90000000087993d4650140000001c0000";
const DATAGRAM_V4: &str =
    "450000253076400040110c507f0000017f000001afca00090011fe2468656c6c6f20756470";
const UNREACHABLE_V4: &str = "45c00041eaa00000400191597f0000017f0000010303259c000000004500002530764000\
    40110c507f0000017f000001afca00090011fe2468656c6c6f20756470";
const DATAGRAM_V6: &str = "600a5c2f0011114000000000000000000000000000000001000000000000000000000000\
    00000001afca00090011002468656c6c6f20756470";
const UNREACHABLE_V6: &str = "600df07800413a400000000000000000000000000000000100000000000000000000000000\
    0000010104579200000000600a5c2f00111140000000000000000000000000000000010000000000000000000000000000\
    0001afca00090011002468656c6c6f20756470";
const ECHO_V4: &str = "45000024ebb34000400151237f0000017f0000010800850a1234000770696e6720706179";
const ECHO_REPLY_V4: &str =
    "45000024ebb40000400191227f0000017f00000100008d0a1234000770696e6720706179";
const ECHO_V6: &str = "6001dd1b00103a4000000000000000000000000000000001000000000000000000000000000000\
    0180000cbe1234000770696e6720706179";
const ECHO_REPLY_V6: &str = "6009c3eb00103a4000000000000000000000000000000001000000000000000000000000\
    0000000181000bbe1234000770696e6720706179";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
        .collect()
}

/// The transport part of a packet.
fn segment(packet: &[u8]) -> &[u8] {
    &packet[ParsedPacket::parse(packet).unwrap().transport_offset..]
}

/// Asserts what a receiver checks: lengths and checksums.
fn verify(packet: &[u8]) {
    let parsed = ParsedPacket::parse(packet).unwrap();
    assert!(!parsed.is_truncated);
    assert_eq!(parsed.bytes.len(), packet.len());
    assert_ne!(parsed.transport, TransportFields::Malformed);
    let (header, segment) = packet.split_at(parsed.transport_offset);
    if parsed.source.is_ipv4() {
        assert_eq!(ChecksumSum::default().add(header).finish(), 0);
    }
    let mut sum = ChecksumSum::default().add(segment);
    if parsed.protocol != Protocol::ICMP {
        let route = (parsed.source, parsed.destination);
        sum = sum
            .add_pseudo_header(route, parsed.protocol, segment.len())
            .unwrap();
    }
    assert_eq!(sum.finish(), 0);
}

#[test]
fn checksum_of_known_vectors() {
    for (text, expected) in [
        // RFC 1071 section 3.
        ("0001f203f4f5f6f7", 0x220d),
        ("450000730000400040110000c0a80001c0a800c7", 0xb861),
        ("", 0xffff),
        ("ff", 0x00ff),
        ("ffff", 0),
        ("ffffffff", 0),
    ] {
        assert_eq!(
            ChecksumSum::default().add(&hex(text)).finish(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn kernel_packets_pass_the_verification() {
    for text in [
        RESET_V4,
        UNREACHABLE_V4,
        UNREACHABLE_V6,
        ECHO_V4,
        ECHO_REPLY_V4,
        ECHO_V6,
    ] {
        verify(&hex(text));
    }
}

#[test]
fn syn_is_parsed() {
    for (text, address, sequence, offset) in [
        (SYN_V4, IpAddr::from(Ipv4Addr::LOCALHOST), 0x883f_9c30, 20),
        (SYN_V6, IpAddr::from(Ipv6Addr::LOCALHOST), 0x8799_3d45, 40),
    ] {
        let bytes = hex(text);
        let packet = ParsedPacket::parse(&bytes).unwrap();
        assert_eq!((packet.source, packet.destination), (address, address));
        assert_eq!(
            (packet.protocol, packet.transport_offset),
            (Protocol::TCP, offset)
        );
        let odd = [
            packet.has_options,
            packet.has_extension_headers,
            packet.is_fragment,
        ];
        assert_eq!((odd, packet.is_truncated), ([false; 3], false));
        let TransportFields::Tcp(tcp) = packet.transport else {
            panic!("not TCP")
        };
        assert!(tcp.flags.is_syn());
        assert_eq!((tcp.source_port, tcp.destination_port), (45001, 9));
        assert_eq!((tcp.sequence, tcp.acknowledgement), (sequence, 0));
        assert_eq!(tcp.payload, bytes.len()..bytes.len());
    }
}

#[test]
fn datagram_and_echo_are_parsed() {
    for (text, start) in [(DATAGRAM_V4, 28), (DATAGRAM_V6, 48)] {
        let mut bytes = hex(text);
        // What follows the packet's own length is no part of it.
        bytes.extend([0xaa; 5]);
        let packet = ParsedPacket::parse(&bytes).unwrap();
        let TransportFields::Udp {
            source_port,
            destination_port,
            payload,
        } = packet.transport
        else {
            panic!("not UDP")
        };
        assert_eq!(
            (source_port, destination_port, payload.start),
            (45002, 9, start)
        );
        assert_eq!(&packet.bytes[payload], b"hello udp");
    }
    for (text, kind) in [
        (ECHO_V4, 8),
        (ECHO_V6, 128),
        (ECHO_REPLY_V4, 0),
        (ECHO_REPLY_V6, 129),
    ] {
        let bytes = hex(text);
        let packet = ParsedPacket::parse(&bytes).unwrap();
        let TransportFields::Icmp {
            kind: parsed,
            code: 0,
            echo: Some(echo),
        } = packet.transport
        else {
            panic!("no echo")
        };
        assert_eq!((parsed, echo.identifier, echo.sequence), (kind, 0x1234, 7));
        assert_eq!(&bytes[echo.payload], b"ping pay");
    }
}

#[test]
fn unusual_packets_are_flagged() {
    /// Flags in the order options, extension headers, fragment, truncated.
    fn check(bytes: &[u8], expected: [bool; 4], transport: &TransportFields) {
        let packet = ParsedPacket::parse(bytes).unwrap();
        let flags = [
            packet.has_options,
            packet.has_extension_headers,
            packet.is_fragment,
            packet.is_truncated,
        ];
        assert_eq!((flags, &packet.transport), (expected, transport));
    }
    let (v4, v6) = (hex(DATAGRAM_V4), hex(DATAGRAM_V6));
    let udp = |payload| TransportFields::Udp {
        source_port: 45002,
        destination_port: 9,
        payload,
    };

    let mut options = v4.clone();
    options[0] = 0x46;
    options[3] += 4;
    options.splice(20..20, [1, 1, 1, 1]);
    check(&options, [true, false, false, false], &udp(32..41));

    let mut first_fragment = v4.clone();
    first_fragment[6] = 0x20;
    check(&first_fragment, [false, false, true, false], &udp(28..37));
    let mut later_fragment = v4.clone();
    later_fragment[7] = 1;
    check(
        &later_fragment,
        [false, false, true, false],
        &TransportFields::Other,
    );

    check(&v4[..30], [false, false, false, true], &udp(28..30));
    check(
        &v4[..24],
        [false, false, false, true],
        &TransportFields::Malformed,
    );
    check(
        &v6[..44],
        [false, false, false, true],
        &TransportFields::Malformed,
    );

    for (next_header, fragment) in [(0, false), (43, false), (44, true), (60, false)] {
        let mut extended = v6.clone();
        extended[6] = next_header;
        check(
            &extended,
            [false, true, fragment, false],
            &TransportFields::Other,
        );
    }
    let mut lying = v4.clone();
    lying[25] += 1;
    check(&lying, [false; 4], &TransportFields::Malformed);
    let mut other = v4;
    other[9] = 47;
    check(&other, [false; 4], &TransportFields::Other);
}

#[test]
fn bad_ip_headers_are_refused() {
    let v4 = hex(SYN_V4);
    for (index, value) in [(0, 0x44), (0, 0x55), (3, 19), (0, 0x4f)] {
        let mut bytes = v4[..40].to_vec();
        bytes[index] = value;
        assert_eq!(ParsedPacket::parse(&bytes), None, "{index} {value}");
    }
    for bytes in [&v4[..19], &hex(SYN_V6)[..39], &[]] {
        assert_eq!(ParsedPacket::parse(bytes), None);
    }
}

#[test]
fn replayed_syn_differs_in_checksums_only() {
    for (text, checksum_at) in [(SYN_V4, 36), (SYN_V6, 56)] {
        let copy = hex(text);
        let mut padded = copy.clone();
        padded.extend([0; 6]);
        if padded[0] >> 4 == 4 {
            padded[10..12].fill(0);
        }
        let mut replay = replay_syn(&padded).unwrap();
        verify(&replay);
        replay[checksum_at..checksum_at + 2].copy_from_slice(&copy[checksum_at..checksum_at + 2]);
        assert_eq!(replay, copy);
    }
    let mut fragment = hex(SYN_V4);
    fragment[6] = 0x20;
    let truncated = &hex(SYN_V4)[..59];
    let mut syn_ack = hex(SYN_V4);
    syn_ack[33] = 0x12;
    for bytes in [
        &fragment,
        truncated,
        &syn_ack,
        &hex(DATAGRAM_V4),
        &hex(RESET_V6),
    ] {
        assert_eq!(replay_syn(bytes), None);
    }
}

#[test]
fn reset_is_the_kernels_own() {
    for (syn, expected) in [(SYN_V4, RESET_V4), (SYN_V6, RESET_V6)] {
        let syn = hex(syn);
        let reset = reset_for(&ParsedPacket::parse(&syn).unwrap()).unwrap();
        verify(&reset);
        let (built, expected) = (segment(&reset).to_vec(), hex(expected));
        assert_eq!(built[..16], segment(&expected)[..16]);
        assert_eq!(built[18..], segment(&expected)[18..]);
    }
}

#[test]
fn reset_answers_data_and_acknowledgements() {
    let mut fast_open = hex(SYN_V4);
    fast_open[3] += 5;
    fast_open.extend(b"early");
    // The sequence number wraps.
    fast_open[24..28].copy_from_slice(&0xffff_fffe_u32.to_be_bytes());
    let mut acknowledged = hex(SYN_V4);
    acknowledged[33] = 0x10;
    acknowledged[28..32].copy_from_slice(&77_u32.to_be_bytes());
    for (bytes, sequence, acknowledgement, acknowledges) in
        [(fast_open, 0, 4, true), (acknowledged, 77, 0, false)]
    {
        let reset = reset_for(&ParsedPacket::parse(&bytes).unwrap()).unwrap();
        verify(&reset);
        let TransportFields::Tcp(tcp) = ParsedPacket::parse(&reset).unwrap().transport else {
            panic!("not TCP")
        };
        assert_eq!(
            (tcp.sequence, tcp.acknowledgement),
            (sequence, acknowledgement)
        );
        assert_eq!((tcp.flags.rst, tcp.flags.ack), (true, acknowledges));
    }
    for text in [RESET_V4, DATAGRAM_V4, ECHO_V6] {
        assert_eq!(reset_for(&ParsedPacket::parse(&hex(text)).unwrap()), None);
    }
}

#[test]
fn icmp_error_is_the_kernels_own() {
    for (datagram, expected) in [(DATAGRAM_V4, UNREACHABLE_V4), (DATAGRAM_V6, UNREACHABLE_V6)] {
        let error = icmp_error(&hex(datagram), IcmpErrorKind::PortUnreachable).unwrap();
        verify(&error);
        let expected = hex(expected);
        assert_eq!(segment(&error), segment(&expected));
        assert_eq!(error[0], expected[0]);
        assert_eq!(error[1] & 0xf0, expected[1] & 0xf0, "class of service");
    }
}

#[test]
fn icmp_error_codes() {
    for (kind, v4, v6) in [
        (IcmpErrorKind::NetworkUnreachable, [3, 0], [1, 0]),
        (IcmpErrorKind::HostUnreachable, [3, 1], [1, 3]),
        (IcmpErrorKind::ProtocolUnreachable, [3, 2], [4, 1]),
        (IcmpErrorKind::PortUnreachable, [3, 3], [1, 4]),
        (IcmpErrorKind::AdministrativelyProhibited, [3, 13], [1, 1]),
    ] {
        for (text, expected) in [(SYN_V4, v4), (SYN_V6, v6)] {
            let error = icmp_error(&hex(text), kind).unwrap();
            verify(&error);
            assert_eq!(segment(&error)[..2], expected);
        }
    }
}

#[test]
fn icmp_error_embeds_what_the_standards_allow() {
    let payload = vec![b'x'; 2000];
    for (from, to, length) in [
        ("192.0.2.1:5", "192.0.2.2:6", 576),
        ("[2001:db8::1]:5", "[2001:db8::2]:6", 1280),
    ] {
        let original = udp_datagram(from.parse().unwrap(), to.parse().unwrap(), &payload).unwrap();
        let error = icmp_error(&original, IcmpErrorKind::HostUnreachable).unwrap();
        verify(&error);
        assert_eq!(error.len(), length);
        assert!(original.starts_with(&segment(&error)[8..]));
        let parsed = ParsedPacket::parse(&error).unwrap();
        assert_eq!(SocketAddr::new(parsed.source, 6), to.parse().unwrap());
        assert_eq!(
            SocketAddr::new(parsed.destination, 5),
            from.parse().unwrap()
        );
    }
}

#[test]
fn no_error_is_sent_where_the_standards_forbid_it() {
    let address = |bytes: &[u8], at: usize, octets: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + octets.len()].copy_from_slice(octets);
        bytes
    };
    let (v4, v6) = (hex(DATAGRAM_V4), hex(DATAGRAM_V6));
    let mut later_v4 = v4.clone();
    later_v4[7] = 1;
    let mut later_v6 = v6.clone();
    later_v6[6] = 44;
    later_v6[40..44].copy_from_slice(&[17, 0, 0, 8]);
    for bytes in [
        address(&v4, 16, &[224, 0, 0, 251]),
        address(&v4, 16, &[255; 4]),
        address(&v4, 12, &[0; 4]),
        address(&v6, 24, &[0xff, 2]),
        address(&v6, 8, &[0; 16]),
        hex(UNREACHABLE_V4),
        hex(UNREACHABLE_V6),
        hex(UNREACHABLE_V4)[..24].to_vec(),
        later_v4,
        later_v6,
    ] {
        assert_eq!(icmp_error(&bytes, IcmpErrorKind::HostUnreachable), None);
    }
    assert!(icmp_error(&hex(ECHO_V4), IcmpErrorKind::HostUnreachable).is_some());
    assert!(icmp_error(&hex(ECHO_V6), IcmpErrorKind::HostUnreachable).is_some());
}

#[test]
fn built_datagram_is_the_apps_own() {
    for (text, address) in [(DATAGRAM_V4, "127.0.0.1"), (DATAGRAM_V6, "::1")] {
        let address: IpAddr = address.parse().unwrap();
        let datagram = udp_datagram((address, 45002).into(), (address, 9).into(), b"hello udp");
        let datagram = datagram.unwrap();
        verify(&datagram);
        let (built, sent) = (segment(&datagram).to_vec(), hex(text));
        assert_eq!(built[..6], segment(&sent)[..6]);
        assert_eq!(built[8..], segment(&sent)[8..]);
    }
}

#[test]
fn zero_udp_checksum_is_written_as_ones() {
    let (from, to) = ("0.0.0.0:0".parse().unwrap(), "0.0.0.0:0".parse().unwrap());
    // Pseudo-header 17 + 10, UDP length 10: the payload makes the sum 0xffff.
    let payload = (0xffff_u16 - 17 - 10 - 10).to_be_bytes();
    let datagram = udp_datagram(from, to, &payload).unwrap();
    assert_eq!(segment(&datagram)[6..8], [0xff, 0xff]);
    verify(&datagram);
}

#[test]
fn limits_of_a_datagram() {
    let (v4, v6) = (
        "192.0.2.1:5".parse().unwrap(),
        "[2001:db8::1]:5".parse().unwrap(),
    );
    for (address, longest) in [(v4, 65_507), (v6, 65_527)] {
        let datagram = udp_datagram(address, address, &vec![1; longest]).unwrap();
        verify(&datagram);
        assert_eq!(udp_datagram(address, address, &vec![1; longest + 1]), None);
    }
    assert_eq!(udp_datagram(v4, v6, b""), None);
    verify(&udp_datagram(v4, v4, b"").unwrap());
}

#[test]
fn echo_reply_is_the_kernels_own() {
    for (request, expected) in [(ECHO_V4, ECHO_REPLY_V4), (ECHO_V6, ECHO_REPLY_V6)] {
        let reply = echo_reply(&hex(request), b"ping pay").unwrap();
        verify(&reply);
        assert_eq!(segment(&reply), segment(&hex(expected)));
    }
    let mut fragment = hex(ECHO_V4);
    fragment[6] = 0x20;
    for bytes in [
        hex(ECHO_REPLY_V4),
        hex(ECHO_REPLY_V6),
        hex(SYN_V4),
        fragment,
    ] {
        assert_eq!(echo_reply(&bytes, b""), None);
    }
    assert_eq!(echo_reply(&hex(ECHO_V4), &vec![0; 65_508]), None);
}

/// Bytes that often get past the first checks.
fn packet_bytes() -> impl Strategy<Value = Vec<u8>> {
    let samples: Vec<Vec<u8>> = [
        SYN_V4,
        SYN_V6,
        DATAGRAM_V4,
        DATAGRAM_V6,
        UNREACHABLE_V4,
        UNREACHABLE_V6,
        ECHO_V4,
        ECHO_V6,
    ]
    .map(hex)
    .to_vec();
    let changed = (
        prop::sample::select(samples),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        any::<prop::sample::Index>(),
    )
        .prop_map(|(mut bytes, changes, length)| {
            for (index, value) in changes {
                let index = index.index(bytes.len());
                bytes[index] = value;
            }
            bytes.truncate(length.index(bytes.len() + 1));
            bytes
        });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..200), changed]
}

proptest! {
    #[test]
    fn no_bytes_panic_and_answers_are_sound(bytes in packet_bytes()) {
        if let Some(packet) = ParsedPacket::parse(&bytes) {
            prop_assert!(packet.transport_offset <= packet.bytes.len());
            let payload = match &packet.transport {
                TransportFields::Tcp(tcp) => Some(&tcp.payload),
                TransportFields::Udp { payload, .. } => Some(payload),
                TransportFields::Icmp { echo: Some(echo), .. } => Some(&echo.payload),
                _ => None,
            };
            if let Some(payload) = payload {
                prop_assert!(packet.bytes.get(payload.clone()).is_some());
            }
            if let Some(reset) = reset_for(&packet) {
                verify(&reset);
            }
        }
        if let Some(error) = icmp_error(&bytes, IcmpErrorKind::PortUnreachable) {
            verify(&error);
        }
        if let Some(replay) = replay_syn(&bytes) {
            verify(&replay);
        }
        if let Some(reply) = echo_reply(&bytes, b"payload") {
            verify(&reply);
        }
    }

    #[test]
    fn datagrams_read_back(payload in prop::collection::vec(any::<u8>(), 0..2000), v6: bool) {
        let (from, to) = if v6 {
            ("[2001:db8::1]:5", "[2001:db8::2]:6")
        } else {
            ("192.0.2.1:5", "192.0.2.2:6")
        };
        let datagram = udp_datagram(from.parse().unwrap(), to.parse().unwrap(), &payload).unwrap();
        verify(&datagram);
        let packet = ParsedPacket::parse(&datagram).unwrap();
        let TransportFields::Udp { payload: range, .. } = packet.transport else {
            panic!("not UDP")
        };
        prop_assert_eq!(&datagram[range], &payload[..]);
    }
}
