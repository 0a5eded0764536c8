// SPDX-License-Identifier: Apache-2.0
//! `watch`: what happens at every hub, as it happens.

use std::os::fd::AsFd as _;
use std::path::PathBuf;

use anyhow::Context as _;
use operator::Session;
use operator::script::{WatchOptions, watch_hubs};
use terok_clearance::ContainerId;
use terok_clearance::socket::RuntimeDir;
use tokio::io::Interest;
use tokio::net::unix::pipe;

use crate::output::BrokenPipeError;
use crate::runtime::raise_fd_limit;
use crate::{CommandContext, CommandFailure, CommandStatus, StopSignals, block_on};

/// What it does, at length.
pub(super) const ABOUT: &str = "Print what happens at every hub, as it happens.

First what is pending, then whatever is asked, answered or withdrawn, until Ctrl-C. Hubs may come \
and go. A reader that is too slow holds it up, and a hub that then has to skip something says how \
much; no question is lost that way.";

/// What may be said to it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance watch
  terok-clearance watch --json | while read -r line; do ...; done

With --json, one object per line, `event` saying which: pending, repeated, decided, failed, lapsed,
withdrawn, hub, synced, ready, lost, container, shield. `synced` says that one hub has said all that
is pending, `ready` that every hub has that was there at the start, or has shown that it cannot;
docs/schema/lines.json describes them all.

Exit status: 0 when nobody reads any more, 130 at Ctrl-C, 143 at SIGTERM.")]
pub struct Args {
    /// Watch the hub at this socket alone; it is waited for.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Only what this sandbox does: its id, the first 12 characters of that, or its name.
    #[arg(long, value_name = "ID")]
    container: Option<ContainerId>,
}

/// Does it.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    raise_fd_limit();
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let session = match args.socket {
            None => Session::discover(RuntimeDir::new(context.environment.runtime_dir())),
            Some(path) => Session::at_socket(
                std::path::absolute(&path)
                    .with_context(|| format!("finding {}", path.display()))?,
            ),
        };
        let session = session.context("watching for hubs")?;
        let watching = WatchOptions {
            json: context.json,
            color: context.output.colors().stdout,
            container: args.container,
        };
        // Written by a thread of its own: a reader that stops reading must not hold up a signal.
        let output = tokio::io::stdout();
        let ended = async {
            tokio::select! {
                status = stop.wait() => Ok(status),
                () = wait_for_stdout_close() => Err(BrokenPipeError),
            }
        };
        match watch_hubs(session, &watching, output, ended).await {
            Ok(ended) => Ok(ended.map_err(anyhow::Error::new)?),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Err(anyhow::Error::new(BrokenPipeError).into())
            }
            Err(error) => Err(anyhow::Error::new(error).context("watching").into()),
        }
    })
}

/// Waits until whoever read our output has gone away, where it is a pipe or a socket: of that
/// nothing tells before the next write, and there may be none for hours.
async fn wait_for_stdout_close() {
    let output = std::io::stdout().as_fd().try_clone_to_owned();
    // A file, such as a log, cannot be waited for, and has no reader.
    if let Ok(output) = output
        && let Ok(output) = pipe::Sender::from_owned_fd_unchecked(output)
        && output.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}
