// SPDX-License-Identifier: Apache-2.0
//! A single popup with the click guard of questions, for programs without a hub.

use std::fmt;
use std::pin::Pin;

use operator::answer_guard::{CLICK_GUARD_DELAY, ClickGuard};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::text;
use crate::notifier::{Closed, Notification, NotificationId, NotificationOutcome, Notifier};

/// How often a popup is shown again that was closed too soon after it appeared.
const MAX_EARLY_CLOSES: u32 = 3;

/// A notification that waits for one choice. A click that comes too soon counts for nothing, on an
/// action or beside: the notification is shown again, with a line that says so.
pub struct GuardedPopup<'a, N: Notifier> {
    notifier: &'a N,
    notification: Notification,
    id: NotificationId,
    phase: PopupPhase<'a, N::Error>,
    guard: ClickGuard,
    guard_delay: Duration,
    early_closes: u32,
    start: Instant,
}

type CallFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The progress of the current version. The calls to the notifier are kept here, because a caller
/// may cancel each wait: a call that was dropped and repeated might never be completed.
enum PopupPhase<'a, E> {
    /// The notification is being shown again.
    Showing(CallFuture<'a, Result<NotificationId, E>>),
    /// The notification is shown, without a callback for its end.
    Shown,
    /// The callback is being registered.
    Registering(CallFuture<'a, ()>, oneshot::Receiver<NotificationOutcome>),
    /// The end of the version is awaited.
    Registered(oneshot::Receiver<NotificationOutcome>),
}

impl<'a, N: Notifier> GuardedPopup<'a, N> {
    /// Shows `notification`.
    pub async fn show(notifier: &'a N, notification: Notification) -> Result<Self, N::Error> {
        let start = Instant::now();
        let id = notifier.notify(notification.clone()).await?;
        let mut popup = Self {
            notifier,
            notification,
            id,
            phase: PopupPhase::Shown,
            guard: ClickGuard::default(),
            guard_delay: CLICK_GUARD_DELAY,
            early_closes: 0,
            start,
        };
        popup.record_change(Instant::now());
        Ok(popup)
    }

    /// Returns the present id of the notification.
    pub const fn id(&self) -> NotificationId {
        self.id
    }

    /// Sets the time without changes that a click needs to count. The default is
    /// [`super::CLICK_GUARD_DELAY`].
    pub const fn set_guard_delay(&mut self, delay: Duration) {
        self.guard_delay = delay;
    }

    /// Waits for the end of the notification: a choice that counts, or an end without a choice.
    ///
    /// Cancel safe. The notification stays on the screen until [`GuardedPopup::close`].
    pub async fn closed(&mut self) -> Result<Closed, N::Error> {
        loop {
            let ended = match &mut self.phase {
                PopupPhase::Showing(call) => {
                    let shown = call.as_mut().await;
                    self.phase = PopupPhase::Shown;
                    self.id = shown?;
                    self.record_change(Instant::now());
                    continue;
                }
                PopupPhase::Shown => {
                    let (sender, receiver) = oneshot::channel();
                    let callback = Box::new(|outcome| drop(sender.send(outcome)));
                    let call = Box::pin(self.notifier.on_closed(self.id, callback));
                    self.phase = PopupPhase::Registering(call, receiver);
                    continue;
                }
                PopupPhase::Registering(call, _) => {
                    call.as_mut().await;
                    let registering = std::mem::replace(&mut self.phase, PopupPhase::Shown);
                    if let PopupPhase::Registering(_, receiver) = registering {
                        self.phase = PopupPhase::Registered(receiver);
                    }
                    continue;
                }
                PopupPhase::Registered(end) => end.await,
            };
            self.phase = PopupPhase::Shown;
            let Ok(outcome) = ended else {
                return Ok(Closed::ConnectionLost);
            };
            if self.accepts(&outcome) {
                return Ok(outcome.closed);
            }
            tracing::info!("ignored a click that came too soon; showing the popup again");
            let again = Notification {
                body: text::with_too_soon_line(&self.notification.body),
                replaces: Some(self.id),
                ..self.notification.clone()
            };
            self.phase = PopupPhase::Showing(Box::pin(self.notifier.notify(again)));
        }
    }

    /// Removes the notification.
    pub async fn close(self) -> Result<(), N::Error> {
        // A version that is being shown has no id yet; the notifier removes it once it has one.
        drop(self.phase);
        self.notifier.close(self.id).await
    }

    fn accepts(&mut self, outcome: &NotificationOutcome) -> bool {
        if let Some(changed) = outcome.layout_changed_at {
            self.record_change(changed);
        }
        let clicked_at = self.since_start(outcome.at);
        let in_time = self.guard.accepts_after(self.guard_delay, clicked_at);
        match outcome.closed {
            Closed::Chosen(_) => in_time,
            // A service that closes every popup at once would be asked for ever.
            Closed::Dismissed if !in_time && !self.notification.actions.is_empty() => {
                self.early_closes = self.early_closes.saturating_add(1);
                self.early_closes > MAX_EARLY_CLOSES
            }
            Closed::Dismissed | Closed::Expired | Closed::ConnectionLost => true,
        }
    }

    fn record_change(&mut self, at: Instant) {
        self.guard.record_change(self.since_start(at));
    }

    fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }
}

impl<N: Notifier> fmt::Debug for GuardedPopup<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardedPopup")
            .field("notification", &self.notification)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::notifier::{CallbackNotifier, ClosedCallback};

    /// A notifier whose calls are never ready when they are first polled.
    struct SlowNotifier(CallbackNotifier);

    impl Notifier for SlowNotifier {
        type Error = <CallbackNotifier as Notifier>::Error;

        async fn notify(&self, notification: Notification) -> Result<NotificationId, Self::Error> {
            tokio::task::yield_now().await;
            self.0.notify(notification).await
        }

        async fn on_closed(&self, id: NotificationId, callback: ClosedCallback) {
            tokio::task::yield_now().await;
            self.0.on_closed(id, callback).await;
        }

        async fn close(&self, id: NotificationId) -> Result<(), Self::Error> {
            self.0.close(id).await
        }

        async fn disconnect(&self) {
            self.0.disconnect().await;
        }
    }

    #[tokio::test]
    async fn each_wait_may_be_cancelled() {
        let (sender, shown) = std::sync::mpsc::channel();
        let callback = move |_, notification: &Notification| {
            drop(sender.send(notification.body.clone()));
        };
        let notifier = SlowNotifier(CallbackNotifier::new(callback));
        let question = Notification {
            actions: vec!["allow:Allow".parse().unwrap()],
            ..Notification::new("a question")
        };
        let mut popup = GuardedPopup::show(&notifier, question).await.unwrap();
        popup.set_guard_delay(Duration::from_secs(3600));
        let click = |id| notifier.0.invoke_action(id, "allow").unwrap();
        click(popup.id());
        for _ in 0..10 {
            assert!(popup.closed().now_or_never().is_none());
        }
        let bodies: Vec<_> = shown.try_iter().collect();
        assert_eq!(bodies.len(), 2, "shown once, and once more: {bodies:?}");
        popup.set_guard_delay(Duration::ZERO);
        click(popup.id());
        let closed = popup.closed().await.unwrap();
        assert!(matches!(closed, Closed::Chosen(_)), "{closed:?}");
    }
}
