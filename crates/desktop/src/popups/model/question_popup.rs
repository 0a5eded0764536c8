// SPDX-License-Identifier: Apache-2.0
//! The state of one question's popup.

use std::time::Duration;

use operator::inbox::RowNumber;

use super::{PopupSlot, PopupUpdate};
use crate::notifier::Notification;
use crate::popups::text::PriorAnswerFailure;

/// The popup state of one row.
#[derive(Debug, Default)]
pub(super) struct QuestionPopup {
    pub(super) popup: Option<VisiblePopup>,
    /// When the operator closed the popup without an answer, or opened the screen.
    pub(super) dismissed_at: Option<Duration>,
    /// How often in a row the popup was closed too soon after it appeared.
    pub(super) early_closes: u32,
    pub(super) failure: Option<PriorAnswerFailure>,
    /// Whether the last click on the popup came too soon.
    pub(super) click_ignored: bool,
}

#[derive(Debug)]
pub(super) struct VisiblePopup {
    pub(super) slot: PopupSlot,
    pub(super) version: u64,
    pub(super) shown: Notification,
    /// The scope shown in the popup, as text.
    pub(super) opens: String,
    /// The questions that a group popup lists, each with its scope as text.
    pub(super) listed: Vec<(RowNumber, String)>,
    pub(super) posted_at: Duration,
    /// Whether this version moves other popups: another question or another size.
    pub(super) layout_changes: bool,
    /// Whether the desktop may have removed the popup.
    pub(super) maybe_gone: bool,
}

impl VisiblePopup {
    /// Returns `true` if the popup is this version in this slot.
    pub(super) fn is(&self, slot: PopupSlot, version: u64) -> bool {
        (self.slot, self.version) == (slot, version)
    }

    /// Returns `true` if the popup has the action `key`.
    pub(super) fn offers(&self, key: &str) -> bool {
        let mut actions = self.shown.actions.iter();
        actions.any(|action| action.key().as_str() == key)
    }

    pub(super) fn from_update(
        update: &PopupUpdate,
        shown: Notification,
        opens: String,
        now: Duration,
    ) -> Self {
        Self {
            slot: update.slot,
            version: update.version,
            shown,
            opens,
            listed: Vec::new(),
            posted_at: now,
            layout_changes: true,
            maybe_gone: false,
        }
    }
}
