// SPDX-License-Identifier: Apache-2.0
//! `watch`: prints the events of every hub.

use std::os::fd::AsFd as _;
use std::path::PathBuf;

use anyhow::Context as _;
use operator::script::{SandboxSelector, WatchOptions, watch_hubs};
use operator::{Session, SessionOptions};
use terok_clearance::socket::RuntimeDir;
use tokio::io::Interest;
use tokio::net::unix::pipe;

use crate::output::OutputError;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};
use runner::raise_open_files_limit;

/// Long help.
pub(super) const ABOUT: &str = "Print the events of every hub.

First the pending questions, then each new, answered or withdrawn one, until Ctrl-C. Hubs may \
start and end meanwhile. If the output is read too slowly, a hub skips events and reports how \
many; no question is lost.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance watch
  terok-clearance watch --json | while read -r line; do ...; done

With --json, each line is an object whose `event` is one of pending, repeated, decided, failed,
lapsed, withdrawn, hub, synced, ready, lost, container, shield. After `synced`, all pending
questions of one hub have been printed (a hub of the Python stack tells only new ones: its `hub`
line has the interface org.terok.Clearance1); after `ready`, those of every hub that ran at the
start and replied. docs/schema/lines.json describes them all.

Exit status: 0 if the output is closed, 130 after Ctrl-C, 143 after SIGTERM.")]
pub struct Args {
    /// Watch only the hub at this socket; the hub may start later
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Only the sandbox with this name (as `list` shows it), id, or first 12 characters of the id;
    /// it may start later
    #[arg(long, value_name = "NAME")]
    container: Option<SandboxSelector>,
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    raise_open_files_limit();
    block_on(async {
        let mut stop = StopSignals::catch()?;
        // Nobody answers here: hubs must not hold connections for this command.
        let options = SessionOptions { answers: false };
        let session = match args.socket {
            None => {
                let runtime = RuntimeDir::new(context.environment.runtime_dir());
                Session::discover_with(runtime, options)
            }
            Some(path) => {
                let path = std::path::absolute(&path)
                    .with_context(|| format!("cannot find {}", path.display()))?;
                Session::at_socket_with(path, options)
            }
        };
        let session = session.context("cannot watch for hubs")?;
        let watching = WatchOptions {
            json: context.json,
            color: context.output.colors().stdout,
            container: args.container,
        };
        // Standard output is written in another thread, because a blocked write must not delay the
        // reaction to a signal.
        let output = tokio::io::stdout();
        let ended = async {
            tokio::select! {
                status = stop.wait() => Ok(status),
                () = wait_for_stdout_close() => Err(OutputError::Closed),
            }
        };
        match watch_hubs(session, &watching, output, ended).await {
            Ok(ended) => Ok(ended?),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Err(OutputError::Closed.into())
            }
            Err(error) => Err(anyhow::Error::new(error)
                .context("cannot print the events")
                .into()),
        }
    })
}

/// Waits until the other end of standard output is closed, if standard output is a pipe or a
/// socket. A write would also fail, but the next write may be hours away.
async fn wait_for_stdout_close() {
    let output = std::io::stdout().as_fd().try_clone_to_owned();
    // A file has no other end.
    if let Ok(output) = output
        && let Ok(output) = pipe::Sender::from_owned_fd_unchecked(output)
        && output.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}
