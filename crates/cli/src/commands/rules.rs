// SPDX-License-Identifier: Apache-2.0
//! `rules`: the rules in force of every sandbox, and those of the operator's files.

mod kept_list;

use std::path::PathBuf;

use operator::rules::RuleSurvey;
use operator::script::SandboxSelector;
use terok_clearance::Timestamp;

use super::list::{HubArgs, print_warning};
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};
use kept_list::KeptArgs;
use runner::raise_open_files_limit;

pub(super) use kept_list::place_to_json;

/// Long help.
pub(super) const ABOUT: &str = "List the rules in force of every sandbox.

Each rule has the name that `revoke` takes, what it allows or denies, how long it lasts, where it \
comes from and who made it, how many connections it has let pass or refused, and how many are open \
because of it. With --kept, the rules that are kept in your files, whether a sandbox runs or not. \
Nothing is changed.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance rules
  terok-clearance rules web
  terok-clearance rules --kept                 kept for every sandbox, and for this project
  terok-clearance rules --kept --all-projects
  terok-clearance rules --json | jq -r 'select(.action == \"allow\") | [.name, .dest, .uses] | @tsv'

A rule lasts once (one connection), for a time, for this run of the sandbox, for the project, or
always. A deny outweighs every allow; `terok-clearance explain` says which rule decides.

With --kept, each rule has the number of its line in the file, and the destination as `revoke
--always` and `revoke --project` take it. docs/profiles.md describes the files.

With --json, each line is an object: `event` is `rule` for each rule, `hub` for each hub that does
not tell its rules, and `rules` at the end; with --kept, `kept_rule` and `unusable_file` before it.
docs/schema/lines.json describes them.

Exit status:
  0    the list is complete, even if there is no rule or no hub
  1    --kept: a file cannot be used; the others are listed all the same
  3    no sandbox is called so
  5    a hub does not tell its rules, such as one of the Python stack; a warning names it
  69   a hub did not reply in time; a warning names it
  130  ended by Ctrl-C")]
pub struct Args {
    /// Only these sandboxes: names, as `list` shows them, or ids
    #[arg(value_name = "SANDBOX")]
    sandboxes: Vec<SandboxSelector>,
    #[command(flatten)]
    kept: KeptArgs,
    #[command(flatten)]
    hubs: RuleHubArgs,
}

/// The hubs to ask about rules.
#[derive(Debug, clap::Args)]
pub(super) struct RuleHubArgs {
    /// Ask only the hub at this socket
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Maximum time without a reply from a hub
    #[arg(long, value_name = "SECONDS", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..=600))]
    timeout: u32,
}

impl From<RuleHubArgs> for HubArgs {
    fn from(args: RuleHubArgs) -> Self {
        Self::of_every_sandbox(args.socket, args.timeout)
    }
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    if args.kept.kept {
        return kept_list::perform(&args.kept, context);
    }
    raise_open_files_limit();
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let reading = async {
            let snapshot = HubArgs::from(args.hubs).query_snapshot(context).await?;
            let survey = snapshot.read_rules(&args.sandboxes).await?;
            Ok((snapshot, survey))
        };
        let read: Result<_, CommandError> = tokio::select! {
            status = stop.wait() => return Ok(status),
            read = reading => read,
        };
        let (snapshot, survey) = read?;
        let output = context.output;
        if context.json {
            output.print(&survey.to_json())?;
        } else {
            let columns = context.environment.table_columns();
            let table = survey.to_table(Timestamp::now(), columns, output.colors().stdout);
            output.print(&table)?;
            if table.is_empty() && survey.gaps.is_empty() && snapshot.is_complete() {
                output.print_error_line(if snapshot.has_hubs() {
                    "no rules"
                } else {
                    "no hub is running"
                });
            }
        }
        let unheard = snapshot.describe_unresponsive();
        for gap in unheard.iter().chain(&survey.describe_gaps()) {
            print_warning(context, gap);
        }
        Ok(survey_status(&survey, snapshot.is_complete()))
    })
}

/// Returns the exit status for a list of rules, of which the hubs that did not respond to the query
/// are missing.
fn survey_status(survey: &RuleSurvey, is_complete: bool) -> CommandStatus {
    if !is_complete || survey.gaps.iter().any(|gap| gap.is_silent) {
        CommandStatus::UNAVAILABLE
    } else if survey.gaps.is_empty() {
        CommandStatus::OK
    } else {
        CommandStatus::UNKNOWN_QUESTIONS
    }
}
