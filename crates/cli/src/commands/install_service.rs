// SPDX-License-Identifier: Apache-2.0
//! `install-service`: a verb of releases up to 0.6, which this one knows and does not have.

use anyhow::anyhow;

use crate::{CommandFailure, CommandStatus, ErrorExt as _};

/// What may be said to it: whatever was said to the original.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What the original took.
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<std::ffi::OsString>,
}

/// Says that it does nothing.
pub fn perform(args: &Args) -> Result<CommandStatus, CommandFailure> {
    let ignored = args.rest.len();
    tracing::debug!(ignored, "install-service was called");
    Err(anyhow!(
        "install-service is not there; nothing was installed"
    ))
    .with_hint("sandboxes of `terok-clearance run` and supervisors have a hub of their own")
    .with_hint("for the classic hub, let units of your own start `serve` and `serve-verdict`")
    .with_status(CommandStatus::USAGE)
}
