// SPDX-License-Identifier: Apache-2.0
//! A notifier that calls functions: for a program that draws questions itself.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};

use terok_clearance::{ContainerId, DisplayText};

use super::{ActionCallback, ActionKey, Notification, NotificationId, Notifier, SandboxLifecycle};

type CallbackHook<T> = Option<Box<dyn Fn(T) + Send + Sync>>;
type NotifyCallback = dyn Fn(NotificationId, &Notification) + Send + Sync;

/// Calls a function for every notification, and others for what becomes of sandboxes.
///
/// A notification that takes the place of another has the other's id. What a person chose comes in
/// by [`CallbackNotifier::invoke_action`]. The functions are called within the call of the
/// notifier, so they return soon, and do not call it back.
#[derive(Default)]
pub struct CallbackNotifier {
    on_notify: Option<Box<NotifyCallback>>,
    on_close: CallbackHook<NotificationId>,
    on_container_started: CallbackHook<ContainerId>,
    on_container_exited: CallbackHook<(ContainerId, DisplayText)>,
    on_shield_up: CallbackHook<ContainerId>,
    on_shield_down: CallbackHook<ContainerId>,
    on_shield_disengaged: CallbackHook<ContainerId>,
    open: Mutex<OpenNotifications>,
}

/// The notifications without actions that are remembered until somebody waits for their end.
const MAX_ACTIONLESS: usize = 64;

/// What is shown and may be answered.
#[derive(Default)]
struct OpenNotifications {
    last_id: u32,
    /// Those with actions, and those without for whose end somebody waits.
    choices: HashMap<NotificationId, PendingChoice>,
    /// The newest of those without.
    actionless: VecDeque<NotificationId>,
    disconnected: bool,
}

impl OpenNotifications {
    /// Takes in that `id` has no actions; a place is taken by as many as are remembered.
    fn add_actionless(&mut self, id: NotificationId) {
        self.actionless.push_back(id);
        if self.actionless.len() > MAX_ACTIONLESS {
            self.actionless.pop_front();
        }
    }

    /// Takes the notification out, and returns what is known of it.
    fn remove(&mut self, id: NotificationId) -> Option<PendingChoice> {
        self.actionless.retain(|mute| *mute != id);
        self.choices.remove(&id)
    }
}

struct PendingChoice {
    keys: Vec<ActionKey>,
    /// What was chosen before anybody asked.
    chosen: Option<ActionKey>,
    on_action: Option<ActionCallback>,
}

/// Why a choice counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// The notification is not shown any more, was answered, or had no choices.
    #[error("notification {0} has no choice to make")]
    NotOpen(NotificationId),
    /// It has no such action.
    #[error("notification {0} has no action {1:?}")]
    NoSuchAction(NotificationId, String),
}

impl CallbackNotifier {
    /// Makes a notifier that calls `on_notify` for every notification.
    pub fn new(on_notify: impl Fn(NotificationId, &Notification) + Send + Sync + 'static) -> Self {
        Self {
            on_notify: Some(Box::new(on_notify)),
            ..Self::default()
        }
    }

    /// Calls `hook` also for each notification that is taken away.
    #[must_use]
    pub fn on_close(mut self, hook: impl Fn(NotificationId) + Send + Sync + 'static) -> Self {
        self.on_close = Some(Box::new(hook));
        self
    }

    /// Calls `hook` also for each sandbox that starts.
    #[must_use]
    pub fn on_container_started(
        mut self,
        hook: impl Fn(ContainerId) + Send + Sync + 'static,
    ) -> Self {
        self.on_container_started = Some(Box::new(hook));
        self
    }

    /// Calls `hook` also for each sandbox that ends, with how that is known.
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

    /// Calls `hook` also for each firewall that is up.
    #[must_use]
    pub fn on_shield_up(mut self, hook: impl Fn(ContainerId) + Send + Sync + 'static) -> Self {
        self.on_shield_up = Some(Box::new(hook));
        self
    }

    /// Calls `hook` also for each firewall that is down, so that all but the private ranges passes.
    #[must_use]
    pub fn on_shield_down(mut self, hook: impl Fn(ContainerId) + Send + Sync + 'static) -> Self {
        self.on_shield_down = Some(Box::new(hook));
        self
    }

    /// Calls `hook` also for each firewall that is off, so that everything passes.
    #[must_use]
    pub fn on_shield_disengaged(
        mut self,
        hook: impl Fn(ContainerId) + Send + Sync + 'static,
    ) -> Self {
        self.on_shield_disengaged = Some(Box::new(hook));
        self
    }

    /// Takes in that a person chose the action `key` of the notification `id`.
    ///
    /// A choice is made once: a second one is refused until the notification is shown anew.
    pub fn invoke_action(&self, id: NotificationId, key: &str) -> Result<(), InvokeError> {
        let mut open = self.lock_open();
        let choice = open
            .choices
            .get_mut(&id)
            .filter(|choice| choice.chosen.is_none() && !choice.keys.is_empty())
            .ok_or(InvokeError::NotOpen(id))?;
        let known = choice.keys.iter().find(|known| known.as_str() == key);
        let Some(key) = known.cloned() else {
            return Err(InvokeError::NoSuchAction(id, key.to_owned()));
        };
        let Some(on_action) = choice.on_action.take() else {
            choice.chosen = Some(key);
            return Ok(());
        };
        open.choices.remove(&id);
        drop(open);
        on_action(key.into());
        Ok(())
    }

    fn lock_open(&self) -> MutexGuard<'_, OpenNotifications> {
        // Nothing in there is ever half done.
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
            let choice = PendingChoice {
                keys,
                chosen: None,
                on_action: None,
            };
            open.choices.insert(id, choice);
        }
        drop(open);
        drop(before);
        if let Some(on_notify) = &self.on_notify {
            on_notify(id, &notification);
        }
        Ok(id)
    }

    async fn on_action(&self, id: NotificationId, on_action: ActionCallback) {
        let mut open = self.lock_open();
        if open.disconnected {
            return;
        }
        if open.actionless.contains(&id) {
            // It stands there: nobody can choose, and whoever waits hears of its end.
            open.remove(id);
            let waits = PendingChoice {
                keys: Vec::new(),
                chosen: None,
                on_action: None,
            };
            open.choices.insert(id, waits);
        }
        let Some(choice) = open.choices.get_mut(&id) else {
            return;
        };
        let Some(key) = choice.chosen.take() else {
            let before = choice.on_action.replace(on_action);
            drop(open);
            drop(before);
            return;
        };
        open.choices.remove(&id);
        drop(open);
        on_action(key.into());
    }

    async fn close(&self, id: NotificationId) -> Result<(), Infallible> {
        let choice = self.lock_open().remove(id);
        drop(choice);
        if let Some(on_close) = &self.on_close {
            on_close(id);
        }
        Ok(())
    }

    async fn disconnect(&self) {
        let mut open = self.lock_open();
        open.disconnected = true;
        let choices = std::mem::take(&mut open.choices);
        drop(open);
        drop(choices);
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

    fn waits() -> (ActionCallback, oneshot::Receiver<String>) {
        let (tell, choice) = oneshot::channel();
        let tell =
            |choice: crate::notifier::ActionChoice| drop(tell.send(choice.key.as_str().to_owned()));
        (Box::new(tell), choice)
    }

    #[tokio::test]
    async fn a_choice_counts_once_and_a_key_that_was_not_offered_never() {
        let notifier = CallbackNotifier::default();
        let id = notifier.notify(question()).await.unwrap();
        let (tell, choice) = waits();
        notifier.on_action(id, tell).await;
        let unknown = InvokeError::NoSuchAction(id, "open".to_owned());
        assert_eq!(notifier.invoke_action(id, "open"), Err(unknown));
        assert_eq!(notifier.invoke_action(id, "deny"), Ok(()));
        let again = notifier.invoke_action(id, "allow");
        assert_eq!(again, Err(InvokeError::NotOpen(id)));
        assert_eq!(choice.await.unwrap(), "deny");
    }

    #[tokio::test]
    async fn a_choice_that_nobody_has_asked_for_yet_is_kept() {
        let notifier = CallbackNotifier::default();
        let id = notifier.notify(question()).await.unwrap();
        notifier.invoke_action(id, "allow").unwrap();
        assert!(notifier.invoke_action(id, "deny").is_err(), "it is made");
        let (tell, choice) = waits();
        notifier.on_action(id, tell).await;
        assert_eq!(choice.await.unwrap(), "allow");
    }

    #[tokio::test]
    async fn whoever_waits_is_told_when_there_will_be_no_choice() {
        let notifier = CallbackNotifier::default();
        let mut waiting = Vec::new();
        let mut ids = Vec::new();
        for _ in 0..3 {
            let id = notifier.notify(question()).await.unwrap();
            let (tell, choice) = waits();
            notifier.on_action(id, tell).await;
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
        let (tell, choice) = waits();
        notifier.on_action(ids[2], tell).await;
        assert!(choice.await.is_err());
    }

    #[tokio::test]
    async fn what_has_no_actions_stands_there_until_it_is_taken_away() {
        let notifier = CallbackNotifier::default();
        let id = notifier.notify(Notification::new("9 questions")).await;
        let id = id.unwrap();
        let (tell, mut choice) = waits();
        notifier.on_action(id, tell).await;
        let pending = Err(oneshot::error::TryRecvError::Empty);
        assert_eq!(choice.try_recv(), pending, "it is shown");
        let refused = Err(InvokeError::NotOpen(id));
        assert_eq!(notifier.invoke_action(id, "allow"), refused);
        notifier.close(id).await.unwrap();
        assert!(choice.await.is_err());
        let (tell, choice) = waits();
        notifier.on_action(id, tell).await;
        assert!(choice.await.is_err(), "it is not shown any more");
    }

    #[tokio::test]
    async fn what_happens_to_a_sandbox_calls_its_hook_alone() {
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
