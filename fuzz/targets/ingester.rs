// SPDX-License-Identifier: Apache-2.0
//! A reader's input to the ingester: lines in arbitrary chunks, events in any spelling.
#![no_main]

use hub::ingest::{EventLineParser, LineSplitter, MAX_LINE_BYTES, SplitLine};
use hub::ledger::Ledger;
use libfuzzer_sys::fuzz_target;
use terok_clearance::{SandboxEvent, ShieldState, Timestamp};

/// Splits `bytes` into lines, read in chunks of `chunk` bytes; `None` stands for an overlong line.
fn split_lines(bytes: &[u8], chunk: usize) -> Vec<Option<Vec<u8>>> {
    let (mut lines, mut found, mut rest) = (LineSplitter::new(), Vec::new(), bytes);
    loop {
        let (buffer, room) = lines.read_buffer();
        let (now, later) = rest.split_at(chunk.min(room).min(rest.len()));
        buffer.extend_from_slice(now);
        rest = later;
        if now.is_empty() {
            lines.finish();
        }
        while let Some(line) = lines.next_line() {
            found.push(match line {
                SplitLine::Complete(line) => Some(line.to_vec()),
                SplitLine::TooLong(_) => None,
            });
        }
        if now.is_empty() {
            return found;
        }
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (chunk, bytes) = input;
    let whole = split_lines(bytes, usize::MAX);
    assert_eq!(
        whole,
        split_lines(bytes, usize::from(chunk).max(1)),
        "the chunking must not matter"
    );
    let mut parser = EventLineParser::default();
    let mut ledger = Ledger::new(8, hub::ScopeSupport::with_ports(true));
    for line in whole.into_iter().flatten() {
        assert!(line.len() <= MAX_LINE_BYTES && !line.contains(&b'\n'));
        let event = parser.parse(&line);
        // The result must not depend on earlier lines.
        assert_eq!(event, EventLineParser::default().parse(&line));
        match event {
            Ok(Some(SandboxEvent::Blocked(blocked))) => {
                let dest = blocked.dest().clone();
                let recorded = ledger.record(blocked, Timestamp::from_micros(1));
                let question = ledger.question(recorded.number).expect("it is pending now");
                assert_eq!(question.dest(), &dest);
                assert!(
                    dest.as_str()
                        .bytes()
                        .all(|byte| (0x20..0x7f).contains(&byte))
                );
            }
            Ok(Some(SandboxEvent::ContainerExited { container, .. })) => {
                drop(ledger.withdraw_container(&container))
            }
            Ok(Some(SandboxEvent::Shield {
                state: ShieldState::Down,
                ..
            })) => drop(ledger.withdraw_all()),
            Ok(_) | Err(_) => {}
        }
        assert!(ledger.len() <= 8);
    }
});
