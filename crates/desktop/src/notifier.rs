// SPDX-License-Identifier: Apache-2.0
//! Notifications that an operator can answer, and the notifiers that show them.
//!
//! A [`Notifier`] is one way to show notifications; [`create_notifier`] returns the best one that
//! a session has. A notifier reports every click as it came, and judges none: which click is an
//! answer is decided in [`crate::popups`].

mod callback;
mod dbus;
mod lifecycle;
mod notification;
mod outcome;
mod session;

use std::convert::Infallible;

pub use callback::{CallbackNotifier, InvokeError};
pub use dbus::{DbusConnectError, DbusNotifier, DesktopError, DesktopSession};
pub use lifecycle::SandboxLifecycle;
pub use notification::{
    ActionKey, ContainerIdentity, Notification, NotificationAction, NotificationActionError,
    NotificationExpiry, NotificationHints, NotificationId, NotificationUrgency,
};
pub use outcome::{ActionChoice, Closed, ClosedCallback, NotificationOutcome};
pub use session::{SessionNotifier, create_notifier};

/// One way to show notifications and to report how they end.
///
/// Methods take `&self`: one notifier serves every part of a program.
pub trait Notifier: Send + Sync {
    /// The reason why a notification was not shown.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Shows `notification`, in place of the one that it replaces, and returns its id. A replaced
    /// notification keeps its id where the service can do so, and loses its callback.
    fn notify(
        &self,
        notification: Notification,
    ) -> impl Future<Output = Result<NotificationId, Self::Error>> + Send;

    /// Registers the callback for the end of `id`, in place of an earlier one.
    ///
    /// The callback is called once, within the notifier, so it returns soon. An end that came
    /// before this call is delivered by it; for an unknown id that is [`Closed::ConnectionLost`].
    /// The callback is dropped uncalled if the caller ends the notification itself: by
    /// [`Notifier::close`], by replacing it, or by [`Notifier::disconnect`].
    fn on_closed(
        &self,
        id: NotificationId,
        callback: ClosedCallback,
    ) -> impl Future<Output = ()> + Send;

    /// Removes the notification if it is still shown.
    fn close(&self, id: NotificationId) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Ends the notifier: no callback is called any more. Notifications may stay on the screen.
    fn disconnect(&self) -> impl Future<Output = ()> + Send;

    /// Reports a change of a sandbox; only notifiers that show more than notifications use it.
    fn lifecycle(&self, _event: &SandboxLifecycle) {}

    /// Returns the present capabilities, as far as they are known.
    fn capabilities(&self) -> NotifierCapabilities {
        NotifierCapabilities::ALL
    }
}

/// The capabilities of a notifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotifierCapabilities {
    /// Notifications are shown to an operator.
    pub visible: bool,
    /// A notification can be answered: it has buttons. Without them
    /// [`Notification::buttonless_hint`] is shown.
    pub actions: bool,
}

impl NotifierCapabilities {
    /// Notifications are shown, and can be answered.
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

/// Shows nothing: every notification has the id 0 and expires at once.
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
