// SPDX-License-Identifier: Apache-2.0
//! The popups that are not questions: about firewalls, and about sandboxes that start and end.
//!
//! A notice is such a popup. An alert is a notice about a firewall that is not up; the notice stays
//! on the screen until the firewall is up again.

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

/// Maximum notices in the queue, except alerts.
const MAX_QUEUED_NOTICES: usize = 64;
/// The time limit for looking up the name of a sandbox that starts.
const NAME_LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

impl PopupModel {
    /// Applies the new state of a firewall.
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
            // An outdated alert is closed even if the selection excludes `shield_up`.
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

    /// Applies the start or the end of a sandbox.
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
                // The notice about the start must be shown first, so stop waiting for a name.
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

    /// Sets the identity of a sandbox, and updates the sandbox's notices.
    pub(super) fn apply_identity(&mut self, container: &ContainerId, identity: ContainerIdentity) {
        for (alert, identity) in self.sandboxes.set_identity(container, identity) {
            self.notices.drop_slot(alert.slot);
            self.add_notice(Some(alert.slot), text::shield_popup(identity, alert.state));
        }
        self.resolve_notice_names();
    }

    /// Adds the names found so far to queued notices.
    pub(super) fn resolve_notice_names(&mut self) {
        let sandboxes = &self.sandboxes;
        let is_known = |of: &UnnamedSandbox| sandboxes.is_identified(&of.hub, &of.container);
        self.notices.resolve_names(sandboxes, is_known);
    }

    /// Closes an alert and removes it from the queue.
    pub(super) fn close_alert(&mut self, slot: Option<PopupSlot>) {
        if let Some(slot) = slot {
            self.notices.drop_slot(slot);
            self.pending_closes.push(slot);
        }
    }

    /// Shows queued notices at the limited rate.
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

    fn add_notice(&mut self, slot: Option<PopupSlot>, notification: Notification) {
        self.notices.add(QueuedNotice {
            slot,
            notification,
            pending_name: None,
        });
    }
}

/// The notices that wait to be shown.
#[derive(Debug, Default)]
pub(super) struct NoticeQueue {
    queue: VecDeque<QueuedNotice>,
    /// The number of notices dropped because the queue was full.
    omitted_count: usize,
}

#[derive(Debug)]
struct QueuedNotice {
    /// The slot of an alert. Other notices expire without a command.
    slot: Option<PopupSlot>,
    notification: Notification,
    pending_name: Option<UnnamedSandbox>,
}

/// A started sandbox whose name is being looked up.
#[derive(Debug)]
struct UnnamedSandbox {
    hub: HubId,
    container: ContainerId,
    reason: Option<DisplayText>,
    /// When the notice is shown without a name.
    deadline: Duration,
}

impl NoticeQueue {
    /// Puts an alert that the notifier failed to show back into the queue.
    pub(super) fn requeue(&mut self, slot: PopupSlot, notification: Notification) {
        self.queue.push_front(QueuedNotice {
            slot: Some(slot),
            notification,
            pending_name: None,
        });
    }

    /// Adds a notice. A full queue drops and counts the oldest notice that is not an alert.
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

    /// Adds the names of the sandboxes for which `is_named` returns `true`.
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

    /// Returns the index of the next notice that can be shown.
    fn next_ready(&self, now: Duration) -> Option<usize> {
        let is_ready = |of: &UnnamedSandbox| of.deadline <= now;
        self.queue
            .iter()
            .position(|notice| notice.pending_name.as_ref().is_none_or(is_ready))
    }

    /// Returns the earliest deadline of a notice that waits for a name.
    fn next_name_deadline(&self) -> Option<Duration> {
        let unnamed = self
            .queue
            .iter()
            .filter_map(|notice| notice.pending_name.as_ref());
        unnamed.map(|of| of.deadline).min()
    }

    /// Returns the number of dropped notices once the queue is empty.
    fn omitted_count(&self) -> usize {
        if self.queue.is_empty() {
            self.omitted_count
        } else {
            0
        }
    }

    /// Removes the notice `next` and returns it, or returns a notice about the dropped notices.
    fn take(&mut self, next: Option<usize>) -> Option<(Option<PopupSlot>, Notification)> {
        if let Some(next) = next {
            let notice = self.queue.remove(next)?;
            return Some((notice.slot, notice.notification));
        }
        let left_out = std::mem::take(&mut self.omitted_count);
        tracing::warn!(
            left_out,
            "notices about sandboxes came too fast; some were not shown"
        );
        Some((None, text::omitted_popup(left_out)))
    }
}
