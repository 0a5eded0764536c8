// SPDX-License-Identifier: Apache-2.0
//! What is said beside the questions: of firewalls, and of sandboxes that come and go.

use std::collections::VecDeque;
use std::time::Duration;

use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{ContainerId, DisplayText, ShieldState};

use super::sandboxes::{Alert, Sandboxes};
use super::{Board, Order, Slot};
use crate::inbox::HubId;
use crate::notifier::{Identity, Notification};
use crate::popups::category::Category;
use crate::popups::text;

/// The most that wait to be said.
const NOTICES: usize = 64;
/// How long it may take to find out the name of a sandbox that starts.
const NAMING: Duration = Duration::from_secs(2);

impl Board {
    /// Takes in what a firewall is now.
    pub(super) fn shield(&mut self, hub: &HubId, container: &ContainerId, state: ShieldState) {
        let identity = self.sandboxes.identity(hub, container);
        let notification = text::shield(identity, state);
        let before = self.sandboxes.alert(hub, container, None);
        if state == ShieldState::Up {
            // An alert that is no longer true goes, whatever kinds of popups are wanted.
            self.close_alert(before);
            if self.categories.has(Category::ShieldUp) {
                self.notice(None, notification);
            }
        } else if self.categories.has(Category::ShieldDown) {
            let slot = before.unwrap_or_else(|| self.slot());
            let alert = Alert {
                slot,
                container: container.clone(),
                state,
            };
            self.sandboxes.alert(hub, container, Some(alert));
            self.notices.drop_slot(slot);
            self.notice(Some(slot), notification);
        }
    }

    /// Takes in that a sandbox started or ended.
    pub(super) fn container(
        &mut self,
        hub: &HubId,
        container: &ContainerId,
        state: ContainerState,
        reason: Option<&DisplayText>,
        now: Duration,
    ) {
        let identity = self.sandboxes.identity(hub, container);
        let mut unnamed = None;
        let category = match state {
            ContainerState::Started => {
                unnamed = (!self.sandboxes.is_known(hub, container)).then(|| Unnamed {
                    hub: hub.clone(),
                    container: container.clone(),
                    reason: reason.cloned(),
                    until: now.saturating_add(NAMING),
                });
                Category::ContainerStarted
            }
            ContainerState::Exited => {
                // That it started is said before, by the name that it has now.
                let ends = |of: &Unnamed| (&of.hub, &of.container) == (hub, container);
                self.notices.name(&self.sandboxes, ends);
                let alert = self.sandboxes.forget(hub, container);
                self.close_alert(alert);
                Category::ContainerExited
            }
        };
        if self.categories.has(category) {
            self.notices.add(Notice {
                slot: None,
                notification: text::container(identity, state, reason),
                unnamed,
            });
        }
    }

    /// Takes in who a sandbox is: what is said of it has its name from now on.
    pub(super) fn name(&mut self, container: &ContainerId, identity: Identity) {
        for (alert, identity) in self.sandboxes.identify(container, identity) {
            self.notices.drop_slot(alert.slot);
            self.notice(Some(alert.slot), text::shield(identity, alert.state));
        }
        self.name_notices();
    }

    /// Gives those their name whose name is known by now.
    pub(super) fn name_notices(&mut self) {
        let sandboxes = &self.sandboxes;
        let is_known = |of: &Unnamed| sandboxes.is_known(&of.hub, &of.container);
        self.notices.name(sandboxes, is_known);
    }

    /// Takes an alert away, or never shows it.
    pub(super) fn close_alert(&mut self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            self.notices.drop_slot(slot);
            self.closes.push(slot);
        }
    }

    /// Shows what waits to be said, as fast as a person can stand.
    pub(super) fn flush_notices(&mut self, now: Duration, orders: &mut Vec<Order>) {
        loop {
            let next = self.notices.next(now);
            if let Some(until) = self.notices.named_at().filter(|_| next.is_none()) {
                self.wake(until);
            }
            if next.is_none() && self.notices.left_out() == 0 {
                return;
            }
            if let Err(due) = self.pace.take(now) {
                return self.wake(due);
            }
            let Some((slot, notification)) = self.notices.take(next) else {
                return;
            };
            let last = slot.is_none();
            let slot = slot.unwrap_or_else(|| self.slot());
            let post = self.post(slot, notification, last);
            orders.push(Order::Post(Box::new(post)));
        }
    }

    /// Says something beside the questions.
    fn notice(&mut self, slot: Option<Slot>, notification: Notification) {
        self.notices.add(Notice {
            slot,
            notification,
            unnamed: None,
        });
    }
}

/// What waits to be said.
#[derive(Debug, Default)]
pub(super) struct Notices {
    queue: VecDeque<Notice>,
    /// How many there was no room for.
    left_out: usize,
}

#[derive(Debug)]
struct Notice {
    /// Where an alert is; everything else goes by itself.
    slot: Option<Slot>,
    notification: Notification,
    unnamed: Option<Unnamed>,
}

/// A sandbox that started and whose name is being looked up.
#[derive(Debug)]
struct Unnamed {
    hub: HubId,
    container: ContainerId,
    reason: Option<DisplayText>,
    /// When it is said by its id.
    until: Duration,
}

impl Notices {
    /// Puts back an alert that was not shown.
    pub(super) fn put_back(&mut self, slot: Slot, notification: Notification) {
        self.queue.push_front(Notice {
            slot: Some(slot),
            notification,
            unnamed: None,
        });
    }

    /// Adds one; where too much waits, the oldest that is no alert goes, and is counted.
    fn add(&mut self, notice: Notice) {
        if self.queue.len() >= NOTICES
            && let Some(oldest) = self.queue.iter().position(|notice| notice.slot.is_none())
        {
            self.queue.remove(oldest);
            self.left_out = self.left_out.saturating_add(1);
        }
        self.queue.push_back(notice);
    }

    fn drop_slot(&mut self, slot: Slot) {
        self.queue.retain(|notice| notice.slot != Some(slot));
    }

    /// Gives those their name for which `is_named` says so.
    fn name(&mut self, sandboxes: &Sandboxes, is_named: impl Fn(&Unnamed) -> bool) {
        for notice in &mut self.queue {
            if let Some(of) = notice.unnamed.take_if(|of| is_named(of)) {
                let identity = sandboxes.identity(&of.hub, &of.container);
                let reason = of.reason.as_ref();
                notice.notification = text::container(identity, ContainerState::Started, reason);
            }
        }
    }

    /// Returns which one can be said now.
    fn next(&self, now: Duration) -> Option<usize> {
        let is_ready = |of: &Unnamed| of.until <= now;
        self.queue
            .iter()
            .position(|notice| notice.unnamed.as_ref().is_none_or(is_ready))
    }

    /// Returns when one is said that waits for its name.
    fn named_at(&self) -> Option<Duration> {
        let unnamed = self
            .queue
            .iter()
            .filter_map(|notice| notice.unnamed.as_ref());
        unnamed.map(|of| of.until).min()
    }

    /// Returns how many there was no room for, once all others are said.
    fn left_out(&self) -> usize {
        if self.queue.is_empty() {
            self.left_out
        } else {
            0
        }
    }

    /// Takes number `next`, or in the end what says how many were left out.
    fn take(&mut self, next: Option<usize>) -> Option<(Option<Slot>, Notification)> {
        if let Some(next) = next {
            let notice = self.queue.remove(next)?;
            return Some((notice.slot, notice.notification));
        }
        let left_out = std::mem::take(&mut self.left_out);
        tracing::warn!(left_out, "more happened to sandboxes than popups could say");
        Some((None, text::left_out(left_out)))
    }
}
