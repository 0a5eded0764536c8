// SPDX-License-Identifier: Apache-2.0
//! The permission to change a firewall once.

use std::sync::{Arc, Weak};

use terok_clearance::{
    Action, BlockedPacket, ContainerId, Decision, Dest, DisplayText, EnforcementOutcome,
    NetworkZone, Protocol, RequestId, Scope, Timestamp,
};

/// The question that an answer names, as received from a client.
#[derive(Debug, Clone, Copy)]
pub struct QuestionTriple<'a> {
    /// The question's id, or another of the reader's ids for the same question.
    pub request: &'a str,
    /// The sandbox; an answer with another sandbox than the question's is refused.
    pub container: &'a str,
    /// The destination; an answer with another destination than the question's is refused.
    pub dest: &'a str,
}

/// The scope that an answer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestedScope {
    /// The question's default scope.
    Default,
    /// A scope no wider than the question offers.
    Explicit(Scope),
    /// The whole destination with every port and protocol, as Clearance1 verdicts always mean.
    WholeDest,
}

/// The permission to apply one answer, once.
///
/// Only [`Ledger::claim`](super::Ledger::claim) creates a claim, and claims cannot be copied:
///
/// ```compile_fail,E0382
/// fn carry_out(_: hub::ledger::Claim) {}
/// fn twice(claim: hub::ledger::Claim) {
///     carry_out(claim);
///     carry_out(claim);
/// }
/// ```
///
/// ```compile_fail,E0599
/// fn copy(claim: &hub::ledger::Claim) -> hub::ledger::Claim {
///     claim.clone()
/// }
/// ```
#[derive(Debug)]
#[must_use = "a claim has no effect until it is enforced"]
pub struct Claim {
    pub(super) request: RequestId,
    pub(super) container: ContainerId,
    pub(super) dest: Dest,
    pub(super) address: Dest,
    pub(super) port: u16,
    pub(super) protocol: Protocol,
    pub(super) zone: NetworkZone,
    pub(super) action: Action,
    pub(super) scope: Scope,
    pub(super) by: DisplayText,
}

impl Claim {
    /// Issues the claim for an answer to the question of `blocked`, and its receipt.
    pub(super) fn issue(
        blocked: &BlockedPacket,
        target: ClaimTarget,
        answered_id: RequestId,
        action: Action,
        scope: Scope,
        by: DisplayText,
        now: Timestamp,
    ) -> (Self, ClaimReceipt) {
        let decision = Decision {
            request: blocked.request.clone(),
            container: blocked.container.clone(),
            dest: blocked.dest().clone(),
            action: action.into(),
            scope: Some(scope.clone()),
            by,
            at: now,
            ok: false,
            reason: Some(DisplayText::new("being carried out")),
        };
        let claim = Self {
            request: decision.request.clone(),
            container: decision.container.clone(),
            dest: decision.dest.clone(),
            address: blocked.address.clone(),
            port: blocked.port,
            protocol: blocked.protocol,
            zone: blocked.zone,
            action,
            scope,
            by: decision.by.clone(),
        };
        let receipt = ClaimReceipt {
            target,
            decision: Box::new(decision),
            answered_id,
            held: Arc::new(()),
        };
        (claim, receipt)
    }

    /// Returns the question's id.
    pub const fn request(&self) -> &RequestId {
        &self.request
    }

    /// Returns the sandbox whose firewall to change.
    pub const fn container(&self) -> &ContainerId {
        &self.container
    }

    /// Returns the destination of the question and the answer.
    pub const fn dest(&self) -> &Dest {
        &self.dest
    }

    /// Returns the address that the blocked packet was sent to: the destination itself, or an
    /// address of the destination's name.
    pub const fn address(&self) -> &Dest {
        &self.address
    }

    /// Returns the port that the blocked packet was sent to; 0 for a protocol without ports.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the transport protocol of the blocked packet.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Returns the part of the network that the question was about. An answer is for no other one.
    pub const fn zone(&self) -> NetworkZone {
        self.zone
    }

    /// Returns the action to apply.
    pub const fn action(&self) -> Action {
        self.action
    }

    /// Returns the scope of the answer.
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Returns the operator, as the record names them.
    pub const fn by(&self) -> &DisplayText {
        &self.by
    }
}

/// The question of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClaimTarget {
    /// The pending question with this number.
    Pending(u64),
    /// A question that was answered before.
    Answered,
}

/// The ledger's half of a [`Claim`], which connects an outcome to its question.
///
/// While the receipt exists, the question cannot be claimed again. A receipt that is dropped
/// without [`Ledger::settle`](super::Ledger::settle), by a cancelled task or a panic, releases the
/// question, which is still pending.
#[derive(Debug)]
#[must_use = "dropping the receipt releases the question"]
pub struct ClaimReceipt {
    pub(super) target: ClaimTarget,
    pub(super) decision: Box<Decision>,
    /// The id in the answer.
    pub(super) answered_id: RequestId,
    /// Marks the question as claimed while the receipt exists.
    held: Arc<()>,
}

impl ClaimReceipt {
    /// Returns the number of the question, if it is pending.
    #[cfg(test)]
    pub(super) const fn number(&self) -> Option<u64> {
        match self.target {
            ClaimTarget::Pending(number) => Some(number),
            ClaimTarget::Answered => None,
        }
    }

    /// Returns a reference that ends with the receipt.
    pub(super) fn alive(&self) -> Weak<()> {
        Arc::downgrade(&self.held)
    }

    pub(super) fn to_decision(&self, outcome: &EnforcementOutcome, now: Timestamp) -> Decision {
        let (ok, reason) = match outcome {
            EnforcementOutcome::Applied => (true, None),
            EnforcementOutcome::Failed(reason) => (false, Some(reason.clone())),
        };
        Decision {
            at: now,
            ok,
            reason,
            ..(*self.decision).clone()
        }
    }
}
