// SPDX-License-Identifier: Apache-2.0
//! The verdict helper, as the hub uses it.

use std::path::{Path, PathBuf};

use hub::{Claim, Enforcer};
use terok_clearance::varlink::Connection;
use terok_clearance::wire::verdict1::{APPLY, Applied, Apply};
use terok_clearance::{DisplayText, Outcome, Scope};

/// Asks the helper at a socket, on a connection of its own for each answer: none waits for
/// another.
#[derive(Debug)]
pub(super) struct Keeper {
    socket: PathBuf,
}

impl Keeper {
    pub(super) const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }
}

impl Enforcer for Keeper {
    /// The helper's interface knows whole destinations only.
    fn narrow(&self) -> bool {
        false
    }

    async fn enforce(&self, claim: Claim) -> Outcome {
        // What cannot be opened as narrowly as it was decided is not opened at all.
        if *claim.scope() != Scope::whole(claim.dest().clone()) {
            let reason = "the verdict helper opens whole destinations only";
            return Outcome::Failed(reason.into());
        }
        match apply(&self.socket, &claim).await {
            Ok(Applied { ok: true, .. }) => Outcome::Applied,
            Ok(Applied { stderr, .. }) => Outcome::Failed(DisplayText::new(&stderr)),
            Err(error) => {
                let reason = format!("verdict helper unreachable: {error:#}");
                Outcome::Failed(DisplayText::new(&reason))
            }
        }
    }
}

async fn apply(socket: &Path, claim: &Claim) -> anyhow::Result<Applied> {
    let order = Apply {
        container: claim.container().to_string(),
        dest: claim.dest().to_string(),
        action: claim.action().to_string(),
    };
    let mut connection = Connection::connect(socket).await?;
    Ok(connection.call(APPLY, &order).await?)
}
