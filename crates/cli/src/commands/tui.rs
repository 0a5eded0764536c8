// SPDX-License-Identifier: Apache-2.0
//! `tui`: the full-screen UI over every live hub.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use operator::discovery::Hubs;
use operator::tui::{Theme, TuiEnd, TuiOptions, run_tui};
use terok_clearance::client::Client;
use terok_clearance::socket::RuntimeDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::runtime::raise_fd_limit;
use crate::timezone::system_time_zone;
use crate::{CommandContext, CommandFailure, CommandStatus, ErrorExt as _, StopSignals, block_on};

/// What it does, at length.
pub(super) const ABOUT: &str = "Answer the questions of every sandbox on the whole screen.

It lists what waits for you, says exactly what an answer to the selected question opens, and logs \
what became of it. `a` allows, `x` denies, Space marks several, `/` filters, `?` lists all keys. A \
key is not taken when the question under it has only just come there or has changed. What you do \
not answer stays asked, and nothing is opened: not by quitting, not by a lost connection, not by a \
click. A hub that is not there yet is waited for.";

/// What may be said to it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance tui
  ssh -t host terok-clearance tui
  terok-clearance tui --socket /run/user/1000/terok-clearance.sock

It draws only what changes and only when something does. Without colours (NO_COLOR, --color=never)
and in a locale without UTF-8 it looks plainer and says the same. Its log is where standard error
is, if that is not the terminal: `terok-clearance tui -v 2>log`.

Exit status: 0 at `q`, 1 without a terminal or if the hub of --socket is unavailable, 129 when the
terminal goes away, 130 at Ctrl-C, 143 at SIGTERM. The terminal is given back as it was.")]
pub struct Args {
    /// Listen to the hub at this socket alone, and fail if it is not there.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Does it.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    let environment = &context.environment;
    reject_json(context)?;
    require_screen_terminal(context)?;
    raise_fd_limit();
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let mut hang_up = signal(SignalKind::hangup()).context("catching signals")?;
        let (hubs, place) = match args.socket {
            None => {
                let runtime = RuntimeDir::new(environment.runtime_dir());
                let hubs = Hubs::discover(runtime).context("watching for hubs")?;
                (hubs, environment.runtime_dir().display().to_string())
            }
            Some(path) => {
                let path = std::path::absolute(&path)
                    .with_context(|| format!("finding {}", path.display()))?;
                Client::start(&path)
                    .await
                    .context("clearance hub unavailable")
                    .with_hint("`terok-clearance tui` without --socket waits for hubs")?;
                let place = path.display().to_string();
                (
                    Hubs::at_socket(path).context("watching for the hub")?,
                    place,
                )
            }
        };
        let options = tui_options(context, false);
        let stopped = async {
            tokio::select! {
                status = stop.wait() => status,
                _ = hang_up.recv() => CommandStatus::HUNG_UP,
            }
        };
        match run_tui(hubs, &place, options, stopped).await {
            Ok(TuiEnd::Done) => Ok(CommandStatus::OK),
            Ok(TuiEnd::Interrupted) => Ok(CommandStatus::INTERRUPTED),
            Ok(TuiEnd::Stopped(status)) => Ok(status),
            Err(error) => Err(anyhow::Error::new(error)
                .context("using the terminal")
                .into()),
        }
    })
}

/// Refuses where a program reads the output.
pub(super) fn reject_json(context: &CommandContext) -> Result<(), CommandFailure> {
    if context.json {
        return Err(anyhow!("a screen is not JSON"))
            .with_status(CommandStatus::USAGE)
            .with_hint("`terok-clearance clearance --json` is for programs");
    }
    Ok(())
}

/// Refuses where there is nothing to paint on.
pub(super) fn require_screen_terminal(context: &CommandContext) -> Result<(), CommandFailure> {
    const LINE_PROMPT_HINT: &str = "`terok-clearance clearance` asks line by line, anywhere";
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(anyhow!("standard input and output are no terminal"))
            .with_hint(LINE_PROMPT_HINT);
    }
    match context.environment.terminal_type() {
        None | Some("dumb" | "unknown") => {
            Err(anyhow!("this terminal (TERM) cannot paint a screen")).with_hint(LINE_PROMPT_HINT)
        }
        Some(_) => Ok(()),
    }
}

/// Returns how it looks on this terminal; `shares_thread` as in [`Options`].
pub(super) fn tui_options(context: &CommandContext, shares_thread: bool) -> TuiOptions {
    TuiOptions {
        theme: Theme {
            color: context.output.colors().stdout,
            unicode: context.environment.supports_unicode(),
        },
        zone: system_time_zone(),
        shares_thread,
    }
}
