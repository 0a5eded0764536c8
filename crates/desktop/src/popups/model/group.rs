// SPDX-License-Identifier: Apache-2.0
//! The popup that stands for many questions.

use std::collections::BTreeMap;
use std::time::Duration;

use operator::inbox::{HubId, Inbox, Row, RowNumber};
use operator::phrases;
use terok_clearance::ContainerId;

use super::question_popup::VisiblePopup;
use super::{PopupCommand, PopupModel};
use crate::notifier::Notification;
use crate::popups::text::{self, ListedQuestions};

/// Maximum questions that a group popup lists.
const MAX_LISTED_QUESTIONS: usize = 8;
/// The shortest time between two versions of the group popup. Each version restarts the guard of
/// clicks, and without a pause no click would count while questions keep coming.
const MIN_GROUP_UPDATE_INTERVAL: Duration = Duration::from_secs(3);

/// A group popup that is wanted, and the questions that it lists.
struct WantedGroup {
    notification: Notification,
    listed: Vec<(RowNumber, String)>,
}

impl PopupModel {
    /// Shows one popup about all `open` questions.
    pub(super) fn update_group(
        &mut self,
        open: &[RowNumber],
        inbox: &Inbox,
        now: Duration,
        commands: &mut Vec<PopupCommand>,
    ) {
        // Rows that are being answered leave the popup once the hub has replied.
        let waits = |number: &RowNumber| {
            inbox
                .row(*number)
                .is_some_and(|row| row.answering().is_none())
        };
        let open: Vec<_> = open.iter().copied().filter(waits).collect();
        if open.is_empty() {
            return;
        }
        let WantedGroup {
            notification: wanted,
            listed,
        } = self.wanted_group(&open, inbox);
        let shown = self.group_popup.as_ref().map(|popup| {
            let same = popup.shown == wanted && popup.listed == listed && !popup.maybe_gone;
            let due = popup.posted_at.saturating_add(MIN_GROUP_UPDATE_INTERVAL);
            (popup.slot, same, due, popup.maybe_gone)
        });
        match shown {
            Some((_, true, ..)) => {}
            Some((_, false, due, false)) if now < due => self.schedule(due),
            shown => {
                if let Err(due) = self.rate_limiter.try_acquire(now) {
                    self.schedule(due);
                } else {
                    let slot = shown.map_or_else(|| self.allocate_slot(), |(slot, ..)| slot);
                    let update = self.build_update(slot, wanted, false);
                    let shown = update.notification.clone();
                    let popup = VisiblePopup::from_update(&update, shown, String::new(), now);
                    self.group_popup = Some(VisiblePopup { listed, ..popup });
                    commands.push(PopupCommand::Show(Box::new(update)));
                }
            }
        }
        if self.group_popup.is_some() {
            // Closed after the group popup appears, so that a popup is visible at every moment.
            for asked in self.questions.values_mut() {
                commands.extend(
                    asked
                        .popup
                        .take()
                        .map(|popup| PopupCommand::Close(popup.slot)),
                );
            }
        }
    }

    fn wanted_group(&self, open: &[RowNumber], inbox: &Inbox) -> WantedGroup {
        let rows = || open.iter().filter_map(|number| inbox.row(*number));
        let mut sandboxes: BTreeMap<(&HubId, &ContainerId), usize> = BTreeMap::new();
        for row in rows() {
            *sandboxes.entry((row.hub(), row.container())).or_default() += 1;
        }
        let label = |hub: &HubId, container: &ContainerId| {
            text::sandbox_label(&self.sandboxes.identity(hub, container))
        };
        let several = sandboxes.len() > 1;
        let answerable = |row: &&Row| !row.is_forgotten_by_hub() && inbox.is_connected(row.hub());
        let (mut lines, mut listed) = (Vec::new(), Vec::new());
        let mut used = 0_usize;
        // The oldest come first, so that new questions do not move what is being read.
        for row in rows().filter(answerable) {
            let sandbox = several.then(|| label(row.hub(), row.container()));
            let line = text::group_line(row, sandbox.as_deref());
            let height = self.limits.wrapped_lines(&line);
            // A name that takes several lines is not read in a list; the question has its turn
            // alone, or on the screen.
            if height > 2 || used.saturating_add(height) > self.limits.lines {
                continue;
            }
            used = used.saturating_add(height);
            lines.push(line);
            listed.push((row.number(), phrases::describe_allow_effect(row)));
            if lines.len() == MAX_LISTED_QUESTIONS {
                break;
            }
        }
        let unlisted = open.len().saturating_sub(lines.len());
        let named = sandboxes.into_iter();
        let named = named.map(|((hub, container), count)| (label(hub, container), count));
        let listed_text = ListedQuestions { lines, unlisted };
        let mut notification = text::group_popup(
            named.collect(),
            listed_text,
            self.group_click_ignored,
            self.can_open,
        );
        notification.icon.clone_from(&self.icon);
        WantedGroup {
            notification: notification.fitted_to(&self.limits),
            listed,
        }
    }
}
