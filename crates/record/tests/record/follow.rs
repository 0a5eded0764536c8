// SPDX-License-Identifier: Apache-2.0
//! Following a record: no line is missed or doubled, rotations included.

use std::fs::OpenOptions;
use std::io::Write as _;

use rustix::event::{PollFd, PollFlags, poll};
use terok_clearance_record::*;

use crate::entries::{TestRecord, note};

/// Waits for a change, and returns the texts of the new notes.
fn next_texts(follower: &mut RecordFollower) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        while let Some(line) = follower.next_line().unwrap() {
            if let Ok(RecordedEntry {
                event: Some(AuditEvent::Note(note)),
                ..
            }) = parse_line(line.bytes)
            {
                texts.push(note.text.as_str().to_owned());
            }
        }
        if !texts.is_empty() {
            return texts;
        }
        let mut waiting = [PollFd::new(follower, PollFlags::IN)];
        poll(&mut waiting, None).unwrap();
        follower.clear_events().unwrap();
    }
}

#[test]
fn lines_are_read_as_they_come_also_of_a_record_that_did_not_exist() {
    let record = TestRecord::new();
    let mut follower = RecordFollower::open(&record.path).unwrap();
    assert!(follower.next_line().unwrap().is_none());
    record.append(&[note("one")]);
    assert_eq!(next_texts(&mut follower), ["one"]);
    assert!(follower.next_line().unwrap().is_none());
    record.append(&[note("two"), note("three")]);
    assert_eq!(next_texts(&mut follower), ["two", "three"]);
}

#[test]
fn an_unfinished_line_is_not_read_before_its_end() {
    let record = TestRecord::new();
    record.append(&[note("one")]);
    let mut follower = RecordFollower::open(&record.path).unwrap();
    assert_eq!(next_texts(&mut follower), ["one"]);
    let line = encode_line(&note("two"), 2, ChainHash::START);
    let mut file = OpenOptions::new().append(true).open(&record.path).unwrap();
    file.write_all(&line[..40]).unwrap();
    assert!(follower.next_line().unwrap().is_none());
    file.write_all(&line[40..]).unwrap();
    assert!(follower.next_line().unwrap().is_none());
    file.write_all(b"\n").unwrap();
    assert_eq!(next_texts(&mut follower), ["two"]);
}

#[test]
fn rotations_lose_and_double_no_line() {
    let record = TestRecord::new();
    let mut appender = RecordAppender::new(record.config(700, 50));
    appender.append(&[note("0")]).1.unwrap();
    let mut follower = RecordFollower::open(&record.path).unwrap();
    let mut found = Vec::new();
    // Several rotations between two looks, and one in the middle of a file.
    for batch in [1..2, 2..9, 9..40, 40..41, 41..100] {
        for number in batch {
            appender.append(&[note(&number.to_string())]).1.unwrap();
        }
        found.extend(next_texts(&mut follower));
    }
    while found.len() < 100 {
        found.extend(next_texts(&mut follower));
    }
    let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(found, expected);
}
