// SPDX-License-Identifier: Apache-2.0
//! What a reader writes to the ingester's socket: lines however cut, events of any spelling.
#![no_main]

use hub::ingest::{LINE_LIMIT, Line, Lines, Parser};
use hub::ledger::Ledger;
use libfuzzer_sys::fuzz_target;
use terok_clearance::{Event, ShieldState};

/// The lines in `bytes`, read in pieces of `piece` bytes; `None` for one that is too long.
fn cut(bytes: &[u8], piece: usize) -> Vec<Option<Vec<u8>>> {
    let (mut lines, mut found, mut rest) = (Lines::new(), Vec::new(), bytes);
    loop {
        let (buffer, room) = lines.room();
        let (now, later) = rest.split_at(piece.min(room).min(rest.len()));
        buffer.extend_from_slice(now);
        rest = later;
        if now.is_empty() {
            lines.end();
        }
        while let Some(line) = lines.take() {
            found.push(match line {
                Line::Whole(line) => Some(line.to_vec()),
                Line::TooLong(_) => None,
            });
        }
        if now.is_empty() {
            return found;
        }
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = cut(bytes, usize::MAX);
    assert_eq!(whole, cut(bytes, usize::from(piece).max(1)), "where the bytes were cut must not matter");
    let mut parser = Parser::default();
    let mut ledger = Ledger::new(8, true);
    for line in whole.into_iter().flatten() {
        assert!(line.len() <= LINE_LIMIT && !line.contains(&b'\n'));
        let event = parser.parse(&line);
        // What a parser remembers of earlier lines must not change what it makes of this one.
        assert_eq!(event, Parser::default().parse(&line));
        match event {
            Ok(Some(Event::Blocked(blocked))) => {
                let dest = blocked.dest().clone();
                let recorded = ledger.record(blocked, 1);
                let question = ledger.question(recorded.number).expect("it is pending now");
                assert_eq!(question.dest(), &dest);
                assert!(dest.as_str().bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            }
            Ok(Some(Event::ContainerExited { container, .. })) => drop(ledger.clear(&container)),
            Ok(Some(Event::Shield { state: ShieldState::Down, .. })) => drop(ledger.clear_all()),
            Ok(_) | Err(_) => {}
        }
        assert!(ledger.len() <= 8);
    }
});
