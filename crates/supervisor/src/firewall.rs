// SPDX-License-Identifier: Apache-2.0
//! The shield, as the hub and the reader use it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub::{Claim, DecisionEnforcer};
use shield::{NftShield, ShieldOrderError};
use terok_clearance::{
    Action, BlockedPacket, Dest, DisplayText, DomainName, EnforcementOutcome, Target,
};
use tokio::time::Instant;

use crate::{Observer, Opening, Step};

/// One sandbox's shield, shared by the hub, which carries answers out, and the reader, which
/// tells it what names were answered with.
#[derive(Debug, Clone)]
pub(crate) struct Firewall(Arc<Mutex<Inner>>);

struct Inner {
    /// Nothing once the sandbox has ended: the socket would keep its network namespace alive.
    shield: Option<NftShield>,
    observer: Option<Observer>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { shield, observer } = self;
        f.debug_struct("Inner")
            .field("shield", shield)
            .field("observed", &observer.is_some())
            .finish()
    }
}

impl Firewall {
    pub(crate) fn new(shield: NftShield) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            shield: Some(shield),
            observer: None,
        })))
    }

    pub(crate) fn observe(&self, observer: Observer) {
        self.inner().observer = Some(observer);
    }

    /// Gives the shield's socket up, and with it its hold on the network namespace.
    pub(crate) fn close(&self) {
        self.inner().shield = None;
    }

    pub(crate) fn say(&self, step: Step<'_>) {
        self.inner().say(step);
    }

    /// Opens or closes the addresses that `name` was answered with, if an order on it stands.
    pub(crate) fn learn(&self, name: &DomainName, addresses: &[IpAddr]) {
        let mut inner = self.inner();
        let placed = inner.learn(name, addresses);
        inner.say(Step::Answered {
            name,
            addresses,
            placed,
        });
    }

    /// Says what the kernel does with the next packet of this kind, if an order says so.
    ///
    /// The packet may have been on its way while the answer was, or while the address of an
    /// allowed name was learnt. The kernel is asked for the element itself: it may be gone by
    /// another hand, and a question must not be swallowed for what is no longer there.
    pub(crate) fn settled(&self, blocked: &BlockedPacket) -> Option<Action> {
        let address = address(blocked)?;
        let mut inner = self.inner();
        if let Some(Ok(Target::Name(name))) = blocked.domain.as_ref().map(Dest::parse_target) {
            inner.learn(&name, &[address]);
        }
        let shield = inner.shield.as_mut()?;
        let action = shield.decided(address, blocked.protocol, blocked.port, now())?;
        let held = shield.list().unwrap_or_else(|error| {
            tracing::warn!(
                error = text(&error),
                "what the firewall holds could not be read"
            );
            Vec::new()
        });
        let holds = held.iter().any(|element| {
            element.action == action
                && element.address == address
                && element.protocol.is_none_or(|its| its == blocked.protocol)
                && element.port.is_none_or(|its| its == blocked.port)
        });
        holds.then_some(action)
    }

    /// Carries one answer out.
    fn order(&self, claim: &Claim) -> EnforcementOutcome {
        let mut inner = self.inner();
        let start = Instant::now();
        let (request, dest, action) = (claim.request(), claim.dest(), claim.action());
        match inner.order(claim) {
            Ok(()) => {
                let took = start.elapsed();
                inner.say(Step::Enforced {
                    request,
                    dest,
                    action,
                    took,
                });
                EnforcementOutcome::Applied
            }
            Err(reason) => {
                let reason = DisplayText::new(&reason);
                inner.say(Step::Refused {
                    request,
                    dest,
                    reason: &reason,
                });
                EnforcementOutcome::Failed(reason)
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DecisionEnforcer for Firewall {
    fn supports_ports(&self) -> bool {
        true
    }

    async fn enforce(&self, claim: Claim) -> EnforcementOutcome {
        self.order(&claim)
    }
}

impl Inner {
    fn say(&mut self, step: Step<'_>) {
        if let Some(observer) = &mut self.observer {
            observer(step);
        }
    }

    fn learn(&mut self, name: &DomainName, addresses: &[IpAddr]) -> usize {
        let Some(shield) = &mut self.shield else {
            return 0;
        };
        match shield.learn(name, addresses, now()) {
            Ok(learnt) => {
                if learnt.refused > 0 {
                    let refused = learnt.refused;
                    tracing::warn!(%name, refused, "an allowed name was answered with addresses that are never opened");
                }
                learnt.placed
            }
            Err(error) => {
                tracing::warn!(%name, error = text(&error), "the addresses of a name were not placed");
                0
            }
        }
    }

    fn order(&mut self, claim: &Claim) -> Result<(), String> {
        let target = claim
            .dest()
            .parse_target()
            .map_err(|error| error.to_string())?;
        // The name may have led to this address before this process was there to see it.
        if let (Target::Name(name), Ok(Target::Address(address))) =
            (&target, claim.address().parse_target())
        {
            self.learn(name, &[address]);
        }
        let shield = self.shield.as_mut().ok_or("the sandbox has ended")?;
        let ordered = shield.order(claim.action(), &target, claim.scope(), now());
        ordered.map_err(|error| text(&error))
    }
}

/// Lets packets pass, as far as `opening` reaches, for the sandbox's life.
pub(crate) fn allow(shield: &mut NftShield, opening: &Opening) -> Result<(), ShieldOrderError> {
    shield.allow(&opening.target, &opening.scope(), now())
}

fn address(blocked: &BlockedPacket) -> Option<IpAddr> {
    match blocked.address.parse_target() {
        Ok(Target::Address(address)) => Some(address),
        _ => None,
    }
}

/// The shield counts in the standard library's time.
pub(crate) fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Writes an error with what caused it.
pub(crate) fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
