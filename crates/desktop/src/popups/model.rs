// SPDX-License-Identifier: Apache-2.0
//! The model of the popups on the screen. Pure: changes of the inbox go in, commands to show and
//! to close popups come out, at a limited rate.

mod clicks;
mod group;
mod notices;
mod question_popup;
mod sandbox_directory;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use terok_clearance::ContainerId;

use super::category::{Categories, PopupCategory};
use super::rate_limit::PopupRateLimiter;
use super::scope_actions;
use super::text::{self, AnswerAvailability, PriorAnswerFailure, QuestionContext};
use crate::notifier::{ContainerIdentity, Notification, TextLimits};
use operator::answer_guard::ClickGuard;
use operator::clock::{ClockReading, TimeZone};
use operator::inbox::{Inbox, InboxChange, Row, RowEnd, RowNumber};

pub use clicks::ClickOutcome;
use notices::NoticeQueue;
use question_popup::{QuestionPopup, VisiblePopup};
use sandbox_directory::SandboxDirectory;

/// Maximum questions that are shown in a popup each; more questions share one popup.
pub const MAX_SINGLE_POPUPS: usize = 4;
/// The time for which a question that was closed without an answer is not shown again.
const DISMISSED_QUIET_PERIOD: Duration = Duration::from_secs(30);
/// The shortest time between two versions of a popup that differ only in a count.
const MIN_COUNT_UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// The delay before the next popup after the notifier failed to show a popup.
const FAILURE_RETRY_DELAY: Duration = Duration::from_secs(10);

/// A place on the screen. A new popup replaces the popup in the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PopupSlot(u64);

/// A command to the notifier.
#[derive(Debug, Clone, PartialEq)]
pub enum PopupCommand {
    /// Shows a popup.
    Show(Box<PopupUpdate>),
    /// Closes the popup of a slot.
    Close(PopupSlot),
}

/// A popup to show, which replaces the present popup of the slot.
#[derive(Debug, Clone, PartialEq)]
pub struct PopupUpdate {
    /// The place of the popup.
    pub slot: PopupSlot,
    /// The version number, unique among all popups.
    pub version: u64,
    /// The content of the popup.
    pub notification: Notification,
    /// Whether the popup is never updated or closed, and expires without a command.
    pub is_final: bool,
}

/// The popups that are on the screen, and the changes that are due.
#[derive(Debug)]
pub struct PopupModel {
    categories: Categories,
    zone: TimeZone,
    icon: Option<String>,
    questions: BTreeMap<RowNumber, QuestionPopup>,
    group_popup: Option<VisiblePopup>,
    /// Whether the last click on the group popup came too soon.
    group_click_ignored: bool,
    group_early_closes: u32,
    /// The text that the notifier shows.
    limits: TextLimits,
    /// Whether a popup can open the screen.
    can_open: bool,
    /// The results that replace the popups of answered questions.
    results: VecDeque<(PopupSlot, Notification)>,
    notices: NoticeQueue,
    pending_closes: Vec<PopupSlot>,
    sandboxes: SandboxDirectory,
    rate_limiter: PopupRateLimiter,
    last_slot: u64,
    last_version: u64,
    click_guard: ClickGuard,
    /// When the next commands are due.
    next_due: Option<Duration>,
}

impl PopupModel {
    /// Returns a model without popups.
    pub fn new(categories: Categories, zone: TimeZone, icon: Option<String>) -> Self {
        Self {
            categories,
            zone,
            icon,
            questions: BTreeMap::new(),
            group_popup: None,
            group_click_ignored: false,
            group_early_closes: 0,
            limits: TextLimits::CONSERVATIVE,
            can_open: false,
            results: VecDeque::new(),
            notices: NoticeQueue::default(),
            pending_closes: Vec::new(),
            sandboxes: SandboxDirectory::default(),
            rate_limiter: PopupRateLimiter::default(),
            last_slot: 0,
            last_version: 0,
            click_guard: ClickGuard::default(),
            next_due: None,
        }
    }

    /// Sets the text that the notifier shows. The default is [`TextLimits::CONSERVATIVE`].
    pub fn set_limits(&mut self, limits: TextLimits, now: ClockReading) {
        if self.limits != limits {
            self.limits = limits;
            self.schedule(now.monotonic);
        }
    }

    /// Sets whether popups offer to open the screen with all questions. The default is `false`.
    pub fn set_can_open_screen(&mut self, can_open: bool, now: ClockReading) {
        if self.can_open != can_open {
            self.can_open = can_open;
            self.schedule(now.monotonic);
        }
    }

    /// Applies a change of the inbox.
    pub fn apply_change(&mut self, change: &InboxChange, inbox: &Inbox, now: ClockReading) {
        match change {
            InboxChange::Added(number) => {
                if let Some(row) = inbox.row(*number) {
                    self.sandboxes
                        .record_dossier(row.hub(), row.container(), row.dossier());
                    self.resolve_notice_names();
                }
                if self.categories.contains(PopupCategory::Blocked) {
                    let asked = self.questions.entry(*number).or_default();
                    asked.failure = None;
                    asked.dismissed_at = None;
                    asked.early_closes = 0;
                    asked.click_ignored = false;
                }
            }
            InboxChange::Updated(number) => {
                if let Some(asked) = self.questions.get_mut(number)
                    && let Some(at) = asked.dismissed_at
                    && now.monotonic.saturating_sub(at) >= DISMISSED_QUIET_PERIOD
                {
                    asked.dismissed_at = None;
                }
            }
            InboxChange::Ended(row, end) => self.end_question(row, end),
            InboxChange::Failed {
                row,
                action,
                reason,
            } => {
                self.record_failure(*row, PriorAnswerFailure::Failed(*action, reason.clone()));
            }
            InboxChange::ResultUnknown {
                row,
                action,
                reason,
            } => {
                self.record_failure(*row, PriorAnswerFailure::Uncertain(*action, reason.clone()));
            }
            InboxChange::Container {
                hub,
                container,
                state,
                reason,
            } => {
                self.apply_container_state(hub, container, *state, reason.as_ref(), now.monotonic);
            }
            InboxChange::Shield {
                hub,
                container,
                state,
            } => self.apply_shield_state(hub, container, *state),
            InboxChange::Gone(hub) => {
                for alert in self.sandboxes.forget_hub(hub) {
                    self.close_alert(Some(alert));
                }
            }
            // `update_row` determines whether a question can be answered.
            InboxChange::ForgottenByHub(_)
            | InboxChange::ProcessFound(_)
            | InboxChange::WaitingGrew(_)
            | InboxChange::Up(..)
            | InboxChange::Down(..)
            | InboxChange::Synced(_) => {}
            // Unreachable hubs, lost events and events of unknown types have no popup.
            _ => return,
        }
        self.next_due = Some(now.monotonic);
    }

    /// Sets the identity of a sandbox. The dossier in the sandbox's events takes precedence.
    pub fn set_identity(
        &mut self,
        container: &ContainerId,
        identity: ContainerIdentity,
        now: ClockReading,
    ) {
        self.apply_identity(container, identity);
        self.next_due = Some(now.monotonic);
    }

    /// Returns when [`Self::take_commands`] is due; `None` if no commands wait.
    pub const fn next_due(&self) -> Option<Duration> {
        self.next_due
    }

    /// Returns the commands that are due, in order.
    ///
    /// Before the next click, the caller reports the result of every command by
    /// [`Self::mark_shown`], [`Self::mark_not_shown`] or [`Self::mark_closed`].
    pub fn take_commands(&mut self, inbox: &Inbox, now: ClockReading) -> Vec<PopupCommand> {
        let now = now.monotonic;
        self.next_due = None;
        let mut commands: Vec<_> = self
            .pending_closes
            .drain(..)
            .map(PopupCommand::Close)
            .collect();
        while let Some((slot, notification)) = self.results.pop_front() {
            if let Err(due) = self.rate_limiter.try_acquire(now) {
                self.results.push_front((slot, notification));
                self.schedule(due);
                break;
            }
            let update = self.build_update(slot, notification, true);
            commands.push(PopupCommand::Show(Box::new(update)));
        }
        let open = self
            .questions
            .iter()
            .filter(|(_, asked)| asked.dismissed_at.is_none());
        let open: Vec<_> = open.map(|(number, _)| *number).collect();
        if open.len() > MAX_SINGLE_POPUPS {
            self.update_group(&open, inbox, now, &mut commands);
        } else {
            self.update_single(&open, inbox, now, &mut commands);
        }
        self.flush_notices(now, &mut commands);
        if commands
            .iter()
            .any(|command| matches!(command, PopupCommand::Close(_)))
        {
            self.click_guard.record_change(now);
        }
        commands
    }

    /// Shows a popup for each of the `open` questions.
    fn update_single(
        &mut self,
        open: &[RowNumber],
        inbox: &Inbox,
        now: Duration,
        commands: &mut Vec<PopupCommand>,
    ) {
        let mut missing = false;
        for number in open {
            let Some(row) = inbox.row(*number).filter(|row| row.answering().is_none()) else {
                continue;
            };
            if let Err(due) = self.update_row(row, inbox, now, commands) {
                self.schedule(due);
                missing |= self
                    .questions
                    .get(number)
                    .is_none_or(|asked| asked.popup.is_none());
            }
        }
        if !missing && let Some(popup) = self.group_popup.take() {
            self.group_click_ignored = false;
            self.group_early_closes = 0;
            commands.push(PopupCommand::Close(popup.slot));
        }
    }

    /// Updates the popup of a row. If an update is not allowed yet, returns when to try again.
    fn update_row(
        &mut self,
        row: &Row,
        inbox: &Inbox,
        now: Duration,
        commands: &mut Vec<PopupCommand>,
    ) -> Result<(), Duration> {
        let Some(asked) = self.questions.get(&row.number()) else {
            return Ok(());
        };
        let availability = match (row.is_forgotten_by_hub(), inbox.is_connected(row.hub())) {
            (true, _) => AnswerAvailability::ForgottenByHub,
            (false, false) => AnswerAvailability::HubAway,
            (false, true) => AnswerAvailability::Available,
        };
        let known = self.sandboxes.identity(row.hub(), row.container());
        let identity = text::merge_identity(row.container(), row.dossier(), &known);
        let context = QuestionContext {
            availability,
            failure: asked.failure.as_ref(),
            too_soon: asked.click_ignored,
            can_open: self.can_open,
            zone: &self.zone,
            limits: &self.limits,
        };
        let wanted = text::question_popup(row, identity, &context);
        let mut wanted = wanted.fitted_to(&self.limits);
        wanted.icon.clone_from(&self.icon);
        let opens = scope_actions::guarded_text(row, &wanted.actions);
        let mut slot = None;
        let mut layout_changes = true;
        if let Some(popup) = &asked.popup {
            slot = Some(popup.slot);
            let same = popup.opens == opens && popup.shown.asks_same_question(&wanted);
            if same && !popup.maybe_gone {
                if popup.shown == wanted {
                    return Ok(());
                }
                let recount = popup.posted_at.saturating_add(MIN_COUNT_UPDATE_INTERVAL);
                if now < recount {
                    return Err(recount);
                }
                let lines = |popup: &Notification| popup.body.lines().count();
                layout_changes = popup.layout_changes || lines(&popup.shown) != lines(&wanted);
            }
        }
        self.rate_limiter.try_acquire(now)?;
        let slot = slot.unwrap_or_else(|| self.allocate_slot());
        let update = self.build_update(slot, wanted, false);
        let popup = VisiblePopup {
            layout_changes,
            ..VisiblePopup::from_update(&update, update.notification.clone(), opens, now)
        };
        if let Some(asked) = self.questions.get_mut(&row.number()) {
            asked.popup = Some(popup);
        }
        commands.push(PopupCommand::Show(Box::new(update)));
        Ok(())
    }

    /// Records that a popup is on the screen.
    pub fn mark_shown(&mut self, slot: PopupSlot, version: u64, now: ClockReading) {
        let popup = self.questions.values_mut().find_map(|asked| {
            asked
                .popup
                .as_mut()
                .filter(|popup| (popup.slot, popup.version) == (slot, version))
        });
        // A result, a notice or a group popup moves the other popups.
        let mut layout_changes = true;
        if let Some(popup) = popup {
            popup.posted_at = now.monotonic;
            layout_changes = std::mem::take(&mut popup.layout_changes);
        }
        if layout_changes {
            self.click_guard.record_change(now.monotonic);
        }
    }

    /// Records that the notifier failed to show a popup. All popups wait for
    /// ten seconds.
    pub fn mark_not_shown(&mut self, update: PopupUpdate, now: ClockReading) {
        let slot = update.slot;
        self.click_guard.record_change(now.monotonic);
        let until = now.monotonic.saturating_add(FAILURE_RETRY_DELAY);
        self.rate_limiter.block_until(until);
        for asked in self.questions.values_mut() {
            asked.popup.take_if(|popup| popup.slot == slot);
        }
        self.group_popup.take_if(|popup| popup.slot == slot);
        if self.sandboxes.alert_slots().any(|alert| alert == slot) {
            self.notices.requeue(slot, update.notification);
        }
        self.schedule(until);
    }

    /// Records that a popup was closed by [`PopupCommand::Close`].
    pub fn mark_closed(&mut self, now: ClockReading) {
        self.click_guard.record_change(now.monotonic);
    }

    /// Records a change of the screen reported by the notifier, `at` on the monotonic clock.
    pub fn record_layout_change(&mut self, at: Duration) {
        self.click_guard.record_change(at);
    }

    /// Returns the slots of the popups that stay on the screen until closed.
    pub fn visible_slots(&self) -> Vec<PopupSlot> {
        let questions = self
            .questions
            .values()
            .filter_map(|asked| asked.popup.as_ref());
        let popups = questions.chain(&self.group_popup).map(|popup| popup.slot);
        popups.chain(self.sandboxes.alert_slots()).collect()
    }

    fn end_question(&mut self, row: &Row, end: &RowEnd) {
        let Some(popup) = self
            .questions
            .remove(&row.number())
            .and_then(|asked| asked.popup)
        else {
            return;
        };
        let result = match end {
            RowEnd::Decided(decision) if self.categories.contains(PopupCategory::Verdict) => {
                let known = self.sandboxes.identity(row.hub(), row.container());
                let identity = text::merge_identity(row.container(), row.dossier(), &known);
                text::answered_popup(row, identity, decision)
            }
            _ => None,
        };
        match result {
            Some(result) => self.results.push_back((popup.slot, result)),
            None => self.pending_closes.push(popup.slot),
        }
    }

    fn record_failure(&mut self, number: RowNumber, failure: PriorAnswerFailure) {
        let verdicts = self.categories.contains(PopupCategory::Verdict);
        if let Some(asked) = self.questions.get_mut(&number) {
            asked.failure = verdicts.then_some(failure);
            asked.click_ignored = false;
            if let Some(popup) = &mut asked.popup {
                // The desktop may have removed the popup at the click.
                popup.maybe_gone = true;
            }
        }
    }

    fn schedule(&mut self, at: Duration) {
        self.next_due = Some(self.next_due.map_or(at, |due| due.min(at)));
    }

    fn allocate_slot(&mut self) -> PopupSlot {
        self.last_slot = self.last_slot.saturating_add(1);
        PopupSlot(self.last_slot)
    }

    fn build_update(
        &mut self,
        slot: PopupSlot,
        mut notification: Notification,
        last: bool,
    ) -> PopupUpdate {
        self.last_version = self.last_version.saturating_add(1);
        notification.icon.clone_from(&self.icon);
        PopupUpdate {
            slot,
            version: self.last_version,
            notification,
            is_final: last,
        }
    }
}
