// SPDX-License-Identifier: Apache-2.0
//! Tests of the tiers of `shield`'s ruleset with packets to a peer that answers at every address.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netns_tests::internet::{Internet, PORTS, round_trip, tcp};
use rustix::net::sockopt::set_ipv6_freebind;
use rustix::net::{AddressFamily, SocketType, bind, socket};
use shield::{NftShield, Policy, ShieldError, ShieldOrderError};
use terok_clearance::{Action, Dest, Protocol, RuleLifetime, Scope, Target};
use test_support::namespaces::{ip, require_private_namespaces};

const SERVER: [&str; 2] = ["203.0.113.7", "2001:db8:1::7"];
const RESOLVERS: [&str; 2] = ["198.51.100.53", "2001:db8:53::53"];

#[expect(clippy::disallowed_methods, reason = "a test may read the clock")]
fn now() -> Instant {
    Instant::now()
}

fn engage() -> NftShield {
    NftShield::engage(shield::open_nftables_socket().unwrap(), &policy()).unwrap()
}

fn policy() -> Policy {
    Policy::new(RESOLVERS.map(|ip| ip.parse().unwrap())).unwrap()
}

fn order(shield: &mut NftShield, action: Action, dest: &str) -> Result<(), ShieldOrderError> {
    narrow(shield, action, dest, None, None)
}

fn narrow(
    shield: &mut NftShield,
    action: Action,
    dest: &str,
    protocol: Option<Protocol>,
    port: Option<u16>,
) -> Result<(), ShieldOrderError> {
    let dest: Dest = dest.parse().unwrap();
    let target = dest.parse_target().unwrap();
    let scope = Scope {
        port,
        protocol,
        ..Scope::whole_dest(dest)
    };
    shield.apply_order(action, &target, &scope, now())
}

fn target(text: &str) -> Target {
    text.parse().unwrap()
}

/// Asserts an immediate refusal by a reset, not by a timeout.
fn check_refused(at: &str, port: u16) {
    let begin = now();
    let error = tcp(at, port).expect_err(at);
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{at} {port}");
    assert!(begin.elapsed() < Duration::from_millis(900), "{at} {port}");
}

fn check_udp_refused(at: &str, port: u16) {
    let begin = now();
    let error = round_trip(at, port).expect_err(at);
    assert_ne!(
        error.kind(),
        ErrorKind::WouldBlock,
        "{at} {port}: no reply at all"
    );
    assert!(begin.elapsed() < Duration::from_millis(900), "{at} {port}");
}

#[test]
fn everything_is_open_without_a_shield() {
    let _internet = Internet::start();
    for at in [
        "203.0.113.7",
        "10.0.0.1",
        "169.254.169.254",
        "2001:db8:1::7",
        "fd00:ec2::254",
    ] {
        for port in PORTS {
            tcp(at, port).unwrap_or_else(|error| panic!("{at} {port}: {error}"));
            round_trip(at, port).unwrap_or_else(|error| panic!("udp {at} {port}: {error}"));
        }
    }
}

#[test]
fn packets_without_an_order_are_refused_at_once() {
    let _internet = Internet::start();
    let _shield = engage();
    for at in SERVER {
        check_refused(at, 80);
        check_refused(at, 443);
        check_udp_refused(at, 443);
        check_udp_refused(at, 53);
    }
}

#[test]
fn allowed_packets_pass_and_denied_ones_do_not() {
    let _internet = Internet::start();
    let mut shield = engage();
    for at in SERVER {
        order(&mut shield, Action::Allow, at).unwrap();
        tcp(at, 80).unwrap();
        round_trip(at, 443).unwrap();
        order(&mut shield, Action::Deny, at).unwrap();
        check_refused(at, 80);
        check_udp_refused(at, 443);
        order(&mut shield, Action::Allow, at).unwrap();
        tcp(at, 443).unwrap();
        shield.forget(&target(at), now()).unwrap();
        check_refused(at, 443);
    }
}

#[test]
fn a_narrow_order_opens_one_port_of_one_protocol() {
    let _internet = Internet::start();
    let mut shield = engage();
    for at in SERVER {
        narrow(
            &mut shield,
            Action::Allow,
            at,
            Some(Protocol::TCP),
            Some(443),
        )
        .unwrap();
        tcp(at, 443).unwrap();
        check_refused(at, 80);
        check_udp_refused(at, 443);
        narrow(&mut shield, Action::Allow, at, Some(Protocol::UDP), None).unwrap();
        round_trip(at, 80).unwrap();
        round_trip(at, 443).unwrap();
        check_refused(at, 80);
        narrow(
            &mut shield,
            Action::Deny,
            at,
            Some(Protocol::UDP),
            Some(443),
        )
        .unwrap();
        round_trip(at, 80).unwrap();
        check_udp_refused(at, 443);
        narrow(&mut shield, Action::Allow, at, None, Some(80)).unwrap();
        tcp(at, 80).unwrap();
    }
}

#[test]
fn ping_needs_an_order_too() {
    let _internet = Internet::start();
    let mut shield = engage();
    for (at, protocol) in [(SERVER[0], Protocol::ICMP), (SERVER[1], Protocol::ICMPV6)] {
        assert!(!ping(at), "{at}");
        narrow(&mut shield, Action::Allow, at, Some(protocol), Some(0)).unwrap();
        assert!(ping(at), "{at}");
        check_refused(at, 80);
    }
}

fn ping(at: &str) -> bool {
    let family = if at.contains(':') { 6 } else { 4 };
    let code = format!(
        "import os,socket,struct,sys\n\
         s=socket.socket(socket.AF_INET{v6},socket.SOCK_RAW,{protocol})\n\
         s.settimeout(2)\n\
         p=struct.pack('!BBHHH',{kind},0,0,7,1)\n\
         c=(~sum(struct.unpack('!4H',p)))&0xffff\n\
         p=struct.pack('!BBHHH',{kind},0,c,7,1)\n\
         try:\n s.sendto(p,('{at}',0)); \n\
         except OSError: sys.exit(1)\n\
         while True:\n\
         \x20try: d=s.recv(100)\n\
         \x20except OSError: sys.exit(1)\n\
         \x20d=d[{skip}:]\n\
         \x20if d[0]=={reply}: sys.exit(0)\n",
        v6 = if family == 6 { "6" } else { "" },
        protocol = if family == 6 { 58 } else { 1 },
        kind = if family == 6 { 128 } else { 8 },
        reply = if family == 6 { 129 } else { 0 },
        skip = if family == 6 { 0 } else { 20 },
    );
    Command::new("python3")
        .args(["-c", &code])
        .status()
        .unwrap()
        .success()
}

#[test]
fn the_resolver_is_reachable_on_port_53_only() {
    let _internet = Internet::start();
    let _shield = engage();
    for at in RESOLVERS {
        round_trip(at, 53).unwrap();
        tcp(at, 53).unwrap();
        check_refused(at, 80);
        check_udp_refused(at, 443);
    }
}

#[test]
fn a_resolver_in_a_private_range_is_reachable_on_port_53_only() {
    let _internet = Internet::start();
    let policy = Policy::new(["10.0.0.1".parse().unwrap()]).unwrap();
    let mut shield = NftShield::engage(shield::open_nftables_socket().unwrap(), &policy).unwrap();
    round_trip("10.0.0.1", 53).unwrap();
    check_refused("10.0.0.1", 80);
    check_udp_refused("198.51.100.53", 53);
    assert!(matches!(
        order(&mut shield, Action::Allow, "10.0.0.1"),
        Err(ShieldOrderError::Private(_))
    ));
    check_refused("10.0.0.1", 80);
}

#[test]
fn the_floor_and_the_private_ranges_stay_closed_despite_orders() {
    let _internet = Internet::start();
    let mut shield = engage();
    let name = "rebind.example".parse().unwrap();
    order(&mut shield, Action::Allow, "rebind.example").unwrap();
    for at in [
        "169.254.169.254",
        "169.254.1.1",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd20:ce::254",
        "64:ff9b::a9fe:a9fe",
        "240.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "fc00::1",
        "64:ff9b:1::1",
        "64:ff9b::a00:1",
        "2002:a00:1::1",
    ] {
        let refused = order(&mut shield, Action::Allow, at);
        assert!(
            matches!(
                refused,
                Err(ShieldOrderError::Floor(_) | ShieldOrderError::Private(_))
            ),
            "{at}"
        );
        let address: IpAddr = at.parse().unwrap();
        assert_eq!(
            shield
                .learn_addresses(&name, &[address], now())
                .unwrap()
                .refused,
            1
        );
        // A foreign element has no effect either: the tier of the floor is evaluated first.
        let set = if address.is_ipv4() {
            "allow4"
        } else {
            "allow6"
        };
        let element = format!("element inet terok_shield {set} {{ {at} }}");
        assert!(
            Command::new("nft")
                .args(["add", &element])
                .status()
                .unwrap()
                .success()
        );
        let error = tcp(at, 80).expect_err(at);
        assert!(
            matches!(
                error.kind(),
                // The kernel itself refuses some destinations.
                ErrorKind::ConnectionRefused
                    | ErrorKind::NetworkUnreachable
                    | ErrorKind::InvalidInput
            ),
            "{at}: {error}"
        );
    }
}

#[test]
fn an_established_connection_survives_a_deny() {
    let _internet = Internet::start();
    let mut shield = engage();
    for at in SERVER {
        order(&mut shield, Action::Allow, at).unwrap();
        let mut stream = tcp(at, 80).unwrap();
        order(&mut shield, Action::Deny, at).unwrap();
        check_refused(at, 80);
        stream.write_all(b"still").unwrap();
        let mut back = [0; 5];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"still");
    }
}

#[test]
fn an_allow_ends_with_its_timeout() {
    let _internet = Internet::start();
    let mut shield = engage();
    let dest: Dest = SERVER[0].parse().unwrap();
    let scope = Scope {
        keep: RuleLifetime::Once,
        seconds: Some(1),
        ..Scope::whole_dest(dest)
    };
    shield.allow(&target(SERVER[0]), &scope, now()).unwrap();
    tcp(SERVER[0], 80).unwrap();
    let begin = now();
    while tcp(SERVER[0], 80).is_ok() {
        assert!(begin.elapsed() < Duration::from_secs(5), "still open");
    }
    assert!(
        begin.elapsed() > Duration::from_millis(500),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(shield.list_elements().unwrap(), []);
    // Again: an expired element does not interfere.
    shield.allow(&target(SERVER[0]), &scope, now()).unwrap();
    tcp(SERVER[0], 80).unwrap();
}

#[test]
fn loopback_is_open() {
    require_private_namespaces();
    ip("link set lo up");
    let _shield = engage();
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let listener = TcpListener::bind(at).unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    }
}

/// A packet that a workload sends itself makes an entry of the connection tracker whose reply
/// direction leads outside.
#[test]
fn a_packet_to_oneself_with_a_foreign_source_opens_no_way_out_or_in() {
    let internet = Internet::start();
    let mut shield = engage();
    // Both ends know their neighbour from here on, so that no packet waits for it.
    round_trip(RESOLVERS[1], 53).unwrap();
    let foreign: SocketAddr = "[2001:db8:1::7]:9999".parse().unwrap();
    let own = UdpSocket::bind("[2001:db8::2]:0").unwrap();
    own.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let other = socket(AddressFamily::INET6, SocketType::DGRAM, None).unwrap();
    set_ipv6_freebind(&other, true).unwrap();
    bind(&other, &foreign).unwrap();
    UdpSocket::from(other)
        .send_to(b"forged", own.local_addr().unwrap())
        .unwrap();
    let receive = || {
        let mut buffer = [0; 64];
        let (length, from) = own.recv_from(&mut buffer)?;
        std::io::Result::Ok((buffer[..length].to_vec(), from))
    };
    assert_eq!(receive().unwrap(), (b"forged".to_vec(), foreign));
    let refused = own.send_to(b"outside", foreign).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    // The tracker has seen both directions now, and calls the entry established.
    let port = own.local_addr().unwrap().port();
    internet.run_python(&format!(
        "import socket\n\
         s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n\
         s.bind(('2001:db8:1::7', 9999))\n\
         s.sendto(b'inside', ('2001:db8::2', {port}))"
    ));
    // What was sent later has arrived.
    round_trip(RESOLVERS[1], 53).unwrap();
    own.set_nonblocking(true).unwrap();
    assert_eq!(receive().unwrap_err().kind(), ErrorKind::WouldBlock);
    // An order opens the way, and the reply comes in.
    order(&mut shield, Action::Allow, "2001:db8:1::7").unwrap();
    round_trip("2001:db8:1::7", 80).unwrap();
}

/// A packet that is sent over the loopback interface makes an entry whose reply may come from
/// outside.
#[test]
fn a_packet_bound_to_the_loopback_interface_opens_no_way_out_or_in() {
    let internet = Internet::start();
    let _shield = engage();
    round_trip(RESOLVERS[0], 53).unwrap();
    let code = "import socket\n\
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
                s.bind(('192.0.2.2', 5555))\n\
                s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo')\n\
                s.sendto(b'forged', ('203.0.113.7', 9999))";
    let sent = Command::new("python3").args(["-c", code]).status().unwrap();
    assert!(sent.success());
    let own = UdpSocket::bind("192.0.2.2:5555").unwrap();
    internet.run_python(
        "import socket\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.bind(('203.0.113.7', 9999))\n\
         s.sendto(b'inside', ('192.0.2.2', 5555))",
    );
    // What was sent later has arrived.
    round_trip(RESOLVERS[0], 53).unwrap();
    own.set_nonblocking(true).unwrap();
    let nothing = own.recv_from(&mut [0; 64]).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    let refused = own.send_to(b"outside", "203.0.113.7:9999").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
}

#[test]
fn incoming_connections_are_refused() {
    let internet = Internet::start();
    let _shield = engage();
    let listener = TcpListener::bind("[::]:8080").unwrap();
    for at in ["192.0.2.2", "2001:db8::2"] {
        let code = format!(
            "import socket\n\
             try: socket.create_connection(('{at}',8080),0.3)\n\
             except OSError: pass\n\
             else: raise SystemExit(1)"
        );
        internet.run_python(&code);
    }
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn only_the_kernel_sends_neighbour_messages() {
    let _internet = Internet::start();
    let mut shield = engage();
    order(&mut shield, Action::Allow, SERVER[1]).unwrap();
    // With an empty neighbour table, the next packet causes a solicitation.
    ip("-6 neigh flush dev out0");
    tcp(SERVER[1], 80).unwrap();
    // A forged neighbour advertisement to a distant host, with data as payload.
    let code = "import socket\n\
                s=socket.socket(socket.AF_INET6,socket.SOCK_RAW,58)\n\
                s.setsockopt(41,16,255)\n\
                try: s.sendto(bytes([136,0,0,0])+b'secret'*10,('2001:db8:1::8',0))\n\
                except PermissionError: raise SystemExit(0)\n\
                raise SystemExit(1)";
    assert!(
        Command::new("python3")
            .args(["-c", code])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn a_refused_transaction_keeps_the_previous_ruleset() {
    let _internet = Internet::start();
    // A table owned by another socket cannot be replaced.
    let mut owner = Command::new("nft")
        .arg("-i")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut to_owner = owner.stdin.take().unwrap();
    let table = "add table inet terok_shield { flags owner; }\n\
                 add chain inet terok_shield output { type filter hook output priority 0; policy drop; }\n";
    to_owner.write_all(table.as_bytes()).unwrap();
    let ruleset = || {
        Command::new("nft")
            .args(["list", "ruleset"])
            .output()
            .unwrap()
            .stdout
    };
    let begin = now();
    while !String::from_utf8(ruleset())
        .unwrap()
        .contains("policy drop")
    {
        assert!(
            begin.elapsed() < Duration::from_secs(5),
            "nft -i had no effect"
        );
    }
    let before = ruleset();
    let engaged = NftShield::engage(shield::open_nftables_socket().unwrap(), &policy());
    assert!(
        matches!(engaged, Err(ShieldError::Netlink(_))),
        "{engaged:?}"
    );
    assert_eq!(ruleset(), before);
    assert!(
        tcp(SERVER[0], 80).is_err(),
        "the firewall must remain default-deny"
    );
    drop(to_owner);
    owner.wait().unwrap();
}

#[test]
fn engaging_again_leaves_no_gap() {
    let _internet = Internet::start();
    drop(engage());
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let floods: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut refused = 0_u32;
                    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
                    udp.set_nonblocking(true).unwrap();
                    udp.connect((SERVER[0], 443)).unwrap();
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        // A packet that passes is echoed and detected below.
                        drop(udp.send(b"leak"));
                        check_refused_or_dropped(SERVER[0]);
                        refused += 1;
                    }
                    // All echoes have arrived before a later reply.
                    (udp.recv(&mut [0; 16]).ok(), refused)
                })
            })
            .collect();
        for _ in 0..50 {
            drop(engage());
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for flood in floods {
            let (leaked, refused) = flood.join().unwrap();
            assert_eq!(leaked, None, "a packet passed");
            assert!(refused > 0);
        }
    });
}

fn check_refused_or_dropped(at: &str) {
    let at = SocketAddr::new(at.parse().unwrap(), 80);
    let connected = TcpStream::connect_timeout(&at, Duration::from_millis(20));
    assert!(connected.is_err(), "connected");
}
