// SPDX-License-Identifier: Apache-2.0
//! Tests of `shield`'s rules for packets over the loopback interface.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use netns_tests::internet::{Internet, round_trip};
use shield::{NftShield, Policy};
use test_support::namespaces::load_rules;

const RESOLVER: &str = "198.51.100.53";

fn engage() -> NftShield {
    let policy = Policy::new([RESOLVER.parse().unwrap()]).unwrap();
    NftShield::engage(shield::open_nftables_socket().unwrap(), &policy).unwrap()
}

/// Counts packets over the loopback interface by their state, after the rules of `shield`.
const COUNTERS: &[u8] = b"table inet observer {
\tchain output {
\t\ttype filter hook output priority 10; policy accept;
\t\toif lo ct state untracked counter comment \"untracked\"
\t\toif lo ct state != untracked counter comment \"tracked\"
\t}
\tchain input {
\t\ttype filter hook input priority 10; policy accept;
\t\tiif lo ct state untracked counter comment \"untracked\"
\t\tiif lo ct state != untracked counter comment \"tracked\"
\t}
}
";

/// Returns the number of untracked and of tracked packets.
fn loopback_packets() -> [u64; 2] {
    let output = Command::new("nft")
        .args(["-j", "list", "table", "inet", "observer"])
        .output()
        .unwrap();
    let listing: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    ["untracked", "tracked"].map(|state| {
        let rules = listing["nftables"].as_array().unwrap().iter();
        let rules = rules.filter(|one| one["rule"]["comment"] == state);
        rules
            .flat_map(|one| one["rule"]["expr"].as_array().unwrap())
            .filter_map(|expression| expression["counter"]["packets"].as_u64())
            .sum()
    })
}

/// Exchanges data over TCP, and receives the error about a datagram to a closed port.
fn use_loopback(at: IpAddr) {
    let listener = TcpListener::bind((at, 0)).unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    listener.accept().unwrap().0.write_all(b"hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
    let socket = UdpSocket::bind((at, 0)).unwrap();
    socket.connect((at, 9)).unwrap();
    socket.send(b"x").unwrap();
    let error = socket.recv(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{at}");
}

#[test]
fn packets_over_the_loopback_interface_are_not_tracked() {
    let _internet = Internet::start();
    let _shield = engage();
    load_rules(COUNTERS);
    let check = |at: &str, is_tracked: bool| {
        let before = loopback_packets();
        use_loopback(at.parse().unwrap());
        let after = loopback_packets();
        let mut counts = [0, 1].map(|state| after[state] - before[state]);
        if is_tracked {
            counts.reverse();
        }
        assert!(counts[0] > 6 && counts[1] == 0, "{at}: {counts:?}");
    };
    check("192.0.2.2", false);
    check("2001:db8::2", false);
    check("::1", false);
    // Both ends are loopback addresses: such an entry leads nowhere.
    check("127.0.0.1", true);
    check("127.0.0.11", true);
}

#[test]
fn an_error_from_outside_about_a_packet_to_oneself_is_dropped() {
    let internet = Internet::start();
    let _shield = engage();
    let socket = UdpSocket::bind("192.0.2.2:5555").unwrap();
    let other = UdpSocket::bind("192.0.2.2:6666").unwrap();
    socket.connect("192.0.2.2:6666").unwrap();
    socket.send(b"x").unwrap();
    other.recv(&mut [0; 8]).unwrap();
    internet.run_python(
        "import socket, struct\n\
         own = socket.inet_aton('192.0.2.2')\n\
         quoted = struct.pack('!BBHHHBBH4s4s', 69, 0, 29, 0, 0, 64, 17, 0, own, own)\n\
         quoted += struct.pack('!HHHH', 5555, 6666, 9, 0)\n\
         error = struct.pack('!BBHI', 3, 3, 0, 0) + quoted\n\
         total = sum(struct.unpack('!%dH' % (len(error) // 2), error))\n\
         total = (total >> 16) + (total & 0xffff)\n\
         total = ~(total + (total >> 16)) & 0xffff\n\
         error = error[:2] + struct.pack('!H', total) + error[4:]\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)\n\
         s.sendto(error, ('192.0.2.2', 0))",
    );
    // What was sent later has arrived.
    round_trip(RESOLVER, 53).unwrap();
    assert!(socket.take_error().unwrap().is_none());
    socket.send(b"x").unwrap();
    other.recv(&mut [0; 8]).unwrap();
}

/// Container engines redirect the port of their resolver at a loopback address.
#[test]
fn a_redirected_loopback_address_works() {
    let _internet = Internet::start();
    let _shield = engage();
    load_rules(
        b"table ip engine { chain output { type nat hook output priority -100; \
          ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:5353\n }\n }\n",
    );
    let resolver = UdpSocket::bind("127.0.0.11:5353").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect("127.0.0.11:53").unwrap();
    client.send(b"query").unwrap();
    let mut buffer = [0; 16];
    let (length, from) = resolver.recv_from(&mut buffer).unwrap();
    resolver.send_to(&buffer[..length], from).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), length);
}
