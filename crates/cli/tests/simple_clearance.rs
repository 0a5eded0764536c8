// SPDX-License-Identifier: Apache-2.0
//! Tests of `simple-clearance` with misbehaving readers and a `terok-shield` that records its
//! arguments. Tests with the real programs are in `tests/interop/simple_clearance.rs`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.program("terok-shield", "echo \"$@\" >> \"$HOME/told\"");
        place
    }

    fn program(&self, name: &str, body: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    /// Returns a command with a reader that runs these shell lines.
    fn command(&self, reader: &str) -> Command {
        let reader = self.program("reader", reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_terok-clearance"));
        command
            .arg("simple-clearance")
            .arg(self.0.path())
            .args(["web", "--reader"])
            .arg(reader)
            .arg("--shield")
            .arg(self.0.path().join("terok-shield"))
            .env_clear()
            .env("XDG_RUNTIME_DIR", self.0.path())
            .env("HOME", self.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the command until the reader ends.
    fn run(&self, reader: &str) -> Output {
        let mut child = self.command(reader).spawn().unwrap();
        let input = child.stdin.take();
        let output = child.wait_with_output().unwrap();
        drop(input);
        output
    }
}

const QUESTION: &str = r#"{"type":"pending","id":"web:1","dest":"203.0.113.7","port":443,"proto":6,"domain":"a\\u001b[2J\\u202e\\nb.example"}"#;

#[test]
fn a_failing_reader_ends_it_with_the_readers_message() {
    let ended = Place::new().run("echo 'no such namespace' >&2; exit 3");
    let errors = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{errors}");
    assert!(errors.contains("no such namespace\n"), "{errors}");
    assert!(
        errors.contains("error: the reader ended: exit status: 3"),
        "{errors}"
    );
}

#[test]
fn a_reader_that_ends_normally_is_no_failure_and_garbage_is_skipped() {
    let place = Place::new();
    let ended = place.run(&format!(
        "echo 'not json'; echo '[]'; echo; printf '\\377\\n'; head -c 200000 /dev/zero; echo\n\
         echo '{{\"type\":\"pending\",\"dest\":\"--help\"}}'; echo '{QUESTION}'"
    ));
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(ended.stdout).unwrap(),
        "Watching for blocked connections... (Ctrl-C to stop)\n\n\
         [BLOCKED] 203.0.113.7 (a [2J  b.example) :443 \u{2014} allow/deny? "
    );
    let errors = String::from_utf8(ended.stderr).unwrap();
    assert!(
        !errors.contains('\u{1b}') && errors.contains("the reader has ended"),
        "{errors}"
    );
}

#[test]
fn the_shield_receives_the_address_and_input_without_a_line_end_is_no_answer() {
    let place = Place::new();
    let mut child = place
        .command(&format!("echo '{QUESTION}'; exec sleep 1000"))
        .spawn()
        .unwrap();
    let mut shown = Vec::new();
    let mut output = child.stdout.take().unwrap();
    while !String::from_utf8_lossy(&shown).ends_with("allow/deny? ") {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        shown.extend(byte);
    }
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"deny\na").unwrap();
    drop(input);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "  \u{2717} denied 203.0.113.7 (a [2J  b.example)\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let told = std::fs::read_to_string(place.0.path().join("told")).unwrap();
    assert_eq!(told, "deny web 203.0.113.7\n");
}

#[test]
fn closed_output_ends_it_and_leaves_no_process() {
    let place = Place::new();
    // The reader's processes hold standard error open as long as they live.
    let lines = format!("sleep 1000 & while :; do echo '{QUESTION}'; sleep 1000; done");
    let mut child = place.command(&lines).spawn().unwrap();
    drop(child.stdout.take());
    let mut errors = String::new();
    let mut all = child.stderr.take().unwrap();
    all.read_to_string(&mut errors).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{errors}");
}
