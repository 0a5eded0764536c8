// SPDX-License-Identifier: Apache-2.0
//! How a notification ended.

use tokio::time::Instant;

use super::ActionKey;

/// Called once with the end of a notification.
pub type ClosedCallback = Box<dyn FnOnce(NotificationOutcome) + Send>;

/// The end of a notification, as the notifier saw it.
///
/// A choice is a raw click: it is an answer only if the operator had time to read the popup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationOutcome {
    /// How it ended.
    pub closed: Closed,
    /// When the notifier received it.
    pub at: Instant,
    /// When a notification of this notifier last appeared, changed its size or disappeared before
    /// that, as far as the notifier knows: each of these may put a button under the pointer.
    pub layout_changed_at: Option<Instant>,
}

impl NotificationOutcome {
    /// Returns an outcome that comes now, without a known change of the layout.
    pub fn now(closed: Closed) -> Self {
        Self {
            closed,
            at: Instant::now(),
            layout_changed_at: None,
        }
    }
}

/// How a notification ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// An action was chosen. The notification may still be on the screen.
    Chosen(ActionChoice),
    /// It was closed without a choice.
    Dismissed,
    /// Its time was over.
    Expired,
    /// The connection or the service that showed it is gone: it is not known to be closed.
    ConnectionLost,
}

/// A chosen action, and the token that the desktop gave with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionChoice {
    /// The key of the action.
    pub key: ActionKey,
    /// Brings a window to the front that is opened for the choice, as `XDG_ACTIVATION_TOKEN` or
    /// `DESKTOP_STARTUP_ID`; few desktops send one.
    pub activation_token: Option<String>,
}

impl From<ActionKey> for ActionChoice {
    fn from(key: ActionKey) -> Self {
        Self {
            key,
            activation_token: None,
        }
    }
}
