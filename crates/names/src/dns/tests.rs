// SPDX-License-Identifier: Apache-2.0
use proptest::prelude::*;

use super::*;

/// A query of type A and class IN for a name of these labels.
fn query_for(labels: &[&[u8]]) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in labels {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(*label);
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

fn opt(owner: &[u8], payload: u16, version: u8, data: &[u8]) -> Vec<u8> {
    let mut record = owner.to_vec();
    record.extend([0, 41]);
    record.extend(payload.to_be_bytes());
    record.extend([0, version, 0x80, 0]);
    record.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    record.extend(data);
    record
}

fn with_additionals(count: u8, records: &[u8]) -> Vec<u8> {
    let mut message = query_for(&[b"a", b"test"]);
    message[11] = count;
    message.extend(records);
    message
}

fn parse(message: &[u8]) -> Result<DnsQuery, QueryRejection> {
    DnsQuery::parse(message, DnsTransport::Udp)
}

#[test]
fn names_of_questions_are_host_names_in_lower_case() {
    let check = |labels: &[&[u8]], expected: Option<&str>| {
        let expected = expected.map_or(QueryName::NotHost, |name| {
            QueryName::Host(name.parse().unwrap())
        });
        let query = parse(&query_for(labels)).unwrap();
        assert_eq!(query.name, expected, "of {labels:?}");
    };
    check(&[b"Api", b"EXAMPLE", b"com"], Some("api.example.com"));
    check(&[b"_dmarc", b"x-y", b"com"], Some("_dmarc.x-y.com"));
    check(&[b"localhost"], Some("localhost"));
    check(
        &[&[b'a'; 63], b"com"],
        Some(&format!("{}.com", "a".repeat(63))),
    );
    check(&[b"2852039166"], None);
    check(&[b"0x7f000001"], None);
    check(&[b"0X7F000001"], None);
    check(&[b"127", b"1"], None);
    check(&[b"a.b", b"com"], None);
    check(&[b"a", b"b."], None);
    check(&[b".", b"com"], None);
    check(&[b"a", b"."], None);
    check(&[b"-a", b"com"], None);
    check(&[b"a b", b"com"], None);
    check(&[b"a\0", b"com"], None);
    check(&[b"\xc3\xa4", b"com"], None);
    check(&[b"*", b"example", b"com"], None);
    assert_eq!(parse(&query_for(&[])).unwrap().name, QueryName::Root);
}

#[test]
fn names_end_at_255_bytes_on_the_wire() {
    let label: &[u8] = &[b'a'; 49];
    let longest = [label, label, label, label, label, b"com"];
    let QueryName::Host(name) = parse(&query_for(&longest[..])).unwrap().name else {
        panic!("not a host name");
    };
    assert_eq!(name.as_str().len(), 253);
    let too_long = [label, label, label, label, label, b"comm"];
    check_error(&query_for(&too_long[..]), ResponseCode::FormErr);
}

fn check_error(message: &[u8], expected: ResponseCode) {
    let Err(QueryRejection::Reply(reply)) = parse(message) else {
        panic!("accepted: {message:02x?}");
    };
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(reply.metadata.id, 0x1234);
    assert_eq!(reply.metadata.response_code, expected, "of {message:02x?}");
}

#[test]
fn other_messages_are_ignored_or_errors() {
    let query = query_for(&[b"a", b"test"]);
    let mut response = query.clone();
    response[2] |= 0x80;
    for ignored in [&[][..], &query[..11], &response] {
        assert!(matches!(parse(ignored), Err(QueryRejection::NotQuery)));
    }
    for length in 12..query.len() {
        check_error(&query[..length], ResponseCode::FormErr);
    }
    let with = |index: usize, byte: u8| {
        let mut message = query.clone();
        message[index] = byte;
        message
    };
    check_error(&with(2, 0x28), ResponseCode::NotImp);
    check_error(&with(2, 0x78), ResponseCode::NotImp);
    check_error(&with(5, 0), ResponseCode::FormErr);
    check_error(&with(5, 2), ResponseCode::FormErr);
    // A compression pointer and an extended label instead of a name.
    check_error(&with(12, 0xc0), ResponseCode::FormErr);
    check_error(&with(12, 0x41), ResponseCode::FormErr);
    // Counted records that are missing.
    check_error(&with(7, 1), ResponseCode::FormErr);
    check_error(&with(10, 0xff), ResponseCode::FormErr);
}

#[test]
fn an_opt_record_is_found_among_others() {
    let accepted = |message: &[u8]| parse(message).unwrap().edns.map(|edns| edns.payload_bytes);
    let other = [0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 0, 0, 2, 1, b'x'];
    let plain = opt(&[0], 4096, 0, &[]);
    // A client subnet (8) and a cookie (10).
    let options = opt(&[0], 1400, 0, &[0, 8, 0, 1, 9, 0, 10, 0, 1, 7]);
    assert_eq!(accepted(&query_for(&[b"a"])), None);
    assert_eq!(accepted(&with_additionals(1, &plain)), Some(4096));
    assert_eq!(accepted(&with_additionals(1, &options)), Some(1400));
    let both = [&other[..], &plain].concat();
    assert_eq!(accepted(&with_additionals(2, &both)), Some(4096));

    let twice = with_additionals(2, &plain.repeat(2));
    check_error(&twice, ResponseCode::FormErr);
    let owned = with_additionals(1, &opt(&[1, b'x', 0], 4096, 0, &[]));
    check_error(&owned, ResponseCode::FormErr);
    let cut = with_additionals(1, &plain[..plain.len() - 1]);
    check_error(&cut, ResponseCode::FormErr);
}

#[test]
fn a_newer_version_of_edns_is_refused_with_ours() {
    let message = with_additionals(1, &opt(&[0], 4096, 1, &[]));
    let Err(QueryRejection::Reply(reply)) = parse(&message) else {
        panic!("accepted");
    };
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(u16::from(reply.metadata.response_code), 16);
    assert_eq!(reply.queries.len(), 1);
    let edns = reply.edns.unwrap();
    assert_eq!((edns.version(), edns.max_payload()), (0, 1232));
}

#[test]
fn a_reply_repeats_the_question_and_nothing_else() {
    let mut message = with_additionals(1, &opt(&[0], 1400, 0, &[0, 10, 0, 1, 7]));
    message[13] = b'A';
    // Set AA, TC, RD, Z, AD and CD.
    message[2..4].copy_from_slice(&[0x07, 0x70]);
    let query = parse(&message).unwrap();
    let record = ReplyRecord::Ipv4([198, 18, 0, 1].into());
    let reply = query.encode_reply(ResponseCode::NoError, &[record]);
    assert_eq!(reply[..4], [0x12, 0x34, 0x81, 0x80]);
    assert_eq!(reply[4..12], [0, 1, 0, 1, 0, 0, 0, 1]);
    let question_end = 12 + query.question.len();
    assert_eq!(reply[12..question_end], message[12..question_end]);
    let parsed = Message::from_vec(&reply).unwrap();
    assert_eq!(parsed.answers[0].ttl, ADDRESS_TTL);
    let edns = parsed.edns.unwrap();
    assert!(edns.flags().dnssec_ok && edns.options().as_ref().is_empty());
}

#[test]
fn long_replies_over_udp_are_truncated() {
    let text = hickory_proto::rr::rdata::TXT::new(vec!["x".repeat(250)]);
    let name: DomainName = "a.test".parse().unwrap();
    let record = Record::from_rdata(
        wire_name(&name).unwrap(),
        60,
        hickory_proto::rr::RData::TXT(text),
    );
    let check = |transport, payload: Option<u16>, records: usize, fits: bool| {
        let mut message = match payload {
            Some(payload) => with_additionals(1, &opt(&[0], payload, 0, &[])),
            None => query_for(&[b"a", b"test"]),
        };
        message[13] = b'A';
        // Type TXT.
        message[20] = 16;
        let query = DnsQuery::parse(&message, transport).unwrap();
        let reply = query.encode_lookup_reply(&name, vec![record.clone(); records]);
        assert_eq!(reply[13], b'A');
        let parsed = Message::from_vec(&reply).unwrap();
        let what = format!("{records} records by {transport:?} with {payload:?}");
        assert_eq!(parsed.metadata.truncation, !fits, "{what}");
        let expected = if fits { records } else { 0 };
        assert_eq!(parsed.answers.len(), expected, "{what}");
        assert_eq!(parsed.edns.is_some(), payload.is_some(), "{what}");
    };
    check(DnsTransport::Udp, None, 1, true);
    check(DnsTransport::Udp, None, 2, false);
    check(DnsTransport::Udp, Some(0), 2, false);
    check(DnsTransport::Udp, Some(1232), 4, true);
    check(DnsTransport::Udp, Some(1232), 5, false);
    check(DnsTransport::Udp, Some(65_535), 15, true);
    check(DnsTransport::Udp, Some(65_535), 16, false);
    check(DnsTransport::Tcp, None, 200, true);
    check(DnsTransport::Tcp, None, 300, false);
}

/// Bytes that resemble a query: arbitrary, or a header of one question before arbitrary bytes.
fn query_like() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(any::<u8>(), 0..600);
    let low = prop::collection::vec(0_u8..70, 0..600);
    let framed = (any::<[u8; 2]>(), 0_u8..4, low).prop_map(|(id, records, rest)| {
        let mut message = vec![id[0], id[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, records];
        message.extend(rest);
        message
    });
    prop_oneof![bytes, framed]
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_rejected(message in query_like(), is_tcp: bool) {
        let transport = if is_tcp { DnsTransport::Tcp } else { DnsTransport::Udp };
        match DnsQuery::parse(&message, transport) {
            Ok(query) => {
                let record = ReplyRecord::Pointer("long.example".parse().unwrap());
                let reply = query.encode_reply(ResponseCode::NoError, &[record]);
                let end = 12 + query.question.len();
                prop_assert_eq!(&reply[..2], &message[..2]);
                prop_assert_eq!(&reply[12..end], &message[12..end]);
                prop_assert!(Message::from_vec(&reply).is_ok());
            }
            Err(QueryRejection::Reply(reply)) => {
                prop_assert_eq!(&reply[..2], &message[..2]);
                prop_assert!(reply.len() >= 12 && reply[2] & 0x80 != 0);
            }
            Err(QueryRejection::NotQuery) => {
                prop_assert!(message.len() < 12 || message[2] & 0x80 != 0);
            }
        }
    }
}
