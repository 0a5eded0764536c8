// SPDX-License-Identifier: Apache-2.0
//! `preview`: the firewall rules, to read before they are in force.

use std::net::IpAddr;

use anyhow::Context as _;
use shield::{Policy, preview};

use crate::{CommandContext, CommandFailure, CommandStatus};

/// What it does, at length.
pub(super) const ABOUT: &str = "Print the firewall rules a sandbox gets, in nft syntax.

The same rules go to the kernel over netlink; nothing is changed by printing them. `nft -c -f` \
checks the text, and in a network namespace of its own `nft -f` loads it.";

/// What may be said to it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance preview --dns 192.0.2.53
  terok-clearance preview | unshare -Urn nft -c -f -")]
pub struct Args {
    /// A resolver that the sandbox may ask; again for more.
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
}

/// Does it.
pub fn perform(args: Args, context: &CommandContext) -> Result<CommandStatus, CommandFailure> {
    let policy = Policy::new(args.dns).context("reading --dns")?;
    let ruleset = preview(&policy);
    if context.json {
        let object = serde_json::json!({ "ruleset": ruleset });
        context.output.print_line(&object.to_string())?;
    } else {
        context.output.print(&ruleset)?;
    }
    Ok(CommandStatus::OK)
}
