// SPDX-License-Identifier: Apache-2.0
//! A full disk: the loss is reported and recorded, and the record goes on when there is room.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use terok_clearance_record::*;

use crate::entries::{TestRecord, note, note_texts, read_entries};
use crate::processes::job_command;

/// Records until the disk is full and longer, makes room with `free`, and checks the record.
pub(crate) fn overflow_and_recover(path: &Path, free: impl FnOnce()) {
    let (sender, notices) = mpsc::channel();
    let writer = RecordWriter::open(RecordConfig::new(path), move |notice| {
        sender.send(notice).unwrap();
    });
    let writer = writer.unwrap();
    let mut recorded = 0_u64;
    let mut record = |writer: &RecordWriter| {
        writer.record(note(&recorded.to_string()));
        recorded += 1;
    };
    let failure = loop {
        record(&writer);
        if let Ok(notice) = notices.try_recv() {
            break notice;
        }
    };
    let RecordNotice::Failed(error) = failure else {
        panic!("{failure:?}");
    };
    let message = terok_clearance::error_chain(&error);
    assert!(
        ["No space left on device", "File too large"]
            .iter()
            .any(|end| {
                message.as_str().contains("cannot write to") && message.as_str().contains(end)
            }),
        "{message}"
    );
    // Nothing unfinished is left, so that readers see whole lines only.
    assert!(!verify_record(path).unwrap().ends_unfinished);
    // More than the queue takes.
    for _ in 0..10_000 {
        record(&writer);
    }
    free();
    let restored = notices.recv_timeout(Duration::from_secs(20)).unwrap();
    let RecordNotice::Restored { lost } = restored else {
        panic!("{restored:?}");
    };
    assert!(lost > 0);
    record(&writer);
    assert_eq!(
        writer.close(Duration::from_secs(20)),
        CloseOutcome::Complete
    );
    let report = verify_record(path).unwrap();
    assert_eq!((report.first_break, report.ends_unfinished), (None, false));
    let entries = read_entries(path);
    let losses = entries.iter().filter_map(|entry| match &entry.event {
        Some(AuditEvent::Lost(loss)) => Some(loss.count.unwrap()),
        _ => None,
    });
    let written = u64::try_from(note_texts(&entries).len()).unwrap();
    assert_eq!(written + losses.sum::<u64>(), recorded);
    assert!(notices.try_recv().is_err(), "each is reported once");
}

pub(crate) fn raise_file_size_limit() {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Fsize, limit).unwrap();
}

#[test]
fn a_limit_of_the_file_size() {
    let record = TestRecord::new();
    let program = std::env::current_exe().unwrap();
    // The signal of the limit is ignored, so that the write fails.
    let script = r#"trap "" XFSZ; ulimit -S -f 500; exec "$0" "$@""#;
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(program);
    let mut job = job_command(&mut command, "limited -", &record.path);
    assert!(job.wait().unwrap().success());
}

#[test]
fn a_full_file_system() {
    let record = TestRecord::new();
    let program = std::env::current_exe().unwrap();
    let directory = record.directory.path();
    let filler = directory.join("filler");
    // The file system of the program that is run is another one.
    let script = r#"mount -t tmpfs -o size=6m,mode=700 tmpfs "$0" &&
        head -c 5800000 /dev/zero >"$0/filler" && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command.arg(directory).arg(program);
    let job = format!("filled {}", filler.display());
    let mut job = job_command(&mut command, &job, &record.path);
    assert!(job.wait().unwrap().success());
    assert_eq!(
        fs::read_dir(directory).unwrap().count(),
        0,
        "the mount was private"
    );
}
