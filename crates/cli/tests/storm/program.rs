// SPDX-License-Identifier: Apache-2.0
//! The program and its output lines.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use serde_json::Value;
use test_support::child::ChildGuard;

use crate::crowd::{Question, Share};

pub(crate) fn command(runtime: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_terok-clearance"));
    command
        .args(args)
        .env_clear()
        .env("XDG_RUNTIME_DIR", runtime)
        .env("HOME", runtime)
        .stdin(Stdio::null());
    command
}

/// Runs the program with `--json` successfully, and returns its lines.
pub(crate) fn run_json(runtime: &Path, args: &[&str]) -> Vec<Value> {
    let output = command(runtime, &[&["--json"], args].concat())
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Answers these questions with `allow` or `deny`, and asserts that each answer took effect.
pub(crate) fn answer(runtime: &Path, share: Share, questions: &[Question]) {
    let ids = questions
        .iter()
        .map(|question| question.event.request.as_str());
    let args: Vec<_> = std::iter::once(share.word()).chain(ids).collect();
    let lines = run_json(runtime, &args);
    let applied = lines.iter().filter(|line| line["event"] == "decided");
    assert_eq!(applied.count(), questions.len(), "{lines:?}");
}

/// A program that runs until this is dropped.
pub(crate) struct RunningProgram {
    child: ChildGuard,
    lines: BufReader<ChildStdout>,
}

impl RunningProgram {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = ChildGuard::spawn(&mut command);
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Types a line.
    pub(crate) fn type_line(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.child.signal(rustix::process::Signal::TERM);
    }

    /// Returns the next line of the output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(
            self.lines.read_line(&mut line).unwrap(),
            0,
            "the program ended"
        );
        line
    }
}
