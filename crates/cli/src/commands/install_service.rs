// SPDX-License-Identifier: Apache-2.0
//! `install-service`: writes the units of the classic hub, as releases up to 0.6 did.

use std::path::PathBuf;

use anyhow::Context as _;
use host_setup::{ClassicUnits, UnitProgram};

use super::setup::host_context;
use crate::{CommandContext, CommandError, CommandStatus};

/// Command-line arguments.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Writes terok-clearance-hub.service and terok-clearance-verdict.service into the systemd user \
directory, and starts neither; `systemctl --user enable --now terok-clearance-hub` does. \
`terok-clearance setup --classic` does all of it, and can be undone.")]
pub struct Args {
    /// The program that the units execute [default: this program]
    #[arg(long, value_name = "PATH")]
    bin_path: Option<PathBuf>,
}

/// Runs the command.
pub fn perform(args: &Args, context: &CommandContext) -> Result<CommandStatus, CommandError> {
    let program = match &args.bin_path {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("cannot find this program")?,
    };
    let program = UnitProgram::new(&program)?;
    let host = host_context(context);
    let units = ClassicUnits {
        systemctl: host.running_user_manager(),
        directory: host.directories.user_units,
    };
    let (hub, verdict) = units.install_service(&program)?;
    for path in [hub, verdict] {
        let line = format!("Installed {}", path.display());
        context.output.print_line(&line)?;
    }
    Ok(CommandStatus::OK)
}
