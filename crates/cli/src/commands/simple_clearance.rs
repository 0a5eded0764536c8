// SPDX-License-Identifier: Apache-2.0
//! `simple-clearance`: the questions of one container at a terminal, without a hub.

use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use simple_clearance::{QuestionOutput, SimpleClearance, SimpleClearanceConfig};
use terok_clearance::ContainerId;
use verdict::PASSED_ENVIRONMENT;

use crate::{CommandContext, CommandError, CommandStatus, StandardStreams, StopSignals, block_on};

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

impl Args {
    /// Returns the arguments of `terok-shield simple-clearance CONTAINER`.
    pub(super) const fn for_container(target: String, state_dir: Option<PathBuf>) -> Self {
        Self {
            target,
            container: None,
            state_dir,
            reader: None,
            take_over: false,
            shield: None,
        }
    }
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let environment = &context.environment;
    let found = SimpleClearance::find(SimpleClearanceConfig {
        target: args.target,
        container: args.container,
        state_root: args.state_dir,
        default_state_root: environment.shield_state_dir().map(Into::into),
        reader: args.reader,
        shield: args.shield,
        shield_variables: environment.select_variables(&PASSED_ENVIRONMENT),
        take_over: args.take_over,
        json: context.json,
        own_program: std::env::current_exe().context("cannot find the path of this program")?,
        search_path: Some(environment.search_path().clone()),
        runtime_dir: environment.runtime_dir().to_owned(),
        has_session_bus: environment.has_session_bus(),
    })?;
    block_on(async {
        // Before anything is started that a signal must end.
        let mut stop = StopSignals::catch()?;
        let next_stop = async || {
            stop.wait().await;
        };
        found.run(&context.output, next_stop).await?;
        Ok(CommandStatus::OK)
    })
}

impl QuestionOutput for StandardStreams {
    fn write(&self, text: &str) -> io::Result<()> {
        Self::write(self, text)
    }

    fn print_note(&self, line: &str) {
        self.print_error_line(line);
    }
}
