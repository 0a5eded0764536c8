// SPDX-License-Identifier: Apache-2.0
//! The log of the program under systemd, with a socket in place of the journal's.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking, its helpers too"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use test_support::child::ChildGuard;
use test_support::directory::private_directory;

/// Starts `serve` with a journal of the test, and returns its first entry and what it wrote to
/// standard error. `means_stderr`: `JOURNAL_STREAM` is the stream of standard error.
fn serve(means_stderr: bool) -> (Option<BTreeMap<String, String>>, String) {
    let place = private_directory();
    let run = place.path().join("run");
    fs::create_dir_all(run.join("systemd/journal")).unwrap();
    let journal = UnixDatagram::bind(run.join("systemd/journal/socket")).unwrap();
    let (mut log, writer) = std::io::pipe().unwrap();
    let stream = File::from(OwnedFd::from(writer.try_clone().unwrap())).metadata();
    let stream = stream.unwrap();
    let inode = if means_stderr {
        stream.ino()
    } else {
        stream.ino() + 1
    };
    let script = "mount --bind \"$0\" /run && exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(&run)
        .args([env!("CARGO_BIN_EXE_terok-clearance"), "serve"])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", place.path())
        .env("XDG_RUNTIME_DIR", place.path())
        .env("JOURNAL_STREAM", format!("{}:{inode}", stream.dev()))
        .stdin(Stdio::null())
        .stderr(writer);
    let mut served = ChildGuard::spawn(&mut command);
    drop(command);
    let mut text = String::new();
    let entry = if means_stderr {
        journal
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Some(receive(&journal))
    } else {
        let mut lines = BufReader::new(&log);
        while !text.contains("the hub listens") {
            assert_ne!(lines.read_line(&mut text).unwrap(), 0, "it ended: {text}");
        }
        None
    };
    served.signal(Signal::TERM);
    served.wait().unwrap();
    if means_stderr {
        log.read_to_string(&mut text).unwrap();
    } else {
        journal.set_nonblocking(true).unwrap();
        assert!(journal.recv(&mut [0]).is_err(), "the journal got an entry");
    }
    (entry, text)
}

fn receive(journal: &UnixDatagram) -> BTreeMap<String, String> {
    let mut datagram = vec![0; 256 * 1024];
    let length = journal.recv(&mut datagram).unwrap();
    let text = String::from_utf8(datagram[..length].to_vec()).unwrap();
    let fields = text.lines().map(|line| line.split_once('=').unwrap());
    fields
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[test]
fn under_systemd_records_are_entries_of_the_journal() {
    let (entry, text) = serve(true);
    let entry = entry.unwrap();
    assert!(entry["MESSAGE"].contains("the hub listens"), "{entry:?}");
    assert_eq!(entry["SYSLOG_IDENTIFIER"], "terok-clearance");
    assert_eq!(entry["PRIORITY"], "6");
    assert_eq!(text, "");
}

#[test]
fn an_inherited_variable_does_not_redirect_the_log() {
    let (entry, text) = serve(false);
    assert_eq!(entry, None);
    assert!(text.contains("the hub listens"), "{text}");
}
