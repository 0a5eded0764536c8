// SPDX-License-Identifier: Apache-2.0
//! One notification that is shown, or is to be.

use std::fmt;

use super::{Ticket, Told};
use crate::notifier::desktop::DesktopError;
use crate::notifier::{ActionKey, Choice, Notification, NotificationId, OnAction};

/// Where it is. Every id is one of the service's present owner.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// The service does not show it, or not any more.
    Nowhere,
    /// It was sent, in place of the one the service knows as `was`.
    Posting { ticket: Ticket, was: Option<u32> },
    /// The service shows it.
    Shown { id: u32 },
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and none excludes another"
)]
pub(super) struct Post {
    pub(super) notification: Notification,
    pub(super) handle: Option<NotificationId>,
    pub(super) place: Place,
    /// It changed while it was sent: it is to be sent once more.
    pub(super) again: bool,
    /// Showing it puts something else under the pointer: it is new, or another question, or has
    /// another size.
    pub(super) moves: bool,
    /// A click on it came too soon.
    pub(super) too_soon: bool,
    pub(super) token: Option<String>,
    /// What was chosen before anybody asked.
    pub(super) chosen: Option<Choice>,
    /// What is shown may ask something else than is meant by now.
    stale: bool,
    /// Its choice was made and told.
    settled: bool,
    waiters: Vec<Told<NotificationId>>,
    callback: Option<OnAction>,
}

impl Post {
    pub(super) fn new(notification: Notification, told: Told<NotificationId>) -> Self {
        Self {
            notification,
            handle: None,
            place: Place::Nowhere,
            again: false,
            moves: true,
            too_soon: false,
            token: None,
            chosen: None,
            stale: false,
            settled: false,
            waiters: vec![told],
            callback: None,
        }
    }

    /// Says something else from now on. Another question has another choice: whoever waited for
    /// that of the former one is told that there is none.
    pub(super) fn replace(&mut self, notification: Notification, told: Told<NotificationId>) {
        if !notification.asks_as(&self.notification) {
            self.callback = None;
            self.chosen = None;
            self.token = None;
            self.settled = false;
            self.too_soon = false;
            self.stale = true;
            self.moves = true;
        }
        let lines = |notification: &Notification| notification.body.lines().count();
        self.moves |= lines(&notification) != lines(&self.notification);
        self.notification = notification;
        self.waiters.push(told);
    }

    pub(super) fn on_action(&mut self, on_action: OnAction) {
        if let Some(choice) = self.chosen.take() {
            self.settled = true;
            on_action(choice);
        } else {
            self.settled = false;
            self.callback = Some(on_action);
        }
    }

    /// Returns the action that a click names, if it is one of the question that is asked.
    pub(super) fn action(&self, key: &str) -> Option<ActionKey> {
        let mut actions = self.notification.actions.iter().filter(|_| !self.stale);
        let chosen = actions.find(|action| action.key().as_str() == key);
        chosen.map(|action| action.key().clone())
    }

    /// Its choice is made. The first one counts.
    pub(super) fn choose(&mut self, key: ActionKey) {
        let choice = Choice {
            key,
            activation: self.token.take(),
        };
        if let Some(callback) = self.callback.take() {
            self.settled = true;
            callback(choice);
        } else if !self.settled && self.chosen.is_none() {
            self.chosen = Some(choice);
        }
    }

    /// It is shown as it is meant. Says whether anybody who asked for it is still there.
    pub(super) fn tell(&mut self, handle: NotificationId) -> bool {
        self.stale = self.stale && !matches!(self.place, Place::Shown { .. });
        if self.waiters.is_empty() {
            return true;
        }
        let told = self.waiters.drain(..).map(|told| told.send(Ok(handle)));
        told.fold(false, |any, told| any | told.is_ok())
    }

    pub(super) fn fail(&mut self, error: &DesktopError) {
        for told in self.waiters.drain(..) {
            drop(told.send(Err(error.clone())));
        }
    }

    pub(super) const fn is_waited_for(&self) -> bool {
        !self.waiters.is_empty()
    }

    pub(super) fn is_known_as(&self, number: u32) -> bool {
        match self.place {
            Place::Nowhere => false,
            Place::Posting { was, .. } => was == Some(number),
            Place::Shown { id } => id == number,
        }
    }
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("notification", &self.notification)
            .field("handle", &self.handle)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
