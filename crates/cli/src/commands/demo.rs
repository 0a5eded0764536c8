// SPDX-License-Identifier: Apache-2.0
//! `demo`: the whole way of one packet, on real packets, in namespaces of its own.

mod clock;
pub mod internet;
pub mod program;
mod told;
mod world;

use crate::{Context, Failure, Status};

/// What may be said to it.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Does it.
pub fn perform(_args: Args, _context: &Context) -> Result<Status, Failure> {
    Err(anyhow::anyhow!("this command is not built yet").into())
}
