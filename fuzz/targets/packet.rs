// SPDX-License-Identifier: Apache-2.0
//! What the kernel logs of a packet that a sandbox made: any bytes, from the datagram on.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use reader::packet::{Log, messages};
use reader::{Fact, Facts};

/// The clock is read once: what is said of the same bytes must not depend on when.
static START: LazyLock<tokio::time::Instant> = LazyLock::new(tokio::time::Instant::now);

fuzz_target!(|datagram: &[u8]| {
    let container = "box".parse().unwrap();
    let mut facts = Facts::new(container, Default::default(), 1);
    let mut length = 0;
    for message in messages(datagram) {
        length += message.len();
        let Ok(log) = Log::read(message) else {
            continue;
        };
        if let Some(packet) = &log.packet {
            assert!(packet.body.len() < message.len());
        }
        match facts.of(&log, *START) {
            Fact::Event(event) => {
                // Whatever it is, the hub must be able to take it as a line.
                let line = reader::to_line(&event, 0);
                let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
                assert_eq!(line["type"], "pending");
                assert!(log.packet.is_some_and(|packet| !packet.is_noise()));
            }
            Fact::Answer(answer) => {
                let port = log.packet.map(|packet| packet.source_port);
                assert!(!answer.addresses.is_empty() && port == Some(53));
            }
            Fact::Nothing => {}
        }
    }
    assert!(length <= datagram.len());
});
