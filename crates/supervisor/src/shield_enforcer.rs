// SPDX-License-Identifier: Apache-2.0
//! The shield as an enforcer for the hub and as a sink for looked-up addresses.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub::{Claim, DecisionEnforcer};
use shield::{NftShield, ShieldOrderError};
use terok_clearance::{
    Action, BlockedPacket, Dest, DisplayText, DomainName, EnforcementOutcome, Target, error_chain,
};
use tokio::time::Instant;

use crate::{AllowedDest, TraceEvent, TraceObserver};

/// One sandbox's shield, shared by the hub (answers) and the reader (looked-up addresses).
#[derive(Debug, Clone)]
pub(crate) struct ShieldEnforcer(Arc<Mutex<ShieldEnforcerState>>);

struct ShieldEnforcerState {
    /// `None` after the sandbox's end: the socket would keep the network namespace alive.
    shield: Option<NftShield>,
    observer: Option<TraceObserver>,
}

impl std::fmt::Debug for ShieldEnforcerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { shield, observer } = self;
        f.debug_struct("ShieldEnforcerState")
            .field("shield", shield)
            .field("observed", &observer.is_some())
            .finish()
    }
}

impl ShieldEnforcer {
    pub(crate) fn new(shield: NftShield) -> Self {
        Self(Arc::new(Mutex::new(ShieldEnforcerState {
            shield: Some(shield),
            observer: None,
        })))
    }

    pub(crate) fn set_observer(&self, observer: TraceObserver) {
        self.lock_state().observer = Some(observer);
    }

    /// Closes the shield's socket and thereby releases the network namespace.
    pub(crate) fn close_shield(&self) {
        self.lock_state().shield = None;
    }

    pub(crate) fn emit_trace(&self, event: TraceEvent<'_>) {
        self.lock_state().emit_trace(event);
    }

    /// Applies the order for `name`, if any, to newly looked-up addresses.
    pub(crate) fn learn_addresses(&self, name: &DomainName, addresses: &[IpAddr]) {
        let mut inner = self.lock_state();
        let added = inner.learn_addresses(name, addresses);
        inner.emit_trace(TraceEvent::DnsAnswered {
            name,
            addresses,
            added,
        });
    }

    /// Returns the kernel's current action for packets like `blocked`, if an order determines it.
    ///
    /// The packet may have been sent before the answer took effect, or before the address of an
    /// allowed name was learnt. The kernel is asked for the set element itself: another program may
    /// have removed it, and then the question must not be swallowed.
    pub(crate) fn decided_by_kernel(&self, blocked: &BlockedPacket) -> Option<Action> {
        let address = blocked_address(blocked)?;
        let mut inner = self.lock_state();
        if let Some(Ok(Target::Name(name))) = blocked.domain.as_ref().map(Dest::parse_target) {
            inner.learn_addresses(&name, &[address]);
        }
        let shield = inner.shield.as_mut()?;
        let action = shield.standing_action(address, blocked.protocol, blocked.port, std_now())?;
        let elements = shield.list_elements().unwrap_or_else(|error| {
            tracing::warn!(
                error = %error_chain(&error),
                "the elements of the firewall could not be listed"
            );
            Vec::new()
        });
        let in_kernel = elements.iter().any(|element| {
            element.action == action
                && element.address == address
                && element
                    .protocol
                    .is_none_or(|protocol| protocol == blocked.protocol)
                && element.port.is_none_or(|port| port == blocked.port)
        });
        in_kernel.then_some(action)
    }

    fn enforce_claim(&self, claim: &Claim) -> EnforcementOutcome {
        let mut inner = self.lock_state();
        let start = Instant::now();
        let (request, dest, action) = (claim.request(), claim.dest(), claim.action());
        match inner.apply_claim(claim) {
            Ok(()) => {
                let duration = start.elapsed();
                inner.emit_trace(TraceEvent::Enforced {
                    request,
                    dest,
                    action,
                    duration,
                });
                EnforcementOutcome::Applied
            }
            Err(reason) => {
                inner.emit_trace(TraceEvent::Refused {
                    request,
                    dest,
                    reason: &reason,
                });
                EnforcementOutcome::Failed(reason)
            }
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, ShieldEnforcerState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DecisionEnforcer for ShieldEnforcer {
    fn supports_ports(&self) -> bool {
        true
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        self.enforce_claim(&claim)
    }
}

impl ShieldEnforcerState {
    fn emit_trace(&mut self, event: TraceEvent<'_>) {
        if let Some(observer) = &mut self.observer {
            observer(event);
        }
    }

    fn learn_addresses(&mut self, name: &DomainName, addresses: &[IpAddr]) -> usize {
        let Some(shield) = &mut self.shield else {
            return 0;
        };
        match shield.learn_addresses(name, addresses, std_now()) {
            Ok(learnt) => {
                if learnt.refused > 0 {
                    let refused = learnt.refused;
                    tracing::warn!(
                        %name,
                        refused,
                        "an allowed name resolved to addresses that are never opened"
                    );
                }
                learnt.added
            }
            Err(error) => {
                let error = error_chain(&error);
                tracing::warn!(%name, %error, "cannot add the addresses of a name to the firewall");
                0
            }
        }
    }

    fn apply_claim(&mut self, claim: &Claim) -> Result<(), DisplayText> {
        let target = claim
            .dest()
            .parse_target()
            .map_err(|error| error_chain(&error))?;
        // The lookup may predate this process.
        if let (Target::Name(name), Ok(Target::Address(address))) =
            (&target, claim.address().parse_target())
        {
            self.learn_addresses(name, &[address]);
        }
        let shield = self
            .shield
            .as_mut()
            .ok_or_else(|| DisplayText::new("the sandbox has ended"))?;
        let ordered = shield.apply_order(claim.action(), &target, claim.scope(), std_now());
        ordered.map_err(|error| error_chain(&error))
    }
}

/// Allows a destination for the sandbox's lifetime.
pub(crate) fn allow_dest(
    shield: &mut NftShield,
    allowed: &AllowedDest,
) -> Result<(), ShieldOrderError> {
    shield.allow(&allowed.target, &allowed.to_scope(), std_now())
}

fn blocked_address(blocked: &BlockedPacket) -> Option<IpAddr> {
    match blocked.address.parse_target() {
        Ok(Target::Address(address)) => Some(address),
        _ => None,
    }
}

/// The current time in the standard library's type, as used by the shield.
pub(crate) fn std_now() -> std::time::Instant {
    Instant::now().into_std()
}
