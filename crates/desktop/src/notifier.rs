// SPDX-License-Identifier: Apache-2.0
//! Notifications that an operator can answer, and the notifiers that show them.
//!
//! A [`Notifier`] is a way to show notifications; [`create_notifier`] returns the best notifier
//! for a session. A notifier reports every click unchecked; [`crate::popups`] decides which click
//! is an answer.

mod callback;
mod dbus;
mod lifecycle;
mod notification;
mod outcome;
mod session;
pub(crate) mod text_limits;

use std::convert::Infallible;

pub use callback::{CallbackNotifier, InvokeError};
pub use dbus::{
    DbusConnectError, DbusNotifier, DesktopError, DesktopSession, NotificationServiceInfo,
    NotificationServiceState, query_notification_service,
};
pub use lifecycle::SandboxLifecycle;
pub use notification::{
    ActionKey, ContainerIdentity, Notification, NotificationAction, NotificationActionError,
    NotificationExpiry, NotificationHints, NotificationId, NotificationUrgency,
};
pub use outcome::{ActionChoice, Closed, ClosedCallback, NotificationOutcome};
pub use session::{SessionNotifier, create_notifier};
pub use text_limits::TextLimits;

/// A way to show notifications and to report their ends.
///
/// Methods take `&self`: all parts of a program can share a notifier.
pub trait Notifier: Send + Sync {
    /// The reason why a notification was not shown.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Shows `notification` and returns the id. If [`Notification::replaces`] is set, the replaced
    /// notification disappears, and the callback registered for the old content is dropped. The id
    /// stays the same where the service supports replacement.
    fn notify(
        &self,
        notification: Notification,
    ) -> impl Future<Output = Result<NotificationId, Self::Error>> + Send;

    /// Registers the callback for the end of `id`, in place of an earlier callback.
    ///
    /// The callback is called once. The notifier waits for the return, so callbacks must not
    /// block. If the notification has already ended, this function calls the callback at once; for
    /// an unknown id with [`Closed::ConnectionLost`]. The callback is dropped uncalled if the
    /// caller ends the notification: by [`Notifier::close`], by a replacement, or by
    /// [`Notifier::disconnect`].
    fn on_closed(
        &self,
        id: NotificationId,
        callback: ClosedCallback,
    ) -> impl Future<Output = ()> + Send;

    /// Removes the notification if still shown.
    fn close(&self, id: NotificationId) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Ends the notifier: callbacks are no longer called. Notifications may stay on the screen.
    fn disconnect(&self) -> impl Future<Output = ()> + Send;

    /// Reports a change of a sandbox. The default ignores the report; only notifiers that show more
    /// than notifications use the report.
    fn lifecycle(&self, _event: &SandboxLifecycle) {}

    /// Returns the present capabilities; unknown capabilities count as present.
    fn capabilities(&self) -> NotifierCapabilities {
        NotifierCapabilities::ALL
    }

    /// Returns the text that is certainly shown at present: little, if that is not known.
    fn text_limits(&self) -> TextLimits {
        TextLimits::CONSERVATIVE
    }

    /// Waits until [`Notifier::text_limits`] are other than `known`. Cancel safe.
    fn limits_changed(&self, known: TextLimits) -> impl Future<Output = ()> + Send {
        async move {
            if self.text_limits() == known {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// The capabilities of a notifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotifierCapabilities {
    /// Notifications are shown to an operator.
    pub visible: bool,
    /// Notifications have buttons. Without buttons, [`Notification::buttonless_hint`] is shown.
    pub actions: bool,
}

impl NotifierCapabilities {
    /// Notifications are shown, with buttons.
    pub const ALL: Self = Self {
        visible: true,
        actions: true,
    };
    /// Nothing is shown.
    pub const NONE: Self = Self {
        visible: false,
        actions: false,
    };
}

/// Shows no notification: each has the id 0 and expires at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullNotifier;

impl Notifier for NullNotifier {
    type Error = Infallible;

    async fn notify(&self, _: Notification) -> Result<NotificationId, Infallible> {
        Ok(NotificationId::NONE)
    }

    async fn on_closed(&self, _: NotificationId, callback: ClosedCallback) {
        callback(NotificationOutcome::now(Closed::Expired));
    }

    async fn close(&self, _: NotificationId) -> Result<(), Infallible> {
        Ok(())
    }

    async fn disconnect(&self) {}

    fn capabilities(&self) -> NotifierCapabilities {
        NotifierCapabilities::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn without_a_bus_the_id_is_0_and_a_notification_ends_at_once_without_a_choice() {
        let notifier = create_notifier("test", None);
        assert!(!notifier.capabilities().visible);
        let shown = notifier.notify(Notification::new("a summary")).await;
        let id = shown.unwrap();
        assert_eq!(id.to_string(), "0");
        let (sender, outcome) = oneshot::channel();
        let callback = Box::new(|outcome| drop(sender.send(outcome)));
        notifier.on_closed(id, callback).await;
        assert_eq!(outcome.await.unwrap().closed, Closed::Expired);
        notifier.close(id).await.unwrap();
        notifier.disconnect().await;
    }
}
