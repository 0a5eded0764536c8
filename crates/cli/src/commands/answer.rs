// SPDX-License-Identifier: Apache-2.0
//! `allow` and `deny`: answer questions by their ids.

use operator::script::{ScriptAction, ScriptAnswer, ScriptExpectation};
use operator::{ScopeDuration, ScopeLifetime, ScopeOverride};
use terok_clearance::{Action, Dest, RequestId};

use super::list::{HubArgs, print_warning};
use crate::exit::answers_status;
use crate::output::OutputError;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};
use runner::raise_open_files_limit;

/// Long help of `allow`.
pub(super) const ABOUT_ALLOW: &str = "Allow the questions with these ids.

Opens exactly what `list` shows for the question, or the time and name that you give and that the \
question offers, and prints what was opened. The ids are those that `list` and `watch` print. A \
question that was denied before is allowed now, in one step. With --expect, nothing is opened if \
the question is about another destination.";

/// Long help of `deny`.
pub(super) const ABOUT_DENY: &str = "Deny the questions with these ids.

The destination is refused without further questions, for the time and the name that you give \
and that the question offers, and what was denied is printed. The ids are those that `list` and \
`watch` print. A question that was allowed before is denied now, in one step. With --expect, \
nothing is denied if the question is about another destination.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance allow web:17
  terok-clearance deny web:17 web:18
  terok-clearance allow web:17 --for 10m
  terok-clearance allow web:17 --as '*.example.com' --project
  terok-clearance allow web:17 --expect api.example.com && echo open

An id is what `list` and `watch` show, such as web:17, or the whole id of the request, which --json
prints. Each id has its own outcome: one line on standard output if the answer took effect,
otherwise one on standard error; with --json, one object each on standard output, whose `event`
names the outcome (docs/schema/lines.json). An id that several questions have is refused, and their
whole ids are named. A restarted sandbox may use its ids again: use --expect. A hub of the Python
stack does not report its pending questions; it is answered only with --expect, which it compares
itself, and opens the whole destination.

Without an option, an answer lasts as long as `list` says, mostly for this run of the sandbox. What
a question does not offer is refused, and the line says what it offers; a hub that is not of `run`
or `supervise` offers nothing else. The name of --as is one that `list` shows: never above the
domain that somebody registered.

Exit status; for several ids, the first of this list that applies to one of them:
  1    refused (`refused`), without effect (`failed`), or with unknown effect (`unsure`)
  69   the hub was not reachable (`unheard`); nothing was sent
  4    the same answer was given before, by anyone (`already`); the line names the operator
  3    no such question (`missing`): never asked, or withdrawn; or no sandbox of --container
  0    all answers took effect (`decided`)
  130  ended by Ctrl-C: an answer that was sent may have taken effect")]
pub struct Args {
    /// Ids of the questions.
    #[arg(value_name = "REQUEST", required = true)]
    requests: Vec<RequestId>,
    /// Answer only questions about this destination
    #[arg(long, value_name = "DEST")]
    expect: Option<Dest>,
    #[command(flatten)]
    scope: ScopeArgs,
    #[command(flatten)]
    hubs: HubArgs,
}

/// The scope of an answer.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command line"
)]
struct ScopeArgs {
    /// Answer for this time: 30s, 10m, 2h, 1d (at most 30d)
    #[arg(long = "for", value_name = "TIME", group = "lifetime")]
    duration: Option<ScopeDuration>,
    /// Answer only for the connections that wait now, else for the next one
    #[arg(long, group = "lifetime")]
    once: bool,
    /// Answer for this run of the sandbox
    #[arg(long, group = "lifetime")]
    run: bool,
    /// Answer for every sandbox of the project, also in later runs
    #[arg(long, group = "lifetime")]
    project: bool,
    /// Answer for every sandbox, also in later runs
    #[arg(long, group = "lifetime")]
    always: bool,
    /// Answer for every name below one, as the question offers it: '*.example.com'
    #[arg(long = "as", value_name = "NAME")]
    dest: Option<Dest>,
}

impl From<ScopeArgs> for ScopeOverride {
    fn from(args: ScopeArgs) -> Self {
        let flags = [
            (args.once, ScopeLifetime::Once),
            (args.run, ScopeLifetime::Run),
            (args.project, ScopeLifetime::Project),
            (args.always, ScopeLifetime::Always),
        ];
        let flag = flags.into_iter().find(|(given, _)| *given);
        let duration = args.duration.map(ScopeLifetime::For);
        Self {
            dest: args.dest,
            lifetime: duration.or_else(|| flag.map(|(_, lifetime)| lifetime)),
        }
    }
}

/// Runs the command.
pub fn perform(
    args: Args,
    action: Action,
    context: &CommandContext,
) -> Result<CommandStatus, CommandError> {
    raise_open_files_limit();
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let answer = ScriptAction {
            action,
            scope: args.scope.into(),
            expected: ScriptExpectation { dest: args.expect },
        };
        let answering = async {
            let mut survey = args.hubs.query_snapshot(context).await?;
            for gap in survey.describe_gaps() {
                tracing::info!(%gap, "a hub did not reply");
            }
            Ok(survey.answer(&args.requests, &answer).await)
        };
        let answered: Result<Vec<ScriptAnswer>, CommandError> = tokio::select! {
            status = stop.wait() => {
                print_warning(context, "an answer that was sent may have taken effect");
                return Ok(status);
            }
            answered = answering => answered,
        };
        let answers = answered?;
        let status = answers_status(&answers);
        let mut said = Ok(());
        for answered in answers {
            if context.json {
                said = said.and_then(|()| context.output.print(&answered.to_json()));
            } else if answered.is_applied() {
                said = said.and_then(|()| context.output.print_line(&answered.to_text()));
            } else {
                context.output.print_error_line(&answered.to_text());
                continue;
            }
            // An answer that took effect is always reported.
            if matches!(&said, Err(OutputError::Write(_))) {
                let line = if context.json {
                    answered.to_json().trim_end().to_owned()
                } else {
                    answered.to_text()
                };
                context.output.print_error_line(&line);
            }
        }
        said?;
        Ok(status)
    })
}
