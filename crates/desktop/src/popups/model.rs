// SPDX-License-Identifier: Apache-2.0
//! Which popups there should be, pure: what the inbox changed goes in, and what to show and to
//! take away comes out, at a pace that a person can stand.

mod notices;
mod sandbox_directory;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use terok_clearance::{Action, ContainerId};

use super::category::{Categories, PopupCategory};
use super::rate_limit::PopupRateLimiter;
use super::text::{self, AnswerAvailability, PriorAnswerFailure};
use crate::notifier::click_guard::ClickGuard;
use crate::notifier::{ContainerIdentity, Notification};
use operator::clock::{ClockReading, TimeZone};
use operator::inbox::{HubId, Inbox, InboxChange, Row, RowEnd, RowNumber};
use operator::phrases;

use notices::NoticeQueue;
use sandbox_directory::SandboxDirectory;

/// The most questions that have a popup each; more have one together.
pub const MAX_SINGLE_POPUPS: usize = 4;
/// How long what is on the screen must have stood there for a click to count: a popup that comes,
/// or moves, under a pointer that is about to click is not answered by that click.
pub const CLICK_GUARD_DELAY: Duration = ClickGuard::MIN_READ_TIME;
/// How long a question that was closed unanswered keeps quiet, however often it is blocked.
const DISMISSED_QUIET_PERIOD: Duration = Duration::from_secs(30);
/// The least time between two popups that differ in a count alone.
const MIN_COUNT_UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait when the desktop took nothing.
const FAILURE_RETRY_DELAY: Duration = Duration::from_secs(10);

/// A place on the screen: what is posted there later takes the place of what was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PopupSlot(u64);

/// What to do on the screen.
#[derive(Debug, Clone, PartialEq)]
pub enum PopupCommand {
    /// Show this.
    Show(Box<PopupUpdate>),
    /// Take away what is there.
    Close(PopupSlot),
}

/// Something to show, in place of what its slot shows.
#[derive(Debug, Clone, PartialEq)]
pub struct PopupUpdate {
    /// Where.
    pub slot: PopupSlot,
    /// Tells it from what was posted there before.
    pub version: u64,
    /// What.
    pub notification: Notification,
    /// Whether nothing is to become of it any more: it may go by itself.
    pub is_final: bool,
}

/// What a click comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClickOutcome {
    /// It answers this row.
    Answer(RowNumber, Action),
    /// It does not count, for this reason: the question is shown again.
    Rejected(&'static str),
    /// It is about nothing that is asked.
    Ignored,
}

/// Which popups there are, and which there should be.
#[derive(Debug)]
pub struct PopupModel {
    categories: Categories,
    zone: TimeZone,
    icon: Option<String>,
    questions: BTreeMap<RowNumber, QuestionPopup>,
    group_popup: Option<VisiblePopup>,
    /// What is to take the place of questions that were answered.
    results: VecDeque<(PopupSlot, Notification)>,
    /// What is to be said beside the questions.
    notices: NoticeQueue,
    pending_closes: Vec<PopupSlot>,
    sandboxes: SandboxDirectory,
    rate_limiter: PopupRateLimiter,
    last_slot: u64,
    last_version: u64,
    /// When what is on the screen last moved.
    moved_at: Duration,
    /// When there is something to do; `None` when there is nothing.
    next_due: Option<Duration>,
}

/// A row, as far as popups go.
#[derive(Debug, Default)]
struct QuestionPopup {
    popup: Option<VisiblePopup>,
    /// When its popup was closed unanswered.
    dismissed_at: Option<Duration>,
    failure: Option<PriorAnswerFailure>,
}

#[derive(Debug)]
struct VisiblePopup {
    slot: PopupSlot,
    version: u64,
    shown: Notification,
    /// What it said that an answer opens.
    opens: String,
    /// Since when it has said so.
    shown_since: Duration,
    posted_at: Duration,
    /// Whether the desktop has taken it away, or may have.
    maybe_gone: bool,
}

impl PopupModel {
    /// Makes an empty one that shows these kinds of popups, times as in `zone`, with this icon.
    pub fn new(categories: Categories, zone: TimeZone, icon: Option<String>) -> Self {
        Self {
            categories,
            zone,
            icon,
            questions: BTreeMap::new(),
            group_popup: None,
            results: VecDeque::new(),
            notices: NoticeQueue::default(),
            pending_closes: Vec::new(),
            sandboxes: SandboxDirectory::default(),
            rate_limiter: PopupRateLimiter::default(),
            last_slot: 0,
            last_version: 0,
            moved_at: Duration::ZERO,
            next_due: None,
        }
    }

    /// Takes in what changed in the inbox.
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
                    (asked.failure, asked.dismissed_at) = (None, None);
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
            // Whether a question can be answered is looked up when it is shown.
            InboxChange::ForgottenByHub(_)
            | InboxChange::Up(..)
            | InboxChange::Down(..)
            | InboxChange::Synced(_) => {}
            InboxChange::Unreachable(..) | InboxChange::Lost { .. } => return,
        }
        self.next_due = Some(now.monotonic);
    }

    /// Takes in who a sandbox is, found out beside its events, which win.
    pub fn set_identity(
        &mut self,
        container: &ContainerId,
        identity: ContainerIdentity,
        now: ClockReading,
    ) {
        self.apply_identity(container, identity);
        self.next_due = Some(now.monotonic);
    }

    /// Returns when [`Self::flush`] has something to do; `None` while it has not.
    pub const fn next_due(&self) -> Option<Duration> {
        self.next_due
    }

    /// Returns what to do on the screen now, in this order.
    ///
    /// What is returned is taken as done: tell [`Self::posted`] or [`Self::not_posted`] of each.
    pub fn take_commands(&mut self, inbox: &Inbox, now: ClockReading) -> Vec<PopupCommand> {
        let now = now.monotonic;
        self.next_due = None;
        let mut orders: Vec<_> = self
            .pending_closes
            .drain(..)
            .map(PopupCommand::Close)
            .collect();
        if !orders.is_empty() {
            self.moved_at = now;
        }
        while let Some((slot, notification)) = self.results.pop_front() {
            if let Err(due) = self.rate_limiter.try_acquire(now) {
                self.results.push_front((slot, notification));
                self.schedule(due);
                break;
            }
            let post = self.build_update(slot, notification, true);
            orders.push(PopupCommand::Show(Box::new(post)));
        }
        let open = self
            .questions
            .iter()
            .filter(|(_, asked)| asked.dismissed_at.is_none());
        let open: Vec<_> = open.map(|(number, _)| *number).collect();
        if open.len() > MAX_SINGLE_POPUPS {
            self.update_group(&open, inbox, now, &mut orders);
        } else {
            self.update_single(&open, inbox, now, &mut orders);
        }
        self.flush_notices(now, &mut orders);
        orders
    }

    /// Shows one popup for all of `open`.
    fn update_group(
        &mut self,
        open: &[RowNumber],
        inbox: &Inbox,
        now: Duration,
        orders: &mut Vec<PopupCommand>,
    ) {
        let mut sandboxes: BTreeMap<(&HubId, &ContainerId), usize> = BTreeMap::new();
        for row in open.iter().filter_map(|number| inbox.row(*number)) {
            *sandboxes.entry((row.hub(), row.container())).or_default() += 1;
        }
        let named = sandboxes.into_iter().map(|((hub, container), count)| {
            (
                text::sandbox_label(&self.sandboxes.identity(hub, container)),
                count,
            )
        });
        let wanted = text::group_popup(named.collect());
        let shown = self
            .group_popup
            .as_ref()
            .map(|popup| (popup.slot, popup.posted_at, popup.shown == wanted));
        match shown {
            Some((_, _, true)) => {}
            Some((_, posted, false)) if now < posted.saturating_add(MIN_COUNT_UPDATE_INTERVAL) => {
                self.schedule(posted.saturating_add(MIN_COUNT_UPDATE_INTERVAL));
            }
            shown => {
                if let Err(due) = self.rate_limiter.try_acquire(now) {
                    self.schedule(due);
                } else {
                    let slot = shown.map_or_else(|| self.allocate_slot(), |(slot, ..)| slot);
                    let post = self.build_update(slot, wanted.clone(), false);
                    self.group_popup =
                        Some(VisiblePopup::from_update(&post, wanted, String::new(), now));
                    orders.push(PopupCommand::Show(Box::new(post)));
                }
            }
        }
        if self.group_popup.is_some() {
            // Only now, so that there is always something that says that somebody asks.
            for asked in self.questions.values_mut() {
                orders.extend(
                    asked
                        .popup
                        .take()
                        .map(|popup| PopupCommand::Close(popup.slot)),
                );
            }
        }
    }

    /// Shows a popup for each of `open`.
    fn update_single(
        &mut self,
        open: &[RowNumber],
        inbox: &Inbox,
        now: Duration,
        orders: &mut Vec<PopupCommand>,
    ) {
        let mut missing = false;
        for number in open {
            let Some(row) = inbox.row(*number).filter(|row| row.answering().is_none()) else {
                continue;
            };
            if let Err(due) = self.update_row(row, inbox, now, orders) {
                self.schedule(due);
                missing |= self
                    .questions
                    .get(number)
                    .is_none_or(|asked| asked.popup.is_none());
            }
        }
        if !missing && let Some(popup) = self.group_popup.take() {
            self.moved_at = now;
            orders.push(PopupCommand::Close(popup.slot));
        }
    }

    /// Shows a row's popup if it is not the one that is shown, or says when to try again.
    fn update_row(
        &mut self,
        row: &Row,
        inbox: &Inbox,
        now: Duration,
        orders: &mut Vec<PopupCommand>,
    ) -> Result<(), Duration> {
        let Some(asked) = self.questions.get(&row.number()) else {
            return Ok(());
        };
        let open = match (row.is_forgotten_by_hub(), inbox.is_connected(row.hub())) {
            (true, _) => AnswerAvailability::ForgottenByHub,
            (false, false) => AnswerAvailability::HubAway,
            (false, true) => AnswerAvailability::Available,
        };
        let known = self.sandboxes.identity(row.hub(), row.container());
        let identity = text::merge_identity(row.container(), row.dossier(), &known);
        let trouble = asked.failure.as_ref();
        let mut wanted = text::question_popup(row, identity, open, trouble, &self.zone);
        wanted.icon.clone_from(&self.icon);
        let opens = phrases::describe_allow_effect(row);
        let mut slot = None;
        let mut since = now;
        if let Some(popup) = &asked.popup {
            slot = Some(popup.slot);
            let same = popup.opens == opens
                && popup.shown.summary == wanted.summary
                && popup.shown.actions == wanted.actions;
            if same && !popup.maybe_gone {
                if popup.shown == wanted {
                    return Ok(());
                }
                let recount = popup.posted_at.saturating_add(MIN_COUNT_UPDATE_INTERVAL);
                if now < recount {
                    return Err(recount);
                }
                since = popup.shown_since;
            }
        }
        self.rate_limiter.try_acquire(now)?;
        let slot = slot.unwrap_or_else(|| self.allocate_slot());
        let post = self.build_update(slot, wanted, false);
        let popup = VisiblePopup {
            shown_since: since,
            ..VisiblePopup::from_update(&post, post.notification.clone(), opens, now)
        };
        if let Some(asked) = self.questions.get_mut(&row.number()) {
            asked.popup = Some(popup);
        }
        orders.push(PopupCommand::Show(Box::new(post)));
        Ok(())
    }

    /// Takes in that a post is on the screen.
    pub fn mark_shown(&mut self, slot: PopupSlot, version: u64, now: ClockReading) {
        let popup = self.questions.values_mut().find_map(|asked| {
            asked
                .popup
                .as_mut()
                .filter(|popup| (popup.slot, popup.version) == (slot, version))
        });
        let Some(popup) = popup else {
            // A result, or a notice: it moves what else there is.
            self.moved_at = now.monotonic;
            return;
        };
        if popup.shown_since == popup.posted_at {
            popup.shown_since = now.monotonic;
            self.moved_at = now.monotonic;
        }
        popup.posted_at = now.monotonic;
    }

    /// Takes in that the desktop did not take a post. All is tried again after some time.
    pub fn mark_not_shown(&mut self, post: PopupUpdate, now: ClockReading) {
        let slot = post.slot;
        let until = now.monotonic.saturating_add(FAILURE_RETRY_DELAY);
        self.rate_limiter.block_until(until);
        for asked in self.questions.values_mut() {
            asked.popup.take_if(|popup| popup.slot == slot);
        }
        self.group_popup.take_if(|popup| popup.slot == slot);
        if self.sandboxes.alert_slots().any(|alert| alert == slot) {
            self.notices.requeue(slot, post.notification);
        }
        self.schedule(until);
    }

    /// Takes in a click on an action of what `slot` shows. It answers only what the popup said,
    /// and only if that has stood there for [`GUARD`]; otherwise the question is shown again.
    pub fn handle_click(
        &mut self,
        slot: PopupSlot,
        key: &str,
        inbox: &Inbox,
        now: ClockReading,
    ) -> ClickOutcome {
        let guarded = now.monotonic.saturating_sub(self.moved_at) < CLICK_GUARD_DELAY;
        // What is left moves up, under the pointer of who clicks twice.
        self.moved_at = now.monotonic;
        let asked = self.questions.iter_mut().find_map(|(number, asked)| {
            let popup = asked.popup.as_mut().filter(|popup| popup.slot == slot)?;
            Some((*number, popup))
        });
        let Some((number, popup)) = asked else {
            return ClickOutcome::Ignored;
        };
        let (Some(action), Some(row)) = (text::parse_answer(key), inbox.row(number)) else {
            return ClickOutcome::Ignored;
        };
        if row.answering().is_some() {
            return ClickOutcome::Ignored;
        }
        // Many desktops take a popup away that is clicked on, whatever they were asked for.
        popup.maybe_gone = true;
        self.next_due = Some(now.monotonic);
        if popup.opens != phrases::describe_allow_effect(row) {
            return ClickOutcome::Rejected("what an answer opens has changed since it was shown");
        }
        if guarded || now.monotonic.saturating_sub(popup.shown_since) < CLICK_GUARD_DELAY {
            return ClickOutcome::Rejected("it came too soon after the popups changed");
        }
        ClickOutcome::Answer(number, action)
    }

    /// Takes in that what was posted was closed, or expired: that is no answer. The question keeps
    /// quiet until it is blocked again after half a minute.
    pub fn handle_closed(
        &mut self,
        slot: PopupSlot,
        version: u64,
        inbox: &Inbox,
        now: ClockReading,
    ) {
        let is_it = |popup: &mut VisiblePopup| (popup.slot, popup.version) == (slot, version);
        // What is left moves up, under the pointer of who closed it.
        self.moved_at = now.monotonic;
        if self.group_popup.take_if(is_it).is_some() {
            for asked in self.questions.values_mut() {
                asked.dismissed_at.get_or_insert(now.monotonic);
            }
            return;
        }
        for (number, asked) in &mut self.questions {
            let answering = inbox
                .row(*number)
                .is_some_and(|row| row.answering().is_some());
            let Some(popup) = asked
                .popup
                .as_mut()
                .filter(|popup| (popup.slot, popup.version) == (slot, version))
            else {
                continue;
            };
            if answering || popup.maybe_gone {
                // Its slot is where the answer will be shown.
                popup.maybe_gone = true;
            } else {
                asked.popup = None;
                asked.dismissed_at = Some(now.monotonic);
            }
            return;
        }
        self.sandboxes.remove_alert(slot);
    }

    /// Takes in that what was posted is gone with the whole desktop: it is to be shown again.
    pub fn mark_lost(&mut self, slot: PopupSlot, version: u64, now: ClockReading) {
        let is_it = |popup: &mut VisiblePopup| (popup.slot, popup.version) == (slot, version);
        self.group_popup.take_if(is_it);
        for asked in self.questions.values_mut() {
            asked.popup.take_if(is_it);
        }
        self.schedule(now.monotonic);
    }

    /// Returns the places of what stays on the screen until it is taken away.
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

    fn record_failure(&mut self, number: RowNumber, trouble: PriorAnswerFailure) {
        let verdicts = self.categories.contains(PopupCategory::Verdict);
        if let Some(asked) = self.questions.get_mut(&number) {
            asked.failure = verdicts.then_some(trouble);
            if let Some(popup) = &mut asked.popup {
                // It was clicked on, and may have been taken away by that.
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

impl VisiblePopup {
    fn from_update(post: &PopupUpdate, shown: Notification, opens: String, now: Duration) -> Self {
        Self {
            slot: post.slot,
            version: post.version,
            shown,
            opens,
            shown_since: now,
            posted_at: now,
            maybe_gone: false,
        }
    }
}
