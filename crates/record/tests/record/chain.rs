// SPDX-License-Identifier: Apache-2.0
//! What a check of the chain finds, and what it cannot find.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use proptest::prelude::*;
use terok_clearance_record::*;

use crate::entries::{TestRecord, any_entry, note, note_texts, read_entries};

/// Returns a record of ten notes, and its lines.
fn ten_notes() -> (TestRecord, Vec<String>) {
    let record = TestRecord::new();
    let entries: Vec<_> = (0..10).map(|number| note(&number.to_string())).collect();
    record.append(&entries);
    let text = fs::read_to_string(&record.path).unwrap();
    (record, text.lines().map(str::to_owned).collect())
}

#[track_caller]
fn check_break(record: &TestRecord, lines: &[String], line: u64, reason: &str) {
    fs::write(&record.path, lines.join("\n") + "\n").unwrap();
    let found = record.verify().first_break.unwrap();
    assert_eq!(
        (found.line, found.reason.to_string()),
        (line, reason.to_owned())
    );
    assert_eq!(found.file, record.path);
}

const OTHER_HASH: &str = "a line before it was changed, added or removed";

#[test]
fn a_whole_record_has_no_break() {
    let (record, _) = ten_notes();
    let report = record.verify();
    assert_eq!(report.first_break, None);
    assert_eq!((report.files, report.entries), (1, 10));
    assert_eq!(
        (report.first_sequence, report.last_sequence),
        (Some(1), Some(10))
    );
}

#[test]
fn a_change_of_a_line_in_the_middle_breaks_the_chain_at_the_next_one() {
    let (record, mut lines) = ten_notes();
    lines[4] = lines[4].replace(r#""text":"4""#, r#""text":"9""#);
    check_break(&record, &lines, 6, OTHER_HASH);
}

#[test]
fn removed_swapped_doubled_and_foreign_lines_break_the_chain() {
    let (record, lines) = ten_notes();
    let mut removed = lines.clone();
    removed.remove(4);
    check_break(&record, &removed, 5, OTHER_HASH);
    let mut swapped = lines.clone();
    swapped.swap(4, 5);
    check_break(&record, &swapped, 5, OTHER_HASH);
    let mut doubled = lines.clone();
    doubled.insert(4, lines[3].clone());
    check_break(&record, &doubled, 5, OTHER_HASH);
    let mut foreign = lines.clone();
    foreign.insert(4, "hello".to_owned());
    check_break(&record, &foreign, 5, "the line is no entry of the record");
    let mut first = lines;
    first[0] = first[0].replace("\"prev\":\"0", "\"prev\":\"1");
    check_break(&record, &first, 1, OTHER_HASH);
}

#[test]
fn a_removed_end_is_not_detected_and_a_removed_start_shows_in_the_first_number() {
    let (record, lines) = ten_notes();
    fs::write(&record.path, lines[2..8].join("\n") + "\n").unwrap();
    let report = record.verify();
    assert_eq!(report.first_break, None);
    assert_eq!(
        (report.first_sequence, report.last_sequence),
        (Some(3), Some(8))
    );
}

#[test]
fn an_unfinished_line_is_isolated_by_the_next_writer() {
    let (record, lines) = ten_notes();
    for length in [1, 30, lines[9].len() - 1] {
        let whole = lines[..9].join("\n") + "\n";
        fs::write(&record.path, whole + &lines[9][..length]).unwrap();
        let before = record.verify();
        assert!(
            before.ends_unfinished && before.first_break.is_none(),
            "{length}"
        );
        record.append(&[note("after")]);
        let report = record.verify();
        assert_eq!(report.first_break, None, "{length}");
        assert_eq!((report.entries, report.unfinished_lines), (11, 1));
        let entries = read_entries(&record.path);
        assert_eq!(entries[10].sequence, 11);
        assert_eq!(note_texts(&entries).last(), Some(&"after"));
        let Some(AuditEvent::Lost(loss)) = &entries[9].event else {
            panic!("{:?}", entries[9]);
        };
        assert_eq!(loss.cut_bytes, Some(length as u64));
    }
}

#[test]
fn a_line_without_only_its_line_break_is_whole() {
    let (record, lines) = ten_notes();
    fs::write(&record.path, lines.join("\n")).unwrap();
    record.append(&[note("after")]);
    let report = record.verify();
    assert_eq!(
        (report.entries, report.unfinished_lines, report.first_break),
        (11, 0, None)
    );
}

#[test]
fn unfinished_lines_that_were_changed_later_are_noticed() {
    let (record, lines) = ten_notes();
    let mut file = OpenOptions::new().append(true).open(&record.path).unwrap();
    file.write_all(&lines[9].as_bytes()[..50]).unwrap();
    record.append(&[note("after")]);
    let text = fs::read_to_string(&record.path).unwrap();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines[10].push('x');
    let reason = "unfinished lines before it were changed or removed";
    check_break(&record, &lines, 12, reason);
    lines.remove(10);
    check_break(&record, &lines, 11, reason);
}

/// Changes of a record by someone who does not compute new hashes.
#[derive(Debug, Clone)]
enum Tampering {
    ChangeByte(usize, u8),
    Remove,
    SwapWithNext,
    Double,
}

fn tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        (any::<usize>(), 1..=255_u8).prop_map(|(at, with)| Tampering::ChangeByte(at, with)),
        Just(Tampering::Remove),
        Just(Tampering::SwapWithNext),
        Just(Tampering::Double),
    ]
}

proptest! {
    #[test]
    fn every_change_before_the_last_line_is_found(
        entries in prop::collection::vec(any_entry(), 3..12),
        at: prop::sample::Index,
        tampering in tampering(),
    ) {
        let mut hash = ChainHash::START;
        let mut lines = Vec::new();
        for (number, entry) in (1..).zip(&entries) {
            let line = encode_line(entry, number, hash);
            hash = ChainHash::of_line(&line);
            lines.push(line);
        }
        // The chain cannot show a change of the last line, nor that the first one is missing.
        let at = at.index(lines.len() - 2) + 1;
        match tampering {
            Tampering::ChangeByte(byte, with) => {
                let byte = byte % lines[at].len();
                lines[at][byte] ^= with;
            }
            Tampering::Remove => drop(lines.remove(at)),
            Tampering::SwapWithNext => lines.swap(at, at - 1),
            Tampering::Double => lines.insert(at, lines[at].clone()),
        }
        let text = lines.join(&b'\n');
        let mut verifier = ChainVerifier::default();
        let mut checks = text.split(|byte| *byte == b'\n');
        prop_assert!(checks.any(|line| verifier.push(line, line.len() as u64).is_err()));
    }

    #[test]
    fn a_record_cut_anywhere_goes_on(cut: prop::sample::Index) {
        let (record, lines) = ten_notes();
        let text = lines.join("\n") + "\n";
        let cut = cut.index(text.len());
        fs::write(&record.path, &text.as_bytes()[..cut]).unwrap();
        let whole = text[..cut].matches('\n').count();
        record.append(&[note("after")]);
        let report = record.verify();
        prop_assert_eq!(report.first_break, None);
        let entries = read_entries(&record.path);
        let texts = note_texts(&entries);
        prop_assert_eq!(texts.last(), Some(&"after"));
        // A line without only its line break counts, too.
        let is_complete = cut > 0 && text.as_bytes()[cut] == b'\n' && text.as_bytes()[cut - 1] != b'\n';
        prop_assert_eq!(texts.len(), whole + 1 + usize::from(is_complete));
    }
}
