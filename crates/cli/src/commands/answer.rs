// SPDX-License-Identifier: Apache-2.0
//! `allow` and `deny`: answers questions by their ids.

use operator::script::{ScriptAnswer, ScriptExpectation, ScriptOutcome};
use terok_clearance::{Action, Dest, RequestId};

use super::list::{HubArgs, print_warning};
use crate::output::BrokenPipeError;
use crate::runtime::raise_fd_limit;
use crate::{CommandContext, CommandFailure, CommandStatus, StopSignals, block_on};

/// What `allow` does, at length.
pub(super) const ABOUT_ALLOW: &str = "Allow what a question asks for, by its id.

It opens exactly what `list` says an `allow` of that question opens, and says what that was. The id \
is the question's own, as `list` and `watch` print it; with --expect nothing is opened if the \
question is about another destination than you think.";

/// What `deny` does, at length.
pub(super) const ABOUT_DENY: &str = "Deny what a question asks for, by its id.

The sandbox is refused it without asking again, and what that was is printed. The id is the \
question's own, as `list` and `watch` print it; with --expect nothing is denied if the question is \
about another destination than you think.";

/// What may be said to them.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance allow web:17
  terok-clearance deny web:17 web:18
  terok-clearance allow web:17 --expect api.example.com && echo open

Each id has an outcome of its own: one line each, of what took effect on standard output, of the
rest on standard error; with --json one object each on standard output, `event` saying which
(docs/schema/lines.json). An id that several hubs ask is refused, with the hubs. A sandbox that is
started anew may give its ids again: --expect makes sure. A hub of the Python stack does not say
what it asks; it is answered with --expect, which it compares itself, and opens the whole
destination.

Exit status, of several ids the first here that befell one of them:
  1    refused (`refused`), without effect (`failed`), or nobody knows whether it took effect
       (`unsure`)
  69   the hub that asks, or may ask, could not be reached (`unheard`); nothing was sent
  4    it was answered already (`already`), also where the answer was the same: the line says by
       whom and what
  3    no such question (`missing`): never asked, or withdrawn
  0    all of them took effect (`decided`)
  130  ended by Ctrl-C: what was on its way may have taken effect")]
pub struct Args {
    /// The questions, by their ids.
    #[arg(value_name = "REQUEST", required = true)]
    requests: Vec<RequestId>,
    /// Answer only questions about this destination
    #[arg(long, value_name = "DEST")]
    expect: Option<Dest>,
    #[command(flatten)]
    hubs: HubArgs,
}

/// Does it.
pub fn perform(
    args: Args,
    action: Action,
    context: &CommandContext,
) -> Result<CommandStatus, CommandFailure> {
    raise_fd_limit();
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let expected = ScriptExpectation { dest: args.expect };
        let answering = async {
            let mut survey = args.hubs.query_snapshot(context).await?;
            for gap in survey.describe_gaps() {
                tracing::info!(%gap, "not every hub is heard");
            }
            Ok(survey.answer(&args.requests, action, &expected).await)
        };
        let answered: Result<Vec<ScriptAnswer>, CommandFailure> = tokio::select! {
            status = stop.wait() => {
                print_warning(context, "what was on its way may have taken effect");
                return Ok(status);
            }
            answered = answering => answered,
        };
        let mut status = CommandStatus::OK;
        let mut said = Ok(());
        for answered in answered? {
            status = higher_priority_status(status, outcome_status(&answered.outcome));
            if context.json {
                said = said.and_then(|()| context.output.print(&answered.to_json()));
            } else if matches!(answered.outcome, ScriptOutcome::Applied(..)) {
                said = said.and_then(|()| context.output.print_line(&answered.to_text()));
            } else {
                context.output.print_error_line(&answered.to_text());
                continue;
            }
            // What took effect has to be said somewhere.
            if said
                .as_ref()
                .is_err_and(|error| !error.is::<BrokenPipeError>())
            {
                let words = if context.json {
                    answered.to_json().trim_end().to_owned()
                } else {
                    answered.to_text()
                };
                context.output.print_error_line(&words);
            }
        }
        said?;
        Ok(status)
    })
}

const fn outcome_status(outcome: &ScriptOutcome) -> CommandStatus {
    match outcome {
        ScriptOutcome::Applied(..) => CommandStatus::OK,
        ScriptOutcome::AlreadyDecided(_) => CommandStatus::ALREADY_ANSWERED,
        ScriptOutcome::NotPending(_) => CommandStatus::NO_SUCH_QUESTION,
        ScriptOutcome::HubUnreachable(_) => CommandStatus::UNAVAILABLE,
        ScriptOutcome::Refused(_) | ScriptOutcome::Failed(_) | ScriptOutcome::ResultUnknown(_) => {
            CommandStatus::FAILURE
        }
    }
}

/// Returns the status that comes first where several ids ended differently.
fn higher_priority_status(one: CommandStatus, other: CommandStatus) -> CommandStatus {
    let order = [
        CommandStatus::FAILURE,
        CommandStatus::UNAVAILABLE,
        CommandStatus::ALREADY_ANSWERED,
        CommandStatus::NO_SUCH_QUESTION,
    ];
    let first = order
        .into_iter()
        .find(|status| [one, other].contains(status));
    first.unwrap_or(CommandStatus::OK)
}
