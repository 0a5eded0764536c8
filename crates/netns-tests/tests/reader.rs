// SPDX-License-Identifier: Apache-2.0
//! Tests of `reader` on packets dropped by the kernel.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::HashSet;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use netns::{NetnsRef, SocketSpec};
use reader::dns::DnsAnswer;
use reader::nflog::{NflogBindError, NflogOptions, NflogSocket};
use reader::{
    NflogLoss, NflogReader, NflogSockets, PacketClassifier, ReaderSink, first_request_number,
};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SendFlags, SocketType};
use rustix::thread::CapabilitySets;
use terok_clearance::{BlockedPacket, Dossier, Timestamp};
use test_support::namespaces::{add_dead_end_uplink, load_rules};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Refuses everything except the loopback device, where DNS answers are logged.
const RULES: &str = r#"
table inet terok_shield {
    chain output {
        type filter hook output priority filter; policy drop;
        oifname "lo" accept
        ip6 daddr fe80::/10 drop
        icmpv6 type { nd-neighbor-solicit, nd-router-solicit, mld2-listener-report } drop
        log prefix "TEROK_SHIELD_BLOCKED: " group 100
        meta l4proto tcp reject with tcp reset
        reject with icmpx admin-prohibited
    }
    chain input {
        type filter hook input priority filter; policy accept;
        udp sport 53 log prefix "TEROK_SHIELD_ANSWER: " group 101
        tcp sport 53 log prefix "TEROK_SHIELD_ANSWER: " group 101
    }
}
"#;

/// The same with a set that limits logging to once per destination and five seconds.
const ONCE: &str = r#"
table inet terok_shield {
    set asked {
        type ipv4_addr . inet_proto . inet_service
        flags dynamic,timeout
        size 65535
        timeout 5s
    }
    chain output {
        type filter hook output priority filter; policy drop;
        oifname "lo" accept
        ip daddr . meta l4proto . th dport @asked drop
        meta nfproto ipv4 add @asked { ip daddr . meta l4proto . th dport }
        meta nfproto ipv4 log prefix "TEROK_SHIELD_BLOCKED: " group 100
    }
}
"#;

/// Creates a route without a destination host, and loads the rules.
fn set_up(rules: &str) {
    add_dead_end_uplink();
    load_rules(rules.as_bytes());
}

/// The output of a reader, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ReaderOutput {
    Blocked(BlockedPacket),
    Answer(DnsAnswer),
    Lost(NflogLoss),
}

struct ChannelSink(mpsc::Sender<ReaderOutput>);

impl ReaderSink for ChannelSink {
    fn on_question(&mut self, blocked: BlockedPacket, _client: SocketAddr) {
        self.0.try_send(ReaderOutput::Blocked(blocked)).unwrap();
    }

    fn on_dns_answer(&mut self, answer: &DnsAnswer) {
        self.0
            .try_send(ReaderOutput::Answer(answer.clone()))
            .unwrap();
    }

    fn on_loss(&mut self, loss: NflogLoss) {
        self.0.try_send(ReaderOutput::Lost(loss)).unwrap();
    }
}

/// A reader in its own task.
struct Running {
    output: mpsc::Receiver<ReaderOutput>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Running {
    fn start() -> Self {
        Self::with(NflogOptions::QUESTIONS)
    }

    fn with(questions: NflogOptions) -> Self {
        let sockets =
            NflogSockets::bind_with(netfilter(), netfilter(), questions, NflogOptions::ANSWERS)
                .unwrap();
        let first = first_request_number(Timestamp::now());
        let classifier = PacketClassifier::new("box".parse().unwrap(), Dossier::default(), first);
        let (sender, output) = mpsc::channel(300_000);
        let stop = CancellationToken::new();
        let mut task = JoinSet::new();
        let stopped = stop.clone();
        task.spawn(async move {
            let reader = NflogReader::new(sockets, classifier);
            reader.run(&mut ChannelSink(sender), stopped).await.unwrap();
        });
        Self { output, stop, task }
    }

    async fn next(&mut self) -> ReaderOutput {
        self.output.recv().await.unwrap()
    }

    async fn blocked(&mut self) -> BlockedPacket {
        match self.next().await {
            ReaderOutput::Blocked(blocked) => blocked,
            other => panic!("{other:?}"),
        }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.task.join_next().await.unwrap().unwrap();
    }
}

fn netfilter() -> OwnedFd {
    NetnsRef::Current
        .open_sockets(&[SocketSpec::Netfilter])
        .unwrap()
        .remove(0)
}

fn connect(to: &str) {
    let to: SocketAddr = to.parse().unwrap();
    std::net::TcpStream::connect(to).unwrap_err();
}

/// Sends a datagram, expecting the refusal as an error.
fn send(to: &str) {
    let to: SocketAddr = to.parse().unwrap();
    let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(from)
        .unwrap()
        .send_to(b"x", to)
        .unwrap_err();
}

/// Sends bytes as the payload of an IP packet with any protocol.
fn send_raw(protocol: u8, to: &str, bytes: &[u8]) {
    let to: IpAddr = to.parse().unwrap();
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let protocol = std::num::NonZeroU32::new(protocol.into()).unwrap();
    let protocol = rustix::net::Protocol::from_raw(protocol);
    let socket = rustix::net::socket(family, SocketType::RAW, Some(protocol)).unwrap();
    let to = SocketAddr::new(to, 0);
    rustix::net::sendto(&socket, bytes, SendFlags::empty(), &to).unwrap_err();
}

#[tokio::test]
async fn every_protocol_is_a_question() {
    set_up(RULES);
    let mut reader = Running::start();
    connect("203.0.113.7:443");
    connect("[2001:db8:1::7]:443");
    send("203.0.113.7:123");
    send("[2001:db8:1::7]:123");
    send_raw(1, "203.0.113.7", &[8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    send_raw(58, "2001:db8:1::7", &[128, 0, 0, 0, 0, 0, 0, 0]);
    send_raw(
        132,
        "203.0.113.7",
        &[0xd2, 0xf0, 0x09, 0x61, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    send_raw(
        33,
        "2001:db8:1::7",
        &[0xd2, 0xf0, 0x09, 0x61, 0, 0, 0, 0, 0, 0, 0, 0],
    );
    send_raw(47, "203.0.113.7", &[0, 0, 8, 0]);
    for expected in [
        "203.0.113.7 tcp 443",
        "2001:db8:1::7 tcp 443",
        "203.0.113.7 udp 123",
        "2001:db8:1::7 udp 123",
        "203.0.113.7 icmp 0",
        "2001:db8:1::7 ipv6-icmp 0",
        "203.0.113.7 sctp 2401",
        "2001:db8:1::7 33 2401",
        "203.0.113.7 47 0",
    ] {
        let blocked = reader.blocked().await;
        let text = format!("{} {} {}", blocked.address, blocked.protocol, blocked.port);
        assert_eq!((text.as_str(), blocked.domain), (expected, None));
    }
    reader.stop().await;
}

#[tokio::test]
async fn a_message_contains_the_socket_owner() {
    set_up(RULES);
    let socket = NflogSocket::bind(netfilter(), NflogOptions::QUESTIONS).unwrap();
    connect("203.0.113.7:443");
    let mut bytes = [0; 8192];
    let reader::nflog::NflogReceiveOutcome::Datagram(length) =
        socket.wait_for_datagram(&mut bytes).await
    else {
        panic!()
    };
    let message = reader::packet::netlink_messages(&bytes[..length])
        .next()
        .unwrap();
    let log = reader::packet::NflogMessage::parse(message).unwrap();
    assert_eq!((log.group, log.sequence, log.hook), (100, Some(0), Some(3)));
    assert_eq!((log.uid, log.gid), (Some(0), Some(0)));
}

#[tokio::test]
async fn link_local_multicast_is_ignored() {
    set_up(RULES);
    let mut reader = Running::start();
    send("224.0.0.251:5353");
    send("[ff02::fb]:5353");
    connect("203.0.113.7:443");
    assert_eq!(reader.blocked().await.address.as_str(), "203.0.113.7");
    reader.stop().await;
}

#[tokio::test]
async fn a_hundred_thousand_packets_are_one_question() {
    set_up(ONCE);
    let mut reader = Running::start();
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for _ in 0..100_000 {
        socket.send_to(b"x", "203.0.113.7:123").unwrap_err();
    }
    // An unconnected socket may send to two destinations; the second one ends the test.
    socket.send_to(b"x", "203.0.113.8:123").unwrap_err();
    let mut asked = 0;
    while reader.blocked().await.address.as_str() == "203.0.113.7" {
        asked += 1;
    }
    assert!((1..10).contains(&asked), "{asked} questions");
    reader.stop().await;
}

#[tokio::test]
async fn messages_lost_by_the_kernel_are_counted() {
    const SENT: u64 = 5_000;
    set_up(RULES);
    let small = NflogOptions {
        buffer_bytes: 0,
        ..NflogOptions::QUESTIONS
    };
    let mut reader = Running::with(small);
    for _ in 0..SENT {
        send("203.0.113.7:123");
    }
    // Only a later message reveals losses at the end.
    let (mut events, mut missing) = (0, 0);
    while events == 0 || missing == 0 {
        match reader.next().await {
            ReaderOutput::Blocked(_) => events += 1,
            ReaderOutput::Lost(loss) => missing += loss.packets,
            ReaderOutput::Answer(answer) => panic!("{answer:?}"),
        }
    }
    connect("203.0.113.8:443");
    loop {
        match reader.next().await {
            ReaderOutput::Blocked(blocked) if blocked.port == 443 => break,
            ReaderOutput::Blocked(_) => events += 1,
            ReaderOutput::Lost(loss) => missing += loss.packets,
            ReaderOutput::Answer(answer) => panic!("{answer:?}"),
        }
    }
    if let Ok(ReaderOutput::Lost(loss)) = reader.output.try_recv() {
        missing += loss.packets;
    }
    assert!(missing > SENT / 2, "the minimum buffer holds few messages");
    assert_eq!(events + missing, SENT);
    reader.stop().await;
}

#[tokio::test]
async fn a_group_has_one_listener() {
    set_up(RULES);
    let first = Running::start();
    let error = NflogSockets::bind(netfilter(), netfilter()).unwrap_err();
    assert!(
        matches!(error, NflogBindError::GroupTaken(100)),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "another program listens to packet log group 100 in this network namespace; only one program can"
    );
    first.stop().await;
    NflogSockets::bind(netfilter(), netfilter()).unwrap();
}

#[tokio::test]
async fn binding_requires_a_capability() {
    set_up(RULES);
    let none = rustix::thread::CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    rustix::thread::set_capabilities(None, sets).unwrap();
    let error = NflogSockets::bind(netfilter(), netfilter()).unwrap_err();
    assert!(matches!(error, NflogBindError::Forbidden(100)), "{error:?}");
}

#[tokio::test]
async fn request_ids_are_never_reused() {
    set_up(RULES);
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let mut reader = Running::start();
        for _ in 0..50 {
            connect("203.0.113.7:443");
            let request = reader.blocked().await.request;
            assert!(seen.insert(request.clone()), "{request}");
        }
        reader.stop().await;
    }
}

/// Builds an answer for `name` with `address`.
fn answer(name: &str, address: [u8; 4]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
    bytes.extend(address);
    bytes
}

#[tokio::test]
async fn an_answer_names_the_following_packet() {
    set_up(RULES);
    let mut reader = Running::start();
    let resolver = UdpSocket::bind("127.0.0.1:53").unwrap();
    let stub = UdpSocket::bind("127.0.0.1:0").unwrap();
    // Everything is queued in the kernel before the reader runs: the order must still hold.
    for n in 0..200_u8 {
        let message = answer(&format!("host{n}.example"), [203, 0, 113, n]);
        resolver
            .send_to(&message, stub.local_addr().unwrap())
            .unwrap();
        stub.recv(&mut [0; 512]).unwrap();
        connect(&format!("203.0.113.{n}:443"));
    }
    let (mut answers, mut questions) = (0, 0);
    while questions < 200 {
        match reader.next().await {
            ReaderOutput::Answer(answer) => {
                assert_eq!(answer.name.as_str(), format!("host{answers}.example"));
                answers += 1;
            }
            ReaderOutput::Blocked(blocked) => {
                let name = format!("host{questions}.example");
                assert_eq!(blocked.domain.unwrap().as_str(), name);
                questions += 1;
            }
            ReaderOutput::Lost(loss) => panic!("{loss:?}"),
        }
    }
    assert_eq!(answers, 200);
    reader.stop().await;
}

#[tokio::test]
async fn an_answer_over_tcp_is_ignored_and_one_in_a_large_datagram_is_read() {
    set_up(RULES);
    let mut reader = Running::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:53").unwrap();
    let client = std::net::TcpStream::connect("127.0.0.1:53").unwrap();
    let message = answer("tcp.example", [203, 0, 113, 7]);
    let mut framed = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    framed.extend(message);
    listener.accept().unwrap().0.write_all(&framed).unwrap();
    drop(client);

    // Preceded by 3,000 bytes of other records.
    let mut large = answer("large.example", [203, 0, 113, 8]);
    let record = large.split_off(12 + 15 + 4);
    large[7] = 2;
    large.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 60, 11, 184]);
    large.extend([7; 3000]);
    large.extend(record);
    let resolver = UdpSocket::bind("127.0.0.1:53").unwrap();
    let stub = UdpSocket::bind("127.0.0.1:0").unwrap();
    resolver
        .send_to(&large, stub.local_addr().unwrap())
        .unwrap();
    let ReaderOutput::Answer(large) = reader.next().await else {
        panic!()
    };
    assert_eq!(large.name.as_str(), "large.example");
    reader.stop().await;
}

/// Root over the namespace can send to any netlink socket of it.
#[tokio::test]
async fn a_forged_log_message_is_not_taken() {
    set_up(RULES);
    let sockets = NflogSockets::bind(netfilter(), netfilter()).unwrap();
    // A socket that takes every message, for comparison.
    let other = netfilter();
    rustix::net::bind(&other, &SocketAddrNetlink::new(0, 0)).unwrap();
    let forger = netfilter();
    let forge = |port: u32| {
        let message = [
            20, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // NFULNL_MSG_PACKET
            2, 0, 0, 100,
        ];
        let to = SocketAddrNetlink::new(port, 0);
        rustix::net::sendto(&forger, &message, SendFlags::empty(), &to)
    };
    // The kernel lists the ports of all netlink sockets (protocol 12) of the namespace.
    let listing = std::fs::read_to_string("/proc/net/netlink").unwrap();
    let ports: Vec<u32> = listing
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            (words.next()? == "12").then(|| words.next()?.parse().ok())?
        })
        .filter(|port| *port != 0)
        .collect();
    assert_eq!(ports.len(), 3, "{listing}");
    let sent: Vec<_> = ports.into_iter().map(forge).collect();
    let refused = sent
        .iter()
        .filter(|sent| **sent == Err(rustix::io::Errno::CONNREFUSED));
    assert_eq!(refused.count(), 2, "{sent:?}");
    assert!(sent.contains(&Ok(20)), "{sent:?}");
    drop(sockets);
}
