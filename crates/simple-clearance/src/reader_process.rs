// SPDX-License-Identifier: Apache-2.0
//! The reader process of a container, with JSON output.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::absolute_path::absolute_path;
use crate::bounded_lines::BoundedLines;
use crate::container::ShieldContainer;
use crate::{SimpleClearanceConfig, SimpleClearanceError};

/// A running reader and its output.
#[derive(Debug)]
pub(crate) struct ReaderProcess {
    child: Child,
    process_group: Option<Pid>,
    lines: BoundedLines<ChildStdout>,
}

/// Maximum time for a reader to end after SIGTERM.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(2);

impl ReaderProcess {
    /// Starts the reader for `container`: the configured one, else the reader of this program.
    ///
    /// The reader has its own process group, which Ctrl-C does not reach: this program ends the
    /// reader together with the processes that entered the container's namespace.
    pub(crate) fn start(
        container: &ShieldContainer,
        config: &SimpleClearanceConfig,
    ) -> Result<Self, SimpleClearanceError> {
        let mut command = if let Some(reader) = &config.reader {
            external_reader_command(reader)?
        } else {
            let mut command = Command::new(&config.own_program);
            command.arg("reader");
            command
        };
        command
            .arg(container.state_dir())
            .arg(container.name().as_str())
            .arg("--emit=json")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(SimpleClearanceError::StartReader)?;
        let output = child.stdout.take();
        let output = output.ok_or(SimpleClearanceError::ReaderWithoutOutput)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            process_group: group.and_then(Pid::from_raw),
            lines: BoundedLines::new(output),
            child,
        })
    }

    /// Returns the next line; `None` once every process of the reader has closed the output.
    pub(crate) async fn next_line(&mut self) -> std::io::Result<Option<String>> {
        self.lines.next_line().await
    }

    /// Ends the reader and returns the status; `None` after a kill.
    pub(crate) async fn terminate(mut self) -> Result<Option<ExitStatus>, SimpleClearanceError> {
        self.signal_group(Signal::TERM);
        // Every process of the reader has the output open, so the end of the output is the end of
        // all.
        let silence = async { while matches!(self.lines.next_line().await, Ok(Some(_))) {} };
        let has_ended = timeout(TERMINATE_TIMEOUT, silence).await.is_ok();
        if !has_ended {
            self.signal_group(Signal::KILL);
        }
        let status = self.child.wait().await;
        let status = status.map_err(SimpleClearanceError::WaitForReader)?;
        Ok(has_ended.then_some(status))
    }

    /// Returns the status of the reader after the end of the output.
    pub(crate) async fn wait_for_exit(mut self) -> Result<ExitStatus, SimpleClearanceError> {
        let status = if let Ok(status) = timeout(TERMINATE_TIMEOUT, self.child.wait()).await {
            status
        } else {
            self.signal_group(Signal::KILL);
            self.child.wait().await
        };
        status.map_err(SimpleClearanceError::WaitForReader)
    }

    /// Sends a signal to the process group. The group's id is still valid, because the first
    /// process has not been waited for.
    fn signal_group(&self, signal: Signal) {
        if let Some(Err(error)) = self
            .process_group
            .map(|group| kill_process_group(group, signal))
        {
            tracing::debug!(%error, "the reader has ended");
        }
    }
}

/// Returns the command of another reader; a Python script runs as the hook runs it.
fn external_reader_command(reader: &Path) -> Result<Command, SimpleClearanceError> {
    let path = absolute_path(reader)?;
    if !path.is_file() {
        return Err(SimpleClearanceError::NoReader { path });
    }
    if path.extension().is_some_and(|extension| extension == "py") {
        let mut command = Command::new("python3");
        command.arg("-I").arg(path);
        return Ok(command);
    }
    Ok(Command::new(path))
}
