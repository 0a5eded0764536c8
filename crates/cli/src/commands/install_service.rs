// SPDX-License-Identifier: Apache-2.0
//! `install-service`: a command of releases up to 0.6, always refused by this release.

use crate::{CommandError, CommandStatus};

/// Command-line arguments. Any arguments are accepted, because the Python program had several.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Ignored arguments.
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<std::ffi::OsString>,
}

/// Refuses, with a hint.
pub fn perform(args: &Args) -> Result<CommandStatus, CommandError> {
    let ignored = args.rest.len();
    tracing::debug!(ignored, "install-service was called");
    Err(CommandError::InstallService)
}
