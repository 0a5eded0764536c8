// SPDX-License-Identifier: Apache-2.0
//! `simple-clearance` with readers that fail or send invalid data, and a `terok-shield` that
//! records its arguments. `tests/interop/simple_clearance.rs` has the real programs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use test_support::directory::write_script;

/// A directory with the scripts of a test.
struct SimpleHarness(TempDir);

impl SimpleHarness {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let record = "echo \"$@\" >> \"$HOME/orders\"";
        write_script(directory.path(), "terok-shield", record);
        Self(directory)
    }

    /// Returns a command with a reader that runs these shell lines.
    fn command(&self, reader: &str) -> Command {
        let reader = write_script(self.0.path(), "reader", reader);
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

    /// Runs the program until its reader has ended.
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
fn a_failed_reader_ends_the_program_with_its_message() {
    let output = SimpleHarness::new().run("echo 'no such namespace' >&2; exit 3");
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("no such namespace\n"), "{errors}");
    assert!(
        errors.contains("error: the reader ended: exit status: 3"),
        "{errors}"
    );
}

#[test]
fn a_reader_that_ends_is_no_failure_and_invalid_lines_are_skipped() {
    let harness = SimpleHarness::new();
    let output = harness.run(&format!(
        "echo 'not json'; echo '[]'; echo; printf '\\377\\n'; head -c 200000 /dev/zero; echo\n\
         echo '{{\"type\":\"pending\",\"dest\":\"--help\"}}'; echo '{QUESTION}'"
    ));
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "Watching for blocked connections... (Ctrl-C to stop)\n\n\
         [BLOCKED] 203.0.113.7 (a [2J  b.example) :443 \u{2014} allow/deny? "
    );
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        !errors.contains('\u{1b}') && errors.contains("the reader has ended"),
        "{errors}"
    );
}

#[test]
fn the_shield_gets_the_address_and_an_incomplete_line_is_no_answer() {
    let harness = SimpleHarness::new();
    let mut child = harness
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
    let orders = std::fs::read_to_string(harness.0.path().join("orders")).unwrap();
    assert_eq!(orders, "deny web 203.0.113.7\n");
}

#[test]
fn a_closed_output_ends_the_program_and_its_reader() {
    let harness = SimpleHarness::new();
    // Standard error stays open as long as a process of the reader runs.
    let lines = format!("sleep 1000 & while :; do echo '{QUESTION}'; sleep 1000; done");
    let mut child = harness.command(&lines).spawn().unwrap();
    drop(child.stdout.take());
    let mut errors = String::new();
    let mut all = child.stderr.take().unwrap();
    all.read_to_string(&mut errors).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{errors}");
}
