// SPDX-License-Identifier: Apache-2.0
//! DNS answers, whose contents whoever runs a name's server chooses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reader::dns::Answer;

fuzz_target!(|message: &[u8]| {
    let Some(answer) = Answer::read(message) else {
        return;
    };
    // Every address is in the message, and takes a record of it.
    assert!(!answer.addresses.is_empty());
    assert!(answer.addresses.len() * 14 < message.len());
    for (address, ttl) in &answer.addresses {
        let held = match address {
            std::net::IpAddr::V4(ip) => message.windows(4).any(|bytes| bytes == ip.octets()),
            std::net::IpAddr::V6(ip) => message.windows(16).any(|bytes| bytes == ip.octets()),
        };
        assert!(held && ttl.as_secs() <= i32::MAX.unsigned_abs().into());
    }
    // The name is one that a firewall's order can be about, and stays the same in its words.
    assert_eq!(answer.name.as_str().parse().as_ref(), Ok(&answer.name));
});
