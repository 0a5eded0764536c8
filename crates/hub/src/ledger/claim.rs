// SPDX-License-Identifier: Apache-2.0
//! The right to change a firewall once, and who is refused it.

use std::sync::Arc;

use terok_clearance::{
    Action, ContainerId, Decision, Dest, DisplayText, EnforcementOutcome, Protocol, RequestId,
    Scope, Timestamp,
};

use super::entry::LedgerQuestion;

/// The question that an answer names, as it came over the wire.
#[derive(Debug, Clone, Copy)]
pub struct QuestionTriple<'a> {
    /// The question's id, or another that the reader gave for it.
    pub request: &'a str,
    /// The sandbox that the answer is for; the question's own, or the answer is refused.
    pub container: &'a str,
    /// The destination that the answer is for; the question's own, or the answer is refused.
    pub dest: &'a str,
}

/// How far an answer is to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestedScope {
    /// As far as the question's own scope.
    Default,
    /// No further than this, which is no further than the question's own scope.
    Explicit(Scope),
    /// The whole destination, every port and protocol: what a verdict of Clearance1 always meant.
    WholeDest,
}

/// The right to carry out one answer, once.
///
/// Only [`Ledger::claim`](super::Ledger::claim) makes one, and it cannot be copied:
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
#[must_use = "a claim is an order that somebody waits for"]
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

    /// Returns the sandbox whose firewall is meant.
    pub const fn container(&self) -> &ContainerId {
        &self.container
    }

    /// Returns what was asked about and what the answer is about.
    pub const fn dest(&self) -> &Dest {
        &self.dest
    }

    /// Returns the address that the blocked packet was sent to: the destination itself, or one
    /// that the destination's name stood for.
    pub const fn address(&self) -> &Dest {
        &self.address
    }

    /// Returns what to do.
    pub const fn action(&self) -> Action {
        self.action
    }

    /// Returns how far the answer reaches: never further than what was asked.
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }
}

/// The other half of a [`Claim`]: shows the ledger which one an outcome belongs to.
///
/// As long as it exists nobody else can claim the question. Dropped without
/// [`Ledger::settle`](super::Ledger::settle), by a cancelled task or a panic, it frees the
/// question, which was pending all the while.
#[derive(Debug)]
#[must_use = "dropping it frees the question"]
pub struct ClaimReceipt {
    pub(super) number: u64,
    pub(super) decision: Box<Decision>,
    /// The id that the answer named.
    pub(super) answered_id: RequestId,
    /// Held so that the question sees itself claimed.
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

/// Why an answer is refused. The question, if there is one, stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// No such question is pending, and none was decided lately.
    #[error("no such question is pending")]
    UnknownRequest,
    /// Somebody else's answer is being carried out.
    #[error("{} is deciding it", .0.by)]
    BeingDecided(Box<Decision>),
    /// Somebody else was first.
    #[error("{} decided it", .0.by)]
    AlreadyDecided(Box<Decision>),
    /// The answer is about something that was not asked.
    #[error("the {} asked about is {}, not {}", .0.field, .0.expected, .0.got)]
    Mismatch(Box<ClaimMismatch>),
}

/// Where an answer differs from its question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimMismatch {
    /// The question's id.
    pub request: RequestId,
    /// The sandbox it is about.
    pub container: ContainerId,
    /// The destination it is about.
    pub dest: Dest,
    /// What differs: `container`, `dest`, `scope.dest`, `scope.port`, `scope.protocol`.
    pub field: &'static str,
    /// What the question says there.
    pub expected: DisplayText,
    /// What the answer says there.
    pub got: DisplayText,
}

/// Checks that `asked` is about the sandbox and the destination of `question`.
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

/// Returns the scope of an answer with this reach, if it is no wider than the question.
pub(super) fn resolve_scope(
    question: &LedgerQuestion<'_>,
    reach: RequestedScope,
) -> Result<Scope, ClaimError> {
    match reach {
        RequestedScope::Default => Ok(question.default_scope()),
        RequestedScope::WholeDest => Ok(Scope::whole_dest(question.dest().clone())),
        RequestedScope::Explicit(scope) => {
            check_scope(question, &question.default_scope(), &scope).map(|()| scope)
        }
    }
}

/// Checks that `scope` reaches no further than `own`, the question's own scope.
///
/// A port and a protocol are the question's own, or absent where `own` has none. How long a rule
/// is kept is no part of what a packet asks, so it is the answer's to say.
fn check_scope(
    question: &LedgerQuestion<'_>,
    own: &Scope,
    scope: &Scope,
) -> Result<(), ClaimError> {
    if scope.dest != own.dest {
        let (asked, got) = (own.dest.as_str(), scope.dest.as_str());
        return Err(mismatch_error(question, "scope.dest", asked, got));
    }
    let shown = |port: Option<u16>| port.map_or_else(|| "every".to_owned(), |p| p.to_string());
    let reaches_port = match scope.port {
        None => own.port.is_none(),
        Some(port) => port == question.port() && port != 0,
    };
    if !reaches_port {
        let asked = own.port.or_else(|| Some(question.port()));
        let (asked, got) = (shown(asked), shown(scope.port));
        return Err(mismatch_error(question, "scope.port", &asked, &got));
    }
    let shown = |p: Option<Protocol>| p.map_or_else(|| "every".to_owned(), |p| p.to_string());
    let reaches_protocol = match scope.protocol {
        None => own.protocol.is_none(),
        Some(protocol) => protocol == question.protocol(),
    };
    if !reaches_protocol {
        let asked = own.protocol.or_else(|| Some(question.protocol()));
        let (asked, got) = (shown(asked), shown(scope.protocol));
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
