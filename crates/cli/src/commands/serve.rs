// SPDX-License-Identifier: Apache-2.0
//! `serve`.

use crate::{Context, Failure, Status};

/// What may be said to it.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does it.
pub fn perform(_args: Args, _context: &Context) -> Result<Status, Failure> {
    Err(anyhow::anyhow!("this command is not built yet").into())
}
