// SPDX-License-Identifier: Apache-2.0
//! A notifier that calls functions, for a program that draws questions in a UI of its own.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use terok_clearance::{ContainerId, DisplayText};

use super::{
    ActionKey, Closed, ClosedCallback, Notification, NotificationId, NotificationOutcome, Notifier,
    SandboxLifecycle, TextLimits,
};

type CallbackHook<T> = Option<Box<dyn Fn(T) + Send + Sync>>;
type NotifyCallback = dyn Fn(NotificationId, &Notification) + Send + Sync;

/// Calls a function for every notification, and others for changes of sandboxes.
///
/// A notification keeps the id of the notification that it replaces. The program reports the
/// operator's choices by [`CallbackNotifier::invoke_action`]. The notifier waits for each function,
/// so a function must neither block nor call the notifier.
///
/// A hub holds connections for the questions of the session, because an operator is there to
/// answer. A program whose notifications have no operator opens the session with other
/// [`SessionOptions`](operator::SessionOptions).
#[derive(Default)]
pub struct CallbackNotifier {
    on_notify: Option<Box<NotifyCallback>>,
    on_close: CallbackHook<NotificationId>,
    on_container_started: CallbackHook<ContainerId>,
    on_container_exited: CallbackHook<(ContainerId, DisplayText)>,
    on_shield_up: CallbackHook<ContainerId>,
    on_shield_down: CallbackHook<ContainerId>,
    on_shield_disengaged: CallbackHook<ContainerId>,
    limits: Option<TextLimits>,
    open: Mutex<OpenNotifications>,
}

/// Maximum notifications without actions that are remembered until a callback is registered.
const MAX_ACTIONLESS: usize = 64;

/// The notifications that are shown.
#[derive(Default)]
struct OpenNotifications {
    last_id: u32,
    /// Notifications with actions or with a callback.
    shown: HashMap<NotificationId, OpenNotification>,
    /// The newest notifications without actions and without a callback.
    actionless: VecDeque<NotificationId>,
    disconnected: bool,
}

impl OpenNotifications {
    /// Remembers a notification without actions. Forgets the oldest one beyond
    /// [`MAX_ACTIONLESS`].
    fn add_actionless(&mut self, id: NotificationId) {
        self.actionless.push_back(id);
        if self.actionless.len() > MAX_ACTIONLESS {
            self.actionless.pop_front();
        }
    }

    /// Forgets the notification and returns the state.
    fn remove(&mut self, id: NotificationId) -> Option<OpenNotification> {
        self.actionless.retain(|actionless| *actionless != id);
        self.shown.remove(&id)
    }
}

#[derive(Default)]
struct OpenNotification {
    keys: Vec<ActionKey>,
    /// The outcome, if reported before a callback was registered.
    outcome: Option<NotificationOutcome>,
    callback: Option<ClosedCallback>,
}

/// The reason why a report about a notification is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvokeError {
    /// The notification was answered or closed, or has no actions.
    #[error("notification {0} does not wait for a choice")]
    NotOpen(NotificationId),
    /// The notification has no such action.
    #[error("notification {0} has no action {1:?}")]
    NoSuchAction(NotificationId, String),
}

impl CallbackNotifier {
    /// Returns a notifier that calls `on_notify` for every notification.
    pub fn new(on_notify: impl Fn(NotificationId, &Notification) + Send + Sync + 'static) -> Self {
        Self {
            on_notify: Some(Box::new(on_notify)),
            ..Self::default()
        }
    }

    /// Sets the text that the program certainly shows. The default is
    /// [`TextLimits::CONSERVATIVE`]: a question with a longer text cannot be answered.
    #[must_use]
    pub const fn with_text_limits(mut self, limits: TextLimits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Adds a hook for each notification that is removed.
    #[must_use]
    pub fn on_close(mut self, hook: impl Fn(NotificationId) + Send + Sync + 'static) -> Self {
        self.on_close = Some(Box::new(hook));
        self
    }

    /// Adds a hook for each sandbox that starts.
    #[must_use]
    pub fn on_container_started(
        mut self,
        hook: impl Fn(ContainerId) + Send + Sync + 'static,
    ) -> Self {
        self.on_container_started = Some(Box::new(hook));
        self
    }

    /// Adds a hook for each sandbox that ends. The text names the source of the report, and may be
    /// empty.
    #[must_use]
    pub fn on_container_exited(
        mut self,
        hook: impl Fn(ContainerId, DisplayText) + Send + Sync + 'static,
    ) -> Self {
        self.on_container_exited = Some(Box::new(move |(container, reason)| {
            hook(container, reason);
        }));
        self
    }

    /// Adds a hook for each firewall that goes up.
    #[must_use]
    pub fn on_shield_up(mut self, hook: impl Fn(ContainerId) + Send + Sync + 'static) -> Self {
        self.on_shield_up = Some(Box::new(hook));
        self
    }

    /// Adds a hook for each firewall that goes down: traffic passes except to private ranges.
    #[must_use]
    pub fn on_shield_down(mut self, hook: impl Fn(ContainerId) + Send + Sync + 'static) -> Self {
        self.on_shield_down = Some(Box::new(hook));
        self
    }

    /// Adds a hook for each firewall that is switched off: all traffic passes.
    #[must_use]
    pub fn on_shield_disengaged(
        mut self,
        hook: impl Fn(ContainerId) + Send + Sync + 'static,
    ) -> Self {
        self.on_shield_disengaged = Some(Box::new(hook));
        self
    }

    /// Reports that the operator chose the action `key` of the notification `id`.
    ///
    /// Only the first choice counts; later choices are refused until the notification is shown
    /// again.
    pub fn invoke_action(&self, id: NotificationId, key: &str) -> Result<(), InvokeError> {
        let mut open = self.lock_open();
        let shown = open
            .shown
            .get_mut(&id)
            .filter(|shown| shown.outcome.is_none() && !shown.keys.is_empty())
            .ok_or(InvokeError::NotOpen(id))?;
        let known = shown.keys.iter().find(|known| known.as_str() == key);
        let Some(key) = known.cloned() else {
            return Err(InvokeError::NoSuchAction(id, key.to_owned()));
        };
        let outcome = NotificationOutcome::now(Closed::Chosen(key.into()));
        let Some(callback) = shown.callback.take() else {
            shown.outcome = Some(outcome);
            return Ok(());
        };
        open.shown.remove(&id);
        drop(open);
        callback(outcome);
        Ok(())
    }

    /// Reports that the operator closed the notification `id` without a choice.
    pub fn dismiss(&self, id: NotificationId) -> Result<(), InvokeError> {
        let mut open = self.lock_open();
        let outcome = NotificationOutcome::now(Closed::Dismissed);
        let shown = open.shown.get_mut(&id);
        let shown = shown.filter(|shown| shown.outcome.is_none());
        let shown = shown.ok_or(InvokeError::NotOpen(id))?;
        let Some(callback) = shown.callback.take() else {
            shown.outcome = Some(outcome);
            return Ok(());
        };
        open.shown.remove(&id);
        drop(open);
        callback(outcome);
        Ok(())
    }

    /// Reports that the program's display is gone, and all notifications with it, although the
    /// operator closed none. The popups of questions are shown again.
    pub fn connection_lost(&self) {
        let mut open = self.lock_open();
        open.actionless.clear();
        let lost = std::mem::take(&mut open.shown);
        drop(open);
        let callbacks = lost.into_values().filter_map(|shown| shown.callback);
        for callback in callbacks {
            callback(NotificationOutcome::now(Closed::ConnectionLost));
        }
    }

    fn lock_open(&self) -> MutexGuard<'_, OpenNotifications> {
        // A panic leaves no change of the map incomplete.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notifier for CallbackNotifier {
    type Error = Infallible;

    async fn notify(&self, notification: Notification) -> Result<NotificationId, Infallible> {
        let mut open = self.lock_open();
        let id = notification.replaces.unwrap_or_else(|| {
            open.last_id = open.last_id.checked_add(1).unwrap_or(1);
            NonZeroU32::new(open.last_id).map_or(NotificationId::NONE, NotificationId::from)
        });
        let keys: Vec<_> = notification
            .actions
            .iter()
            .map(|action| action.key().clone())
            .collect();
        let before = open.remove(id);
        if keys.is_empty() {
            open.add_actionless(id);
        } else {
            let shown = OpenNotification {
                keys,
                ..OpenNotification::default()
            };
            open.shown.insert(id, shown);
        }
        drop(open);
        drop(before);
        if let Some(on_notify) = &self.on_notify {
            on_notify(id, &notification);
        }
        Ok(id)
    }

    async fn on_closed(&self, id: NotificationId, callback: ClosedCallback) {
        let mut open = self.lock_open();
        if open.disconnected {
            return;
        }
        if open.actionless.contains(&id) {
            // Not a question, but the callback still receives the end.
            open.remove(id);
            open.shown.insert(id, OpenNotification::default());
        }
        let Some(shown) = open.shown.get_mut(&id) else {
            drop(open);
            callback(NotificationOutcome::now(Closed::ConnectionLost));
            return;
        };
        let Some(outcome) = shown.outcome.take() else {
            let before = shown.callback.replace(callback);
            drop(open);
            drop(before);
            return;
        };
        open.shown.remove(&id);
        drop(open);
        callback(outcome);
    }

    async fn close(&self, id: NotificationId) -> Result<(), Infallible> {
        let closed = self.lock_open().remove(id);
        drop(closed);
        if let Some(on_close) = &self.on_close {
            on_close(id);
        }
        Ok(())
    }

    async fn disconnect(&self) {
        let mut open = self.lock_open();
        open.disconnected = true;
        let shown = std::mem::take(&mut open.shown);
        drop(open);
        drop(shown);
    }

    fn text_limits(&self) -> TextLimits {
        self.limits.unwrap_or(TextLimits::CONSERVATIVE)
    }

    fn lifecycle(&self, event: &SandboxLifecycle) {
        let (hook, container) = match event {
            SandboxLifecycle::ContainerStarted(container) => {
                (&self.on_container_started, container)
            }
            SandboxLifecycle::ContainerExited(container, reason) => {
                if let Some(hook) = &self.on_container_exited {
                    hook((container.clone(), reason.clone()));
                }
                return;
            }
            SandboxLifecycle::ShieldUp(container) => (&self.on_shield_up, container),
            SandboxLifecycle::ShieldDown(container) => (&self.on_shield_down, container),
            SandboxLifecycle::ShieldDisengaged(container) => {
                (&self.on_shield_disengaged, container)
            }
        };
        if let Some(hook) = hook {
            hook(container.clone());
        }
    }
}

impl fmt::Debug for CallbackNotifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackNotifier").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use tokio::sync::oneshot;

    use super::*;

    fn question() -> Notification {
        Notification {
            actions: vec!["allow:Allow".parse().unwrap(), "deny:Deny".parse().unwrap()],
            ..Notification::new("Blocked: a.example:443")
        }
    }

    /// Returns a callback, and the key of the choice; an end without a choice is an error.
    fn waits() -> (ClosedCallback, oneshot::Receiver<String>) {
        let (sender, choice) = oneshot::channel();
        let callback = |outcome: NotificationOutcome| {
            if let Closed::Chosen(choice) = outcome.closed {
                drop(sender.send(choice.key.as_str().to_owned()));
            }
        };
        (Box::new(callback), choice)
    }

    fn end() -> (ClosedCallback, oneshot::Receiver<Closed>) {
        let (sender, end) = oneshot::channel();
        let callback = |outcome: NotificationOutcome| drop(sender.send(outcome.closed));
        (Box::new(callback), end)
    }

    #[tokio::test]
    async fn a_choice_counts_once_and_a_key_that_was_not_offered_never() {
        let notifier = CallbackNotifier::default();
        let id = notifier.notify(question()).await.unwrap();
        let (callback, choice) = waits();
        notifier.on_closed(id, callback).await;
        let unknown = InvokeError::NoSuchAction(id, "open".to_owned());
        assert_eq!(notifier.invoke_action(id, "open"), Err(unknown));
        assert_eq!(notifier.invoke_action(id, "deny"), Ok(()));
        let again = notifier.invoke_action(id, "allow");
        assert_eq!(again, Err(InvokeError::NotOpen(id)));
        assert_eq!(choice.await.unwrap(), "deny");
    }

    #[tokio::test]
    async fn a_choice_that_comes_before_its_callback_is_kept() {
        let notifier = CallbackNotifier::default();
        let id = notifier.notify(question()).await.unwrap();
        notifier.invoke_action(id, "allow").unwrap();
        assert!(notifier.invoke_action(id, "deny").is_err(), "it is made");
        let (callback, choice) = waits();
        notifier.on_closed(id, callback).await;
        assert_eq!(choice.await.unwrap(), "allow");
    }

    #[tokio::test]
    async fn a_notification_that_is_ended_drops_its_callback() {
        let notifier = CallbackNotifier::default();
        let mut waiting = Vec::new();
        let mut ids = Vec::new();
        for _ in 0..3 {
            let id = notifier.notify(question()).await.unwrap();
            let (callback, choice) = waits();
            notifier.on_closed(id, callback).await;
            ids.push(id);
            waiting.push(choice);
        }
        notifier.close(ids[0]).await.unwrap();
        let done = Notification {
            replaces: Some(ids[1]),
            ..Notification::new("Allowed: a.example")
        };
        assert_eq!(notifier.notify(done).await.unwrap(), ids[1]);
        notifier.disconnect().await;
        for choice in waiting {
            assert!(choice.await.is_err());
        }
        let (callback, choice) = waits();
        notifier.on_closed(ids[2], callback).await;
        assert!(choice.await.is_err());
    }

    #[tokio::test]
    async fn a_notification_without_actions_stays_until_it_is_closed() {
        let notifier = CallbackNotifier::default();
        let id = notifier.notify(Notification::new("9 questions")).await;
        let id = id.unwrap();
        let (callback, mut choice) = waits();
        notifier.on_closed(id, callback).await;
        let pending = Err(oneshot::error::TryRecvError::Empty);
        assert_eq!(choice.try_recv(), pending, "it is shown");
        let refused = Err(InvokeError::NotOpen(id));
        assert_eq!(notifier.invoke_action(id, "allow"), refused);
        notifier.close(id).await.unwrap();
        assert!(choice.await.is_err());
        let (callback, choice) = waits();
        notifier.on_closed(id, callback).await;
        assert!(choice.await.is_err(), "it is not shown any more");
    }

    #[tokio::test]
    async fn an_end_without_a_choice_is_delivered_once_whenever_it_comes() {
        let notifier = CallbackNotifier::default();
        let early = notifier.notify(question()).await.unwrap();
        notifier.dismiss(early).unwrap();
        let refused = Err(InvokeError::NotOpen(early));
        assert_eq!(notifier.invoke_action(early, "allow"), refused);
        let late = notifier.notify(question()).await.unwrap();
        let lost = notifier.notify(question()).await.unwrap();
        let mut ends = Vec::new();
        for id in [early, late, lost] {
            let (callback, end) = end();
            notifier.on_closed(id, callback).await;
            ends.push(end);
        }
        notifier.dismiss(late).unwrap();
        assert_eq!(notifier.dismiss(late), Err(InvokeError::NotOpen(late)));
        notifier.connection_lost();
        let mut came = Vec::new();
        for end in ends {
            came.push(end.await.unwrap());
        }
        assert_eq!(
            came,
            [Closed::Dismissed, Closed::Dismissed, Closed::ConnectionLost]
        );
        let (callback, end) = end();
        notifier.on_closed(lost, callback).await;
        assert_eq!(end.await.unwrap(), Closed::ConnectionLost);
    }

    #[tokio::test]
    async fn a_change_of_a_sandbox_calls_its_hook_alone() {
        let (tell, told) = mpsc::channel::<String>();
        let tell = Arc::new(Mutex::new(tell));
        let hook = |name: &'static str| {
            let tell = Arc::clone(&tell);
            move |container: ContainerId| {
                tell.lock()
                    .unwrap()
                    .send(format!("{name} {container}"))
                    .unwrap();
            }
        };
        let ended = {
            let tell = Arc::clone(&tell);
            move |container, reason| {
                let said = format!("exited {container} {reason}");
                tell.lock().unwrap().send(said).unwrap();
            }
        };
        let notifier = CallbackNotifier::default()
            .on_container_started(hook("started"))
            .on_container_exited(ended)
            .on_shield_up(hook("up"))
            .on_shield_down(hook("down"))
            .on_shield_disengaged(hook("off"));
        let web: ContainerId = "web".parse().unwrap();
        for event in [
            SandboxLifecycle::ContainerStarted(web.clone()),
            SandboxLifecycle::ShieldUp(web.clone()),
            SandboxLifecycle::ShieldDown(web.clone()),
            SandboxLifecycle::ShieldDisengaged(web.clone()),
            SandboxLifecycle::ContainerExited(web, "poststop".into()),
        ] {
            notifier.lifecycle(&event);
        }
        drop(notifier);
        drop(tell);
        let said: Vec<_> = told.iter().collect();
        assert_eq!(
            said,
            [
                "started web",
                "up web",
                "down web",
                "off web",
                "exited web poststop"
            ]
        );
    }
}
