// SPDX-License-Identifier: Apache-2.0
//! The classic hub: one hub for every sandbox, whose answers a verdict helper applies.

use std::path::PathBuf;
use std::time::Duration;

use hub::{Claim, DecisionEnforcer, Hub, HubListeners, HubOptions, HubServeError, serve_sockets};
use terok_clearance::wire::clearance1::Clearance1Dialect;
use terok_clearance::{DisplayText, EnforcementOutcome};
use tokio_util::sync::CancellationToken;
use verdict::{VerdictBackend as _, VerdictClient, VerdictOrder};

/// How much longer the hub waits for the helper than the helper's client, whose error has the
/// reason.
const ENFORCE_MARGIN: Duration = Duration::from_secs(1);

/// Serves one hub for every sandbox until `stop`.
///
/// Answers go to the verdict helper at `verdict_socket`; without a helper each answer fails, and
/// its question stays pending. `dialect` selects the events for clients of `org.terok.Clearance1`.
pub async fn serve_classic_hub(
    listeners: HubListeners,
    verdict_socket: impl Into<PathBuf>,
    dialect: Clearance1Dialect,
    stop: CancellationToken,
) -> Result<(), HubServeError> {
    let options = HubOptions {
        dialect,
        enforce_timeout: VerdictClient::CALL_TIMEOUT.saturating_add(ENFORCE_MARGIN),
        ..HubOptions::default()
    };
    let enforcer = VerdictEnforcer(VerdictClient::new(verdict_socket));
    serve_sockets(Hub::new(enforcer, options), listeners, stop).await
}

/// Sends the claims of a hub to the verdict helper.
#[derive(Debug)]
struct VerdictEnforcer(VerdictClient);

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
