// SPDX-License-Identifier: Apache-2.0
//! `explain`: what the rules of a sandbox do with a destination.

use operator::rules::{ExplainTarget, Explanation};
use operator::script::SandboxSelector;
use terok_clearance::Timestamp;

use super::list::HubArgs;
use super::rules::RuleHubArgs;
use crate::{CommandContext, CommandError, CommandStatus, StopSignals, block_on};
use runner::raise_open_files_limit;

/// Long help.
pub(super) const ABOUT: &str = "Say what the rules of a sandbox do with a destination, and why.

Prints which rule decides, the others that cover the destination, and what would change the \
result, with the command to type. Nothing is connected or changed.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance explain web api.example.com
  terok-clearance explain web 192.168.1.20:445
  terok-clearance explain web '[2001:db8::1]:443/udp'

Without a port, 443 counts; without a protocol, tcp. Rules decide in this order: what nothing opens
(such as the metadata service of a cloud), what the organisation denies, what it does not let users
open, your denies, your allows, a bypass; everything else is asked about. A rule for a name counts
for that name only, never for the addresses behind it.

With --json, the line is an object whose `verdict` is allow, deny, outside_ceiling, ask or floor
(docs/schema/lines.json).

Exit status:
  0    the explanation was printed, whatever it says
  1    the hub of the sandbox does not tell its rules
  3    no sandbox is called so
  69   the hub did not reply
  130  ended by Ctrl-C")]
pub struct Args {
    /// Name of the sandbox, as `list` shows it, or id
    #[arg(value_name = "SANDBOX")]
    sandbox: SandboxSelector,
    /// A name or an address
    #[arg(value_name = "DEST[:PORT][/PROTOCOL]")]
    dest: ExplainTarget,
    #[command(flatten)]
    hubs: RuleHubArgs,
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    raise_open_files_limit();
    block_on(async {
        let mut stop = StopSignals::catch()?;
        let asking = async {
            let snapshot = HubArgs::from(args.hubs).query_snapshot(context).await?;
            let hub = snapshot.select_hub(&args.sandbox)?;
            let reply = hub.client.explain(args.dest.parameters()).await;
            let reply = reply.map_err(|source| CommandError::RuleCall {
                sandbox: hub.sandbox.clone(),
                source,
            })?;
            Ok((hub, reply))
        };
        let asked: Result<_, CommandError> = tokio::select! {
            status = stop.wait() => return Ok(status),
            asked = asking => asked,
        };
        let (hub, reply) = asked?;
        let explanation = Explanation {
            hub: &hub.hub,
            sandbox: &hub.sandbox,
            target: &args.dest,
            reply: &reply,
            now: Timestamp::now(),
        };
        context.output.print(&if context.json {
            explanation.to_json()
        } else {
            explanation.to_text()
        })?;
        Ok(CommandStatus::OK)
    })
}
