// SPDX-License-Identifier: Apache-2.0
//! `list`: the pending questions of every sandbox.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use operator::script::{PendingSnapshot, SandboxSelector, take_snapshot};
use terok_clearance::socket::RuntimeDir;

use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};
use runner::raise_open_files_limit;

/// Long help.
pub(super) const ABOUT: &str = "List the pending questions of every sandbox.

Queries every hub of this user, those of single sandboxes and the classic one. Each question has \
the id that `allow` and `deny` take, and shows exactly what `allow` opens. Nothing is answered.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance list
  terok-clearance list --container web
  terok-clearance list --json | jq -r 'select(.event == \"listed\") | [.id, .dest] | @tsv'

An id has the sandbox's name and a number; where several sandboxes have one name, it has the whole
id of the container instead. On a terminal, lines are broken between words; elsewhere each question
has two lines, and the columns are aligned.

With --json, each line is an object: `event` is `listed` for each question, `hub` for each hub whose
questions are missing, and `list` at the end; docs/schema/lines.json describes them. A hub of the
Python stack reports only new questions: a warning names it, and `watch` shows those that come.

Exit status:
  0    the list is complete, even if no question is pending or no hub is running
  3    --container: no sandbox is called so
  5    the questions of a hub of the Python stack cannot be known; those of all others are listed
  69   a hub, or the one of --socket, did not reply in time: its questions are missing, and a
       warning names it
  130  ended by Ctrl-C")]
pub struct Args {
    #[command(flatten)]
    pub(super) hubs: HubArgs,
}

/// The hubs to query.
#[derive(Debug, clap::Args)]
pub(super) struct HubArgs {
    /// Query only the hub at this socket; fail if it is unavailable
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Only the sandbox with this name (as `list` shows it), id, or first 12 characters of the id
    #[arg(long, value_name = "NAME")]
    container: Option<SandboxSelector>,
    /// Maximum time without a reply from a hub
    #[arg(long, value_name = "SECONDS", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=600))]
    timeout: u32,
}

impl HubArgs {
    /// Returns the hubs of every sandbox, or the one at a socket.
    pub(super) const fn of_every_sandbox(socket: Option<PathBuf>, timeout: u32) -> Self {
        Self {
            socket,
            container: None,
            timeout,
        }
    }

    /// Queries the hubs.
    pub(super) async fn query_snapshot(
        self,
        context: &CommandContext,
    ) -> Result<PendingSnapshot, CommandError> {
        let runtime = RuntimeDir::new(context.environment.runtime_dir());
        let socket = self.socket.map(|path| {
            std::path::absolute(&path).with_context(|| format!("cannot find {}", path.display()))
        });
        let limit = Duration::from_secs(self.timeout.into());
        let socket = socket.transpose()?;
        Ok(take_snapshot(&runtime, socket.as_deref(), self.container, limit).await)
    }
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    raise_open_files_limit();
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
            // A hub that does not list its questions may have the sandbox.
            let unmatched = survey
                .describe_unmatched()
                .filter(|_| !survey.has_unlisted_hubs());
            if let Some(unmatched) = unmatched {
                output.print_error_line(&unmatched);
            } else if survey.rows().is_empty()
                && survey.is_complete()
                && !survey.has_unlisted_hubs()
            {
                output.print_error_line(if survey.has_hubs() {
                    "no pending questions"
                } else {
                    "no hub is running"
                });
            }
        }
        for gap in survey.describe_gaps() {
            print_warning(context, &gap);
        }
        Ok(if !survey.is_complete() {
            CommandStatus::UNAVAILABLE
        } else if survey.has_unlisted_hubs() {
            CommandStatus::UNKNOWN_QUESTIONS
        } else if survey.unmatched().is_some() {
            CommandStatus::NO_SUCH_SANDBOX
        } else {
            CommandStatus::OK
        })
    })
}

/// Prints a warning. JSON output has the same information in its lines, and needs no warning.
pub(super) fn print_warning(context: &CommandContext, what: &str) {
    if !context.json {
        context.output.print_error_line(&format!("warning: {what}"));
    }
}
