// SPDX-License-Identifier: Apache-2.0

use super::*;

const A: u16 = 1;
const CNAME: u16 = 5;
const TXT: u16 = 16;
const AAAA: u16 = 28;

/// Builds messages byte by byte, including malformed ones.
struct DnsMessageBuilder(Vec<u8>);

impl DnsMessageBuilder {
    /// Starts a response with `flags` to a question for `name`, with `answers` claimed answers.
    fn new(flags: u16, name: &[u8], kind: u16, class: u16, answers: u16) -> Self {
        let mut bytes = vec![0xab, 0xcd];
        for field in [flags, 1, answers, 0, 0] {
            bytes.extend(field.to_be_bytes());
        }
        bytes.extend(name);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(class.to_be_bytes());
        Self(bytes)
    }

    fn record(mut self, owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Self {
        self.0.extend(owner);
        self.0.extend(kind.to_be_bytes());
        self.0.extend(1_u16.to_be_bytes());
        self.0.extend(ttl.to_be_bytes());
        self.0
            .extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        self.0.extend(data);
        self
    }

    /// Parses the message and returns `name: address ttl, …`.
    fn read(&self) -> Option<String> {
        let answer = DnsAnswer::parse(&self.0)?;
        let addresses: Vec<_> = answer
            .addresses
            .iter()
            .map(|(address, ttl)| format!("{address} {}", ttl.as_secs()))
            .collect();
        Some(format!("{}: {}", answer.name, addresses.join(", ")))
    }
}

fn name(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

/// A pointer to the queried name.
const ASKED: &[u8] = &[0xc0, 12];
/// Flags of a successful recursive response.
const OK: u16 = 0x8180;

fn asked(text: &str, answers: u16) -> DnsMessageBuilder {
    DnsMessageBuilder::new(OK, &name(text), A, 1, answers)
}

#[test]
fn an_answer_has_a_name_and_its_addresses() {
    let message = asked("api.example.com", 2)
        .record(ASKED, A, 300, &[203, 0, 113, 7])
        .record(ASKED, A, 60, &[203, 0, 113, 8]);
    assert_eq!(
        message.read().unwrap(),
        "api.example.com: 203.0.113.7 300, 203.0.113.8 60"
    );
    let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    let message = DnsMessageBuilder::new(OK, &name("api.example.com"), AAAA, 1, 1)
        .record(ASKED, AAAA, 5, &v6);
    assert_eq!(message.read().unwrap(), "api.example.com: 2001:db8::7 5");
}

#[test]
fn the_name_is_the_queried_one_in_lower_case() {
    let message =
        asked("aPi.ExAmple.com", 1).record(&name("ApI.example.COM"), A, 9, &[192, 0, 2, 1]);
    assert_eq!(message.read().unwrap(), "api.example.com: 192.0.2.1 9");
}

#[test]
fn aliases_are_followed_in_any_order() {
    let message = asked("www.example.com", 3)
        .record(&name("e7.cdn.example"), A, 20, &[192, 0, 2, 7])
        .record(&name("cdn.example"), CNAME, 10, &name("e7.cdn.example"))
        .record(ASKED, CNAME, 3600, &name("cdn.example"));
    assert_eq!(message.read().unwrap(), "www.example.com: 192.0.2.7 10");
}

#[test]
fn records_of_other_names_are_ignored() {
    let message = asked("evil.example", 3)
        .record(ASKED, CNAME, 60, &name("a.evil.example"))
        .record(&name("github.com"), A, 60, &[192, 0, 2, 1])
        .record(ASKED, A, 60, &[192, 0, 2, 2]);
    assert_eq!(message.read(), None, "an alias has no addresses of its own");
    let message = asked("evil.example", 2)
        .record(&name("github.com"), A, 60, &[192, 0, 2, 1])
        .record(ASKED, A, 60, &[192, 0, 2, 2]);
    assert_eq!(message.read().unwrap(), "evil.example: 192.0.2.2 60");
}

#[test]
fn other_records_are_skipped_and_addresses_are_distinct() {
    let message = asked("a.example", 4)
        .record(ASKED, TXT, 1, b"\xffgarbage that no parser need understand")
        .record(ASKED, A, 60, &[192, 0, 2, 1])
        .record(ASKED, A, 70, &[192, 0, 2, 1])
        .record(ASKED, 65_000, 1, &[]);
    assert_eq!(message.read().unwrap(), "a.example: 192.0.2.1 60");
}

#[test]
fn a_time_to_live_with_the_sign_bit_set_is_zero() {
    let message = asked("a.example", 1).record(ASKED, A, 0x8000_0000, &[192, 0, 2, 1]);
    assert_eq!(message.read().unwrap(), "a.example: 192.0.2.1 0");
}

#[test]
fn other_messages_are_ignored() {
    let good = |flags, kind, class, host: &[u8]| {
        DnsMessageBuilder::new(flags, host, kind, class, 1)
            .record(ASKED, A, 60, &[192, 0, 2, 1])
            .read()
    };
    let host = name("a.example");
    assert!(good(OK, A, 1, &host).is_some());
    for (flags, kind, class, host, why) in [
        (0x0100, A, 1, host.clone(), "a query"),
        (0x8183, A, 1, host.clone(), "no such name"),
        (0x8182, A, 1, host.clone(), "server failure"),
        (0xa180, A, 1, host.clone(), "a notification"),
        (OK, A, 3, host.clone(), "class CHAOS"),
        (OK, A, 1, name(""), "the root"),
        (OK, A, 1, name("a b.example"), "a space in the name"),
        (OK, A, 1, name("\u{1b}[2J.example"), "an escape sequence"),
        (OK, A, 1, name("*.example"), "a wildcard"),
        (OK, A, 1, name("192.0.2.1"), "an address"),
        (
            OK,
            A,
            1,
            b"\x03a.b\x07example\0".to_vec(),
            "a dot inside a label",
        ),
    ] {
        assert_eq!(good(flags, kind, class, &host), None, "{why}");
    }
    assert_eq!(asked("a.example", 0).read(), None, "no answers");
    let short = asked("a.example", 1).record(ASKED, A, 60, &[192, 0, 2]);
    assert_eq!(short.read(), None, "an address of three bytes");
    let long = DnsMessageBuilder::new(OK, &host, A, 1, 1).record(ASKED, AAAA, 60, &[0; 17]);
    assert_eq!(long.read(), None, "an address of seventeen bytes");
}

#[test]
fn hostile_messages_are_rejected() {
    let claim = asked("a.example", u16::MAX).record(ASKED, A, 60, &[192, 0, 2, 1]);
    assert_eq!(claim.read(), None, "missing answers");

    let itself = DnsMessageBuilder::new(OK, ASKED, A, 1, 1).record(ASKED, A, 60, &[192, 0, 2, 1]);
    assert_eq!(itself.read(), None, "a name that points to itself");

    let circle = asked("a.example", 2)
        .record(ASKED, CNAME, 60, &name("b.example"))
        .record(&name("b.example"), CNAME, 60, ASKED);
    assert_eq!(circle.read(), None, "a cycle of aliases");

    let mut chain = asked("n0.example", 41);
    for n in 0..40 {
        let (owner, target) = (format!("n{n}.example"), format!("n{}.example", n + 1));
        chain = chain.record(&name(&owner), CNAME, 60, &name(&target));
    }
    let chain = chain.record(&name("n40.example"), A, 60, &[192, 0, 2, 1]);
    assert_eq!(chain.read(), None, "too many aliases");

    let mut two = asked("a.example", 1).record(ASKED, A, 60, &[192, 0, 2, 1]);
    two.0[5] = 2;
    assert_eq!(two.read(), None, "two questions");

    let whole = asked("a.example", 1).record(ASKED, A, 60, &[192, 0, 2, 1]);
    for cut in 0..whole.0.len() {
        assert_eq!(DnsAnswer::parse(&whole.0[..cut]), None, "cut at {cut}");
    }
}

#[test]
fn only_datagrams_from_port_53_carry_answers() {
    let message = asked("a.example", 1)
        .record(ASKED, A, 60, &[192, 0, 2, 1])
        .0;
    let mut framed = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    framed.extend(&message);
    let is_answer = |protocol, source_port, payload: &[u8]| {
        DnsAnswer::from_packet(&LoggedPacket {
            source: [192, 0, 2, 53].into(),
            destination: [192, 0, 2, 2].into(),
            protocol,
            source_port,
            destination_port: 40_000,
            payload,
        })
        .is_some()
    };
    assert!(is_answer(Protocol::UDP, 53, &message));
    assert!(!is_answer(Protocol::UDP, 5353, &message));
    assert!(!is_answer(Protocol::SCTP, 53, &message));
    assert!(!is_answer(Protocol::TCP, 53, &message));
    assert!(!is_answer(Protocol::TCP, 53, &framed));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_do_not_panic(
        flags in proptest::num::u16::ANY,
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
    ) {
        DnsAnswer::parse(&bytes);
        let mut message = asked("a.example", flags % 64);
        message.0.extend(&bytes);
        DnsAnswer::parse(&message.0);
    }

    #[test]
    fn every_address_comes_from_a_record(
        hosts in proptest::collection::vec((proptest::num::u8::ANY, 0..100_000_u32), 1..50)
    ) {
        let mut message = asked("a.example", u16::try_from(hosts.len()).unwrap());
        for (host, ttl) in &hosts {
            message = message.record(ASKED, A, *ttl, &[192, 0, 2, *host]);
        }
        let answer = DnsAnswer::parse(&message.0).unwrap();
        for (address, ttl) in &answer.addresses {
            let IpAddr::V4(v4) = address else { panic!() };
            let first = hosts.iter().find(|(host, _)| *host == v4.octets()[3]).unwrap();
            assert_eq!(ttl.as_secs(), u64::from(first.1));
        }
        let mut distinct: Vec<_> = hosts.iter().map(|(host, _)| host).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(answer.addresses.len(), distinct.len());
    }
}

#[test]
fn a_query_is_not_an_answer() {
    use hickory_proto::op::{Message, MessageType, OpCode, Query};
    for kind in [RecordType::A, RecordType::AAAA] {
        let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
        message.add_query(Query::query("api.example.com.".parse().unwrap(), kind));
        assert_eq!(DnsAnswer::parse(&message.to_vec().unwrap()), None);
    }
}
