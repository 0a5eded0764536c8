// SPDX-License-Identifier: Apache-2.0
//! `tui`: the full-screen user interface over every hub.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use ::tui::{Theme, TuiEnd, TuiOptions, run_tui};
use anyhow::Context as _;
use operator::bell::BellChoice;
use operator::{ScopeChoice, Session};
use settings::AnswerLifetime;
use terok_clearance::client::Client;
use terok_clearance::socket::RuntimeDir;
use tokio::signal::unix::{SignalKind, signal};

use crate::bell::BellArgs;
use crate::settings_merge::merged_bell;
use crate::timezone::system_time_zone;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};
use runner::raise_open_files_limit;

/// Long help.
pub(super) const ABOUT: &str = "Answer the questions of every sandbox in full screen.

Lists the pending questions, shows exactly what an answer to the selected one opens, and logs the \
results. `a` allows, `x` denies, Space marks several, `/` filters, `?` lists all keys. A key is \
ignored if the selected question has just appeared or changed. Unanswered questions stay pending, \
and nothing is opened by quitting, by a lost connection or by a click. Hubs that start later are \
included.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance tui
  ssh -t host terok-clearance tui
  terok-clearance tui --socket /run/user/1000/terok-clearance.sock

NO_COLOR and --color=never turn colours off; a locale without UTF-8 turns line-drawing characters
off. The log is written only if standard error is not the terminal: `terok-clearance tui -v 2>log`.

Exit status: 0 after `q`, 1 without a terminal or if the hub of --socket is unavailable, 129 if the
terminal is closed, 130 after Ctrl-C, 143 after SIGTERM. The terminal is restored.")]
pub struct Args {
    /// Ask only for the hub at this socket; fail if it is unavailable
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    bell: BellArgs,
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let environment = &context.environment;
    reject_json(context)?;
    require_screen_terminal(context)?;
    let bell = merged_bell(args.bell, context.settings.get()?)?.value;
    raise_open_files_limit();
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let mut hang_up = signal(SignalKind::hangup()).context("cannot catch signals")?;
        let (session, hub_source) = match args.socket {
            None => {
                let runtime = RuntimeDir::new(environment.runtime_dir());
                let session = Session::discover(runtime).context("cannot watch for hubs")?;
                (session, environment.runtime_dir().display().to_string())
            }
            Some(path) => {
                let path = std::path::absolute(&path)
                    .with_context(|| format!("cannot find {}", path.display()))?;
                Client::start(&path)
                    .await
                    .map_err(|source| CommandError::HubUnavailable {
                        command: "tui",
                        source,
                    })?;
                let hub_source = path.display().to_string();
                let session = Session::at_socket(path).context("cannot listen to the hub")?;
                (session, hub_source)
            }
        };
        let options = tui_options(context, bell);
        let stopped = async {
            tokio::select! {
                status = stop.wait() => status,
                _ = hang_up.recv() => CommandStatus::HUNG_UP,
            }
        };
        match run_tui(session, &hub_source, options, stopped).await {
            Ok(TuiEnd::Done) => Ok(CommandStatus::OK),
            Ok(TuiEnd::Interrupted) => Ok(CommandStatus::INTERRUPTED),
            Ok(TuiEnd::Stopped(status)) => Ok(status),
            Err(error) => Err(anyhow::Error::new(error)
                .context("cannot use the terminal")
                .into()),
        }
    })
}

/// Fails with `--json`.
pub(super) fn reject_json(context: &CommandContext) -> Result<(), CommandError> {
    if context.json {
        return Err(CommandError::JsonFullScreen);
    }
    Ok(())
}

/// Fails without a terminal that can show a screen.
pub(super) fn require_screen_terminal(context: &CommandContext) -> Result<(), CommandError> {
    if !(std::io::stdin().is_terminal() && std::io::stdout().is_terminal()) {
        return Err(CommandError::NoTerminal);
    }
    match context.environment.terminal_type() {
        None | Some("dumb" | "unknown") => Err(CommandError::LineTerminal),
        Some(_) => Ok(()),
    }
}

/// Returns the options for this terminal.
pub(super) fn tui_options(context: &CommandContext, bell: BellChoice) -> TuiOptions {
    TuiOptions {
        theme: Theme {
            color: context.output.colors().stdout,
            unicode: context.environment.supports_unicode(),
        },
        zone: system_time_zone(),
        shares_thread: false,
        hotkey: None,
        bell,
        default_scope: context
            .settings
            .usable()
            .and_then(|settings| settings.ask.default_scope.as_ref())
            .map_or(ScopeChoice::Run, |scope| scope_choice(scope.value)),
    }
}

/// Returns the choice for a lifetime, never a longer one.
fn scope_choice(lifetime: AnswerLifetime) -> ScopeChoice {
    match lifetime {
        AnswerLifetime::Once => ScopeChoice::Once,
        AnswerLifetime::For(span) => match span.duration().as_secs() {
            3_600.. => ScopeChoice::OneHour,
            300.. => ScopeChoice::FiveMinutes,
            _ => ScopeChoice::Once,
        },
        AnswerLifetime::Run => ScopeChoice::Run,
        AnswerLifetime::Project => ScopeChoice::Project,
        AnswerLifetime::Always => ScopeChoice::Always,
    }
}
