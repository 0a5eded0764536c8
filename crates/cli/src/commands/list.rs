// SPDX-License-Identifier: Apache-2.0
//! `list`: what every sandbox asks right now.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use operator::script::{PendingSnapshot, take_snapshot};
use terok_clearance::ContainerId;
use terok_clearance::socket::RuntimeDir;

use crate::runtime::raise_fd_limit;
use crate::{CommandContext, CommandFailure, CommandStatus, StopSignals, block_on};

/// What it does, at length.
pub(super) const ABOUT: &str = "List what every sandbox asks right now.

Every live hub of this user is asked at once, those of single sandboxes and the one of all of them. \
Each question has the id that `allow` and `deny` take, and says exactly what an `allow` opens. \
Nothing is answered, and nobody else notices.";

/// What may be said to it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance list
  terok-clearance list --container web
  terok-clearance list --json | jq -r 'select(.event == \"listed\") | [.id, .dest] | @tsv'

With --json, one object per line, `event` saying which: `listed` for each question, `hub` for each
hub whose questions are not among them, and `list` at the end. docs/schema/lines.json describes them.
A hub of the Python stack cannot say what is pending, only what happens from now on: standard error
says so, and `watch` shows what it asks.

Exit status:
  0    the list is complete (also without any question, and without a hub)
  69   a hub that is there, or the one of --socket, could not be heard in time: its questions are
       not in the list, and standard error says which hub it is
  130  ended by Ctrl-C")]
pub struct Args {
    #[command(flatten)]
    pub(super) hubs: HubArgs,
}

/// Which hubs are asked, and how long.
#[derive(Debug, clap::Args)]
pub(super) struct HubArgs {
    /// Ask the hub at this socket alone, and fail if it is not there
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Only what this sandbox asks: its id, the first 12 characters of that, or its name
    #[arg(long, value_name = "ID")]
    container: Option<ContainerId>,
    /// How long a hub may take to say what is pending
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    timeout: u32,
}

impl HubArgs {
    /// Asks them.
    pub(super) async fn query_snapshot(
        self,
        context: &CommandContext,
    ) -> Result<PendingSnapshot, CommandFailure> {
        let runtime = RuntimeDir::new(context.environment.runtime_dir());
        let socket = self.socket.map(|path| {
            std::path::absolute(&path).with_context(|| format!("finding {}", path.display()))
        });
        let limit = Duration::from_secs(self.timeout.into());
        let socket = socket.transpose()?;
        Ok(take_snapshot(&runtime, socket.as_deref(), self.container, limit).await)
    }
}

/// Does it.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    raise_fd_limit();
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let survey = tokio::select! {
            status = stop.wait() => return Ok(status),
            survey = args.hubs.query_snapshot(context) => survey?,
        };
        let output = context.output;
        if context.json {
            output.print(&survey.to_json())?;
        } else {
            let columns = context.environment.table_columns();
            output.print(&survey.to_table(columns, output.colors().stdout))?;
            if survey.rows().is_empty() && survey.is_complete() {
                output.print_error_line(if survey.has_hubs() {
                    "no pending questions"
                } else {
                    "no pending questions: no hub is running"
                });
            }
        }
        for gap in survey.describe_gaps() {
            print_warning(context, &gap);
        }
        Ok(if survey.is_complete() {
            CommandStatus::OK
        } else {
            CommandStatus::UNAVAILABLE
        })
    })
}

/// Says what is not in the list; lines of JSON say so themselves.
pub(super) fn print_warning(context: &CommandContext, what: &str) {
    if !context.json {
        context.output.print_error_line(&format!("warning: {what}"));
    }
}
