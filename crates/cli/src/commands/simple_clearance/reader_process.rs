// SPDX-License-Identifier: Apache-2.0
//! The reader process of a container, with JSON output.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::bounded_lines::BoundedLines;
use super::{ShieldContainer, absolute_path};
use crate::{CommandFailure, ErrorExt as _};

/// A running reader and its output.
#[derive(Debug)]
pub(super) struct ReaderProcess {
    child: Child,
    process_group: Option<Pid>,
    lines: BoundedLines<ChildStdout>,
}

/// Maximum time for a reader to end after SIGTERM.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(2);

impl ReaderProcess {
    /// Starts a reader for `container`: the reader at `named`, or the reader of this program.
    ///
    /// The reader runs in a separate process group, which Ctrl-C does not reach. This program later
    /// ends the whole group, including processes that the reader started to enter the container's
    /// namespace.
    pub(super) fn start(
        container: &ShieldContainer,
        named: Option<&Path>,
    ) -> Result<Self, CommandFailure> {
        let mut command = if let Some(named) = named {
            external_reader_command(named)?
        } else {
            let ours = std::env::current_exe().context("cannot find the path of this program")?;
            let mut command = Command::new(ours);
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
        let mut child = command.spawn().context("cannot start the reader")?;
        let output = child.stdout.take().context("the reader has no output")?;
        let group = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            process_group: group.and_then(Pid::from_raw),
            lines: BoundedLines::new(output),
            child,
        })
    }

    /// Returns the next line; `None` once all processes of the reader have closed the output.
    pub(super) async fn next_line(&mut self) -> std::io::Result<Option<String>> {
        self.lines.next_line().await
    }

    /// Ends the reader and returns the exit status; `None` if the reader had to be killed.
    pub(super) async fn terminate(mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.signal_group(Signal::TERM);
        // All processes of the reader hold the output open, so the end of the output means that all
        // have ended.
        let silence = async { while matches!(self.lines.next_line().await, Ok(Some(_))) {} };
        let terminated = timeout(TERMINATE_TIMEOUT, silence).await.is_ok();
        if !terminated {
            self.signal_group(Signal::KILL);
        }
        let status = self
            .child
            .wait()
            .await
            .context("cannot wait for the reader")?;
        Ok(terminated.then_some(status))
    }

    /// Waits for the exit status after the end of the output.
    pub(super) async fn wait_for_exit(mut self) -> anyhow::Result<ExitStatus> {
        if let Ok(status) = timeout(TERMINATE_TIMEOUT, self.child.wait()).await {
            return status.context("cannot wait for the reader");
        }
        self.signal_group(Signal::KILL);
        self.child
            .wait()
            .await
            .context("cannot wait for the reader")
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

/// Returns the command for the reader at `named`. Python scripts run with the same interpreter
/// options as in the hook.
fn external_reader_command(named: &Path) -> Result<Command, CommandFailure> {
    let path = absolute_path(named)?;
    if !path.is_file() {
        let missing = anyhow!("there is no reader at {}", path.display());
        return Err(missing).with_hint("without --reader, the reader of this program is used");
    }
    if path.extension().is_some_and(|extension| extension == "py") {
        let mut command = Command::new("python3");
        command.arg("-I").arg(path);
        return Ok(command);
    }
    Ok(Command::new(path))
}
