// SPDX-License-Identifier: Apache-2.0
//! Clicks on popups, and popups that are closed.

use operator::clock::ClockReading;
use operator::inbox::{Inbox, RowNumber};
use operator::{AnswerScope, ScopeChoice, phrases};
use terok_clearance::Action;

use super::question_popup::VisiblePopup;
use super::{PopupModel, PopupSlot};
use crate::popups::scope_actions;
use crate::popups::text::{self, PopupAction};

/// How often in a row a popup is shown again that was closed too soon after it appeared. Services
/// that close every popup at once would otherwise be asked without end.
const MAX_EARLY_CLOSES: u32 = 3;

const TOO_SOON: &str = "the click came too soon after a change of the popups";

/// The result of a click.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClickOutcome {
    /// The click answers this row, with the scope that the popup showed.
    Answer(RowNumber, Action, AnswerScope),
    /// The click denies these rows: all questions that the popup listed and that have not changed.
    Deny(Vec<RowNumber>),
    /// The click opens the screen. The caller reports the success by
    /// [`PopupModel::mark_screen_opened`], the failure by [`PopupModel::mark_screen_failed`].
    OpenScreen,
    /// The click does not count, for this reason. The question is shown again.
    Rejected(&'static str),
    /// The click was not in the popup of an open question.
    Ignored,
}

impl PopupModel {
    /// Decides whether a click on an action of the popup in `slot` is an answer. The click must
    /// come at least [`CLICK_GUARD_DELAY`](operator::answer_guard::CLICK_GUARD_DELAY) after the
    /// last change of the popups, and the answer must be for what the popup showed. Otherwise the
    /// popup is shown again.
    pub fn handle_click(
        &mut self,
        slot: PopupSlot,
        key: &str,
        inbox: &Inbox,
        clicked_at: ClockReading,
    ) -> ClickOutcome {
        let clicked_at = clicked_at.monotonic;
        let was_readable = self.click_guard.accepts(clicked_at);
        // The popups below move up, so the second click of a double click could hit another popup.
        self.click_guard.record_change(clicked_at);
        let in_slot = |popup: &&mut VisiblePopup| popup.slot == slot;
        let group = self.group_popup.as_mut().filter(in_slot);
        let mut questions = self.questions.iter_mut();
        let (number, popup) = match group {
            Some(popup) => (None, popup),
            None => match questions.find_map(|(number, asked)| {
                let popup = asked.popup.as_mut().filter(in_slot)?;
                Some((Some(*number), popup))
            }) {
                Some(found) => found,
                None => return ClickOutcome::Ignored,
            },
        };
        if !popup.offers(key) {
            return ClickOutcome::Ignored;
        }
        let answering = |number| {
            inbox
                .row(number)
                .is_none_or(|row| row.answering().is_some())
        };
        if number.is_some_and(answering) {
            return ClickOutcome::Ignored;
        }
        // Many desktops remove a popup at a click, in spite of the `resident` hint.
        popup.maybe_gone = true;
        self.next_due = Some(clicked_at);
        match (text::parse_choice(key), number) {
            (Some(PopupAction::OpenScreen), _) => ClickOutcome::OpenScreen,
            (Some(PopupAction::Answer(action)), Some(number)) => {
                self.answer_popup(number, action, None, inbox, was_readable)
            }
            (Some(PopupAction::AllowFor(choice)), Some(number)) => {
                self.answer_popup(number, Action::Allow, Some(choice), inbox, was_readable)
            }
            (Some(PopupAction::DenyListed), None) => {
                self.group_click_ignored = !was_readable;
                if !was_readable {
                    return ClickOutcome::Rejected(TOO_SOON);
                }
                let unchanged = |(number, opens): &&(RowNumber, String)| {
                    let row = inbox.row(*number).filter(|row| row.answering().is_none());
                    row.is_some_and(|row| phrases::describe_allow_effect(row) == *opens)
                };
                let listed = popup.listed.iter().filter(unchanged);
                ClickOutcome::Deny(listed.map(|(number, _)| *number).collect())
            }
            _ => ClickOutcome::Ignored,
        }
    }

    /// Returns the answer of a click in the popup of a question: with its own scope, or for another
    /// time.
    fn answer_popup(
        &mut self,
        number: RowNumber,
        action: Action,
        choice: Option<ScopeChoice>,
        inbox: &Inbox,
        was_readable: bool,
    ) -> ClickOutcome {
        let asked = self.questions.get_mut(&number);
        let Some((asked, row)) = asked.zip(inbox.row(number)) else {
            return ClickOutcome::Ignored;
        };
        let is_unchanged = asked.popup.as_ref().is_some_and(|popup| {
            scope_actions::guarded_text(row, &popup.shown.actions) == popup.opens
        });
        if !is_unchanged {
            return ClickOutcome::Rejected(
                "the scope of the question has changed since the popup was shown",
            );
        }
        if !was_readable {
            asked.click_ignored = true;
            return ClickOutcome::Rejected(TOO_SOON);
        }
        let scope = choice.map_or_else(|| AnswerScope::default_of(row), ScopeChoice::scope);
        ClickOutcome::Answer(number, action, scope)
    }

    /// Records that the screen was opened by a click on the popup in `slot`. The questions of the
    /// popup are read there, and the popup disappears.
    pub fn mark_screen_opened(&mut self, slot: PopupSlot, now: ClockReading) {
        if self
            .group_popup
            .take_if(|popup| popup.slot == slot)
            .is_some()
        {
            for asked in self.questions.values_mut() {
                asked.dismissed_at.get_or_insert(now.monotonic);
            }
        }
        for asked in self.questions.values_mut() {
            if asked.popup.take_if(|popup| popup.slot == slot).is_some() {
                asked.dismissed_at = Some(now.monotonic);
            }
        }
        self.pending_closes.push(slot);
        self.schedule(now.monotonic);
    }

    /// Records that the screen could not be opened. Popups no longer offer it, and those that were
    /// closed for it are shown again.
    pub fn mark_screen_failed(&mut self, now: ClockReading) {
        self.can_open = false;
        for asked in self.questions.values_mut() {
            asked.dismissed_at = None;
        }
        self.schedule(now.monotonic);
    }

    /// Records that a popup was closed or expired, which is no answer. The question is shown again
    /// if another packet is blocked after 30 seconds, or at once if the close came too soon after
    /// a change of the popups.
    pub fn handle_closed(
        &mut self,
        slot: PopupSlot,
        version: u64,
        inbox: &Inbox,
        now: ClockReading,
    ) {
        let now = now.monotonic;
        let was_readable = self.click_guard.accepts(now);
        // The popups below move up, under the pointer.
        self.click_guard.record_change(now);
        if let Some(popup) = self
            .group_popup
            .as_mut()
            .filter(|popup| popup.is(slot, version))
        {
            if popup.maybe_gone {
                return;
            }
            if !was_readable && self.group_early_closes < MAX_EARLY_CLOSES {
                self.group_early_closes = self.group_early_closes.saturating_add(1);
                self.group_click_ignored = true;
                popup.maybe_gone = true;
                self.schedule(now);
                return;
            }
            self.group_popup = None;
            self.group_early_closes = 0;
            self.group_click_ignored = false;
            for asked in self.questions.values_mut() {
                asked.dismissed_at.get_or_insert(now);
            }
            return;
        }
        for (number, asked) in &mut self.questions {
            let row = inbox.row(*number);
            let answering = row.is_some_and(|row| row.answering().is_some());
            let Some(popup) = asked.popup.as_mut().filter(|popup| popup.is(slot, version)) else {
                continue;
            };
            if answering || popup.maybe_gone {
                // The slot stays reserved for the result.
                popup.maybe_gone = true;
            } else if !was_readable && asked.early_closes < MAX_EARLY_CLOSES {
                // Whatever was clicked, it was not meant for this popup.
                asked.early_closes = asked.early_closes.saturating_add(1);
                asked.click_ignored = true;
                popup.maybe_gone = true;
                self.schedule(now);
            } else {
                asked.popup = None;
                asked.early_closes = 0;
                asked.click_ignored = false;
                asked.dismissed_at = Some(now);
            }
            return;
        }
        self.sandboxes.remove_alert(slot);
    }

    /// Records that a popup was lost with the desktop's connection. The question is shown again.
    pub fn mark_lost(&mut self, slot: PopupSlot, version: u64, now: ClockReading) {
        self.click_guard.record_change(now.monotonic);
        self.group_popup.take_if(|popup| popup.is(slot, version));
        for asked in self.questions.values_mut() {
            asked.popup.take_if(|popup| popup.is(slot, version));
        }
        self.schedule(now.monotonic);
    }
}
