// SPDX-License-Identifier: Apache-2.0
//! Several processes that append to one record, and processes that are killed meanwhile.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use terok_clearance_record::*;

use crate::entries::{TestRecord, note, note_texts, read_entries};
use crate::full_disk::{overflow_and_recover, raise_file_size_limit};

const JOB_VARIABLE: &str = "RECORD_TEST_JOB";
const PATH_VARIABLE: &str = "RECORD_TEST_PATH";

/// Returns a command that runs [`job_of_another_process`] for `path`.
pub(crate) fn job_command(program: &mut Command, job: &str, path: &Path) -> Child {
    program
        .args([
            "--exact",
            "processes::job_of_another_process",
            "--ignored",
            "--nocapture",
        ])
        .env(JOB_VARIABLE, job)
        .env(PATH_VARIABLE, path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn start_job(job: &str, path: &Path) -> Child {
    job_command(
        &mut Command::new(std::env::current_exe().unwrap()),
        job,
        path,
    )
}

#[test]
#[ignore = "a process that other tests start"]
#[expect(clippy::disallowed_methods, reason = "the arguments of a test")]
fn job_of_another_process() {
    let path = std::env::var_os(PATH_VARIABLE).unwrap();
    let job = std::env::var(JOB_VARIABLE).unwrap();
    let path = Path::new(&path);
    match job.split_once(' ') {
        Some(("append", name)) => append_notes(path, name),
        Some(("endless", name)) => append_for_ever(path, name),
        Some(("limited", _)) => overflow_and_recover(path, raise_file_size_limit),
        Some(("filled", filler)) => {
            overflow_and_recover(path, || std::fs::remove_file(filler).unwrap());
        }
        _ => panic!("unknown job {job}"),
    }
}

const NOTES: usize = 2_000;

/// Appends notes in batches of growing size, with rotations.
fn append_notes(path: &Path, name: &str) {
    let mut appender = RecordAppender::new(RecordConfig {
        rotate_bytes: 100_000,
        keep: 500,
        ..RecordConfig::new(path)
    });
    let notes: Vec<_> = (0..NOTES)
        .map(|number| note(&format!("{name} {number}")))
        .collect();
    let (mut rest, mut size) = (notes.as_slice(), 1);
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(size.min(rest.len()));
        appender.append(batch).1.unwrap();
        (rest, size) = (later, size % 40 + 1);
    }
    appender.sync().unwrap();
}

/// Appends batches, and prints the number of each one that was appended.
#[expect(clippy::print_stdout, reason = "the parent reads it")]
fn append_for_ever(path: &Path, name: &str) {
    let mut appender = RecordAppender::new(RecordConfig {
        rotate_bytes: 3_000_000,
        keep: 500,
        ..RecordConfig::new(path)
    });
    for batch in 0.. {
        let notes: Vec<_> = (0..500).map(|_| note(&format!("{name} {batch}"))).collect();
        appender.append(&notes).1.unwrap();
        println!("appended {batch}");
    }
}

#[test]
fn several_processes_lose_nothing_and_the_chain_holds() {
    let record = TestRecord::new();
    let names = ["one", "two", "three", "four"];
    let jobs: Vec<_> = names
        .iter()
        .map(|name| start_job(&format!("append {name}"), &record.path))
        .collect();
    for mut job in jobs {
        assert!(job.wait().unwrap().success());
    }
    let report = record.verify();
    assert_eq!(report.first_break, None);
    let expected = u64::try_from(names.len() * NOTES).unwrap();
    assert_eq!((report.entries, report.unfinished_lines), (expected, 0));
    assert!(report.files > 10);
    let entries = read_entries(&record.path);
    let texts = note_texts(&entries);
    for name in names {
        // The order of each process is kept.
        let own = texts
            .iter()
            .filter(|text| text.split(' ').next() == Some(name));
        let expected: Vec<_> = (0..NOTES)
            .map(|number| format!("{name} {number}"))
            .collect();
        assert!(own.eq(expected.iter()), "{name}");
    }
}

#[test]
fn killed_processes_leave_a_record_that_goes_on() {
    let record = TestRecord::new();
    let mut acknowledged = Vec::new();
    for round in 0..12 {
        let mut job = start_job(&format!("endless {round}"), &record.path);
        let mut lines = BufReader::new(job.stdout.take().unwrap()).lines();
        let mut last = None;
        // Killed at another moment in each round.
        while last < Some(round) {
            let line = lines.next().unwrap().unwrap();
            if let Some((_, batch)) = line.split_once("appended ") {
                last = Some(batch.parse::<u32>().unwrap());
            }
        }
        job.kill().unwrap();
        job.wait().unwrap();
        acknowledged.extend((0..=round).map(|batch| format!("{round} {batch}")));
    }
    record.append(&[note("after")]);
    let report = record.verify();
    assert_eq!(report.first_break, None, "{report:?}");
    assert!(!report.ends_unfinished);
    let entries = read_entries(&record.path);
    let texts = note_texts(&entries);
    for batch in acknowledged {
        let count = texts.iter().filter(|text| **text == batch).count();
        assert_eq!(count, 500, "{batch}");
    }
    assert_eq!(texts.last(), Some(&"after"));
}
