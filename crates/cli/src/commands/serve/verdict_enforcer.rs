// SPDX-License-Identifier: Apache-2.0
//! Connects the hub with the verdict helper.

use hub::{Claim, DecisionEnforcer};
use terok_clearance::{DisplayText, EnforcementOutcome};
use verdict::{VerdictBackend as _, VerdictClient, VerdictOrder};

/// Sends the hub's claims to the verdict helper.
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
