// SPDX-License-Identifier: Apache-2.0
//! The thread that writes: notices, locks, and the end.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use terok_clearance_record::*;

use crate::entries::{TestRecord, note, note_texts, read_entries};

const LIMIT: Duration = Duration::from_secs(20);

fn open(record: &TestRecord) -> (RecordWriter, mpsc::Receiver<RecordNotice>) {
    let (sender, notices) = mpsc::channel();
    let writer = RecordWriter::open(RecordConfig::new(&record.path), move |notice| {
        // The test may have ended.
        drop(sender.send(notice));
    });
    (writer.unwrap(), notices)
}

#[test]
fn entries_are_in_the_record_after_close() {
    let record = TestRecord::new();
    let (writer, notices) = open(&record);
    let other = writer.clone();
    for number in 0..1_000 {
        let writer = if number % 2 == 0 { &writer } else { &other };
        writer.record(note(&number.to_string()));
    }
    assert_eq!(writer.close(LIMIT), CloseOutcome::Complete);
    let expected: Vec<_> = (0..1_000).map(|number| number.to_string()).collect();
    assert_eq!(note_texts(&read_entries(&record.path)), expected);
    assert!(
        notices.recv_timeout(LIMIT).is_err(),
        "the thread ended without a notice"
    );
}

#[test]
fn a_dropped_writer_writes_what_it_has_accepted() {
    let record = TestRecord::new();
    let (writer, notices) = open(&record);
    writer.record(note("x"));
    drop(writer);
    assert!(notices.recv().is_err(), "the thread has ended");
    assert_eq!(note_texts(&read_entries(&record.path)), ["x"]);
}

#[test]
fn an_unused_writer_creates_no_file() {
    let record = TestRecord::new();
    let (writer, _notices) = open(&record);
    assert_eq!(writer.close(LIMIT), CloseOutcome::Complete);
    assert_eq!(fs::read_dir(record.directory.path()).unwrap().count(), 0);
}

#[test]
fn a_failure_is_reported_once_and_its_end_too() {
    let record = TestRecord::new();
    let directory = record.directory.path();
    fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
    let (writer, notices) = open(&record);
    writer.record(note("one"));
    let notice = notices.recv_timeout(LIMIT).unwrap();
    let RecordNotice::Failed(error) = notice else {
        panic!("{notice:?}");
    };
    assert!(
        error.to_string().contains("other users can write to"),
        "{error}"
    );
    writer.record(note("two"));
    fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
    let notice = notices.recv_timeout(LIMIT).unwrap();
    assert!(
        matches!(notice, RecordNotice::Restored { lost: 0 }),
        "{notice:?}"
    );
    assert_eq!(writer.close(LIMIT), CloseOutcome::Complete);
    assert_eq!(note_texts(&read_entries(&record.path)), ["one", "two"]);
}

#[test]
fn at_the_end_of_a_failing_writer_the_loss_is_returned() {
    let record = TestRecord::new();
    fs::set_permissions(record.directory.path(), Permissions::from_mode(0o777)).unwrap();
    let (writer, _notices) = open(&record);
    writer.record(note("one"));
    writer.record(note("two"));
    assert_eq!(writer.close(LIMIT), CloseOutcome::Lost(2));
}

#[test]
fn a_locked_record_delays_only_the_thread() {
    let record = TestRecord::new();
    record.append(&[note("before")]);
    let lock = File::open(record.path.with_extension("jsonl.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let (writer, notices) = open(&record);
    for _ in 0..10_000 {
        writer.record(note("x"));
    }
    let notice = notices.recv_timeout(LIMIT).unwrap();
    let RecordNotice::Failed(AppendError::Locked(path)) = notice else {
        panic!("{notice:?}");
    };
    assert_eq!(path, record.path.with_extension("jsonl.lock"));
    assert_eq!(writer.close(Duration::ZERO), CloseOutcome::TimedOut);
    drop(lock);
    // The thread makes one attempt more.
    while notices.recv().is_ok() {}
    let entries = read_entries(&record.path);
    assert!(note_texts(&entries).len() > 4_000);
    assert_eq!(record.verify().first_break, None);
}
