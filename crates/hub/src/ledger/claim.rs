// SPDX-License-Identifier: Apache-2.0
//! The permission to change a firewall once.

use std::sync::Arc;

use terok_clearance::{
    Action, ContainerId, Decision, Dest, EnforcementOutcome, NetworkZone, RequestId, Scope,
    Timestamp,
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
    /// A scope no wider than the question's default scope.
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
    pub(super) zone: NetworkZone,
    pub(super) action: Action,
    pub(super) scope: Scope,
}

impl Claim {
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
}

/// The ledger's half of a [`Claim`], which connects an outcome to its question.
///
/// While the receipt exists, the question cannot be claimed again. A receipt that is dropped
/// without [`Ledger::settle`](super::Ledger::settle), by a cancelled task or a panic, releases the
/// question, which is still pending.
#[derive(Debug)]
#[must_use = "dropping the receipt releases the question"]
pub struct ClaimReceipt {
    pub(super) number: u64,
    pub(super) decision: Box<Decision>,
    /// The id in the answer.
    pub(super) answered_id: RequestId,
    /// Marks the question as claimed while the receipt exists.
    pub(super) _held: Arc<()>,
}

impl ClaimReceipt {
    /// Returns the number of the question.
    pub const fn number(&self) -> u64 {
        self.number
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
