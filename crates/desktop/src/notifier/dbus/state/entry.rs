// SPDX-License-Identifier: Apache-2.0
//! One notification that is shown, or waits to be.

use std::fmt;

use tokio::time::Instant;

use crate::notifier::dbus::DesktopError;
use crate::notifier::dbus::event::{DbusCallId, DesktopReplySender};
use crate::notifier::{
    ActionChoice, Closed, ClosedCallback, Notification, NotificationId, NotificationOutcome,
};

/// Every id is one of the service's present owner.
#[derive(Debug, Clone, Copy)]
pub(super) enum DisplayState {
    /// The service does not show it, or not any more.
    NotShown,
    /// It was sent, in place of the one that the service knows as `was`.
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
    /// It changed while it was sent: it is to be sent once more.
    pub(super) resend: bool,
    /// Showing it moves the popups: it is new, asks another question, or has another size.
    pub(super) layout_changes: bool,
    pub(super) activation_token: Option<String>,
    /// What the service shows may be another question.
    stale: bool,
    choice: ChoiceState,
    waiters: Vec<DesktopReplySender<NotificationId>>,
}

/// The first choice counts.
enum ChoiceState {
    /// No choice and no callback.
    Open,
    /// The callback for the end.
    Awaited(ClosedCallback),
    /// A choice that came before the callback.
    Unclaimed(NotificationOutcome),
    /// The callback has the choice.
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
            waiters: vec![reply],
        }
    }

    /// Changes the content. Another question has another choice.
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

    /// Takes a click on `key`, if that is an action of the question that is asked.
    pub(super) fn choose(&mut self, key: &str, at: Instant, layout_changed_at: Option<Instant>) {
        let mut actions = self.notification.actions.iter().filter(|_| !self.stale);
        let Some(action) = actions.find(|action| action.key().as_str() == key) else {
            return;
        };
        let choice = ActionChoice {
            key: action.key().clone(),
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

    /// Reports the end of the notification, and returns an outcome that no callback has yet.
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
