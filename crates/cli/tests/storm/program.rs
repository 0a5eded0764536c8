// SPDX-License-Identifier: Apache-2.0
//! Runs the program and reads its output line by line.

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

/// Runs the program with `--json` until success, and returns the lines.
pub(crate) fn json(runtime: &Path, args: &[&str]) -> Vec<Value> {
    let said = command(runtime, &[&["--json"], args].concat())
        .output()
        .unwrap();
    assert!(said.status.success(), "{args:?}: {said:?}");
    let said = String::from_utf8(said.stdout).unwrap();
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Answers these questions with `allow` or `deny`, and asserts that each answer took effect.
pub(crate) fn answer(runtime: &Path, share: Share, questions: &[Question]) {
    let ids = questions
        .iter()
        .map(|question| question.event.request.as_str());
    let args: Vec<_> = std::iter::once(share.word()).chain(ids).collect();
    let said = json(runtime, &args);
    let applied = said.iter().filter(|line| line["event"] == "decided");
    assert_eq!(applied.count(), questions.len(), "{said:?}");
}

/// A program that is ended on drop.
pub(crate) struct Running {
    child: ChildGuard,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = ChildGuard::spawn(&mut command);
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Types a line.
    pub(crate) fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// Sends SIGTERM, like systemd.
    pub(crate) fn terminate(&self) {
        self.child.signal(rustix::process::Signal::TERM);
    }

    /// Returns the next line of the output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "it ended");
        line
    }
}
