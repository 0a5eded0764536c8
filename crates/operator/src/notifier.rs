// SPDX-License-Identifier: Apache-2.0
//! Notifications that a person can answer: what one is, and what can show one.
//!
//! A [`Notifier`] is one way to show them; [`create_notifier`] returns the best that there is. It
//! never fails: where nobody can be shown anything, the rest still works, and says so once.

mod callback;
mod lifecycle;
mod notification;

use std::convert::Infallible;
use std::sync::Once;

pub use callback::{CallbackNotifier, InvokeError};
pub use lifecycle::Lifecycle;
pub use notification::{
    Action, ActionError, ActionKey, Expiry, Hints, Identity, Notification, NotificationId, Urgency,
};

/// Called with the action that was chosen; dropped uncalled when there will be no choice.
///
/// So whoever waits needs nothing else: a channel's sender in it tells both ends.
pub type OnAction = Box<dyn FnOnce(ActionKey) + Send>;

/// One way to show notifications and to hear what was chosen.
///
/// Methods take `&self`: one notifier serves every part that has something to show.
pub trait Notifier: Send + Sync {
    /// Why a notification could not be shown.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Shows `notification`, in place of the one that it replaces, and returns its id; a replaced
    /// one keeps its id where the other side can do so.
    ///
    /// An action that is chosen before [`Notifier::on_action`] is kept for it.
    fn notify(
        &self,
        notification: Notification,
    ) -> impl Future<Output = Result<NotificationId, Self::Error>> + Send;

    /// Says what to do with the action that is chosen for `id`, once; a later call for the same id
    /// takes the place of an earlier one. Drops `on_action` uncalled as soon as it is known that
    /// there will be no choice: `id` is closed, expired, not shown, or this is disconnected.
    fn on_action(&self, id: NotificationId, on_action: OnAction)
    -> impl Future<Output = ()> + Send;

    /// Takes the notification away, if it is still shown. That is no choice.
    fn close(&self, id: NotificationId) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Ends: nothing is heard any more. What is shown may stay on the screen.
    fn disconnect(&self) -> impl Future<Output = ()> + Send;

    /// Takes in what became of a sandbox. Most have no use for it: it is for a notifier that shows
    /// more than notifications.
    fn lifecycle(&self, _event: &Lifecycle) {}

    /// Says whether somebody may see what is shown here.
    fn is_seen(&self) -> bool {
        true
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

    async fn on_action(&self, _: NotificationId, on_action: OnAction) {
        drop(on_action);
    }

    async fn close(&self, _: NotificationId) -> Result<(), Infallible> {
        Ok(())
    }

    async fn disconnect(&self) {}

    fn is_seen(&self) -> bool {
        false
    }
}

/// Returns the best notifier that there is for a program called `app` in this person's session.
///
/// There is none of the desktop yet, so it is the one that shows nothing, and the log says so,
/// once in the life of the process.
pub fn create_notifier(app: &str) -> impl Notifier + use<> {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        tracing::warn!(app, "no notifier is available: notifications are not shown");
    });
    NullNotifier
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn where_nobody_sees_it_the_id_is_0_and_who_waits_is_told_at_once() {
        let notifier = create_notifier("test");
        assert!(!notifier.is_seen());
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
