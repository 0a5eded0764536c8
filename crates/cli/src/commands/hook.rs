// SPDX-License-Identifier: Apache-2.0
//! `hook`: the OCI hooks, which container runtimes start.

use std::io;

use clap::ValueEnum;
use containers::hook::{HookError, create_runtime, log_failure, poststop, read_state};

use crate::{CommandContext, CommandError, CommandStatus};

/// The description of the command.
pub const ABOUT: &str = "Guard a container that is about to start, as its OCI hook.

A container runtime starts this command (`terok-clearance setup` installs it) with the state of \
the container on standard input. It returns when the container's way out is in place and guarded. \
After an error the container does not start; the reason is also in \
terok/containers/hook-error.log in the runtime directory.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The stage of the container's life
    #[arg(value_enum)]
    stage: HookStage,
}

/// The stages at which hooks run (OCI runtime specification, "POSIX-platform Hooks").
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HookStage {
    /// Before the container's root directory is its own
    #[value(name = "createRuntime")]
    CreateRuntime,
    /// After the container was deleted
    #[value(name = "poststop")]
    Poststop,
}

/// Runs the command.
pub fn perform(args: &Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let dirs = context.environment.hook_dirs();
    let state = read_state(io::stdin().lock());
    let done = match (&state, args.stage) {
        (Ok(state), HookStage::CreateRuntime) => create_runtime(state, &dirs.start),
        (Ok(state), HookStage::Poststop) => {
            poststop(state, &dirs.hubs);
            Ok(())
        }
        (Err(_), _) => Ok(()),
    };
    let id = state.as_ref().ok().map(|state| state.id.clone());
    let error: HookError = match (state, done) {
        (Ok(_), Ok(())) => return Ok(CommandStatus::OK),
        (Err(error), _) | (_, Err(error)) => error,
    };
    if let Err(failure) = log_failure(&dirs.start, id.as_ref(), &error) {
        tracing::warn!(%failure, "the reason is not in the log of failed hooks");
    }
    Err(anyhow::Error::new(error).into())
}
