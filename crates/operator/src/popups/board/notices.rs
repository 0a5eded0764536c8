// SPDX-License-Identifier: Apache-2.0
//! What is said beside the questions: of firewalls, and of sandboxes that come and go.

use terok_clearance::wire::clearance2::ContainerState;
use terok_clearance::{ContainerId, DisplayText, ShieldState};

use super::{Board, Slot};
use crate::inbox::HubId;
use crate::notifier::Notification;
use crate::popups::category::Category;
use crate::popups::text;

/// The most that wait to be said.
const NOTICES: usize = 64;

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
            self.sandboxes.alert(hub, container, Some(slot));
            self.notices.retain(|(waiting, _)| *waiting != Some(slot));
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
    ) {
        let identity = self.sandboxes.identity(hub, container);
        let category = match state {
            ContainerState::Started => Category::ContainerStarted,
            ContainerState::Exited => {
                let alert = self.sandboxes.forget(hub, container);
                self.close_alert(alert);
                Category::ContainerExited
            }
        };
        if self.categories.has(category) {
            self.notice(None, text::container(identity, state, reason));
        }
    }

    /// Takes an alert away, or never shows it.
    pub(super) fn close_alert(&mut self, slot: Option<Slot>) {
        if let Some(slot) = slot {
            self.notices.retain(|(waiting, _)| *waiting != Some(slot));
            self.closes.push(slot);
        }
    }

    /// Says something beside the questions; where too much waits, the oldest that is no alert goes.
    fn notice(&mut self, slot: Option<Slot>, notification: Notification) {
        if self.notices.len() >= NOTICES
            && let Some(oldest) = self.notices.iter().position(|(slot, _)| slot.is_none())
        {
            self.notices.remove(oldest);
        }
        self.notices.push_back((slot, notification));
    }
}
