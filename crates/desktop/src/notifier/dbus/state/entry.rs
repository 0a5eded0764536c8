// SPDX-License-Identifier: Apache-2.0
//! A notification that is shown or waits for the service.

use std::fmt;

use tokio::time::Instant;

use crate::notifier::dbus::DesktopError;
use crate::notifier::dbus::event::{DbusCallId, DesktopReplySender};
use crate::notifier::{
    ActionChoice, ActionKey, Closed, ClosedCallback, Notification, NotificationAction,
    NotificationId, NotificationOutcome,
};

/// Whether the service shows a notification. Every id comes from the present owner of the name.
#[derive(Debug, Clone, Copy)]
pub(super) enum DisplayState {
    /// The service does not show the notification.
    NotShown,
    /// The notification was sent, as a replacement for the service's id `was`.
    Sending {
        call_id: DbusCallId,
        was: Option<u32>,
    },
    Shown {
        id: u32,
    },
}

pub(super) struct NotificationEntry {
    pub(super) notification: Notification,
    pub(super) handle: Option<NotificationId>,
    pub(super) display: DisplayState,
    /// The content changed during a `Notify` call and must be sent again.
    pub(super) resend: bool,
    /// The next `Notify` call moves the popups: a new notification, another question or another
    /// size.
    pub(super) layout_changes: bool,
    pub(super) activation_token: Option<String>,
    /// The service may still show another question than the present one.
    stale: bool,
    choice: ChoiceState,
    /// The actions that the present service was given.
    offered: Vec<ActionKey>,
    waiters: Vec<DesktopReplySender<NotificationId>>,
}

/// The choice of a notification. Only the first choice counts.
enum ChoiceState {
    /// Neither a choice nor a callback.
    Open,
    /// A callback, but no choice.
    Awaited(ClosedCallback),
    /// A choice made before a callback was registered.
    Unclaimed(NotificationOutcome),
    /// The callback received the choice.
    Delivered,
}

impl NotificationEntry {
    pub(super) fn new(
        notification: Notification,
        reply: DesktopReplySender<NotificationId>,
    ) -> Self {
        Self {
            notification,
            handle: None,
            display: DisplayState::NotShown,
            resend: false,
            layout_changes: true,
            activation_token: None,
            stale: false,
            choice: ChoiceState::Open,
            offered: Vec::new(),
            waiters: vec![reply],
        }
    }

    /// Replaces the content. A choice for the former question does not count for a new question.
    pub(super) fn replace(
        &mut self,
        notification: Notification,
        reply: DesktopReplySender<NotificationId>,
    ) {
        if !notification.asks_same_question(&self.notification) {
            self.choice = ChoiceState::Open;
            self.activation_token = None;
            self.stale = true;
            self.layout_changes = true;
        } else if let ChoiceState::Awaited(_) = self.choice {
            self.choice = ChoiceState::Open;
        }
        let lines = |notification: &Notification| notification.body.lines().count();
        self.layout_changes |= lines(&notification) != lines(&self.notification);
        self.notification = notification;
        self.waiters.push(reply);
    }

    pub(super) fn register_callback(&mut self, callback: ClosedCallback) {
        let before = std::mem::replace(&mut self.choice, ChoiceState::Delivered);
        match before {
            ChoiceState::Unclaimed(outcome) => callback(outcome),
            _ => self.choice = ChoiceState::Awaited(callback),
        }
    }

    /// Records the actions that are sent to the service.
    pub(super) fn offer(&mut self, actions: &[NotificationAction]) {
        self.offered = actions.iter().map(|it| it.key().clone()).collect();
    }

    /// Accepts a click on `key` if the service shows the present question, and was given `key` as
    /// one of the question's actions.
    pub(super) fn choose(&mut self, key: &str, at: Instant, layout_changed_at: Option<Instant>) {
        let mut offered = self.offered.iter().filter(|_| !self.stale);
        let Some(key) = offered.find(|offered| offered.as_str() == key) else {
            return;
        };
        let choice = ActionChoice {
            key: key.clone(),
            activation_token: self.activation_token.take(),
        };
        let outcome = NotificationOutcome {
            closed: Closed::Chosen(choice),
            at,
            layout_changed_at,
        };
        match std::mem::replace(&mut self.choice, ChoiceState::Delivered) {
            ChoiceState::Awaited(callback) => callback(outcome),
            ChoiceState::Open => self.choice = ChoiceState::Unclaimed(outcome),
            before @ (ChoiceState::Unclaimed(_) | ChoiceState::Delivered) => self.choice = before,
        }
    }

    /// Passes the end to the callback. Returns the outcome if no callback is registered yet.
    pub(super) fn end(
        self,
        outcome: NotificationOutcome,
    ) -> Option<(NotificationId, NotificationOutcome)> {
        let unclaimed = match self.choice {
            ChoiceState::Awaited(callback) => {
                callback(outcome);
                return None;
            }
            ChoiceState::Delivered => return None,
            ChoiceState::Unclaimed(chosen) => chosen,
            ChoiceState::Open => outcome,
        };
        self.handle.map(|handle| (handle, unclaimed))
    }

    /// Reports that the latest content is shown. Returns `false` if every waiter was dropped.
    pub(super) fn notify_waiters(&mut self, handle: NotificationId) -> bool {
        self.stale = self.stale && !matches!(self.display, DisplayState::Shown { .. });
        if self.waiters.is_empty() {
            return true;
        }
        let sent = self.waiters.drain(..).map(|reply| reply.send(Ok(handle)));
        sent.fold(false, |any, sent| any | sent.is_ok())
    }

    pub(super) fn fail_waiters(&mut self, error: &DesktopError) {
        for reply in self.waiters.drain(..) {
            drop(reply.send(Err(error.clone())));
        }
    }

    pub(super) const fn has_waiters(&self) -> bool {
        !self.waiters.is_empty()
    }

    pub(super) fn has_service_id(&self, number: u32) -> bool {
        match self.display {
            DisplayState::NotShown => false,
            DisplayState::Sending { was, .. } => was == Some(number),
            DisplayState::Shown { id } => id == number,
        }
    }
}

impl fmt::Debug for NotificationEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotificationEntry")
            .field("notification", &self.notification)
            .field("handle", &self.handle)
            .field("display", &self.display)
            .finish_non_exhaustive()
    }
}
