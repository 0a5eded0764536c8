// SPDX-License-Identifier: Apache-2.0
//! What an inbox hears from a hub, and what that changes in it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use terok_clearance::wire::clearance1::Received;
use terok_clearance::wire::clearance2::{ContainerState, Event, Request};
use terok_clearance::{
    Action, Blocked, ContainerId, Decision, Dest, DisplayText, Protocol, RequestId, Scope,
    ShieldState,
};

use super::{Row, RowNumber};

/// A hub, by the path of its socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HubId(Arc<Path>);

impl HubId {
    /// Makes the id of the hub behind the socket at `path`.
    pub fn new(path: &Path) -> Self {
        Self(path.into())
    }

    /// Returns the socket's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the sandbox (the first characters of its id) that the hub is for, where the path
    /// says so: `clearance/<id>/hub.sock` or `clearance/<id>.sock`.
    pub fn sandbox(&self) -> Option<&str> {
        let named = |path: &Path, name: &str| path.file_name().is_some_and(|n| n == name);
        let parent = self.0.parent()?;
        if named(&self.0, "hub.sock") {
            parent.file_name()?.to_str()
        } else if named(parent, "clearance") {
            self.0.file_stem()?.to_str()
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

/// The interface that is spoken with a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `org.terok.Clearance1`: no snapshot, no counts, and a verdict opens a whole destination.
    Clearance1,
    /// `org.terok.Clearance2`.
    Clearance2,
}

/// What a hub says, or what its connection does.
#[derive(Debug, Clone)]
pub enum News {
    /// The connection stands. Over Clearance2 the hub now says what is pending, then `Synced`.
    Up(Dialect),
    /// The connection broke.
    Down,
    /// The hub's socket is gone.
    Gone,
    /// The hub told an event. Over Clearance1 a repeated question is `Pending` once more.
    Said(Event),
    /// A question was answered, as Clearance1 says it.
    Applied(Applied),
}

/// Clearance1's record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The sandbox.
    pub container: ContainerId,
    /// The question.
    pub request: RequestId,
    /// The answer.
    pub action: Action,
    /// Whether it took effect.
    pub ok: bool,
}

impl News {
    /// Returns what a Clearance1 event says, `None` for one that says nothing of use: of a kind
    /// that is not known, or about no sandbox or no destination.
    pub fn of_clearance1(event: Received, now: u64) -> Option<Self> {
        let container: ContainerId = event.container.as_str().parse().ok()?;
        let said = match event.kind.as_str() {
            "connection_blocked" => {
                let blocked = Blocked {
                    container,
                    request: event.request_id.as_str().parse().ok()?,
                    address: event
                        .dest
                        .clone()
                        .try_into()
                        .or_else(|_empty| {
                            // A reader that knew nothing but the name.
                            Dest::try_from(event.domain.clone())
                        })
                        .ok()?,
                    port: event.port.try_into().unwrap_or(0),
                    protocol: Protocol(event.proto.try_into().unwrap_or(0)),
                    domain: event.domain.try_into().ok(),
                    dossier: Arc::new(event.dossier),
                    process: None,
                };
                let scope = Scope::whole(blocked.dest().clone());
                Event::Pending(Arc::new(Request::new(blocked, scope, now)))
            }
            "verdict_applied" => {
                return Some(Self::Applied(Applied {
                    container,
                    request: event.request_id.as_str().parse().ok()?,
                    action: event.action.as_str().parse().ok()?,
                    ok: event.ok,
                }));
            }
            "container_started" => Event::Container {
                container,
                state: ContainerState::Started,
                reason: None,
            },
            "container_exited" => Event::Container {
                container,
                state: ContainerState::Exited,
                reason: Some(event.reason),
            },
            "shield_up" | "shield_down" | "shield_disengaged" | "shield_down_all" => {
                let state = match event.kind.as_str() {
                    "shield_up" => ShieldState::Up,
                    "shield_down" => ShieldState::Down,
                    _ => ShieldState::Disengaged,
                };
                Event::Shield { container, state }
            }
            _ => return None,
        };
        Some(Self::Said(said))
    }
}

/// What news changed in the inbox.
#[derive(Debug, Clone)]
pub enum Change {
    /// There is a new row.
    Asked(RowNumber),
    /// A row was blocked again, or more is known of it.
    Again(RowNumber),
    /// A row is no more.
    Ended(Box<Row>, End),
    /// An answer did not take effect; the row is still there.
    Failed {
        /// The row.
        row: RowNumber,
        /// The answer.
        action: Action,
        /// Why.
        reason: DisplayText,
    },
    /// A hub's connection stands.
    Up(HubId, Dialect),
    /// A hub's connection broke; its rows wait.
    Down(HubId),
    /// A hub is no more, nor are its rows.
    Gone(HubId),
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
pub enum End {
    /// It was answered.
    Decided(Arc<Decision>),
    /// The hub withdrew it, for this reason.
    Withdrawn(DisplayText),
    /// After a gap the hub no longer had it.
    Vanished,
    /// The hub is no more.
    HubGone,
    /// The oldest row made room for a new one.
    Crowded,
    /// What an answer would open has changed: there is a new row in its place.
    Changed,
}

/// An answer for the hub: the question as the hub put it, and exactly what the row showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The row.
    pub row: RowNumber,
    /// The hub to tell.
    pub hub: HubId,
    /// The interface to tell it by.
    pub dialect: Dialect,
    /// The question.
    pub request: RequestId,
    /// The sandbox.
    pub container: ContainerId,
    /// What it is about.
    pub dest: Dest,
    /// The answer.
    pub action: Action,
    /// How far it reaches. A Clearance1 hub cannot be told and opens all of `dest`, which is what
    /// the row of such a hub shows.
    pub scope: Scope,
}

/// What a hub replied to an answer.
#[derive(Debug, Clone)]
pub enum Reply {
    /// It is done.
    Done,
    /// Done, and this is the record.
    Decided(Decision),
    /// Another operator was first.
    AlreadyDecided(Decision),
    /// The question is not pending any more.
    NoSuchRequest,
    /// It did not take effect; the question stays.
    Failed(DisplayText),
    /// The same, and the hub tells everybody.
    FailedForAll(DisplayText),
}

/// Why an answer was not even sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There never was such a row.
    #[error("there is no row {0}")]
    NoSuchRow(RowNumber),
    /// The row is no more.
    #[error("row {0} is no longer asked")]
    Ended(RowNumber, End),
    /// The row is no more, for so long that the reason is forgotten.
    #[error("row {0} is no longer asked")]
    LongEnded(RowNumber),
    /// An answer is already on its way.
    #[error("row {0} is being answered: {1}")]
    Answering(RowNumber, Action),
    /// There is no connection to the hub.
    #[error("the hub of row {0} is away: {1}")]
    HubAway(RowNumber, HubId),
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
