// SPDX-License-Identifier: Apache-2.0
//! `simple-clearance`: the questions of one container at a terminal, without a hub.

mod bounded_lines;
mod container;
mod firewall;
mod hub_check;
mod question_loop;
mod question_queue;
mod reader_process;
mod takeover;

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use terok_clearance::ContainerId;

use crate::{CommandContext, CommandFailure, CommandStatus, ErrorExt as _, StopSignals, block_on};

use container::ShieldContainer;
use firewall::ContainerFirewall;
use reader_process::ReaderProcess;
use takeover::HookReader;

/// Long help.
pub(super) const ABOUT: &str = "\
Answer the questions of one container at this terminal, without a hub.

A reader listens to the container's packet log, and you are asked about one destination after the \
other: `a` allows it, `d` denies it. An unanswered question opens nothing, and neither does Ctrl-C \
or the end of input.

Fails while a hub serves the container, because both would answer: use `terok-clearance clearance` \
then. Only one reader can listen to a container: if the hook's reader still does, --take-over \
stops it and starts it again at the end.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance simple-clearance my-task
  terok-clearance simple-clearance --take-over my-task
  terok-clearance simple-clearance ~/.local/state/terok/shield/containers/my-task

The state directory of a container is below --state-dir, else that of its podman annotation
`terok.shield.state_dir`, else below $TEROK_SHIELD_STATE_DIR.

With --json, each line is an object whose `event` is one of ready, pending (the question that an
answer is for), queued (a later question), decided, failed, refused, full. Answers are lines: `a`,
or {\"action\":\"allow\",\"request\":\"web:17\"}, where the optional `request` is compared with the
question.

Exit status: 0 after Ctrl-C, SIGTERM, the end of input or the regular end of the reader; 1 if a hub
serves the container or the reader fails.")]
pub struct Args {
    /// Container, or its state directory (if it contains a slash)
    #[arg(value_name = "STATE_DIR-or-CONTAINER")]
    target: String,
    /// Container, if its state directory does not name it
    #[arg(value_name = "CONTAINER")]
    container: Option<ContainerId>,
    /// Root of the state directories: CONTAINER's is DIR/containers/CONTAINER
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Reader to use instead of this program; a `.py` file is run by python3
    #[arg(long, value_name = "PATH")]
    reader: Option<PathBuf>,
    /// End the hook's reader, and start it again at the end
    #[arg(long)]
    take_over: bool,
    /// Program that applies answers [default: terok-shield beside this program, then on the PATH]
    #[arg(long, value_name = "PATH")]
    shield: Option<PathBuf>,
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    let container = ShieldContainer::find(
        &args.target,
        args.container,
        args.state_dir.as_deref(),
        &context.environment,
    )?;
    block_on(async {
        // Catch signals before starting a process that a signal must end.
        let stop = StopSignals::catch()?;
        hub_check::ensure_no_hub(&container, &context.environment).await?;
        let firewall = ContainerFirewall::detect(&container, args.shield.as_deref(), context)?;
        let taken = match HookReader::find(&container) {
            Some(reader) if args.take_over => Some(reader.terminate().await?),
            Some(reader) => {
                let busy = anyhow!(
                    "the hook's reader listens to {}: {reader}",
                    container.name()
                );
                return Err(busy).with_hint("--take-over ends it, and starts it again afterwards");
            }
            None => None,
        };
        let asked = match ReaderProcess::start(&container, args.reader.as_deref()) {
            Ok(reading) => {
                question_loop::run_question_loop(&container, reading, firewall, stop, context).await
            }
            Err(error) => Err(error),
        };
        let name = container.name();
        if taken.is_none() && asked.is_ok() && !context.json {
            context
                .output
                .print_error_line(&format!("no reader listens to {name} any more"));
        }
        if let Some(taken) = taken {
            match taken.restart() {
                Ok(pid) => context.output.print_error_line(&format!(
                    "the hook's reader listens to {name} again: process {pid}"
                )),
                Err(error) => context.output.print_error_line(&format!(
                    "warning: no reader listens to {name} now, until it is started again: {error:#}"
                )),
            }
        }
        asked
    })
}

/// Returns the absolute path, because programs run in another directory.
fn absolute_path(path: &std::path::Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))
}
