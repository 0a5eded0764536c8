// SPDX-License-Identifier: Apache-2.0
//! `clearance`: the plain line prompt over every live hub.

use std::path::PathBuf;

use anyhow::Context as _;
use operator::Session;
use operator::prompt::{OutputFormat, PromptEnd, PromptOptions, run_prompt};
use terok_clearance::client::Client;
use terok_clearance::socket::RuntimeDir;

use crate::args::ProgramName;
use crate::output::BrokenPipeError;
use crate::runtime::raise_fd_limit;
use crate::{CommandContext, CommandFailure, CommandStatus, ErrorExt as _, StopSignals, block_on};

/// What it does, at length.
pub(super) const ABOUT: &str = "Answer the questions of every sandbox at this terminal.

Each question has a number that it keeps, and says exactly what an `allow` opens. Type `a 3` to \
allow row 3, `d 3` to deny it, `l` to list what is asked, `q` to quit. What you do not answer stays \
asked, and nothing is opened: not by quitting, not by the end of the input, not by a lost \
connection. A hub that is not there yet is waited for.";

/// What may be said to it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance clearance
  echo l | terok-clearance clearance        what is asked right now
  terok-clearance clearance --socket /run/user/1000/terok-clearance.sock

With --json, one object per line, `event` saying which: pending, repeated, decided, failed, unsure,
lapsed, withdrawn, sent, refused, listed, list, hub, synced, ready, lost, container, shield. Answers
are lines as well: `a 3`, or {\"action\":\"allow\",\"row\":3,\"request\":\"web:17\"}, where `request`
may be left out and otherwise makes sure of what row 3 is about. Lines are read after `ready`.

Exit status: 0 at `q` or the end of the input, 1 if the hub of --socket is unavailable, 130 at
Ctrl-C.")]
pub struct Args {
    /// Listen to the hub at this socket alone, and fail if it is not there.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Does it.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    let ended = run_clearance(args, context);
    match ended {
        Err(failure)
            if prompt_format(context) == OutputFormat::Compat && !failure.is_broken_pipe() =>
        {
            // The original's words and status, without anything before them.
            let said = failure.message();
            let reason = said.strip_prefix(HUB_UNAVAILABLE).unwrap_or(&said);
            let reason = reason.trim_start_matches(": ");
            context
                .output
                .print_error_line(&format!("{HUB_UNAVAILABLE}: {reason}"));
            Ok(CommandStatus::FAILURE)
        }
        // By that name it ends well when it is told to, as the original does.
        Ok(CommandStatus::TERMINATED) if context.program_name == ProgramName::Hub => {
            Ok(CommandStatus::OK)
        }
        ended => ended,
    }
}

const HUB_UNAVAILABLE: &str = "clearance hub unavailable";

/// Returns how it talks: by the Python stack's name in the words of its tool.
const fn prompt_format(context: &CommandContext) -> OutputFormat {
    match (context.json, context.program_name) {
        (true, _) => OutputFormat::Json,
        (false, ProgramName::Hub) => OutputFormat::Compat,
        (false, ProgramName::Clearance | ProgramName::Notify) => OutputFormat::Text,
    }
}

/// Asks until the person, the input or a signal ends it.
fn run_clearance(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    raise_fd_limit();
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let runtime = RuntimeDir::new(context.environment.runtime_dir());
        let (session, place) = match args.socket {
            None => {
                let session = Session::discover(runtime).context("watching for hubs")?;
                (
                    session,
                    context.environment.runtime_dir().display().to_string(),
                )
            }
            Some(path) => {
                let path = std::path::absolute(&path)
                    .with_context(|| format!("finding {}", path.display()))?;
                Client::start(&path)
                    .await
                    .context(HUB_UNAVAILABLE)
                    .with_hint("`terok-clearance clearance` without --socket waits for hubs")?;
                let place = path.display().to_string();
                (
                    Session::at_socket(path).context("watching for the hub")?,
                    place,
                )
            }
        };
        let options = PromptOptions {
            format: prompt_format(context),
            color: context.output.colors().stdout,
        };
        let place = terok_clearance::DisplayText::new(&place);
        let ended = run_prompt(
            session,
            place.as_str(),
            tokio::io::stdin(),
            context.output.stdout_writer(),
            options,
            stop.wait(),
        );
        match ended.await {
            Ok(PromptEnd::Done) => Ok(CommandStatus::OK),
            Ok(PromptEnd::Stopped(status)) => Ok(status),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Err(anyhow::Error::new(BrokenPipeError).into())
            }
            Err(error) => Err(anyhow::Error::new(error).context("asking").into()),
        }
    })
}
