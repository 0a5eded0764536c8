// SPDX-License-Identifier: Apache-2.0
//! Tests of lookups while there is no file descriptor left.

use names::StandInKey;
use terok_clearance::{PacketDest, PacketHost, Protocol};

use super::*;
use crate::EgressNotice;
use crate::dial::DialError;
use crate::engine::dialing::DialRefusal;
use crate::test_parts::open_dialer;

const TYPE_A: u8 = 1;
const TYPE_TXT: u8 = 16;
const SERVER_FAILURE: u8 = 2;
const NAME_ERROR: u8 = 3;

/// Returns a query for records of `a.test`.
fn query(record_type: u8) -> Vec<u8> {
    let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(b"\x01a\x04test\0");
    query.extend([0, record_type, 0, 1]);
    query
}

fn config() -> ForwarderConfig {
    ForwarderConfig::new(StandInKey::new([7; 16]))
}

#[tokio::test]
async fn a_lookup_without_a_free_descriptor_fails_and_is_noted() {
    let dialer = Arc::new(open_dialer(&[], None));
    let names = NameServer::new(config(), Arc::clone(&dialer));
    let code = async |record_type| {
        let QueryPlan::Lookup(pending) = names.plan(&query(record_type), DnsTransport::Udp) else {
            panic!("no lookup");
        };
        names.finish(pending).await[3] & 0xf
    };
    let dest = PacketDest {
        host: PacketHost::Name("a.test".parse().unwrap()),
        port: 443,
        protocol: Protocol::TCP,
    };
    for record_type in [TYPE_A, TYPE_TXT] {
        assert_eq!(code(record_type).await, NAME_ERROR);
    }
    assert!(!names.take_out_of_sockets());
    let refusal = dialer.dial_tcp(&dest).await.unwrap_err();
    assert!(matches!(refusal, DialRefusal::NotFound(_)), "{refusal:?}");
    assert_eq!(refusal.notice(&dest), None);

    dialer.sockets.are_used_up.store(true, Ordering::Relaxed);
    for record_type in [TYPE_A, TYPE_TXT] {
        assert_eq!(code(record_type).await, SERVER_FAILURE);
        assert!(names.take_out_of_sockets());
        assert!(!names.take_out_of_sockets());
    }
    let refusal = dialer.dial_tcp(&dest).await.unwrap_err();
    assert!(
        matches!(refusal, DialRefusal::Failed(DialError::TooManyOpenFiles)),
        "{refusal:?}"
    );
    let notice = refusal.notice(&dest);
    assert_eq!(notice, Some(EgressNotice::OutOfSockets(dest)));
}
