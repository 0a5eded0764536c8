// SPDX-License-Identifier: Apache-2.0
//! `preview`: prints the firewall rules of a sandbox.

use std::net::IpAddr;

use anyhow::Context as _;
use shield::{Policy, preview};

use crate::{CommandContext, CommandError, CommandStatus};

/// Long help.
pub(super) const ABOUT: &str = "Print the firewall rules of a sandbox in nft syntax.

The kernel gets the same rules over netlink; printing them changes nothing. `nft -c -f` checks the \
text, and `nft -f` loads it into a private network namespace.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance preview --dns 192.0.2.53
  terok-clearance preview | unshare -Urn nft -c -f -")]
pub struct Args {
    /// Resolver at which allowed names are looked up; repeat for more
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
}

/// Runs the command.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let policy = Policy::with_name_server(args.dns).context("--dns is not usable")?;
    let ruleset = preview(&policy);
    if context.json {
        let object = serde_json::json!({ "ruleset": ruleset });
        context.output.print_line(&object.to_string())?;
    } else {
        context.output.print(&ruleset)?;
    }
    Ok(CommandStatus::OK)
}
