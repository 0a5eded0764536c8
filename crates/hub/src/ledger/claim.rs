// SPDX-License-Identifier: Apache-2.0
//! The permission to change a firewall once, and the reasons to refuse an answer.

use std::sync::Arc;

use terok_clearance::{
    Action, ContainerId, Decision, Dest, DisplayText, EnforcementOutcome, Protocol, RequestId,
    Scope, Timestamp,
};

use super::entry::LedgerQuestion;

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

/// An error of an answer. The question, if any, is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// The question is not pending, and the history has no decision on it.
    #[error("no such question is pending")]
    UnknownRequest,
    /// Another answer is in progress.
    #[error("{} is answering the question", .0.by)]
    BeingDecided(Box<Decision>),
    /// Another answer was first.
    #[error("{} answered the question", .0.by)]
    AlreadyDecided(Box<Decision>),
    /// The answer does not match the question.
    #[error("the {} of the question is {}, not {}", .0.field, .0.expected, .0.got)]
    Mismatch(Box<ClaimMismatch>),
}

/// A field in which an answer differs from its question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimMismatch {
    /// The question's id.
    pub request: RequestId,
    /// The question's sandbox.
    pub container: ContainerId,
    /// The question's destination.
    pub dest: Dest,
    /// The field: `container`, `dest`, `scope.dest`, `scope.port` or `scope.protocol`.
    pub field: &'static str,
    /// The value in the question.
    pub expected: DisplayText,
    /// The value in the answer.
    pub got: DisplayText,
}

/// Checks that `asked` has the sandbox and the destination of `question`.
pub(super) fn check_triple(
    question: &LedgerQuestion<'_>,
    asked: QuestionTriple<'_>,
) -> Result<(), ClaimError> {
    let (container, dest) = (question.container().as_str(), question.dest().as_str());
    if container != asked.container {
        Err(mismatch_error(
            question,
            "container",
            container,
            asked.container,
        ))
    } else if dest != asked.dest {
        Err(mismatch_error(question, "dest", dest, asked.dest))
    } else {
        Ok(())
    }
}

/// Returns the scope to apply, if the requested scope is no wider than the question.
pub(super) fn resolve_scope(
    question: &LedgerQuestion<'_>,
    requested: RequestedScope,
) -> Result<Scope, ClaimError> {
    match requested {
        RequestedScope::Default => Ok(question.default_scope()),
        RequestedScope::WholeDest => Ok(Scope::whole_dest(question.dest().clone())),
        RequestedScope::Explicit(scope) => {
            check_scope(question, &question.default_scope(), &scope).map(|()| scope)
        }
    }
}

/// Checks that `scope` is no wider than `own`, the question's default scope.
///
/// The port and the protocol are the question's own, or absent where `own` has none. The lifetime
/// of a rule is the answer's choice, because a packet does not ask for one.
fn check_scope(
    question: &LedgerQuestion<'_>,
    own: &Scope,
    scope: &Scope,
) -> Result<(), ClaimError> {
    if scope.dest != own.dest {
        let (asked, got) = (own.dest.as_str(), scope.dest.as_str());
        return Err(mismatch_error(question, "scope.dest", asked, got));
    }
    let describe = |port: Option<u16>| port.map_or_else(|| "every".to_owned(), |p| p.to_string());
    let reaches_port = match scope.port {
        None => own.port.is_none(),
        Some(port) => port == question.port() && port != 0,
    };
    if !reaches_port {
        let asked = own.port.or_else(|| Some(question.port()));
        let (asked, got) = (describe(asked), describe(scope.port));
        return Err(mismatch_error(question, "scope.port", &asked, &got));
    }
    let describe = |p: Option<Protocol>| p.map_or_else(|| "every".to_owned(), |p| p.to_string());
    let reaches_protocol = match scope.protocol {
        None => own.protocol.is_none(),
        Some(protocol) => protocol == question.protocol(),
    };
    if !reaches_protocol {
        let asked = own.protocol.or_else(|| Some(question.protocol()));
        let (asked, got) = (describe(asked), describe(scope.protocol));
        return Err(mismatch_error(question, "scope.protocol", &asked, &got));
    }
    Ok(())
}

fn mismatch_error(
    question: &LedgerQuestion<'_>,
    field: &'static str,
    asked: &str,
    got: &str,
) -> ClaimError {
    ClaimError::Mismatch(Box::new(ClaimMismatch {
        request: question.id().clone(),
        container: question.container().clone(),
        dest: question.dest().clone(),
        field,
        expected: DisplayText::new(asked),
        got: DisplayText::new(got),
    }))
}
