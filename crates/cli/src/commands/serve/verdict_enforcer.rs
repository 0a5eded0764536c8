// SPDX-License-Identifier: Apache-2.0
//! The verdict helper, as the hub uses it.

use hub::{Claim, DecisionEnforcer};
use terok_clearance::{DisplayText, EnforcementOutcome};
use verdict::{VerdictBackend as _, VerdictClient, VerdictOrder};

/// Hands the hub's claims to the helper behind a socket.
#[derive(Debug)]
pub(super) struct VerdictEnforcer(pub(super) VerdictClient);

impl DecisionEnforcer for VerdictEnforcer {
    fn supports_ports(&self) -> bool {
        self.0.supports_ports()
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        let scope = claim.scope().clone();
        match VerdictOrder::new(claim.container().clone(), claim.action(), scope) {
            Ok(order) => self.0.apply(&order).await.into(),
            Err(error) => EnforcementOutcome::Failed(DisplayText::new(&error.to_string())),
        }
    }
}
