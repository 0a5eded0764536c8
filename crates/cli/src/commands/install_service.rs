// SPDX-License-Identifier: Apache-2.0
//! `install-service`: a command of releases up to 0.6, always refused by this release.

use anyhow::anyhow;

use crate::{CommandFailure, CommandStatus, ErrorExt as _};

/// Command-line arguments. Any arguments are accepted, because the Python program had several.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ignored arguments.
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<std::ffi::OsString>,
}

/// Refuses, with a hint.
pub fn perform(args: &Args) -> Result<CommandStatus, CommandFailure> {
    let ignored = args.rest.len();
    tracing::debug!(ignored, "install-service was called");
    Err(anyhow!(
        "install-service is not supported; nothing was installed"
    ))
    .with_hint("`terok-clearance run` and `supervise` start a hub for each sandbox")
    .with_hint("for the classic hub, write units that start `serve` and `serve-verdict`")
    .with_status(CommandStatus::USAGE)
}
