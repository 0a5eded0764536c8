// SPDX-License-Identifier: Apache-2.0
//! `simple-clearance`: one container's questions at a terminal, without a hub.

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

/// What it does, at length.
pub(super) const ABOUT: &str = "Answer one container's questions at this terminal, without a hub.

A reader listens to the container's packet log and you are asked about each destination, one after \
the other: `a` allows it, `d` denies it. What you do not answer opens nothing: not by Ctrl-C, not \
by the end of the input.

It refuses to start while a hub serves the container, since both would answer: use \
`terok-clearance clearance` then. Only one reader can listen to a container: where the hook's \
still does, without a hub to report to, --take-over stops it, and starts it again at the end.";

/// What may be said to it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance simple-clearance my-task
  terok-clearance simple-clearance --take-over my-task
  terok-clearance simple-clearance ~/.local/state/terok/shield/containers/my-task

The state directory of a container is the one below --state-dir, else what its annotation
`terok.shield.state_dir` says (podman is asked), else the one below $TEROK_SHIELD_STATE_DIR.

With --json, one object per line, `event` saying which: ready, pending (what an answer is about),
queued (it waits), decided, failed, refused, full. Answers are lines as well: `a`, or
{\"action\":\"allow\",\"request\":\"web:17\"}, where `request` may be left out and otherwise makes
sure of the question.

Exit status: 0 at Ctrl-C, SIGTERM, the end of the input, or when the reader ends in good order; 1 if
a hub serves the container or the reader fails.")]
pub struct Args {
    /// The container, or its state directory (anything with a slash in it)
    #[arg(value_name = "STATE_DIR-or-CONTAINER")]
    target: String,
    /// The container, where the first is a state directory that does not say it
    #[arg(value_name = "CONTAINER")]
    container: Option<ContainerId>,
    /// The root of the state directories: CONTAINER's is DIR/containers/CONTAINER
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Use this reader instead of our own; a `.py` file is run by python3
    #[arg(long, value_name = "PATH")]
    reader: Option<PathBuf>,
    /// End the hook's reader, which listens already, and start it again at the end
    #[arg(long)]
    take_over: bool,
    /// The program that carries answers out [default: terok-shield beside this one, then on PATH]
    #[arg(long, value_name = "PATH")]
    shield: Option<PathBuf>,
}

/// Does it.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    let container = ShieldContainer::find(
        &args.target,
        args.container,
        args.state_dir.as_deref(),
        &context.environment,
    )?;
    block_on(async {
        // Caught before anything is started that would have to be ended.
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

/// Returns an absolute path: nothing is run from here.
fn absolute_path(path: &std::path::Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("finding {}", path.display()))
}
