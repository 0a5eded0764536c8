// SPDX-License-Identifier: Apache-2.0
//! DNS answers, with contents chosen by the operator of a name's server.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reader::dns::DnsAnswer;

fuzz_target!(|message: &[u8]| {
    let Some(answer) = DnsAnswer::parse(message) else {
        return;
    };
    // Every address occurs in the message, within a record of at least 14 bytes.
    assert!(!answer.addresses.is_empty());
    assert!(answer.addresses.len() * 14 < message.len());
    for (address, ttl) in &answer.addresses {
        let found = match address {
            std::net::IpAddr::V4(ip) => message.windows(4).any(|bytes| bytes == ip.octets()),
            std::net::IpAddr::V6(ip) => message.windows(16).any(|bytes| bytes == ip.octets()),
        };
        assert!(found && ttl.as_secs() <= i32::MAX.unsigned_abs().into());
    }
    // The name is a valid destination of an order, and its text form parses to the same name.
    assert_eq!(answer.name.as_str().parse().as_ref(), Ok(&answer.name));
});
