// SPDX-License-Identifier: Apache-2.0
//! `podman`: starts containers whose connections are asked about.

mod annotations;
mod compose;
mod container_start;
mod guard_args;
mod hook_check;
mod podman_error;
mod podman_process;

use clap::Subcommand;

use crate::{CommandContext, CommandError, CommandStatus};

pub(crate) use hook_check::host_hook_check;
pub use podman_error::PodmanCommandError;

pub(super) const ABOUT: &str = "Start podman's containers default-deny, and ask what they may \
reach.

The container starts with no network at all. A hook connects it, to a supervisor that asks you, \
before its first instruction runs. docs/containers.md explains what is refused and why.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: PodmanCommand,
}

#[derive(Debug, Subcommand)]
enum PodmanCommand {
    /// Start a container, as `podman run` does.
    #[command(after_long_help = container_start::AFTER_HELP)]
    Run(container_start::StartArgs),

    /// Make a container, as `podman create` does; `podman start` starts it later.
    #[command(after_long_help = container_start::AFTER_HELP)]
    Create(container_start::StartArgs),

    /// Run podman-compose, with a guard for each container that it starts.
    #[command(after_long_help = compose::AFTER_HELP)]
    Compose(compose::ComposeArgs),

    /// podman for podman-compose.
    #[command(hide = true)]
    ComposeEngine(compose::EngineArgs),

    /// Print what plain podman, quadlet files and compose files need for a guarded container.
    #[command(after_long_help = annotations::AFTER_HELP)]
    Annotations(annotations::AnnotationsArgs),
}

/// Adds the options of a command that takes podman's arguments.
pub(crate) fn parser_of_verb(verb: &str, parser: clap::Command) -> Option<clap::Command> {
    use clap::Args as _;

    match verb {
        "run" | "create" => Some(container_start::StartArgs::augment_args(parser)),
        "compose" => Some(compose::ComposeArgs::augment_args(parser)),
        _ => None,
    }
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    use containers::podman_command::PodmanVerb;

    match args.command {
        PodmanCommand::Run(args) => container_start::perform(PodmanVerb::Run, args, context),
        PodmanCommand::Create(args) => container_start::perform(PodmanVerb::Create, args, context),
        PodmanCommand::Compose(args) => compose::perform(args, context),
        PodmanCommand::ComposeEngine(args) => compose::perform_engine(args, context),
        PodmanCommand::Annotations(args) => annotations::perform(args, context),
    }
}
