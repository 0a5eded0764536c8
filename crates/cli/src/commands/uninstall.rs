// SPDX-License-Identifier: Apache-2.0
//! `uninstall`: removes what `setup` has installed.

use host_setup::HostUninstall;

use super::setup::{EventReport, host_context, is_for_machine};
use crate::{CommandContext, CommandError, CommandStatus};

/// Long help.
pub(super) const ABOUT: &str = "Take away what `setup` has installed.

Stops the units and removes every file, link and directory that `setup` made, and its entry in \
podman's containers.conf. A file that was changed since stays and is reported. Your \
configuration, rules and records stay, and the program itself.";

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  terok-clearance uninstall --dry-run
  terok-clearance uninstall
  sudo terok-clearance uninstall

With --json, the lines are those of `setup --json`.

Exit status:
  0    everything was removed, or nothing was installed
  1    guarded containers are running, a step failed, or a file was changed and stays
  2    invalid arguments")]
pub struct Args {
    /// Print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Go on although guarded containers are running
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn perform(args: &Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let uninstall = HostUninstall {
        host: host_context(context),
        dry_run: args.dry_run,
    };
    let supervisors = uninstall.running_supervisors();
    if !supervisors.is_empty() && !args.force && !args.dry_run {
        return Err(CommandError::RunningSupervisors { supervisors });
    }
    let mut report = EventReport::new("uninstall", args.dry_run, context);
    let was_installed = uninstall.run(&mut |event| report.add(&event))?;
    report.finish()?;
    if context.json {
        return Ok(CommandStatus::OK);
    }
    let words = match (was_installed, args.dry_run) {
        (true, true) => "nothing was changed: this was a dry run",
        (true, false) => "everything that setup had installed is removed",
        (false, _) if is_for_machine(&uninstall.host) => {
            "nothing is installed for the machine; `uninstall` of a user removes what that user \
             has set up"
        }
        (false, _) => {
            "nothing is installed for you; `sudo terok-clearance uninstall` removes what root has \
             set up"
        }
    };
    context.output.print_line(words)?;
    Ok(CommandStatus::OK)
}
