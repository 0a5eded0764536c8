// SPDX-License-Identifier: Apache-2.0
//! What is said beside the questions: of firewalls, and of sandboxes that come and go.

use std::collections::VecDeque;
use std::time::Duration;

use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{ContainerId, DisplayText, ShieldState};

use super::sandbox_directory::{SandboxDirectory, ShieldAlert};
use super::{PopupCommand, PopupModel, PopupSlot};
use crate::notifier::{ContainerIdentity, Notification};
use crate::popups::category::PopupCategory;
use crate::popups::text;
use operator::inbox::HubId;

/// The most that wait to be said.
const MAX_QUEUED_NOTICES: usize = 64;
/// How long it may take to find out the name of a sandbox that starts.
const NAME_LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

impl PopupModel {
    /// Takes in what a firewall is now.
    pub(super) fn apply_shield_state(
        &mut self,
        hub: &HubId,
        container: &ContainerId,
        state: ShieldState,
    ) {
        let identity = self.sandboxes.identity(hub, container);
        let notification = text::shield_popup(identity, state);
        let before = self.sandboxes.replace_alert(hub, container, None);
        if state == ShieldState::Up {
            // An alert that is no longer true goes, whatever kinds of popups are wanted.
            self.close_alert(before);
            if self.categories.contains(PopupCategory::ShieldUp) {
                self.add_notice(None, notification);
            }
        } else if self.categories.contains(PopupCategory::ShieldDown) {
            let slot = before.unwrap_or_else(|| self.allocate_slot());
            let alert = ShieldAlert {
                slot,
                container: container.clone(),
                state,
            };
            self.sandboxes.replace_alert(hub, container, Some(alert));
            self.notices.drop_slot(slot);
            self.add_notice(Some(slot), notification);
        }
    }

    /// Takes in that a sandbox started or ended.
    pub(super) fn apply_container_state(
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
                unnamed = (!self.sandboxes.is_identified(hub, container)).then(|| UnnamedSandbox {
                    hub: hub.clone(),
                    container: container.clone(),
                    reason: reason.cloned(),
                    deadline: now.saturating_add(NAME_LOOKUP_TIMEOUT),
                });
                PopupCategory::ContainerStarted
            }
            ContainerState::Exited => {
                // That it started is said before, by the name that it has now.
                let ends = |of: &UnnamedSandbox| (&of.hub, &of.container) == (hub, container);
                self.notices.resolve_names(&self.sandboxes, ends);
                let alert = self.sandboxes.forget(hub, container);
                self.close_alert(alert);
                PopupCategory::ContainerExited
            }
        };
        if self.categories.contains(category) {
            self.notices.add(QueuedNotice {
                slot: None,
                notification: text::container_popup(identity, state, reason),
                pending_name: unnamed,
            });
        }
    }

    /// Takes in who a sandbox is: what is said of it has its name from now on.
    pub(super) fn apply_identity(&mut self, container: &ContainerId, identity: ContainerIdentity) {
        for (alert, identity) in self.sandboxes.set_identity(container, identity) {
            self.notices.drop_slot(alert.slot);
            self.add_notice(Some(alert.slot), text::shield_popup(identity, alert.state));
        }
        self.resolve_notice_names();
    }

    /// Gives those their name whose name is known by now.
    pub(super) fn resolve_notice_names(&mut self) {
        let sandboxes = &self.sandboxes;
        let is_known = |of: &UnnamedSandbox| sandboxes.is_identified(&of.hub, &of.container);
        self.notices.resolve_names(sandboxes, is_known);
    }

    /// Takes an alert away, or never shows it.
    pub(super) fn close_alert(&mut self, slot: Option<PopupSlot>) {
        if let Some(slot) = slot {
            self.notices.drop_slot(slot);
            self.pending_closes.push(slot);
        }
    }

    /// Shows what waits to be said, as fast as a person can stand.
    pub(super) fn flush_notices(&mut self, now: Duration, orders: &mut Vec<PopupCommand>) {
        loop {
            let next = self.notices.next_ready(now);
            if let Some(until) = self.notices.next_name_deadline().filter(|_| next.is_none()) {
                self.schedule(until);
            }
            if next.is_none() && self.notices.omitted_count() == 0 {
                return;
            }
            if let Err(due) = self.rate_limiter.try_acquire(now) {
                return self.schedule(due);
            }
            let Some((slot, notification)) = self.notices.take(next) else {
                return;
            };
            let last = slot.is_none();
            let slot = slot.unwrap_or_else(|| self.allocate_slot());
            let post = self.build_update(slot, notification, last);
            orders.push(PopupCommand::Show(Box::new(post)));
        }
    }

    /// Says something beside the questions.
    fn add_notice(&mut self, slot: Option<PopupSlot>, notification: Notification) {
        self.notices.add(QueuedNotice {
            slot,
            notification,
            pending_name: None,
        });
    }
}

/// What waits to be said.
#[derive(Debug, Default)]
pub(super) struct NoticeQueue {
    queue: VecDeque<QueuedNotice>,
    /// How many there was no room for.
    omitted_count: usize,
}

#[derive(Debug)]
struct QueuedNotice {
    /// Where an alert is; everything else goes by itself.
    slot: Option<PopupSlot>,
    notification: Notification,
    pending_name: Option<UnnamedSandbox>,
}

/// A sandbox that started and whose name is being looked up.
#[derive(Debug)]
struct UnnamedSandbox {
    hub: HubId,
    container: ContainerId,
    reason: Option<DisplayText>,
    /// When it is said by its id.
    deadline: Duration,
}

impl NoticeQueue {
    /// Puts back an alert that was not shown.
    pub(super) fn requeue(&mut self, slot: PopupSlot, notification: Notification) {
        self.queue.push_front(QueuedNotice {
            slot: Some(slot),
            notification,
            pending_name: None,
        });
    }

    /// Adds one; where too much waits, the oldest that is no alert goes, and is counted.
    fn add(&mut self, notice: QueuedNotice) {
        if self.queue.len() >= MAX_QUEUED_NOTICES
            && let Some(oldest) = self.queue.iter().position(|notice| notice.slot.is_none())
        {
            self.queue.remove(oldest);
            self.omitted_count = self.omitted_count.saturating_add(1);
        }
        self.queue.push_back(notice);
    }

    fn drop_slot(&mut self, slot: PopupSlot) {
        self.queue.retain(|notice| notice.slot != Some(slot));
    }

    /// Gives those their name for which `is_named` says so.
    fn resolve_names(
        &mut self,
        sandboxes: &SandboxDirectory,
        is_named: impl Fn(&UnnamedSandbox) -> bool,
    ) {
        for notice in &mut self.queue {
            if let Some(of) = notice.pending_name.take_if(|of| is_named(of)) {
                let identity = sandboxes.identity(&of.hub, &of.container);
                let reason = of.reason.as_ref();
                notice.notification =
                    text::container_popup(identity, ContainerState::Started, reason);
            }
        }
    }

    /// Returns which one can be said now.
    fn next_ready(&self, now: Duration) -> Option<usize> {
        let is_ready = |of: &UnnamedSandbox| of.deadline <= now;
        self.queue
            .iter()
            .position(|notice| notice.pending_name.as_ref().is_none_or(is_ready))
    }

    /// Returns when one is said that waits for its name.
    fn next_name_deadline(&self) -> Option<Duration> {
        let unnamed = self
            .queue
            .iter()
            .filter_map(|notice| notice.pending_name.as_ref());
        unnamed.map(|of| of.deadline).min()
    }

    /// Returns how many there was no room for, once all others are said.
    fn omitted_count(&self) -> usize {
        if self.queue.is_empty() {
            self.omitted_count
        } else {
            0
        }
    }

    /// Takes number `next`, or in the end what says how many were left out.
    fn take(&mut self, next: Option<usize>) -> Option<(Option<PopupSlot>, Notification)> {
        if let Some(next) = next {
            let notice = self.queue.remove(next)?;
            return Some((notice.slot, notice.notification));
        }
        let left_out = std::mem::take(&mut self.omitted_count);
        tracing::warn!(left_out, "more happened to sandboxes than popups could say");
        Some((None, text::omitted_popup(left_out)))
    }
}
