// SPDX-License-Identifier: Apache-2.0
//! `revoke`: end rules, and the connections that exist because of them.

mod kept_removal;

use operator::rules::RevokeOutcome;

use super::list::HubArgs;
use super::rules::RuleHubArgs;
use crate::exit::revocations_status;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};
use kept_removal::KeptPlaceArgs;
use runner::raise_open_files_limit;

/// Long help.
pub(super) const ABOUT: &str = "End rules, and the connections that they opened.

A rule is named as `rules` shows it, such as web:r12; a question's id, such as web:17, names every \
rule of the answers to it. Connections that exist because of an allow are ended at once, and the \
next one asks again. A rule that is kept for the project or for every sandbox is removed from its \
file, too. With --always or --project, rules are removed from such a file, whether a sandbox runs \
or not; they are named by their destinations, as `rules --kept` lists them.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance revoke web:r12
  terok-clearance revoke web:17          take back your answers to a question
  terok-clearance revoke r12             where one sandbox alone has such a rule
  terok-clearance revoke --always api.example.com:443/tcp
  terok-clearance revoke --project '*.example.com' '!ads.example.com'
  terok-clearance revoke --project=/home/me/old-project registry.npmjs.org:443/tcp
  terok-clearance deny web:17            change an answer instead of taking it back

Each name has its own outcome: one line on standard output if a rule was revoked, with the number of
connections that were ended, otherwise one on standard error; with --json, one object each on
standard output: `revoked`, `missing_rule` or `refused` (docs/schema/lines.json).

With --always and --project the file is changed as a whole, and keeps your comments and order. A
destination is written as in the file; `!` in front removes the deny only. Sandboxes that run notice
the change at once, and end the connections that nothing else allows; each run records it. In place
of `revoked`, --json prints `kept_removed`.

Exit status; for several names, the first of this list that applies to one of them:
  1    refused: nothing was revoked, such as for a rule of the organisation; or the file of kept
       rules cannot be used
  69   a hub did not reply: the rule may or may not be revoked
  3    no such rule: it has ended, or was never made
  0    every rule was revoked
  130  ended by Ctrl-C: rules that were sent may be revoked")]
pub struct Args {
    /// Names of rules, or ids of questions; with --always and --project, destinations
    #[arg(value_name = "RULE|ID|DEST", required = true)]
    rules: Vec<String>,
    #[command(flatten)]
    kept: KeptPlaceArgs,
    #[command(flatten)]
    hubs: RuleHubArgs,
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    if args.kept.is_given() {
        return kept_removal::perform(&args.kept, &args.rules, context);
    }
    raise_open_files_limit();
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let revoking = async {
            let snapshot = HubArgs::from(args.hubs).query_snapshot(context).await?;
            for gap in snapshot.describe_gaps() {
                tracing::info!(%gap, "a hub did not reply");
            }
            let survey = snapshot.read_rules(&[]).await?;
            let mut outcomes = Vec::new();
            for name in &args.rules {
                let outcome = survey.revoke(name).await;
                // A hub that did not respond may have the rule.
                outcomes.push(match (outcome, snapshot.describe_unresponsive().first()) {
                    (RevokeOutcome::NoSuchRule(reason), Some(gap)) => {
                        RevokeOutcome::Unknown(format!("{reason}; {gap}").as_str().into())
                    }
                    (outcome, _) => outcome,
                });
            }
            Ok(outcomes)
        };
        let outcomes: Result<_, CommandError> = tokio::select! {
            status = stop.wait() => {
                super::list::print_warning(context, "rules may have been revoked");
                return Ok(status);
            }
            outcomes = revoking => outcomes,
        };
        let outcomes = outcomes?;
        for (outcome, name) in outcomes.iter().zip(&args.rules) {
            if context.json {
                context.output.print(&outcome.to_json(name))?;
            } else if matches!(outcome, RevokeOutcome::Revoked(..)) {
                context.output.print_line(&outcome.to_text())?;
            } else {
                context.output.print_error_line(&outcome.to_text());
            }
        }
        Ok(revocations_status(&outcomes))
    })
}
