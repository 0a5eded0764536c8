// SPDX-License-Identifier: Apache-2.0
//! The output of other programs, within a time limit.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

/// Maximum bytes of output that a check looks at.
const MAX_OUTPUT_BYTES: usize = 64 * 1024;

/// How a program ended, and what it printed.
#[derive(Debug)]
pub(crate) struct QueriedOutput {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A program has no output.
#[derive(Debug)]
pub(crate) enum ProgramQueryError {
    /// It cannot be started.
    NotStarted(io::Error),
    /// It was ended at the time limit.
    TimedOut,
}

impl ProgramQueryError {
    pub(crate) fn describe(&self, program: &str) -> String {
        match self {
            Self::NotStarted(error) => format!("{program} cannot be started: {error}"),
            Self::TimedOut => format!("{program} does not answer"),
        }
    }
}

/// Runs a program without input. It is killed at the time limit.
pub(crate) async fn run_program(
    program: &Path,
    arguments: &[&str],
    runtime_dir: &Path,
    limit: Duration,
) -> Result<QueriedOutput, ProgramQueryError> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("XDG_RUNTIME_DIR", runtime_dir)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match timeout(limit, command.output()).await {
        Ok(Ok(output)) => Ok(QueriedOutput {
            status: output.status,
            stdout: to_text(output.stdout),
            stderr: to_text(output.stderr),
        }),
        Ok(Err(error)) => Err(ProgramQueryError::NotStarted(error)),
        Err(_) => Err(ProgramQueryError::TimedOut),
    }
}

fn to_text(mut bytes: Vec<u8>) -> String {
    bytes.truncate(MAX_OUTPUT_BYTES);
    String::from_utf8_lossy(&bytes).into_owned()
}
