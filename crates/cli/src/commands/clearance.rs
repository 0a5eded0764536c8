// SPDX-License-Identifier: Apache-2.0
//! `clearance`: the line prompt over every hub.

mod typing_mode;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::Context as _;
use operator::Session;
use operator::bell::BellChoice;
use operator::prompt::{OutputFormat, PromptEnd, PromptOptions, run_prompt};
use terok_clearance::client::Client;
use terok_clearance::socket::RuntimeDir;

use super::tui::require_screen_terminal;
use crate::args::ProgramName;
use crate::bell::BellArgs;
use crate::error::error_causes;
use crate::exit::is_terminal_closed;
use crate::output::OutputError;
use crate::settings_merge::merged_bell;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};
use runner::raise_open_files_limit;

use typing_mode::{TypingMode, terminal_columns};

/// Long help.
pub(super) const ABOUT: &str = "Answer the questions of every sandbox at this terminal.

Each question keeps its number and shows exactly what `allow` opens. Type `a 3` or `d 3` to allow \
or deny row 3, `a 3 5m` to allow it for five minutes, `l` to list the questions, `rules` to list \
the rules in force, `h` for all commands, `q` to quit. Unanswered questions stay pending, and \
nothing is opened by quitting, by the end of input or by a lost connection. Hubs that start later \
are included. On a terminal, a message does not disturb the line that you are typing.";

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
optional `request` is compared with the question of row 3. Optional, too: `for` (once, run, project,
always, or a time such as 5m) and `as` (a wider name that the question offers). `rules` and `revoke`
print rule, rules, revoked and missing_rule. Lines are read after `ready`.

Exit status: 0 after `q` or the end of input, 1 if the hub of --socket is unavailable, 130 after
Ctrl-C.")]
pub struct Args {
    /// Ask only for the hub at this socket; fail if it is unavailable
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    bell: BellArgs,
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let ended = run_clearance(args, context);
    match ended {
        Err(error) if prompt_format(context) == OutputFormat::Compat && !error.is_broken_pipe() => {
            // The Python program's message and status, without a prefix.
            let reason = match &error {
                CommandError::HubUnavailable { source, .. } => error_causes(source).join(": "),
                error => error.message(),
            };
            context
                .output
                .print_error_line(&format!("clearance hub unavailable: {reason}"));
            Ok(CommandStatus::FAILURE)
        }
        // As the Python program does.
        Ok(CommandStatus::TERMINATED) if context.program_name == ProgramName::Hub => {
            Ok(CommandStatus::OK)
        }
        ended => ended,
    }
}

/// Returns the output format: that of the Python program if called by its name.
const fn prompt_format(context: &CommandContext) -> OutputFormat {
    match (context.json, context.program_name) {
        (true, _) => OutputFormat::Json,
        (false, ProgramName::Hub) => OutputFormat::Compat,
        (false, ProgramName::Clearance | ProgramName::Notify | ProgramName::Notifier) => {
            OutputFormat::Text
        }
    }
}

/// Asks until the operator, the end of input or a signal ends it.
fn run_clearance(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let bell = merged_bell(args.bell, context.settings.get()?)?.value;
    raise_open_files_limit();
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
                    .map_err(|source| CommandError::HubUnavailable {
                        command: "clearance",
                        source,
                    })?;
                let place = path.display().to_string();
                (
                    Session::at_socket(path).context("cannot listen to the hub")?,
                    place,
                )
            }
        };
        let format = prompt_format(context);
        let has_bell = format == OutputFormat::Text && std::io::stdout().is_terminal();
        let shows_lines = format == OutputFormat::Text && require_screen_terminal(context).is_ok();
        let typing = if shows_lines {
            TypingMode::enter().context("cannot set up the terminal")?
        } else {
            None
        };
        let is_terminal = std::io::stdout().is_terminal();
        let options = PromptOptions {
            format,
            bell: if has_bell { bell } else { BellChoice::Off },
            color: context.output.colors().stdout,
            columns: is_terminal.then_some(terminal_columns as fn() -> usize),
            shows_typed_line: typing.is_some(),
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
        let follow_jobs = async {
            match &typing {
                Some(typing) => typing.follow_job_control().await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            ended = ended => ended,
            followed = follow_jobs => match followed {
                Err(error) => Err(error),
                Ok(never) => match never {},
            },
        };
        if typing.is_some() && matches!(ended, Ok(PromptEnd::Stopped(_))) {
            // The shell goes on below the typed line.
            drop(context.output.print("\n"));
        }
        match ended {
            // The end of the input of a closed terminal is no decision of the operator.
            Ok(PromptEnd::Done) if is_terminal_closed() => Ok(CommandStatus::HUNG_UP),
            Ok(PromptEnd::Done) => Ok(CommandStatus::OK),
            Ok(PromptEnd::Stopped(status)) => Ok(status),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Err(OutputError::Closed.into())
            }
            Err(error) => Err(anyhow::Error::new(error)
                .context("cannot ask at the prompt")
                .into()),
        }
    })
}
