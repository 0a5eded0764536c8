// SPDX-License-Identifier: Apache-2.0
//! Logged packets of a sandbox: arbitrary bytes, from the datagram on.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use reader::packet::{NflogMessage, netlink_messages};
use reader::{ClassifiedPacket, PacketClassifier};
use terok_clearance::SandboxEvent;

/// A fixed time: the result for the same bytes must not depend on the clock.
static START: LazyLock<tokio::time::Instant> = LazyLock::new(tokio::time::Instant::now);

fuzz_target!(|datagram: &[u8]| {
    let container = "box".parse().unwrap();
    let mut classifier = PacketClassifier::new(container, Default::default(), 1);
    let mut length = 0;
    for message in netlink_messages(datagram) {
        length += message.len();
        let Ok(log) = NflogMessage::parse(message) else {
            continue;
        };
        if let Some(packet) = &log.packet {
            assert!(packet.payload.len() < message.len());
        }
        match classifier.classify(&log, *START) {
            ClassifiedPacket::Question(blocked, _) => {
                let event = SandboxEvent::Blocked(*blocked);
                // The hub must be able to parse every event line.
                let line = reader::to_event_line(&event, 0);
                let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
                assert_eq!(line["type"], "pending");
                assert!(
                    log.packet
                        .is_some_and(|packet| !packet.is_link_local_multicast())
                );
            }
            ClassifiedPacket::Answer(answer) => {
                let port = log.packet.map(|packet| packet.source_port);
                assert!(!answer.addresses.is_empty() && port == Some(53));
            }
            ClassifiedPacket::Ignored => {}
        }
    }
    assert!(length <= datagram.len());
});
