// SPDX-License-Identifier: Apache-2.0
//! `bypass`: open the internet to a sandbox for a time.

use operator::ScopeDuration;
use operator::rules::{bypass_json, describe_bypass};
use operator::script::SandboxSelector;

use super::list::{HubArgs, print_warning};
use super::rules::RuleHubArgs;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};
use runner::raise_open_files_limit;

/// Long help.
pub(super) const ABOUT: &str = "Open the WHOLE INTERNET to a sandbox for a time, without questions.

Every destination on the internet is reachable then, except for what a rule denies. Your local \
network and this machine stay closed. --end closes it again and ends the connections that exist \
because of it; so does the end of the time.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance bypass web --for 10m
  terok-clearance bypass web --end

With --json, the line is an object whose `event` is `bypass` (docs/schema/lines.json).

Exit status:
  0    opened, or closed again
  1    refused: nothing was opened or closed
  3    no sandbox is called so
  69   the hub did not reply: the bypass may or may not have changed
  130  ended by Ctrl-C: the bypass may or may not have changed")]
pub struct Args {
    /// Name of the sandbox, as `list` shows it, or id
    #[arg(value_name = "SANDBOX")]
    sandbox: SandboxSelector,
    /// Open it for this time: 30s, 10m, 2h
    #[arg(long = "for", value_name = "TIME", required_unless_present = "end")]
    duration: Option<ScopeDuration>,
    /// Close it again, and end the connections that exist because of it
    #[arg(long, conflicts_with = "duration")]
    end: bool,
    #[command(flatten)]
    hubs: RuleHubArgs,
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    raise_open_files_limit();
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let seconds = args.duration.map_or(0, ScopeDuration::seconds);
        let changing = async {
            let snapshot = HubArgs::from(args.hubs).query_snapshot(context).await?;
            let hub = snapshot.select_hub(&args.sandbox)?;
            let reply = hub.client.bypass(seconds).await;
            let reply = reply.map_err(|source| CommandError::RuleCall {
                sandbox: hub.sandbox.clone(),
                source,
            })?;
            Ok((hub, reply))
        };
        let changed: Result<_, CommandError> = tokio::select! {
            status = stop.wait() => {
                print_warning(context, "the bypass may or may not have changed");
                return Ok(status);
            }
            changed = changing => changed,
        };
        let (hub, reply) = changed?;
        if context.json {
            context
                .output
                .print(&bypass_json(&hub.hub, &hub.sandbox, &reply))?;
        } else {
            context
                .output
                .print_line(&describe_bypass(&hub.sandbox, &reply))?;
        }
        Ok(CommandStatus::OK)
    })
}
