// SPDX-License-Identifier: Apache-2.0
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, rdata};
use proptest::prelude::*;
use terok_clearance::DisplayText;

use super::*;

/// A policy that allows `allowed.test` and the names below it.
fn allows(name: &DomainName) -> bool {
    is_in_zone(name, "allowed.test")
}

fn forwarder() -> DnsForwarder {
    DnsForwarder::new(ForwarderConfig::new(StandInKey::new([7; 16])))
}

/// Encodes a query; `/` in `name` is a dot within a label.
fn encode(name: &str, record_type: RecordType) -> Vec<u8> {
    let labels = name.split_terminator('.').filter(|label| !label.is_empty());
    let labels = labels.map(|label| label.replace('/', ".").into_bytes());
    let name = Name::from_labels(labels).unwrap();
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(name, record_type));
    query.to_vec().unwrap()
}

fn plan(forwarder: &mut DnsForwarder, name: &str, record_type: RecordType) -> QueryPlan {
    forwarder.plan(&encode(name, record_type), DnsTransport::Udp, &allows)
}

/// The code and the first record of a reply, such as `NoError 198.18.3.4` and `NXDomain`.
fn describe(reply: &[u8]) -> String {
    let reply = Message::from_vec(reply).unwrap();
    let metadata = reply.metadata;
    assert!(metadata.recursion_available && metadata.recursion_desired);
    assert!(!metadata.authoritative && !metadata.truncation);
    let data = reply.answers.first().map(|record| &record.data);
    format!(
        "{:?} {}",
        metadata.response_code,
        data.map(ToString::to_string).unwrap_or_default()
    )
    .trim_end()
    .to_owned()
}

fn reply_to(forwarder: &mut DnsForwarder, name: &str, record_type: RecordType) -> String {
    match plan(forwarder, name, record_type) {
        QueryPlan::Reply(reply) => describe(&reply),
        other => panic!("{name} {record_type}: {other:?}"),
    }
}

fn pending(forwarder: &mut DnsForwarder, name: &str, record_type: RecordType) -> PendingLookup {
    match plan(forwarder, name, record_type) {
        QueryPlan::Lookup(pending) => pending,
        other => panic!("{name} {record_type}: {other:?}"),
    }
}

#[test]
fn queries_without_a_lookup() {
    use RecordType as T;
    let mut forwarder = forwarder();
    // `S` is the stand-in address of the name.
    for (name, record_type, expected) in [
        ("asked.test.", T::A, "NoError S"),
        ("ASKED.test.", T::A, "NoError S"),
        ("asked.test.", T::ANY, "NoError S"),
        ("asked.test.", T::AAAA, "NoError"),
        ("asked.test.", T::HTTPS, "NoError"),
        ("asked.test.", T::SVCB, "NoError"),
        ("asked.test.", T::MX, "Refused"),
        ("asked.test.", T::TXT, "Refused"),
        ("asked.test.", T::SRV, "Refused"),
        ("asked.test.", T::NS, "Refused"),
        ("asked.test.", T::SOA, "Refused"),
        ("asked.test.", T::CAA, "Refused"),
        ("asked.test.", T::CNAME, "Refused"),
        ("asked.test.", T::NULL, "Refused"),
        ("asked.test.", T::Unknown(65_280), "Refused"),
        ("asked.test.", T::PTR, "Refused"),
        ("asked.test.", T::AXFR, "Refused"),
        ("single.", T::A, "NoError S"),
        ("wiki.corp.test.", T::A, "NoError S"),
        ("allowed.test.", T::HTTPS, "NoError"),
        ("allowed.test.", T::SVCB, "NoError"),
        ("allowed.test.", T::AXFR, "Refused"),
        ("allowed.test.", T::IXFR, "Refused"),
        ("allowed.test.", T::TSIG, "Refused"),
        ("notallowed.test.", T::A, "NoError S"),
        ("host.internal.", T::A, "NoError S"),
        ("host.internal.", T::AAAA, "NoError"),
        ("host.internal.", T::TXT, "NoError"),
        ("localhost.", T::A, "NoError 127.0.0.1"),
        ("LocalHost.", T::ANY, "NoError 127.0.0.1"),
        ("a.b.localhost.", T::A, "NoError 127.0.0.1"),
        ("localhost.", T::AAAA, "NoError ::1"),
        ("localhost.", T::TXT, "NoError"),
        ("notlocalhost.", T::A, "NoError S"),
        ("2852039166.", T::A, "NXDomain"),
        ("0x7f000001.", T::A, "NXDomain"),
        ("127.1.", T::A, "NXDomain"),
        ("127.1.", T::TXT, "NXDomain"),
        ("a/b.test.", T::A, "NXDomain"),
        ("a b.test.", T::A, "NXDomain"),
        (".", T::NS, "Refused"),
        ("1.2.0.192.in-addr.arpa.", T::PTR, "NXDomain"),
        ("1.0.18.198.in-addr.arpa.", T::PTR, "NXDomain"),
        ("in-addr.arpa.", T::SOA, "NXDomain"),
        ("data.ip6.arpa.", T::A, "NXDomain"),
        ("home.arpa.", T::A, "NoError S"),
    ] {
        let reply = reply_to(&mut forwarder, name, record_type);
        let stand_in = name.trim_end_matches('.').parse().ok().and_then(|name| {
            let address = forwarder.stand_ins.assign(&name).ok();
            address.filter(|_| expected.ends_with('S'))
        });
        let stand_in = stand_in.map(|address| address.to_string());
        let expected = expected.replace('S', stand_in.as_deref().unwrap_or("S"));
        assert_eq!(reply, expected, "of {name} {record_type}");
    }
}

#[test]
fn only_answers_with_an_address_use_up_a_stand_in() {
    let mut forwarder = forwarder();
    for record_type in [RecordType::AAAA, RecordType::HTTPS, RecordType::TXT] {
        reply_to(&mut forwarder, "asked.test.", record_type);
    }
    assert!(forwarder.stand_ins().is_empty());
    reply_to(&mut forwarder, "asked.test.", RecordType::A);
    assert_eq!(forwarder.stand_ins().len(), 1);
}

#[test]
fn addresses_of_an_allowed_name_depend_on_its_lookup() {
    use LookupFailure as F;
    let v4: IpAddr = "192.0.2.1".parse().unwrap();
    let v6: IpAddr = "2001:db8::1".parse().unwrap();
    let failed = F::Failed(DisplayText::new("no reply"));
    let mut forwarder = forwarder();
    let name: DomainName = "a.allowed.test".parse().unwrap();
    for (outcome, for_a, for_aaaa) in [
        (Err(F::NotFound), "NXDomain", "NXDomain"),
        (Err(F::NoData), "NoError", "NoError"),
        (Ok(vec![]), "NoError", "NoError"),
        (Err(failed), "ServFail", "ServFail"),
        (Ok(vec![v6]), "NoError S", "NoError"),
        (Ok(vec![v4, v6]), "NoError S", "NoError"),
    ] {
        for (record_type, expected) in [
            (RecordType::A, for_a),
            (RecordType::ANY, for_a),
            (RecordType::AAAA, for_aaaa),
        ] {
            let pending = pending(&mut forwarder, "A.allowed.TEST.", record_type);
            let request = LookupRequest::Addresses(name.clone());
            assert_eq!(*pending.request(), request);
            let used = forwarder.stand_ins().len();
            let reply = forwarder.finish(pending, LookupOutcome::Addresses(outcome.clone()));
            let expected = if expected.ends_with('S') {
                let address = forwarder.stand_ins.assign(&name).unwrap();
                expected.replace('S', &address.to_string())
            } else {
                assert_eq!(forwarder.stand_ins().len(), used);
                expected.to_owned()
            };
            assert_eq!(
                describe(&reply),
                expected,
                "of {outcome:?} for {record_type}"
            );
        }
    }
}

#[test]
fn records_of_an_allowed_name_are_passed_on_without_extras() {
    let owner = Name::from_ascii("allowed.test.").unwrap();
    let txt = |ttl| {
        let text = rdata::TXT::new(vec!["v=1".to_owned()]);
        Record::from_rdata(owner.clone(), ttl, RData::TXT(text))
    };
    let alias = Name::from_ascii("other.test.").unwrap();
    let cname = Record::from_rdata(owner.clone(), 60, RData::CNAME(rdata::CNAME(alias)));
    let address = Record::from_rdata(owner.clone(), 60, RData::A(rdata::A::new(192, 0, 2, 1)));
    let mut chaos = txt(60);
    chaos.dns_class = DNSClass::CH;

    let mut forwarder = forwarder();
    let pending = pending(&mut forwarder, "Allowed.test.", RecordType::TXT);
    let request = LookupRequest::Records {
        name: "allowed.test".parse().unwrap(),
        record_type: RecordType::TXT,
    };
    assert_eq!(*pending.request(), request);
    let records = vec![cname.clone(), txt(86_400), address, chaos];
    let reply = forwarder.finish(pending, LookupOutcome::Records(Ok(records)));
    let reply = Message::from_vec(&reply).unwrap();
    assert!(
        reply.queries[0]
            .name
            .eq_case(&Name::from_ascii("Allowed.test.").unwrap())
    );
    assert_eq!(reply.answers, [cname, txt(MAX_RECORD_TTL)]);
    assert!(forwarder.stand_ins().is_empty());
}

#[test]
fn failed_lookups_of_records_keep_their_reason() {
    use LookupFailure as F;
    for (outcome, expected) in [
        (LookupOutcome::Records(Err(F::NotFound)), "NXDomain"),
        (LookupOutcome::Records(Err(F::NoData)), "NoError"),
        (LookupOutcome::Records(Err(F::failed("x"))), "ServFail"),
        (LookupOutcome::Records(Ok(vec![])), "NoError"),
        // Of another request.
        (LookupOutcome::Addresses(Err(F::NotFound)), "ServFail"),
    ] {
        let mut forwarder = forwarder();
        let pending = pending(&mut forwarder, "allowed.test.", RecordType::MX);
        let reply = forwarder.finish(pending, outcome.clone());
        assert_eq!(describe(&reply), expected, "of {outcome:?}");
    }
}

#[test]
fn reverse_lookups_give_the_names_of_stand_ins() {
    let mut forwarder = forwarder();
    let name: DomainName = "asked.test".parse().unwrap();
    let address = forwarder.stand_ins.assign(&name).unwrap();
    let mapped = address.to_ipv6_mapped();
    for address in [IpAddr::from(address), mapped.into()] {
        let reverse = Name::from(address).to_ascii();
        let reply = reply_to(&mut forwarder, &reverse, RecordType::PTR);
        assert_eq!(reply, "NoError asked.test.", "of {reverse}");
        let reply = reply_to(&mut forwarder, &reverse, RecordType::TXT);
        assert_eq!(reply, "NoError", "of {reverse}");
        let below = format!("x.{reverse}");
        assert_eq!(
            reply_to(&mut forwarder, &below, RecordType::PTR),
            "NXDomain"
        );
    }
}

#[test]
fn other_classes_are_refused() {
    for class in [DNSClass::CH, DNSClass::ANY, DNSClass::NONE] {
        let mut query = Message::query();
        let mut question =
            Query::query(Name::from_ascii("version.bind.").unwrap(), RecordType::TXT);
        question.set_query_class(class);
        query.add_query(question);
        let query = query.to_vec().unwrap();
        let QueryPlan::Reply(reply) = forwarder().plan(&query, DnsTransport::Tcp, &|_: &_| true)
        else {
            panic!("not refused: {class}");
        };
        let reply = Message::from_vec(&reply).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    }
}

#[test]
fn refused_types_are_noticed_once_for_each_name_up_to_a_limit() {
    let mut forwarder = forwarder();
    for _ in 0..2 {
        for (name, record_type) in [
            ("a.test.", RecordType::TXT),
            ("A.test.", RecordType::TXT),
            ("a.test.", RecordType::MX),
            ("a.test.", RecordType::A),
        ] {
            reply_to(&mut forwarder, name, record_type);
        }
    }
    let notices: Vec<_> = forwarder
        .take_notices()
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected = ["TXT", "MX"].map(|record_type| {
        format!("refused a lookup of {record_type} records of a.test; allow a.test to permit it")
    });
    assert_eq!(notices, expected);
    assert_eq!(forwarder.take_notices(), []);

    for index in 0..2 * MAX_REFUSED_TYPES {
        reply_to(&mut forwarder, &format!("n{index}.test."), RecordType::TXT);
    }
    let notices = forwarder.take_notices();
    assert_eq!(notices.len(), MAX_REFUSED_TYPES - 2 + 1);
    assert_eq!(notices.last(), Some(&ForwarderNotice::RefusalsOmitted));
}

#[test]
fn a_full_table_fails_new_names_and_is_noticed_once() {
    let mut forwarder = forwarder();
    for index in 0..StandInTable::CAPACITY {
        let name = format!("n{index}.test").parse().unwrap();
        forwarder.stand_ins.assign(&name).unwrap();
    }
    for _ in 0..2 {
        let late = reply_to(&mut forwarder, "late.test.", RecordType::A);
        assert_eq!(late, "ServFail");
    }
    let known = reply_to(&mut forwarder, "n7.test.", RecordType::A);
    assert!(known.starts_with("NoError 198.18."), "{known}");
    let addresses = LookupOutcome::Addresses(Ok(vec![Ipv4Addr::LOCALHOST.into()]));
    let pending = pending(&mut forwarder, "allowed.test.", RecordType::A);
    assert_eq!(describe(&forwarder.finish(pending, addresses)), "ServFail");
    let notices = forwarder.take_notices();
    assert_eq!(notices, [ForwarderNotice::StandInsExhausted]);
}

#[test]
fn lookups_at_a_time_are_limited() {
    let mut forwarder = forwarder();
    let mut waiting: Vec<_> = (0..MAX_PENDING_LOOKUPS)
        .map(|_| pending(&mut forwarder, "allowed.test.", RecordType::A))
        .collect();
    let refused = reply_to(&mut forwarder, "allowed.test.", RecordType::A);
    assert_eq!(refused, "ServFail");
    drop(waiting.pop());
    waiting.push(pending(&mut forwarder, "allowed.test.", RecordType::A));
    let finished = waiting.pop().unwrap();
    forwarder.finish(
        finished,
        LookupOutcome::Addresses(Err(LookupFailure::NoData)),
    );
    waiting.push(pending(&mut forwarder, "allowed.test.", RecordType::A));
}

/// Queries for host names of every type, and arbitrary bytes.
fn any_query() -> impl Strategy<Value = Vec<u8>> {
    let name = "([a-z0-9_-]{1,12}\\.){1,4}";
    let query =
        (name, any::<u16>()).prop_map(|(name, record_type)| encode(&name, record_type.into()));
    prop_oneof![3 => query, 1 => prop::collection::vec(any::<u8>(), 0..100)]
}

proptest! {
    #[test]
    fn a_name_without_a_rule_is_never_looked_up(query in any_query(), is_tcp: bool) {
        let transport = if is_tcp { DnsTransport::Tcp } else { DnsTransport::Udp };
        match forwarder().plan(&query, transport, &|_: &_| false) {
            QueryPlan::Reply(reply) => {
                prop_assert_eq!(&reply[..2], &query[..2]);
                let questions = usize::from(reply[5]);
                prop_assert!(questions == 0 || reply[12..].starts_with(question_of(&query)));
            }
            QueryPlan::Ignore => prop_assert!(query.len() < 12 || query[2] & 0x80 != 0),
            QueryPlan::Lookup(pending) => prop_assert!(false, "{:?}", pending),
        }
    }

    #[test]
    fn lookups_are_for_the_name_that_the_policy_was_asked_for(query in any_query()) {
        let asked = std::cell::RefCell::new(Vec::new());
        let policy = |name: &DomainName| {
            asked.borrow_mut().push(name.clone());
            true
        };
        if let QueryPlan::Lookup(pending) = forwarder().plan(&query, DnsTransport::Udp, &policy) {
            let asked = asked.into_inner();
            prop_assert_eq!(asked.last(), Some(pending.request().name()));
        }
    }
}

/// The bytes of the question of a query whose first name is not compressed.
fn question_of(query: &[u8]) -> &[u8] {
    let mut end = 12;
    while query[end] != 0 {
        end += 1 + usize::from(query[end]);
    }
    &query[12..end + 5]
}
