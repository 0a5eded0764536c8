// SPDX-License-Identifier: Apache-2.0
//! The end of a notification.

use tokio::time::Instant;

use super::ActionKey;

/// A function that receives the end of a notification. Called at most once.
pub type ClosedCallback = Box<dyn FnOnce(NotificationOutcome) + Send>;

/// The end of a notification, as seen by the notifier.
///
/// A choice is an unchecked click: an answer only if the operator had time to read the popup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationOutcome {
    /// The kind of end.
    pub closed: Closed,
    /// When the notifier received the end.
    pub at: Instant,
    /// When a notification of this notifier last appeared, changed in size or disappeared before
    /// the end, if known. Each of these changes may put a button under the pointer.
    pub layout_changed_at: Option<Instant>,
}

impl NotificationOutcome {
    /// Returns an outcome received now, without a known change of the layout.
    pub fn now(closed: Closed) -> Self {
        Self {
            closed,
            at: Instant::now(),
            layout_changed_at: None,
        }
    }
}

/// The kind of end of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// An action was chosen. The notification may still be on the screen.
    Chosen(ActionChoice),
    /// The operator closed the notification without a choice.
    Dismissed,
    /// The notification expired.
    Expired,
    /// The connection or the notification service ended; the notification may still be visible.
    ConnectionLost,
}

/// A chosen action and the desktop's activation token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionChoice {
    /// The key of the action.
    pub key: ActionKey,
    /// Lets a window that the choice opens take the focus, passed to the program of the window as
    /// `XDG_ACTIVATION_TOKEN` or `DESKTOP_STARTUP_ID`. Few desktops send a token.
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
