// SPDX-License-Identifier: Apache-2.0
//! Input and output of the inbox: events, changes, answers and replies.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use terok_clearance::client::{AnswerError, ProtocolVersion, UnknownEvent};
use terok_clearance::wire::clearance2::{ContainerState, DecideError, Event, Request};
use terok_clearance::{Action, ContainerId, Decision, DisplayText, Scope, ShieldState};

use super::{Row, RowNumber};
use crate::error_chain;

/// Identity of a hub: the path of its socket.
///
/// Compared as text, which is several times faster than a comparison of path components.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HubId(Arc<OsStr>);

impl HubId {
    /// Returns the id of the hub whose socket is at `path`.
    pub fn new(path: &Path) -> Self {
        Self(path.as_os_str().into())
    }

    /// Returns the socket's path.
    pub fn path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Returns the sandbox (the start of its id) of a per-sandbox hub, from the path:
    /// `clearance/<id>/hub.sock` or `clearance/<id>.sock`.
    pub fn sandbox(&self) -> Option<&str> {
        let named = |path: &Path, name: &str| path.file_name().is_some_and(|n| n == name);
        let parent = self.path().parent()?;
        if named(self.path(), "hub.sock") {
            parent.file_name()?.to_str()
        } else if named(parent, "clearance") {
            self.path().file_stem()?.to_str()
        } else {
            None
        }
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        DisplayText::new(&self.0.to_string_lossy()).fmt(f)
    }
}

/// An event of a hub or of its connection.
#[derive(Debug, Clone)]
pub enum InboxEvent {
    /// The hub is connected. A Clearance2 hub sends its pending questions next, then
    /// [`Event::Synced`].
    Up(ProtocolVersion),
    /// The hub of the next [`InboxEvent::Up`] is another process than before: questions that it
    /// does not send again are forgotten, not answered.
    Restarted,
    /// The hub sent an event. Over Clearance1 a repeated question is another `Pending`.
    Received(Event),
    /// The hub sent an event of a type that this release does not know.
    UnknownEvent(UnknownEvent),
    /// The connection was lost, for this reason.
    Down(DisplayText),
    /// The hub's socket was removed.
    Gone,
    /// The socket exists but cannot be used, for this reason.
    Unreachable(DisplayText),
}

/// A change of the inbox.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum InboxChange {
    /// A row was added, or a forgotten row is asked again.
    Added(RowNumber),
    /// A question of a row was repeated, or more is known about it.
    Updated(RowNumber),
    /// A row ended.
    Ended(Box<Row>, RowEnd),
    /// An answer took no effect; the row stays.
    Failed {
        /// The row.
        row: RowNumber,
        /// The answer.
        action: Action,
        /// The reason.
        reason: DisplayText,
    },
    /// The result of an answer is unknown; the row stays.
    ResultUnknown {
        /// The row.
        row: RowNumber,
        /// The answer.
        action: Action,
        /// The reason.
        reason: DisplayText,
    },
    /// A restarted hub forgot the question; the row stays until the next packet asks again.
    ForgottenByHub(RowNumber),
    /// A hub is connected.
    Up(HubId, ProtocolVersion),
    /// The connection to a hub was lost, for this reason; its rows stay.
    Down(HubId, DisplayText),
    /// A hub's socket was removed; the rows of a per-sandbox hub have ended.
    Gone(HubId),
    /// The socket exists but cannot be used, for this reason.
    Unreachable(HubId, DisplayText),
    /// A hub has sent all its pending questions.
    Synced(HubId),
    /// A hub or a reader skipped events.
    Lost {
        /// The hub.
        hub: HubId,
        /// Number of lost events or packets.
        lost: u64,
        /// The reason.
        reason: DisplayText,
    },
    /// A hub sent an event of a type that this release does not know.
    UnknownEvent(HubId, UnknownEvent),
    /// A sandbox started or ended.
    Container {
        /// The hub.
        hub: HubId,
        /// The sandbox.
        container: ContainerId,
        /// Started or ended.
        state: ContainerState,
        /// The source of the information that the sandbox ended.
        reason: Option<DisplayText>,
    },
    /// The firewall of a sandbox changed.
    Shield {
        /// The hub.
        hub: HubId,
        /// The sandbox.
        container: ContainerId,
        /// The new state.
        state: ShieldState,
    },
}

/// The reason for the end of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowEnd {
    /// The question was answered.
    Decided(Arc<Decision>),
    /// The hub withdrew the question, for this reason.
    Withdrawn(DisplayText),
    /// The question was missing from the hub's new snapshot.
    MissingAfterResync,
    /// The hub's socket was removed.
    HubGone,
    /// The row was the oldest when the limit of rows was reached.
    Evicted,
    /// The scope of an answer changed; a new row replaces this one.
    ScopeChanged,
}

/// An answer to send: the question as the hub sent it, and exactly the scope that the row showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorAnswer {
    /// The row.
    pub row: RowNumber,
    /// The hub of the question.
    pub hub: HubId,
    /// The question.
    pub request: Arc<Request>,
    /// The answer.
    pub action: Action,
    /// The scope. A Clearance1 hub accepts none and opens the whole destination, which is what
    /// the rows of such a hub show.
    pub scope: Scope,
}

/// The reply of a hub to an answer.
#[derive(Debug, Clone)]
pub enum OperatorReply {
    /// The answer was applied; holds the record.
    Decided(Decision),
    /// Another operator answered first.
    AlreadyDecided(Decision),
    /// The question is not pending.
    NoSuchRequest,
    /// The firewall did not apply the answer, which the hub also reports as an event; the question
    /// stays.
    EnforcementFailed(DisplayText),
    /// The answer took no effect; the question stays.
    Failed(DisplayText),
    /// The answer was sent, but its result is unknown; the question stays.
    ResultUnknown(DisplayText),
}

impl From<Result<Decision, AnswerError>> for OperatorReply {
    fn from(result: Result<Decision, AnswerError>) -> Self {
        let error = match result {
            Ok(decision) => return Self::Decided(decision),
            Err(error) => error,
        };
        match error {
            AnswerError::Refused(DecideError::NoSuchRequest { .. }) => Self::NoSuchRequest,
            AnswerError::Refused(DecideError::AlreadyDecided { decision }) => {
                Self::AlreadyDecided(*decision)
            }
            AnswerError::Refused(DecideError::EnforcementFailed { reason, .. }) => {
                Self::EnforcementFailed(reason)
            }
            error @ (AnswerError::Unanswered(_) | AnswerError::TimedOut(_)) => {
                Self::ResultUnknown(error_chain(&error))
            }
            error => Self::Failed(error_chain(&error)),
        }
    }
}

/// The reason why an answer was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowRefusal {
    /// No row had this number yet.
    #[error("there is no row {0}")]
    NoSuchRow(RowNumber),
    /// The row ended, for this reason.
    #[error("row {0} is no longer pending")]
    Ended(RowNumber, RowEnd),
    /// The row ended too long ago for the reason to be known.
    #[error("row {0} is no longer pending")]
    EndedLongAgo(RowNumber),
    /// An answer was sent, and its reply is pending.
    #[error("row {0} is already being answered: {1}")]
    AlreadyAnswering(RowNumber, Action),
    /// A restarted hub forgot the question.
    #[error("row {0} is stale: its hub restarted; the next packet will ask again")]
    ForgottenByHub(RowNumber),
    /// The hub is disconnected.
    #[error("the hub of row {0} is away: {1}")]
    HubDisconnected(RowNumber, HubId),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandbox_of_a_hub_is_in_its_path() {
        let sandbox = |path: &str| HubId::new(Path::new(path)).sandbox().map(str::to_owned);
        assert_eq!(
            sandbox("/run/terok/clearance/web/hub.sock").as_deref(),
            Some("web")
        );
        assert_eq!(
            sandbox("/run/terok/clearance/0123456789ab.sock").as_deref(),
            Some("0123456789ab")
        );
        assert_eq!(sandbox("/run/terok-clearance.sock"), None);
    }
}
