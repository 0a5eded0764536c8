// SPDX-License-Identifier: Apache-2.0
//! Waits for hooks where no systemd does, and starts a supervisor for each.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use containers::host_layout::START_SOCKET;
use terok_clearance::socket::{ConnectionAcceptor, SocketBindError, bind};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};

/// Time without a supervisor after which the listener ends: the next container starts another one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Listens at the start socket; ends at once, with success, if another process does.
pub(super) fn perform(context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let path = context.environment.hook_dirs().start.join(START_SOCKET);
    let program = std::env::current_exe().context("cannot find the own program")?;
    block_on(async {
        let mut signals = StopSignals::catch()?;
        let listener = match bind(&path) {
            Ok(listener) => listener.accept_engine_hooks(),
            Err(SocketBindError::InUse { pid, .. }) => {
                tracing::info!(pid, "another process listens for hooks");
                return Ok(CommandStatus::OK);
            }
            Err(source) => return Err(CommandError::Listen { path, source }),
        };
        tracing::info!(path = %path.display(), "listening for hooks");
        let mut acceptor = ConnectionAcceptor::new(listener);
        let mut supervisors = JoinSet::new();
        let mut idle_since = Instant::now();
        loop {
            let idle_end = idle_since + IDLE_TIMEOUT;
            tokio::select! {
                (stream, _) = acceptor.accept() => {
                    match start_supervisor(&program, stream) {
                        Ok(mut child) => {
                            supervisors.spawn(async move { child.wait().await });
                        }
                        // The hook sees the end of its connection, and refuses the container.
                        Err(error) => tracing::error!("cannot start a supervisor: {error:#}"),
                    }
                }
                Some(_) = supervisors.join_next() => idle_since = Instant::now(),
                () = sleep_until(idle_end), if supervisors.is_empty() => {
                    return Ok(CommandStatus::OK);
                }
                // The supervisors guard on.
                status = signals.wait() => return Ok(status),
            }
        }
    })
}

fn start_supervisor(program: &Path, stream: UnixStream) -> anyhow::Result<tokio::process::Child> {
    let stream = stream.into_std()?;
    let mut command = Command::new(program);
    command
        .arg("container-supervisor")
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(stream)))
        .stdout(Stdio::null())
        .process_group(0);
    Ok(command.spawn()?)
}
