// SPDX-License-Identifier: Apache-2.0
//! One notification that is shown, or is to be.

use std::fmt;

use super::{DbusCallId, DesktopReplySender};
use crate::notifier::dbus::DesktopError;
use crate::notifier::{ActionCallback, ActionChoice, ActionKey, Notification, NotificationId};

/// Where it is. Every id is one of the service's present owner.
#[derive(Debug, Clone, Copy)]
pub(super) enum DisplayState {
    /// The service does not show it, or not any more.
    NotShown,
    /// It was sent, in place of the one the service knows as `was`.
    Sending {
        ticket: DbusCallId,
        was: Option<u32>,
    },
    /// The service shows it.
    Shown { id: u32 },
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and none excludes another"
)]
pub(super) struct NotificationEntry {
    pub(super) notification: Notification,
    pub(super) handle: Option<NotificationId>,
    pub(super) display: DisplayState,
    /// It changed while it was sent: it is to be sent once more.
    pub(super) resend: bool,
    /// Showing it puts something else under the pointer: it is new, or another question, or has
    /// another size.
    pub(super) layout_changes: bool,
    /// A click on it came too soon.
    pub(super) too_soon: bool,
    pub(super) activation_token: Option<String>,
    /// What was chosen before anybody asked.
    pub(super) chosen: Option<ActionChoice>,
    /// What is shown may ask something else than is meant by now.
    stale: bool,
    /// Its choice was made and told.
    answered: bool,
    waiters: Vec<DesktopReplySender<NotificationId>>,
    callback: Option<ActionCallback>,
}

impl NotificationEntry {
    pub(super) fn new(
        notification: Notification,
        told: DesktopReplySender<NotificationId>,
    ) -> Self {
        Self {
            notification,
            handle: None,
            display: DisplayState::NotShown,
            resend: false,
            layout_changes: true,
            too_soon: false,
            activation_token: None,
            chosen: None,
            stale: false,
            answered: false,
            waiters: vec![told],
            callback: None,
        }
    }

    /// Says something else from now on. Another question has another choice: whoever waited for
    /// that of the former one is told that there is none.
    pub(super) fn replace(
        &mut self,
        notification: Notification,
        told: DesktopReplySender<NotificationId>,
    ) {
        if !notification.asks_same_question(&self.notification) {
            self.callback = None;
            self.chosen = None;
            self.activation_token = None;
            self.answered = false;
            self.too_soon = false;
            self.stale = true;
            self.layout_changes = true;
        }
        let lines = |notification: &Notification| notification.body.lines().count();
        self.layout_changes |= lines(&notification) != lines(&self.notification);
        self.notification = notification;
        self.waiters.push(told);
    }

    pub(super) fn on_action(&mut self, on_action: ActionCallback) {
        if let Some(choice) = self.chosen.take() {
            self.answered = true;
            on_action(choice);
        } else {
            self.answered = false;
            self.callback = Some(on_action);
        }
    }

    /// Returns the action that a click names, if it is one of the question that is asked.
    pub(super) fn find_action(&self, key: &str) -> Option<ActionKey> {
        let mut actions = self.notification.actions.iter().filter(|_| !self.stale);
        let chosen = actions.find(|action| action.key().as_str() == key);
        chosen.map(|action| action.key().clone())
    }

    /// Its choice is made. The first one counts.
    pub(super) fn record_choice(&mut self, key: ActionKey) {
        let choice = ActionChoice {
            key,
            activation_token: self.activation_token.take(),
        };
        if let Some(callback) = self.callback.take() {
            self.answered = true;
            callback(choice);
        } else if !self.answered && self.chosen.is_none() {
            self.chosen = Some(choice);
        }
    }

    /// It is shown as it is meant. Says whether anybody who asked for it is still there.
    pub(super) fn notify_waiters(&mut self, handle: NotificationId) -> bool {
        self.stale = self.stale && !matches!(self.display, DisplayState::Shown { .. });
        if self.waiters.is_empty() {
            return true;
        }
        let told = self.waiters.drain(..).map(|told| told.send(Ok(handle)));
        told.fold(false, |any, told| any | told.is_ok())
    }

    pub(super) fn fail_waiters(&mut self, error: &DesktopError) {
        for told in self.waiters.drain(..) {
            drop(told.send(Err(error.clone())));
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
        f.debug_struct("Post")
            .field("notification", &self.notification)
            .field("handle", &self.handle)
            .field("place", &self.display)
            .finish_non_exhaustive()
    }
}
