// SPDX-License-Identifier: Apache-2.0
//! What an inbox hears from a hub, and what that changes in it.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use terok_clearance::client::{AnswerError, ProtocolVersion};
use terok_clearance::wire::clearance2::{ContainerState, DecideError, Event, Request};
use terok_clearance::{Action, ContainerId, Decision, DisplayText, Scope, ShieldState};

use super::{Row, RowNumber};
use crate::error_chain;

/// A hub, by the path of its socket.
///
/// Two are compared as text, as every map of hubs does for everything that a hub says: to compare
/// paths by their components takes several times as long.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HubId(Arc<OsStr>);

impl HubId {
    /// Makes the id of the hub behind the socket at `path`.
    pub fn new(path: &Path) -> Self {
        Self(path.as_os_str().into())
    }

    /// Returns the socket's path.
    pub fn path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// Returns the sandbox (the first characters of its id) that the hub is for, where the path
    /// says so: `clearance/<id>/hub.sock` or `clearance/<id>.sock`.
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

/// What a hub says, or what its connection does.
#[derive(Debug, Clone)]
pub enum InboxEvent {
    /// The connection stands. Over Clearance2 the hub now says what is pending, then
    /// [`Event::Synced`].
    Up(ProtocolVersion),
    /// The hub that is about to be [`News::Up`] is another process than before: what it does not
    /// ask was not answered, it was forgotten.
    Restarted,
    /// The hub told an event. Over Clearance1 a repeated question is `Pending` once more.
    Received(Event),
    /// The connection broke, for this reason.
    Down(DisplayText),
    /// The hub's socket is gone.
    Gone,
    /// There is a socket, and for this reason no hub behind it.
    Unreachable(DisplayText),
}

/// What news changed in the inbox.
#[derive(Debug, Clone)]
pub enum InboxChange {
    /// There is a new row.
    Added(RowNumber),
    /// A row was blocked again, or more is known of it.
    Updated(RowNumber),
    /// A row is no more.
    Ended(Box<Row>, RowEnd),
    /// An answer did not take effect; the row is still there.
    Failed {
        /// The row.
        row: RowNumber,
        /// The answer.
        action: Action,
        /// Why.
        reason: DisplayText,
    },
    /// Nobody said what became of an answer: it took effect, or it did not.
    ResultUnknown {
        /// The row.
        row: RowNumber,
        /// The answer.
        action: Action,
        /// Why.
        reason: DisplayText,
    },
    /// A restarted hub no longer knows a row; it stays, and waits for the next packet.
    ForgottenByHub(RowNumber),
    /// A hub's connection stands.
    Up(HubId, ProtocolVersion),
    /// A hub's connection broke, for this reason; its rows wait.
    Down(HubId, DisplayText),
    /// A hub is no more, nor are its rows.
    Gone(HubId),
    /// There is a socket, and for this reason no hub behind it.
    Unreachable(HubId, DisplayText),
    /// All that is pending at a hub has been said.
    Synced(HubId),
    /// A hub skipped something.
    Lost {
        /// The hub.
        hub: HubId,
        /// How many events or packets.
        lost: u64,
        /// Why.
        reason: DisplayText,
    },
    /// A sandbox started or ended.
    Container {
        /// The hub.
        hub: HubId,
        /// The sandbox.
        container: ContainerId,
        /// Which of the two.
        state: ContainerState,
        /// How it is known that it ended.
        reason: Option<DisplayText>,
    },
    /// The firewall of a sandbox changed.
    Shield {
        /// The hub.
        hub: HubId,
        /// The sandbox.
        container: ContainerId,
        /// What it is now.
        state: ShieldState,
    },
}

/// Why a row is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowEnd {
    /// It was answered.
    Decided(Arc<Decision>),
    /// The hub withdrew it, for this reason.
    Withdrawn(DisplayText),
    /// After a gap the hub no longer had it.
    MissingAfterResync,
    /// The hub is no more.
    HubGone,
    /// The oldest row made room for a new one.
    Evicted,
    /// What an answer would open has changed: there is a new row in its place.
    ScopeChanged,
}

/// An answer for the hub: the question as the hub put it, and exactly what the row showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorAnswer {
    /// The row.
    pub row: RowNumber,
    /// The hub to tell.
    pub hub: HubId,
    /// The question.
    pub request: Arc<Request>,
    /// The answer.
    pub action: Action,
    /// How far it reaches. A Clearance1 hub cannot be told and opens all of the destination,
    /// which is what the row of such a hub shows.
    pub scope: Scope,
}

/// What a hub replied to an answer.
#[derive(Debug, Clone)]
pub enum OperatorReply {
    /// It is done, and this is the record.
    Decided(Decision),
    /// Another operator was first.
    AlreadyDecided(Decision),
    /// The question is not pending any more.
    NoSuchRequest,
    /// The firewall did not take it, and the hub tells everybody so; the question stays.
    EnforcementFailed(DisplayText),
    /// It did not take effect; the question stays.
    Failed(DisplayText),
    /// It was sent, and nobody said what became of it; the question stays.
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

/// Why an answer was not even sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowRefusal {
    /// There never was such a row.
    #[error("there is no row {0}")]
    NoSuchRow(RowNumber),
    /// The row is no more.
    #[error("row {0} is no longer asked")]
    Ended(RowNumber, RowEnd),
    /// The row is no more, for so long that the reason is forgotten.
    #[error("row {0} is no longer asked")]
    EndedLongAgo(RowNumber),
    /// An answer is already on its way.
    #[error("row {0} is being answered: {1}")]
    AlreadyAnswering(RowNumber, Action),
    /// The hub forgot it when it was restarted.
    #[error("row {0} is forgotten: its hub ended, and one asks again at the sandbox's next packet")]
    ForgottenByHub(RowNumber),
    /// There is no connection to the hub.
    #[error("the hub of row {0} is away: {1}")]
    HubDisconnected(RowNumber, HubId),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_says_which_sandbox_a_hub_is_for() {
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
