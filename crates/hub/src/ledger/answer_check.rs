// SPDX-License-Identifier: Apache-2.0
//! Compares an answer with its question, and the reasons to refuse an answer.

use terok_clearance::{ContainerId, Decision, Dest, DisplayText, Protocol, RequestId, Scope};

use super::claim::{QuestionTriple, RequestedScope};
use super::entry::LedgerQuestion;

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
        RequestedScope::WholeDest => Ok(question.whole_dest()),
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
