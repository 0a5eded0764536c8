// SPDX-License-Identifier: Apache-2.0
//! The lines of a record: arbitrary bytes in arbitrary chunks, as a person may have edited them.
#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use record::{
    AuditEntry, ChainHash, ChainVerifier, LineScanner, MAX_LINE_BYTES, RecordFilter, RecordSummary,
    encode_line, parse_line,
};

/// Returns at most `chunk` bytes per read.
struct Chunks<'a> {
    bytes: &'a [u8],
    chunk: usize,
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.chunk.min(buffer.len());
        self.bytes.read(&mut buffer[..length])
    }
}

fn split_lines(bytes: &[u8], chunk: usize) -> Vec<(Vec<u8>, u64)> {
    let mut scanner = LineScanner::new(Chunks { bytes, chunk });
    let mut lines = Vec::new();
    while let Some(line) = scanner.next_line().expect("a slice is readable") {
        lines.push((line.bytes.to_vec(), line.length));
    }
    let rest = scanner.take_rest();
    lines.extend(rest.map(|line| (line.bytes.to_vec(), line.length)));
    lines
}

fuzz_target!(|input: (u8, &[u8])| {
    let (chunk, bytes) = input;
    let lines = split_lines(bytes, usize::MAX);
    assert_eq!(
        lines,
        split_lines(bytes, usize::from(chunk).max(1)),
        "the chunking must not matter"
    );
    let filter = RecordFilter::default()
        .sandbox("web")
        .kind("connected")
        .kind("rule_added")
        .dest("*.example.com".parse().expect("it is a pattern"));
    let mut verifier = ChainVerifier::default();
    let mut summary = RecordSummary::default();
    for (line, length) in &lines {
        assert!(line.len() <= MAX_LINE_BYTES + 1 && !line.contains(&b'\n'));
        let parsed = parse_line(line);
        let is_in_chain = verifier.push(line, *length);
        assert!(parsed.is_ok() || !matches!(is_in_chain, Ok(Some(_))));
        if filter.selects(line) && line.starts_with(b" ") {
            assert!(parsed.is_ok(), "only an entry is selected");
        }
        let Ok(entry) = parsed else { continue };
        summary.push(&entry);
        // What is understood is written and read again without a difference.
        let Some(event) = entry.event else { continue };
        let known = AuditEntry::new(entry.time, entry.sandbox, event);
        let again = encode_line(&known, entry.sequence, ChainHash::START);
        let again = parse_line(&again).expect("it was written by this version");
        assert_eq!(
            (again.time, again.sandbox, again.event.as_ref()),
            (known.time, known.sandbox, Some(&known.event))
        );
        let mut shown = format!("{:?}", summary.dests());
        shown.retain(|c| c.is_control());
        assert_eq!(shown, "");
    }
});
