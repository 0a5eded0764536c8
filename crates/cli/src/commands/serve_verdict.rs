// SPDX-License-Identifier: Apache-2.0
//! `serve-verdict`: the verdict helper, which runs `terok-shield` for a hub.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use terok_clearance::socket::RuntimeDir;
use tokio_util::sync::CancellationToken;
use verdict::{ExecBackend, PASSED_ENVIRONMENT, find_shield_program};

use super::serve::{bind_listener, serve_until_stopped};
use crate::error::ServiceError;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};

/// Long help.
pub(super) const ABOUT: &str =
    "Serve the verdict helper, which applies a hub's answers with terok-shield.

Each answer runs `terok-shield allow|deny CONTAINER DEST` for at most 10 seconds. A terok-shield \
in the directory of this program is preferred to one on the PATH. Stays in the foreground and logs \
to standard error; SIGTERM and Ctrl-C end it and remove its socket.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance serve-verdict &
  terok-clearance serve

`run` and `supervise` need neither: they control the firewall of their sandbox themselves.")]
pub struct Args {
    /// Socket for the hub [default: RUNTIME/terok-clearance-verdict.sock]
    #[arg(long, value_name = "PATH")]
    verdict_socket: Option<PathBuf>,
    /// Program to run [default: terok-shield in the directory of this program, then on the PATH]
    #[arg(long, value_name = "PATH")]
    shield: Option<PathBuf>,
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let environment = &context.environment;
    let runtime = RuntimeDir::new(environment.private_runtime_dir()?);
    let classic = runtime.shared_hub_sockets();
    let socket = args.verdict_socket.unwrap_or(classic.verdict);
    let program = if let Some(named) = args.shield {
        Some(resolve_program(&named)?)
    } else {
        let ours = std::env::current_exe().ok();
        find_shield_program(ours.as_deref(), Some(environment.search_path().as_ref()))
    };
    if let Some(program) = &program {
        tracing::info!(program = %program.display(), "answers are applied by a program");
    } else {
        tracing::warn!(
            "terok-shield was not found beside this program or on the PATH: every answer will \
             fail; name it with `--shield PATH`"
        );
    }
    let backend = ExecBackend::new(program, environment.select_variables(&PASSED_ENVIRONMENT));
    block_on(async {
        let mut signals = StopSignals::catch()?;
        let listener = bind_listener(&runtime, &socket)?;
        tracing::info!(socket = %socket.display(), "the verdict helper listens");
        let stop = CancellationToken::new();
        let serving = async {
            let served = verdict::serve(listener, Arc::new(backend), stop.clone()).await;
            served.map_err(ServiceError::Verdicts)
        };
        serve_until_stopped(&mut signals, &stop, serving).await
    })
}

/// Returns the absolute path of a program: it runs in another directory.
fn resolve_program(named: &Path) -> Result<PathBuf, CommandError> {
    let program =
        std::path::absolute(named).with_context(|| format!("cannot find {}", named.display()))?;
    if program.is_file() {
        Ok(program)
    } else {
        Err(CommandError::NoShieldProgram { path: program })
    }
}
