// SPDX-License-Identifier: Apache-2.0
//! One process of the approver: the question at its input, its answer at its output.

use std::process::Stdio;

use netns::{StderrCapture, StderrPart, kill_on_parent_exit};
use terok_clearance::DisplayText;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use verdict::ProcessGroup;

use super::{ApproverConfig, ApproverError};

/// Maximum bytes of an answer.
pub(super) const MAX_OUTPUT_BYTES: usize = 64 * 1024;
/// Bytes of the error output that a failure tells.
const MAX_STDERR_BYTES: usize = 400;

/// Runs the program with `input`, and returns its output.
///
/// At the time limit, after too much output and when the future is dropped, the program's whole
/// process group is killed.
pub(super) async fn run_approver(
    config: &ApproverConfig,
    input: &[u8],
) -> Result<Vec<u8>, ApproverError> {
    let mut command = Command::new(&config.program);
    command
        .args(&config.arguments)
        .env_clear()
        .envs(config.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // In a process group of its own.
    kill_on_parent_exit(command.as_std_mut());
    let mut child = command.spawn().map_err(ApproverError::Spawn)?;
    // Its leader is reaped at the end of this function at the earliest: its id is not reused.
    let mut group = ProcessGroup::new(child.id());
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let part = StderrPart::End(MAX_STDERR_BYTES);
    let mut stderr = StderrCapture::new(child.stderr.take(), part);
    let finished = timeout(config.timeout, async {
        let output = {
            let mut reading = std::pin::pin!(exchange(stdin, stdout, input));
            loop {
                tokio::select! {
                    biased;
                    output = &mut reading => break output?,
                    () = stderr.read_to_end(), if !stderr.is_closed() => {}
                }
            }
        };
        let status = loop {
            tokio::select! {
                biased;
                status = child.wait() => break status.map_err(ApproverError::Read)?,
                () = stderr.read_to_end(), if !stderr.is_closed() => {}
            }
        };
        Ok((output, status))
    });
    let finished = finished.await;
    if let Ok(Ok((output, status))) = finished {
        group.release(); // its leader was reaped
        if status.success() {
            return Ok(output);
        }
        stderr.drain_pipe();
        let stderr = String::from_utf8_lossy(stderr.bytes());
        let stderr = DisplayText::new(stderr.trim());
        return Err(ApproverError::Failed { status, stderr });
    }
    drop(group); // kills
    match finished {
        Ok(Err(error)) => Err(error),
        _ => Err(ApproverError::Timeout(config.timeout)),
    }
}

/// Writes the input while the output is read: the program need not read all before it writes.
async fn exchange(
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    input: &[u8],
) -> Result<Vec<u8>, ApproverError> {
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that decides without the question closes its input early.
            drop(stdin.write_all(input).await);
        }
    };
    let read = async {
        let mut output = Vec::new();
        if let Some(stdout) = stdout {
            let limit = u64::try_from(MAX_OUTPUT_BYTES).unwrap_or(u64::MAX);
            let mut limited = stdout.take(limit.saturating_add(1));
            let read = limited.read_to_end(&mut output).await;
            read.map_err(ApproverError::Read)?;
        }
        if output.len() > MAX_OUTPUT_BYTES {
            return Err(ApproverError::TooLong);
        }
        Ok(output)
    };
    let ((), output) = tokio::join!(write, read);
    output
}
