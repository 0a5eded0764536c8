// SPDX-License-Identifier: Apache-2.0
//! Compares an answer with its question, and the reasons to refuse an answer.

use terok_clearance::{
    BlockedPacket, ContainerId, Decision, Dest, DisplayText, Protocol, RequestId, RuleLifetime,
    Scope,
};

use super::claim::{QuestionTriple, RequestedScope};
use crate::scope_support::ScopeSupport;

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
    /// The field: `container`, `dest`, `scope.dest`, `scope.port`, `scope.protocol`, `scope.keep`
    /// or `scope.seconds`.
    pub field: &'static str,
    /// The value in the question.
    pub expected: DisplayText,
    /// The value in the answer.
    pub got: DisplayText,
}

/// Checks that `asked` has the sandbox and the destination of `question`.
pub(super) fn check_triple(
    question: &BlockedPacket,
    asked: QuestionTriple<'_>,
) -> Result<(), ClaimError> {
    let (container, dest) = (question.container.as_str(), question.dest().as_str());
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

/// Returns the scope to apply, if the requested scope is no wider than the question offers.
pub(super) fn resolve_scope(
    question: &BlockedPacket,
    support: ScopeSupport,
    requested: RequestedScope,
) -> Result<Scope, ClaimError> {
    match requested {
        RequestedScope::Default => Ok(support.default_scope(question)),
        RequestedScope::WholeDest => Ok(support.whole_dest(question.dest())),
        RequestedScope::Explicit(scope) => {
            check_reach(question, support, &scope)?;
            check_lifetime(question, support, &scope)?;
            Ok(scope)
        }
    }
}

/// Checks that `scope` reaches no further than the question offers.
///
/// The destination is the question's own or one of its wider names. The port and the protocol are
/// the question's own, or absent where the question's default scope has none.
fn check_reach(
    question: &BlockedPacket,
    support: ScopeSupport,
    scope: &Scope,
) -> Result<(), ClaimError> {
    let own = support.default_scope(question);
    if scope.dest != own.dest && !support.wider_names(question).contains(&scope.dest) {
        let (asked, got) = (own.dest.as_str(), scope.dest.as_str());
        return Err(mismatch_error(question, "scope.dest", asked, got));
    }
    let describe = |port: Option<u16>| port.map_or_else(|| "every".to_owned(), |p| p.to_string());
    let reaches_port = match scope.port {
        None => own.port.is_none(),
        Some(port) => port == question.port && port != 0,
    };
    if !reaches_port {
        let asked = own.port.or(Some(question.port));
        let (asked, got) = (describe(asked), describe(scope.port));
        return Err(mismatch_error(question, "scope.port", &asked, &got));
    }
    let describe = |p: Option<Protocol>| p.map_or_else(|| "every".to_owned(), |p| p.to_string());
    let reaches_protocol = match scope.protocol {
        None => own.protocol.is_none(),
        Some(protocol) => protocol == question.protocol,
    };
    if !reaches_protocol {
        let asked = own.protocol.or(Some(question.protocol));
        let (asked, got) = (describe(asked), describe(scope.protocol));
        return Err(mismatch_error(question, "scope.protocol", &asked, &got));
    }
    Ok(())
}

/// Checks that the hub offers the lifetime of `scope`, if it offers any.
///
/// A rule for one connection is for the destination that was asked about; a rule in a file has no
/// end.
fn check_lifetime(
    question: &BlockedPacket,
    support: ScopeSupport,
    scope: &Scope,
) -> Result<(), ClaimError> {
    let lifetimes = support.offer.lifetimes;
    if lifetimes.is_empty() {
        return Ok(());
    }
    if !lifetimes.contains(&scope.keep) {
        let offered: Vec<_> = lifetimes.iter().map(|keep| keep.as_str()).collect();
        let got = scope.keep.as_str();
        return Err(mismatch_error(
            question,
            "scope.keep",
            &offered.join(", "),
            got,
        ));
    }
    if scope.keep == RuleLifetime::Once && scope.dest != *question.dest() {
        let (asked, got) = (question.dest().as_str(), scope.dest.as_str());
        return Err(mismatch_error(question, "scope.dest", asked, got));
    }
    match scope.seconds {
        Some(seconds) if seconds == 0 || scope.keep.is_kept() => {
            let got = seconds.to_string();
            Err(mismatch_error(question, "scope.seconds", "none", &got))
        }
        _ => Ok(()),
    }
}

fn mismatch_error(
    question: &BlockedPacket,
    field: &'static str,
    asked: &str,
    got: &str,
) -> ClaimError {
    ClaimError::Mismatch(Box::new(ClaimMismatch {
        request: question.request.clone(),
        container: question.container.clone(),
        dest: question.dest().clone(),
        field,
        expected: DisplayText::new(asked),
        got: DisplayText::new(got),
    }))
}
