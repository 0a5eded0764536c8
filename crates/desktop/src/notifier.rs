// SPDX-License-Identifier: Apache-2.0
//! Notifications that a person can answer: what one is, and what can show one.
//!
//! A [`Notifier`] is one way to show them; [`create_notifier`] returns the best that there is. It
//! never fails: where nobody can be shown anything, the rest still works, and says so once.

mod callback;
pub mod click_guard;
mod dbus;
mod lifecycle;
mod notification;
mod session;

use std::convert::Infallible;

pub use callback::{CallbackNotifier, InvokeError};
pub use dbus::{DbusConnectError, DbusNotifier, DesktopError, DesktopSession};
pub use lifecycle::SandboxLifecycle;
pub use notification::{
    ActionChoice, ActionKey, ContainerIdentity, Notification, NotificationAction,
    NotificationActionError, NotificationExpiry, NotificationHints, NotificationId,
    NotificationUrgency,
};
pub use session::{SessionNotifier, create_notifier};

/// Called with what was chosen; dropped uncalled when there will be no choice.
///
/// So whoever waits needs nothing else: a channel's sender in it tells both ends.
pub type ActionCallback = Box<dyn FnOnce(ActionChoice) + Send>;

/// One way to show notifications and to hear what was chosen.
///
/// Methods take `&self`: one notifier serves every part that has something to show.
pub trait Notifier: Send + Sync {
    /// Why a notification could not be shown.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Shows `notification`, in place of the one that it replaces, and returns its id; a replaced
    /// one keeps its id where the other side can do so. Whoever waits for the choice of a replaced
    /// one waits on if the new one asks the same ([`Notification::asks_as`]), else is told that
    /// there is none.
    ///
    /// An action that is chosen before [`Notifier::on_action`] is kept for it.
    fn notify(
        &self,
        notification: Notification,
    ) -> impl Future<Output = Result<NotificationId, Self::Error>> + Send;

    /// Says what to do with the action that is chosen for `id`, once; a later call for the same id
    /// takes the place of an earlier one. Drops `on_action` uncalled as soon as it is known that
    /// there will be no choice: `id` is closed, expired, not shown, or this is disconnected.
    fn on_action(
        &self,
        id: NotificationId,
        on_action: ActionCallback,
    ) -> impl Future<Output = ()> + Send;

    /// Takes the notification away, if it is still shown. That is no choice.
    fn close(&self, id: NotificationId) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Ends: nothing is heard any more. What is shown may stay on the screen.
    fn disconnect(&self) -> impl Future<Output = ()> + Send;

    /// Takes in what became of a sandbox. Most have no use for it: it is for a notifier that shows
    /// more than notifications.
    fn lifecycle(&self, _event: &SandboxLifecycle) {}

    /// Says whether somebody may see what is shown here.
    fn is_visible(&self) -> bool {
        true
    }

    /// Returns how often all that was shown was lost at once, as when the bus of a desktop ends.
    /// Whoever waited for a choice then was told that there is none, though nobody closed anything:
    /// what is still asked is to be shown anew.
    fn losses(&self) -> u64 {
        0
    }

    /// Says whether a choice can come back, as far as that is known: what shows it may have no
    /// buttons. [`Notification::elsewhere`] is then shown as well.
    fn supports_actions(&self) -> bool {
        self.is_visible()
    }
}

/// Shows nothing to nobody: every notification has the id 0, and no action is ever chosen.
#[derive(Debug, Clone, Copy, Default)]
pub struct NullNotifier;

impl Notifier for NullNotifier {
    type Error = Infallible;

    async fn notify(&self, _: Notification) -> Result<NotificationId, Infallible> {
        Ok(NotificationId::NONE)
    }

    async fn on_action(&self, _: NotificationId, on_action: ActionCallback) {
        drop(on_action);
    }

    async fn close(&self, _: NotificationId) -> Result<(), Infallible> {
        Ok(())
    }

    async fn disconnect(&self) {}

    fn is_visible(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn where_nobody_sees_it_the_id_is_0_and_who_waits_is_told_at_once() {
        let notifier = create_notifier("test", None).await;
        assert!(!notifier.is_visible());
        let shown = notifier.notify(Notification::new("a summary")).await;
        let id = shown.unwrap();
        assert_eq!(id.to_string(), "0");
        let (chosen, choice) = oneshot::channel();
        let tell = Box::new(|key| drop(chosen.send(key)));
        notifier.on_action(id, tell).await;
        assert!(choice.await.is_err(), "no action can have been chosen");
        notifier.close(id).await.unwrap();
        notifier.disconnect().await;
    }
}
