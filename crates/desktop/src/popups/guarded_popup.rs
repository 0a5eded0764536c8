// SPDX-License-Identifier: Apache-2.0
//! One popup whose click is guarded as those of questions are.

use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::click_guard::ClickGuard;
use super::text;
use crate::notifier::{Closed, Notification, NotificationId, NotificationOutcome, Notifier};

/// A notification that waits for one choice. A click that comes too soon counts for nothing: the
/// notification is shown again, with a line that says so.
#[derive(Debug)]
pub struct GuardedPopup<'a, N> {
    notifier: &'a N,
    notification: Notification,
    id: NotificationId,
    /// A click was ignored: the notification is to be shown again.
    show_again: bool,
    /// The end of the version that is shown.
    end: Option<oneshot::Receiver<NotificationOutcome>>,
    guard: ClickGuard,
    guard_delay: Duration,
    start: Instant,
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
            show_again: false,
            end: None,
            guard: ClickGuard::default(),
            guard_delay: ClickGuard::MIN_READ_TIME,
            start,
        };
        popup.record_change(Instant::now());
        Ok(popup)
    }

    /// Returns the present id of the notification.
    pub const fn id(&self) -> NotificationId {
        self.id
    }

    /// Sets the time for which the popups must not have changed for a click to count, instead of
    /// [`super::CLICK_GUARD_DELAY`].
    pub const fn set_guard_delay(&mut self, delay: Duration) {
        self.guard_delay = delay;
    }

    /// Waits for the end of the notification: a choice that counts, or an end without a choice.
    ///
    /// Cancel safe. The notification stays on the screen; [`GuardedPopup::close`] removes it.
    pub async fn closed(&mut self) -> Result<Closed, N::Error> {
        loop {
            if self.show_again {
                let again = Notification {
                    body: text::with_too_soon_line(&self.notification.body),
                    replaces: Some(self.id),
                    ..self.notification.clone()
                };
                self.id = self.notifier.notify(again).await?;
                self.show_again = false;
                self.record_change(Instant::now());
            }
            if self.end.is_none() {
                let (sender, receiver) = oneshot::channel();
                let callback = Box::new(|outcome| drop(sender.send(outcome)));
                self.notifier.on_closed(self.id, callback).await;
                self.end = Some(receiver);
            }
            let Some(end) = &mut self.end else {
                continue;
            };
            let ended = end.await;
            self.end = None;
            let Ok(outcome) = ended else {
                return Ok(Closed::ConnectionLost);
            };
            if self.accepts(&outcome) {
                return Ok(outcome.closed);
            }
            tracing::info!("ignored a click that came too soon; showing the popup again");
            self.show_again = true;
        }
    }

    /// Removes the notification.
    pub async fn close(self) -> Result<(), N::Error> {
        self.notifier.close(self.id).await
    }

    fn accepts(&mut self, outcome: &NotificationOutcome) -> bool {
        if let Some(changed) = outcome.layout_changed_at {
            self.record_change(changed);
        }
        let clicked_at = self.since_start(outcome.at);
        !matches!(outcome.closed, Closed::Chosen(_))
            || self.guard.accepts_after(self.guard_delay, clicked_at)
    }

    fn record_change(&mut self, at: Instant) {
        self.guard.record_change(self.since_start(at));
    }

    fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }
}
