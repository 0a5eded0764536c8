// SPDX-License-Identifier: Apache-2.0
//! Builds a sandbox. The error has a hint if the machine does not allow sandboxes.

use anyhow::Context as _;
use netns::sandbox::{Sandbox, SandboxSpec};

use crate::{CommandFailure, ErrorExt as _};

/// Builds the sandbox. Forks, and must therefore be called before the runtime starts.
pub(crate) fn build_sandbox(blueprint: &SandboxSpec) -> Result<Sandbox, CommandFailure> {
    let built = Sandbox::build(blueprint);
    let advice = built
        .as_ref()
        .err()
        .and_then(netns::sandbox::SandboxBuildError::advice);
    let built = built.context("cannot build the sandbox");
    match advice {
        Some(advice) => built.with_hint(advice),
        None => Ok(built?),
    }
}
