// SPDX-License-Identifier: Apache-2.0
//! `run`: one command in a default-deny sandbox, its questions answered here or elsewhere.

mod notices;
mod summary;

use std::ffi::OsString;

use anyhow::Context as _;
use clap::ValueEnum;
use runner::{NetworkChoice, PopupChoice, PreparedRun, RunConfig, RunScreen, parse_allowed_dest};
use supervisor::AllowedDest;

use super::tui;
use crate::desktop::popup_desktop_config;
use crate::{CommandContext, CommandError, CommandStatus, block_on};

use notices::TerminalReporter;

const AFTER_HELP: &str = "\
Examples:
  terok-clearance run -- npm install
  terok-clearance run --allow registry.npmjs.org:443 -- npm install
  terok-clearance run --ui tui -- my-agent     Ctrl-] shows the questions
  terok-clearance run --ui none -- my-agent    answer with `terok-clearance clearance` elsewhere

The command sees your files as they are: `run` confines the network, not the files. Out of its
reach are: the network, except for what you allow; the sockets, configuration and state of this
program; your session bus, agents, container engines and terminal multiplexers; other processes. It
has no rights beyond yours (no sudo), and no devices but null, zero, full, random, urandom and tty.

With --ui desktop, each question is a popup with Allow and Deny; if `terok-clearance notifier` runs,
that shows it. With --ui auto, the same if a program of your session shows popups; a line at the
terminal announces each question, unless you chose --ui desktop. While a question waits, Ctrl-]
opens the screen of `terok-clearance tui` over the command, which waits; q goes back to the command,
and leaves the question open. With --ui tui, Ctrl-] always does. All other keys are the command's.
Without a terminal, and with TERM=dumb, answer with `terok-clearance clearance` elsewhere.

Exit status: that of the command; 128 and the signal's number if a signal ended it; 126 if it could
not be executed, 127 if it was not found, 125 if the sandbox failed, 2 for wrong arguments.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Open from the start: an address or a host name, or one port of it (`HOST:PORT`). May be
    /// repeated.
    #[arg(long, value_name = "DEST", value_parser = parse_allowed_dest)]
    allow: Vec<AllowedDest>,
    /// Where questions are asked.
    #[arg(long, value_enum, default_value_t = RunUiChoice::Auto, value_name = "UI")]
    ui: RunUiChoice,
    /// How the sandbox is connected.
    #[arg(long, value_enum, default_value_t = NetworkArg::Auto, value_name = "HOW")]
    network: NetworkArg,
    /// Name of the sandbox in questions [default: the name of the command].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Print errors and questions only.
    #[arg(short, long)]
    quiet: bool,
    /// The command and its arguments.
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<OsString>,
}

/// The values of `--ui`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RunUiChoice {
    /// On popups if a program of this session shows them, else on the screen of this terminal.
    Auto,
    /// On popups.
    Desktop,
    /// On the screen of this terminal.
    Tui,
    /// Nowhere: answer with another command of this program.
    None,
    /// Refused: the line prompt of earlier versions.
    #[value(hide = true)]
    Prompt,
}

/// The values of `--network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum NetworkArg {
    /// By whichever program is installed, pasta first.
    Auto,
    /// By pasta, of the package passt.
    Pasta,
    /// By slirp4netns.
    Slirp4netns,
    /// Not at all.
    None,
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    if args.ui == RunUiChoice::Prompt {
        return Err(CommandError::RunPrompt);
    }
    let reporter = TerminalReporter {
        output: context.output,
        json: context.json,
        quiet: args.quiet,
    };
    let ended = run_config(args, context).and_then(|config| {
        // Before the runtime starts: building a sandbox forks.
        let prepared = PreparedRun::build(config)?;
        block_on(async { Ok(Box::pin(prepared.run(&reporter)).await?) })
    });
    match ended {
        Ok(outcome) => Ok(outcome.into()),
        Err(CommandError::Run(error)) => Err(error.into()),
        Err(error) => Err(CommandError::RunSetup(Box::new(error))),
    }
}

/// Returns the configuration according to the arguments, the environment and the terminal.
fn run_config(args: Args, context: &CommandContext) -> Result<RunConfig, CommandError> {
    let environment = &context.environment;
    if args.ui == RunUiChoice::Tui {
        tui::require_screen_terminal(context)?;
    }
    let runtime_dir = environment.private_runtime_dir()?.to_owned();
    let has_ui = !matches!(args.ui, RunUiChoice::None | RunUiChoice::Prompt);
    let has_screen = has_ui && tui::require_screen_terminal(context).is_ok();
    let popups = || popup_desktop_config(context).map(Box::new);
    Ok(RunConfig {
        command: args.command,
        name: args.name,
        working_dir: std::env::current_dir().context("cannot find the working directory")?,
        variables: environment.variables().to_vec(),
        search_path: environment.search_path().cloned(),
        runtime_dir,
        config_dir: environment.config_dir().to_owned(),
        state_dir: environment.state_dir().to_owned(),
        allowed_dests: args.allow,
        network: args.network.into(),
        screen: has_screen.then(|| RunScreen {
            opens_without_question: args.ui == RunUiChoice::Tui,
            // An operator who did not ask for popups may not see this desktop (ssh).
            announces_questions: args.ui != RunUiChoice::Desktop,
            options: tui::tui_options(context, true),
        }),
        popups: match args.ui {
            RunUiChoice::Auto => PopupChoice::IfRunning(popups()?),
            RunUiChoice::Desktop => PopupChoice::Required(popups()?),
            RunUiChoice::Tui | RunUiChoice::None | RunUiChoice::Prompt => PopupChoice::Off,
        },
    })
}

impl From<NetworkArg> for NetworkChoice {
    fn from(network: NetworkArg) -> Self {
        match network {
            NetworkArg::Auto => Self::Auto,
            NetworkArg::Pasta => Self::Pasta,
            NetworkArg::Slirp4netns => Self::Slirp4netns,
            NetworkArg::None => Self::None,
        }
    }
}
