// SPDX-License-Identifier: Apache-2.0
//! `allow` and `deny`: answer questions by their ids.

use operator::script::{ScriptAnswer, ScriptExpectation, ScriptOutcome};
use terok_clearance::{Action, Dest, RequestId};

use super::list::{HubArgs, print_warning};
use crate::exit::answers_status;
use crate::output::OutputError;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};
use runner::raise_open_files_limit;

/// Long help of `allow`.
pub(super) const ABOUT_ALLOW: &str = "Allow the questions with these ids.

Opens exactly what `list` shows for the question, and prints what was opened. The ids are those \
that `list` and `watch` print. With --expect, nothing is opened if the question is about another \
destination.";

/// Long help of `deny`.
pub(super) const ABOUT_DENY: &str = "Deny the questions with these ids.

The destination is refused without further questions, and what was denied is printed. The ids are \
those that `list` and `watch` print. With --expect, nothing is denied if the question is about \
another destination.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance allow web:17
  terok-clearance deny web:17 web:18
  terok-clearance allow web:17 --expect api.example.com && echo open

An id is what `list` and `watch` show, such as web:17, or the whole id of the request, which --json
prints. Each id has its own outcome: one line on standard output if the answer took effect,
otherwise one on standard error; with --json, one object each on standard output, whose `event`
names the outcome (docs/schema/lines.json). An id that several questions have is refused, and their
whole ids are named. A restarted sandbox may use its ids again: use --expect. A hub of the Python
stack does not report its pending questions; it is answered only with --expect, which it compares
itself, and opens the whole destination.

Exit status; for several ids, the first of this list that applies to one of them:
  1    refused (`refused`), without effect (`failed`), or with unknown effect (`unsure`)
  69   the hub was not reachable (`unheard`); nothing was sent
  4    answered before, by anyone and in any way (`already`); the line names the operator
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
    hubs: HubArgs,
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
        let expected = ScriptExpectation { dest: args.expect };
        let answering = async {
            let mut survey = args.hubs.query_snapshot(context).await?;
            for gap in survey.describe_gaps() {
                tracing::info!(%gap, "a hub did not reply");
            }
            Ok(survey.answer(&args.requests, action, &expected).await)
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
            } else if matches!(answered.outcome, ScriptOutcome::Applied(..)) {
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
