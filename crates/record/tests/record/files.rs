// SPDX-License-Identifier: Apache-2.0
//! Rotation, modes, and files and directories that are refused.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use terok_clearance_record::*;

use crate::entries::{TestRecord, note, note_texts, read_entries};

#[track_caller]
fn check_refused(path: &Path, expected: &str) {
    let (appended, result) = RecordAppender::new(RecordConfig::new(path)).append(&[note("x")]);
    let message = result.unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
    assert_eq!(appended, 0);
}

#[test]
fn a_new_record_is_private() {
    let record = TestRecord::new();
    let path = record.directory.path().join("state/deeper").join(FILE_NAME);
    let (_, result) = RecordAppender::new(RecordConfig::new(&path)).append(&[note("x")]);
    result.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    let directory = path.parent().unwrap();
    assert_eq!(fs::metadata(directory).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn links_and_files_of_other_kinds_are_refused() {
    let record = TestRecord::new();
    let target = record.directory.path().join("target");
    fs::write(&target, "").unwrap();
    symlink(&target, &record.path).unwrap();
    check_refused(&record.path, "is a symbolic link");
    assert_eq!(fs::read(&target).unwrap(), b"");
    fs::remove_file(&record.path).unwrap();
    fs::create_dir(&record.path).unwrap();
    check_refused(&record.path, "is no regular file");
    fs::remove_dir(&record.path).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, &record.path, mode).unwrap();
    check_refused(&record.path, "is no regular file");
    let linked = record.directory.path().join("linked");
    symlink(record.directory.path(), &linked).unwrap();
    check_refused(&linked.join(FILE_NAME), "is a symbolic link");
}

#[test]
fn what_others_can_write_is_refused() {
    let record = TestRecord::new();
    record.append(&[note("x")]);
    fs::set_permissions(&record.path, Permissions::from_mode(0o620)).unwrap();
    check_refused(&record.path, "other users can write to");
    fs::set_permissions(&record.path, Permissions::from_mode(0o600)).unwrap();
    let directory = record.directory.path();
    fs::set_permissions(directory, Permissions::from_mode(0o777)).unwrap();
    check_refused(&record.path, "other users can write to");
    fs::set_permissions(directory, Permissions::from_mode(0o700)).unwrap();
    record.append(&[note("x")]);
}

#[test]
fn rotation_keeps_the_newest_files_and_the_chain() {
    let record = TestRecord::new();
    let mut appender = RecordAppender::new(record.config(2_000, 3));
    for number in 0..100 {
        let (_, result) = appender.append(&[note(&number.to_string())]);
        result.unwrap();
    }
    let mut names: Vec<_> = fs::read_dir(record.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = [
        "audit.jsonl",
        "audit.jsonl.1",
        "audit.jsonl.2",
        "audit.jsonl.3",
        "audit.jsonl.lock",
    ];
    assert_eq!(names, expected);
    for name in &names {
        let found = fs::metadata(record.directory.path().join(name)).unwrap();
        assert!(found.len() <= 2_000, "{name}");
    }
    let report = record.verify();
    assert_eq!((report.files, report.first_break), (4, None));
    assert_eq!(report.last_sequence, Some(100));
    let entries = read_entries(&record.path);
    let texts = note_texts(&entries);
    let first = 100 - texts.len();
    let expected: Vec<_> = (first..100).map(|number| number.to_string()).collect();
    assert_eq!(texts, expected);
    // Fewer files than before.
    let (_, result) = RecordAppender::new(record.config(1, 1)).append(&[note("x")]);
    result.unwrap();
    assert_eq!(record.verify().files, 2);
}

#[test]
fn a_rotation_that_was_interrupted_is_continued() {
    let record = TestRecord::new();
    record.append(&[note("one"), note("two")]);
    // The newest file was renamed, and no new one created.
    let older = record.path.with_extension("jsonl.1");
    fs::rename(&record.path, &older).unwrap();
    record.append(&[note("three")]);
    // A gap in the numbers.
    fs::rename(&older, record.path.with_extension("jsonl.2")).unwrap();
    let (_, result) = RecordAppender::new(record.config(1, 8)).append(&[note("four")]);
    result.unwrap();
    assert_eq!(
        note_texts(&read_entries(&record.path)),
        ["one", "two", "three", "four"]
    );
    assert_eq!(record.verify().first_break, None);
}

#[test]
fn a_batch_larger_than_a_file_is_written() {
    let record = TestRecord::new();
    let entries: Vec<_> = (0..3_000).map(|number| note(&number.to_string())).collect();
    let (appended, result) = RecordAppender::new(record.config(1_000, 20)).append(&entries);
    result.unwrap();
    assert_eq!(appended, 3_000);
    assert_eq!(read_entries(&record.path).len(), 3_000);
    assert_eq!(record.verify().first_break, None);
}

#[test]
fn a_missing_record_is_said_to_be_missing() {
    let record = TestRecord::new();
    for path in [
        &record.path,
        &record.directory.path().join("none/audit.jsonl"),
    ] {
        let error = RecordReader::open(path).unwrap_err();
        assert!(matches!(error, ReadRecordError::Missing(_)), "{error}");
    }
}

#[test]
fn a_reader_keeps_its_files_through_rotations() {
    let record = TestRecord::new();
    let mut appender = RecordAppender::new(record.config(600, 2));
    for number in 0..4 {
        appender.append(&[note(&number.to_string())]).1.unwrap();
    }
    let expected = read_entries(&record.path);
    let mut reader = RecordReader::open(&record.path).unwrap();
    for number in 4..40 {
        appender.append(&[note(&number.to_string())]).1.unwrap();
    }
    let mut found = Vec::new();
    while let Some(line) = reader.next_line().unwrap() {
        found.push(parse_line(line.bytes).unwrap());
    }
    assert_eq!(found, expected);
}
