// SPDX-License-Identifier: Apache-2.0
//! Input and output of the inbox: events and replies, changes and answers.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use terok_clearance::client::{AnswerError, ProtocolVersion, UnknownEvent};
use terok_clearance::wire::clearance2::{ContainerState, DecideError, Event, Request};
use terok_clearance::{
    Action, ContainerId, Decision, DisplayText, Scope, ShieldState, error_chain,
};

use super::{Row, RowNumber};
use crate::answer_scope::ScopeRefusal;

/// The identity of a hub: the path of the socket.
///
/// Ids are compared as text, several times faster than path components.
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

    /// Returns the sandbox of a per-sandbox hub: the prefix of the container id in the path,
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

/// An event from a hub or from the connection to a hub.
#[derive(Debug, Clone)]
pub enum InboxEvent {
    /// The hub is connected. A Clearance2 hub sends its pending questions next, then
    /// [`Event::Synced`].
    Up(ProtocolVersion),
    /// The hub process was replaced; precedes [`InboxEvent::Up`]. Questions that the new process
    /// does not send are forgotten, not answered.
    Restarted,
    /// The hub sent an event. A Clearance1 hub sends a repeated question as `Pending`.
    Received(Event),
    /// The hub sent an event of a type unknown to this release.
    UnknownEvent(UnknownEvent),
    /// The connection was lost for this reason.
    Down(DisplayText),
    /// The hub's socket was removed.
    Gone,
    /// The socket exists but cannot be used for this reason.
    Unreachable(DisplayText),
    /// No process listens at the socket that was found: a killed hub has left it. Changes nothing.
    NoListener,
}

/// A change of the inbox.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum InboxChange {
    /// A row was added, or a forgotten row was asked again.
    Added(RowNumber),
    /// A question of a row was repeated or changed.
    Updated(RowNumber),
    /// The process that asks was found after the question was shown. Follows `Updated`.
    ProcessFound(RowNumber),
    /// The number of connections that wait reached 10, 100 or another power of ten. Follows
    /// `Updated`.
    WaitingGrew(RowNumber),
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
    /// The hub was restarted and forgot the question. The row stays until the next packet asks
    /// again.
    ForgottenByHub(RowNumber),
    /// A hub is connected.
    Up(HubId, ProtocolVersion),
    /// The connection to a hub was lost for this reason. The hub's rows stay.
    Down(HubId, DisplayText),
    /// A hub's socket was removed. The rows of a per-sandbox hub have ended.
    Gone(HubId),
    /// The socket exists but cannot be used for this reason.
    Unreachable(HubId, DisplayText),
    /// A hub has sent all pending questions.
    Synced(HubId),
    /// A hub or a reader skipped events.
    Lost {
        /// The hub.
        hub: HubId,
        /// The number of lost events or packets.
        lost: u64,
        /// The reason.
        reason: DisplayText,
    },
    /// A hub sent an event of a type unknown to this release.
    UnknownEvent(HubId, UnknownEvent),
    /// A sandbox started or ended.
    Container {
        /// The hub.
        hub: HubId,
        /// The sandbox.
        container: ContainerId,
        /// Started or ended.
        state: ContainerState,
        /// The source of the report about the end.
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

impl InboxChange {
    /// Returns `true` for a new question.
    pub const fn is_new_question(&self) -> bool {
        matches!(self, Self::Added(_))
    }
}

/// The reason for the end of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowEnd {
    /// The question was answered.
    Decided(Arc<Decision>),
    /// The hub withdrew the question for this reason.
    Withdrawn(DisplayText),
    /// The question was missing from the hub's new snapshot.
    MissingAfterResync,
    /// The hub's socket was removed.
    HubGone,
    /// The row was the oldest when the inbox reached the limit of rows.
    Evicted,
    /// The scope of an answer changed; a new row replaces the ended row.
    ScopeChanged,
}

/// An answer to send: the question as received from the hub, and exactly the scope that the
/// operator chose, by default the one that the row shows.
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
    /// The scope. Not sent to a Clearance1 hub: such a hub always opens the whole destination, as
    /// its rows show.
    pub scope: Scope,
}

/// The reply of a hub to an answer.
#[derive(Debug, Clone)]
pub enum OperatorReply {
    /// The answer was applied. Contains the record.
    Decided(Decision),
    /// Another operator answered first.
    AlreadyDecided(Decision),
    /// The question is not pending.
    NoSuchRequest,
    /// The firewall did not apply the answer; the question stays. The hub reports the same failure
    /// as an event.
    EnforcementFailed(DisplayText),
    /// The answer took no effect; the question stays.
    Failed(DisplayText),
    /// The answer was sent, but the result is unknown; the question stays.
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
    /// No row with this number has been added so far.
    #[error("there is no row {0}")]
    NoSuchRow(RowNumber),
    /// The row ended for this reason.
    #[error("row {0} is no longer pending")]
    Ended(RowNumber, RowEnd),
    /// The row ended so long ago that the reason was forgotten.
    #[error("row {0} is no longer pending")]
    EndedLongAgo(RowNumber),
    /// An answer was sent; the reply is pending.
    #[error("row {0} is already being answered: {1}")]
    AlreadyAnswering(RowNumber, Action),
    /// The hub was restarted and forgot the question.
    #[error("row {0} is stale: its hub restarted; the next packet will ask again")]
    ForgottenByHub(RowNumber),
    /// The hub is disconnected.
    #[error("the hub of row {0} is disconnected: {1}")]
    HubDisconnected(RowNumber, HubId),
    /// The row does not offer the scope of the answer.
    #[error("row {0}: {1}")]
    Scope(RowNumber, ScopeRefusal),
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
