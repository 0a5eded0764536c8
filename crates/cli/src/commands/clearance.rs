// SPDX-License-Identifier: Apache-2.0
//! `clearance`: the line prompt over every hub.

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

/// Long help.
pub(super) const ABOUT: &str = "Answer the questions of every sandbox at this terminal.

Each question keeps its number and shows exactly what `allow` opens. Type `a 3` or `d 3` to allow \
or deny row 3, `l` to list the questions, `q` to quit. Unanswered questions stay pending, and \
nothing is opened by quitting, by the end of input or by a lost connection. Hubs that start later \
are included.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance clearance
  echo l | terok-clearance clearance        list the pending questions
  terok-clearance clearance --socket /run/user/1000/terok-clearance.sock

With --json, each line is an object whose `event` is one of pending, repeated, decided, failed,
unsure, lapsed, withdrawn, sent, refused, listed, list, hub, synced, ready, lost, container, shield.
Answers are lines: `a 3`, or {\"action\":\"allow\",\"row\":3,\"request\":\"web:17\"}, where the
optional `request` is compared with the question of row 3. Lines are read after `ready`.

Exit status: 0 after `q` or the end of input, 1 if the hub of --socket is unavailable, 130 after
Ctrl-C.")]
pub struct Args {
    /// Ask only for the hub at this socket; fail if it is unavailable
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    let ended = run_clearance(args, context);
    match ended {
        Err(failure)
            if prompt_format(context) == OutputFormat::Compat && !failure.is_broken_pipe() =>
        {
            // The Python program's message and status, without a prefix.
            let said = failure.message();
            let reason = said.strip_prefix(HUB_UNAVAILABLE).unwrap_or(&said);
            let reason = reason.trim_start_matches(": ");
            context
                .output
                .print_error_line(&format!("{HUB_UNAVAILABLE}: {reason}"));
            Ok(CommandStatus::FAILURE)
        }
        // As the Python program does.
        Ok(CommandStatus::TERMINATED) if context.program_name == ProgramName::Hub => {
            Ok(CommandStatus::OK)
        }
        ended => ended,
    }
}

const HUB_UNAVAILABLE: &str = "clearance hub unavailable";

/// Returns the output format; the Python program's format if called by the Python program's name.
const fn prompt_format(context: &CommandContext) -> OutputFormat {
    match (context.json, context.program_name) {
        (true, _) => OutputFormat::Json,
        (false, ProgramName::Hub) => OutputFormat::Compat,
        (false, ProgramName::Clearance | ProgramName::Notify) => OutputFormat::Text,
    }
}

/// Runs the prompt until the operator quits, the input ends or a signal arrives.
fn run_clearance(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    raise_fd_limit();
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let runtime = RuntimeDir::new(context.environment.runtime_dir());
        let (session, place) = match args.socket {
            None => {
                let session = Session::discover(runtime).context("cannot watch for hubs")?;
                (
                    session,
                    context.environment.runtime_dir().display().to_string(),
                )
            }
            Some(path) => {
                let path = std::path::absolute(&path)
                    .with_context(|| format!("cannot find {}", path.display()))?;
                Client::start(&path)
                    .await
                    .context(HUB_UNAVAILABLE)
                    .with_hint("`terok-clearance clearance` without --socket waits for hubs")?;
                let place = path.display().to_string();
                (
                    Session::at_socket(path).context("cannot listen to the hub")?,
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
            Err(error) => Err(anyhow::Error::new(error)
                .context("cannot ask at the prompt")
                .into()),
        }
    })
}
