// SPDX-License-Identifier: Apache-2.0
//! Tests of the packets logged by `shield`'s ruleset, read from the kernel.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Instant;

use netns_tests::internet::{Internet, round_trip, tcp};
use reader::nflog::{NflogOptions, NflogReceiveOutcome, NflogSocket};
use rustix::net::sockopt::set_ipv6_freebind;
use rustix::net::{AddressFamily, SocketType, bind, socket};
use shield::{NftShield, Policy};
use terok_clearance::{Scope, Target};
use tokio::runtime::Runtime;

const SERVER: [&str; 2] = ["203.0.113.7", "2001:db8:1::7"];
const RESOLVERS: [&str; 2] = ["198.51.100.53", "2001:db8:53::53"];

/// A sandbox with its shield and both log groups.
struct ShieldHarness {
    shield: NftShield,
    questions: NflogSocket,
    answers: NflogSocket,
    _runtime: Runtime,
    internet: Internet,
}

impl ShieldHarness {
    fn start() -> Self {
        let internet = Internet::start();
        let policy = Policy::new(RESOLVERS.map(|ip| ip.parse().unwrap())).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let entered = runtime.enter();
        let bind =
            |options| NflogSocket::bind(shield::open_nftables_socket().unwrap(), options).unwrap();
        let (questions, answers) = (bind(NflogOptions::QUESTIONS), bind(NflogOptions::ANSWERS));
        let shield = NftShield::engage(shield::open_nftables_socket().unwrap(), &policy).unwrap();
        drop(entered);
        Self {
            shield,
            questions,
            answers,
            _runtime: runtime,
            internet,
        }
    }

    /// Returns the prefixes logged since the last call. A packet is logged before its sender gets
    /// the refusal or the answer.
    fn logged(&self) -> Vec<String> {
        let mut all = prefixes(&self.questions);
        all.extend(prefixes(&self.answers));
        all
    }

    fn order(&mut self, allow: bool, dest: &str) {
        let target: Target = dest.parse().unwrap();
        let scope = Scope::whole_dest(dest.parse().unwrap());
        if allow {
            self.shield.allow(&target, &scope, now()).unwrap();
        } else {
            self.shield.deny(&target, &scope, now()).unwrap();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
fn now() -> Instant {
    Instant::now()
}

fn prefixes(socket: &NflogSocket) -> Vec<String> {
    let mut all = Vec::new();
    let mut bytes = [0; 8192];
    loop {
        match socket.try_receive(&mut bytes) {
            NflogReceiveOutcome::Datagram(length) => {
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                all.extend(
                    text.split("TEROK_SHIELD_")
                        .skip(1)
                        .map(|rest| rest.split(": ").next().unwrap().to_owned()),
                );
            }
            NflogReceiveOutcome::Empty => return all,
            other => panic!("{other:?}"),
        }
    }
}

/// Sends one UDP packet, which may be refused.
fn send(to: &str, port: u16) {
    let to: IpAddr = to.parse().unwrap();
    let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(from).unwrap();
    if let Err(error) = socket.send_to(b"x", SocketAddr::new(to, port)) {
        assert_eq!(
            error.kind(),
            std::io::ErrorKind::PermissionDenied,
            "{to} {port}"
        );
    }
}

#[test]
fn a_question_is_logged_once_per_port_protocol_and_timeout() {
    let harness = ShieldHarness::start();
    for at in SERVER {
        for _ in 0..3 {
            tcp(at, 80).unwrap_err();
        }
        assert_eq!(harness.logged(), ["BLOCKED"], "{at}");
        tcp(at, 443).unwrap_err();
        assert_eq!(harness.logged(), ["BLOCKED"], "{at}");
        for _ in 0..3 {
            send(at, 80);
        }
        assert_eq!(harness.logged(), ["BLOCKED"], "{at}");
    }
}

#[test]
fn a_flood_of_pings_is_one_question() {
    let harness = ShieldHarness::start();
    // Each has another identifier and thus other bytes at the port offset of other protocols.
    let code = "import socket,struct\n\
                s=socket.socket(socket.AF_INET,socket.SOCK_RAW,1)\n\
                for i in range(100):\n\
                \x20try: s.sendto(struct.pack('!BBHHH',8,0,0xf7ff-i,i,0),('203.0.113.7',0))\n\
                \x20except PermissionError: pass\n";
    assert!(
        Command::new("python3")
            .args(["-c", code])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(harness.logged(), ["BLOCKED"]);
}

#[test]
fn with_a_full_set_every_packet_is_a_question() {
    let harness = ShieldHarness::start();
    let keys: Vec<_> = (0..4_096_u32)
        .map(|n| format!("{} . tcp . 80", Ipv4Addr::from_bits(0xc612_0000 + n)))
        .collect();
    for some in keys.chunks(2_048) {
        let element = format!(
            "add element inet terok_shield asked_port4 {{ {} }}",
            some.join(",")
                .replace(" . tcp . 80", " . tcp . 80 timeout 1h",)
        );
        assert!(Command::new("nft").arg(element).status().unwrap().success());
    }
    for _ in 0..3 {
        tcp(SERVER[0], 80).unwrap_err();
        assert_eq!(harness.logged(), ["BLOCKED"]);
    }
}

#[test]
fn refusals_without_a_question_have_other_prefixes() {
    let mut harness = ShieldHarness::start();
    for at in ["169.254.169.254", "fd00:ec2::254", "240.0.0.1"] {
        send(at, 80);
        assert_eq!(harness.logged(), ["DENIED"], "{at}");
    }
    for at in ["10.0.0.1", "fc00::1"] {
        send(at, 80);
        assert_eq!(harness.logged(), ["PRIVATE"], "{at}");
    }
    for at in SERVER {
        harness.order(false, at);
        send(at, 80);
        assert_eq!(harness.logged(), ["DENIED"], "{at}");
        harness.order(true, at);
        send(at, 80);
        assert_eq!(harness.logged(), Vec::<String>::new(), "{at}");
    }
}

#[test]
fn a_flood_to_the_floor_is_logged_at_a_limited_rate() {
    let harness = ShieldHarness::start();
    for _ in 0..1_000 {
        send("169.254.169.254", 80);
    }
    let logged = harness.logged().len();
    assert!((50..100).contains(&logged), "{logged}");
}

#[test]
fn link_local_multicast_is_not_logged() {
    let harness = ShieldHarness::start();
    for at in ["224.0.0.251", "224.0.0.22"] {
        send(at, 5353);
    }
    let code = "import socket\n\
                s=socket.socket(socket.AF_INET6,socket.SOCK_DGRAM)\n\
                s.setsockopt(41,17,socket.if_nametoindex('out0'))\n\
                try: s.sendto(b'x',('ff02::fb',5353))\n\
                except PermissionError: pass\n\
                s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n\
                s.setsockopt(0,35,socket.inet_aton('239.1.2.3')+socket.inet_aton('192.0.2.2'))\n";
    assert!(
        Command::new("python3")
            .args(["-c", code])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(harness.logged(), Vec::<String>::new());
}

#[test]
fn only_answers_of_the_resolver_are_logged() {
    let mut harness = ShieldHarness::start();
    for at in RESOLVERS {
        for _ in 0..3 {
            round_trip(at, 53).unwrap();
            assert_eq!(harness.logged(), ["ANSWER"], "{at}");
        }
    }
    for at in SERVER {
        harness.order(true, at);
        round_trip(at, 53).unwrap();
        tcp(at, 53).unwrap();
        assert_eq!(harness.logged(), Vec::<String>::new(), "{at}");
    }
    for at in RESOLVERS {
        drop(tcp(at, 53).unwrap());
        assert_eq!(harness.logged(), Vec::<String>::new(), "{at} over TCP");
    }
}

/// A workload sends itself a packet that looks like the answer to its own query.
#[test]
fn an_answer_over_the_loopback_interface_is_not_logged() {
    let harness = ShieldHarness::start();
    let resolver: SocketAddr = "[2001:db8:53::53]:53".parse().unwrap();
    let own = UdpSocket::bind("[2001:db8::2]:0").unwrap();
    let mut buffer = [0; 64];
    own.send_to(b"query", resolver).unwrap();
    assert_eq!(own.recv_from(&mut buffer).unwrap().1, resolver);
    assert_eq!(harness.logged(), ["ANSWER"]);
    let other = socket(AddressFamily::INET6, SocketType::DGRAM, None).unwrap();
    set_ipv6_freebind(&other, true).unwrap();
    bind(&other, &resolver).unwrap();
    let sent = UdpSocket::from(other).send_to(b"forged", own.local_addr().unwrap());
    assert_eq!(sent.unwrap(), 6);
    assert_eq!(own.recv_from(&mut buffer).unwrap(), (6, resolver));
    assert_eq!(harness.logged(), Vec::<String>::new());
}

#[test]
fn unsolicited_answers_are_dropped() {
    let harness = ShieldHarness::start();
    let listener = UdpSocket::bind("0.0.0.0:4000").unwrap();
    let code = "import socket\n\
                s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n\
                s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEPORT,1)\n\
                s.setsockopt(0,15,1)\n\
                s.bind(('198.51.100.53',5300))\n\
                s.sendto(b'forged',('192.0.2.2',4000))\n\
                r=socket.socket(socket.AF_INET,socket.SOCK_RAW,17)\n\
                r.bind(('198.51.100.53',0))\n\
                r.sendto(bytes([0,53,15,160,0,14,0,0])+b'forged',('192.0.2.2',0))\n";
    harness.internet.run_python(code);
    // A later packet over the same link cannot overtake the forged ones.
    round_trip(RESOLVERS[0], 53).unwrap();
    assert_eq!(harness.logged(), ["ANSWER"]);
    listener.set_nonblocking(true).unwrap();
    assert!(listener.recv(&mut [0; 16]).is_err());
}
