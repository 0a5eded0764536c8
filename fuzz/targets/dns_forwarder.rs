// SPDX-License-Identifier: Apache-2.0
//! DNS queries of a sandbox, as datagrams and as a TCP stream.
#![no_main]

use std::cell::RefCell;
use std::net::Ipv4Addr;

use libfuzzer_sys::fuzz_target;
use names::{
    DnsForwarder, DnsStreamDecoder, DnsTransport, ForwarderConfig, LookupOutcome, LookupRequest,
    QueryPlan, StandInKey,
};
use terok_clearance::DomainName;

// The first byte is the size of the segments of the stream.
fuzz_target!(|input: (u8, &[u8])| {
    let (segment_bytes, bytes) = input;
    let mut forwarder = DnsForwarder::new(ForwarderConfig::new(StandInKey::new([7; 16])));
    answer(&mut forwarder, bytes, DnsTransport::Udp);

    let mut decoder = DnsStreamDecoder::new();
    for segment in bytes.chunks(usize::from(segment_bytes).max(1)) {
        if decoder.push(segment).is_err() {
            return;
        }
        while let Ok(Some(message)) = decoder.next_message() {
            answer(&mut forwarder, &message, DnsTransport::Tcp);
        }
    }
});

fn answer(forwarder: &mut DnsForwarder, query: &[u8], transport: DnsTransport) {
    // Names with an `x` are allowed.
    let allowed = RefCell::new(Vec::new());
    let policy = |name: &DomainName| {
        let is_allowed = name.as_str().contains('x');
        if is_allowed {
            allowed.borrow_mut().push(name.clone());
        }
        is_allowed
    };
    let reply = match forwarder.plan(query, transport, &policy) {
        QueryPlan::Ignore => return,
        QueryPlan::Reply(reply) => reply,
        QueryPlan::Lookup(pending) => {
            assert!(allowed.borrow().contains(pending.request().name()));
            let outcome = match pending.request() {
                LookupRequest::Addresses(_) => {
                    LookupOutcome::Addresses(Ok(vec![Ipv4Addr::LOCALHOST.into()]))
                }
                LookupRequest::Records { .. } => LookupOutcome::Records(Ok(Vec::new())),
            };
            forwarder.finish(pending, outcome)
        }
    };
    // A response with the id of the query; it repeats the question or has none.
    assert_eq!(reply[..2], query[..2]);
    assert!(reply[2] & 0x80 != 0 && reply.len() <= 4096);
    if reply[5] != 0 {
        let end = 17 + query[12..].iter().take_while(|byte| **byte != 0).count();
        assert_eq!(reply[12..end], query[12..end]);
    }
}
