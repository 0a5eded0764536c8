// SPDX-License-Identifier: Apache-2.0
//! Which popups there should be, pure: what the inbox changed goes in, and what to show and to
//! take away comes out, at a pace that a person can stand.

mod notices;
mod sandboxes;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use terok_clearance::{Action, ContainerId};

use super::category::{Categories, Category};
use super::pace::Pace;
use super::text::{self, Open, Trouble};
use crate::clock::{Now, Zone};
use crate::inbox::{Change, End, HubId, Inbox, Row, RowNumber};
use crate::notifier::guard::Guard;
use crate::notifier::{Identity, Notification};
use crate::words;

use notices::Notices;
use sandboxes::Sandboxes;

/// The most questions that have a popup each; more have one together.
pub const SINGLE: usize = 4;
/// How long what is on the screen must have stood there for a click to count: a popup that comes,
/// or moves, under a pointer that is about to click is not answered by that click.
pub const GUARD: Duration = Guard::READ;
/// How long a question that was closed unanswered keeps quiet, however often it is blocked.
const QUIET: Duration = Duration::from_secs(30);
/// The least time between two popups that differ in a count alone.
const RECOUNT: Duration = Duration::from_secs(1);
/// How long to wait when the desktop took nothing.
const AFTER_FAILURE: Duration = Duration::from_secs(10);

/// A place on the screen: what is posted there later takes the place of what was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u64);

/// What to do on the screen.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Show this.
    Post(Box<Post>),
    /// Take away what is there.
    Close(Slot),
}

/// Something to show, in place of what its slot shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Post {
    /// Where.
    pub slot: Slot,
    /// Tells it from what was posted there before.
    pub version: u64,
    /// What.
    pub notification: Notification,
    /// Whether nothing is to become of it any more: it may go by itself.
    pub last: bool,
}

/// What a click comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Click {
    /// It answers this row.
    Answer(RowNumber, Action),
    /// It does not count, for this reason: the question is shown again.
    Again(&'static str),
    /// It is about nothing that is asked.
    Nothing,
}

/// Which popups there are, and which there should be.
#[derive(Debug)]
pub struct Board {
    categories: Categories,
    zone: Zone,
    icon: Option<String>,
    asked: BTreeMap<RowNumber, Asked>,
    group: Option<Popup>,
    /// What is to take the place of questions that were answered.
    results: VecDeque<(Slot, Notification)>,
    /// What is to be said beside the questions.
    notices: Notices,
    closes: Vec<Slot>,
    sandboxes: Sandboxes,
    pace: Pace,
    slots: u64,
    versions: u64,
    /// When what is on the screen last moved.
    moved: Duration,
    /// When there is something to do; `None` when there is nothing.
    due: Option<Duration>,
}

/// A row, as far as popups go.
#[derive(Debug, Default)]
struct Asked {
    popup: Option<Popup>,
    /// When its popup was closed unanswered.
    dismissed: Option<Duration>,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Popup {
    slot: Slot,
    version: u64,
    shown: Notification,
    /// What it said that an answer opens.
    opens: String,
    /// Since when it has said so.
    since: Duration,
    posted: Duration,
    /// Whether the desktop has taken it away, or may have.
    gone: bool,
}

impl Board {
    /// Makes an empty one that shows these kinds of popups, times as in `zone`, with this icon.
    pub fn new(categories: Categories, zone: Zone, icon: Option<String>) -> Self {
        Self {
            categories,
            zone,
            icon,
            asked: BTreeMap::new(),
            group: None,
            results: VecDeque::new(),
            notices: Notices::default(),
            closes: Vec::new(),
            sandboxes: Sandboxes::default(),
            pace: Pace::default(),
            slots: 0,
            versions: 0,
            moved: Duration::ZERO,
            due: None,
        }
    }

    /// Takes in what changed in the inbox.
    pub fn change(&mut self, change: &Change, inbox: &Inbox, now: Now) {
        match change {
            Change::Asked(number) => {
                if let Some(row) = inbox.row(*number) {
                    self.sandboxes
                        .learn(row.hub(), row.container(), row.dossier());
                    self.name_notices();
                }
                if self.categories.has(Category::Blocked) {
                    let asked = self.asked.entry(*number).or_default();
                    (asked.trouble, asked.dismissed) = (None, None);
                }
            }
            Change::Again(number) => {
                if let Some(asked) = self.asked.get_mut(number)
                    && let Some(at) = asked.dismissed
                    && now.steady.saturating_sub(at) >= QUIET
                {
                    asked.dismissed = None;
                }
            }
            Change::Ended(row, end) => self.ended(row, end),
            Change::Failed {
                row,
                action,
                reason,
            } => {
                self.trouble(*row, Trouble::Failed(*action, reason.clone()));
            }
            Change::Unsure {
                row,
                action,
                reason,
            } => {
                self.trouble(*row, Trouble::Unsure(*action, reason.clone()));
            }
            Change::Container {
                hub,
                container,
                state,
                reason,
            } => {
                self.container(hub, container, *state, reason.as_ref(), now.steady);
            }
            Change::Shield {
                hub,
                container,
                state,
            } => self.shield(hub, container, *state),
            Change::Gone(hub) => {
                for alert in self.sandboxes.forget_hub(hub) {
                    self.close_alert(Some(alert));
                }
            }
            // Whether a question can be answered is looked up when it is shown.
            Change::Lapsed(_) | Change::Up(..) | Change::Down(..) | Change::Synced(_) => {}
            Change::Unreachable(..) | Change::Lost { .. } => return,
        }
        self.due = Some(now.steady);
    }

    /// Takes in who a sandbox is, found out beside its events, which win.
    pub fn identify(&mut self, container: &ContainerId, identity: Identity, now: Now) {
        self.name(container, identity);
        self.due = Some(now.steady);
    }

    /// Returns when [`Self::flush`] has something to do; `None` while it has not.
    pub const fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Returns what to do on the screen now, in this order.
    ///
    /// What is returned is taken as done: tell [`Self::posted`] or [`Self::not_posted`] of each.
    pub fn flush(&mut self, inbox: &Inbox, now: Now) -> Vec<Order> {
        let now = now.steady;
        self.due = None;
        let mut orders: Vec<_> = self.closes.drain(..).map(Order::Close).collect();
        if !orders.is_empty() {
            self.moved = now;
        }
        while let Some((slot, notification)) = self.results.pop_front() {
            if let Err(due) = self.pace.take(now) {
                self.results.push_front((slot, notification));
                self.wake(due);
                break;
            }
            let post = self.post(slot, notification, true);
            orders.push(Order::Post(Box::new(post)));
        }
        let open = self
            .asked
            .iter()
            .filter(|(_, asked)| asked.dismissed.is_none());
        let open: Vec<_> = open.map(|(number, _)| *number).collect();
        if open.len() > SINGLE {
            self.flush_group(&open, inbox, now, &mut orders);
        } else {
            self.flush_single(&open, inbox, now, &mut orders);
        }
        self.flush_notices(now, &mut orders);
        orders
    }

    /// Shows one popup for all of `open`.
    fn flush_group(
        &mut self,
        open: &[RowNumber],
        inbox: &Inbox,
        now: Duration,
        orders: &mut Vec<Order>,
    ) {
        let mut sandboxes: BTreeMap<(&HubId, &ContainerId), usize> = BTreeMap::new();
        for row in open.iter().filter_map(|number| inbox.row(*number)) {
            *sandboxes.entry((row.hub(), row.container())).or_default() += 1;
        }
        let named = sandboxes.into_iter().map(|((hub, container), count)| {
            (text::label(&self.sandboxes.identity(hub, container)), count)
        });
        let wanted = text::group(named.collect());
        let shown = self
            .group
            .as_ref()
            .map(|popup| (popup.slot, popup.posted, popup.shown == wanted));
        match shown {
            Some((_, _, true)) => {}
            Some((_, posted, false)) if now < posted.saturating_add(RECOUNT) => {
                self.wake(posted.saturating_add(RECOUNT));
            }
            shown => {
                if let Err(due) = self.pace.take(now) {
                    self.wake(due);
                } else {
                    let slot = shown.map_or_else(|| self.slot(), |(slot, ..)| slot);
                    let post = self.post(slot, wanted.clone(), false);
                    self.group = Some(Popup::of(&post, wanted, String::new(), now));
                    orders.push(Order::Post(Box::new(post)));
                }
            }
        }
        if self.group.is_some() {
            // Only now, so that there is always something that says that somebody asks.
            for asked in self.asked.values_mut() {
                orders.extend(asked.popup.take().map(|popup| Order::Close(popup.slot)));
            }
        }
    }

    /// Shows a popup for each of `open`.
    fn flush_single(
        &mut self,
        open: &[RowNumber],
        inbox: &Inbox,
        now: Duration,
        orders: &mut Vec<Order>,
    ) {
        let mut missing = false;
        for number in open {
            let Some(row) = inbox.row(*number).filter(|row| row.answering().is_none()) else {
                continue;
            };
            if let Err(due) = self.flush_row(row, inbox, now, orders) {
                self.wake(due);
                missing |= self
                    .asked
                    .get(number)
                    .is_none_or(|asked| asked.popup.is_none());
            }
        }
        if !missing && let Some(popup) = self.group.take() {
            self.moved = now;
            orders.push(Order::Close(popup.slot));
        }
    }

    /// Shows a row's popup if it is not the one that is shown, or says when to try again.
    fn flush_row(
        &mut self,
        row: &Row,
        inbox: &Inbox,
        now: Duration,
        orders: &mut Vec<Order>,
    ) -> Result<(), Duration> {
        let Some(asked) = self.asked.get(&row.number()) else {
            return Ok(());
        };
        let open = match (row.is_lapsed(), inbox.is_up(row.hub())) {
            (true, _) => Open::Lapsed,
            (false, false) => Open::HubAway,
            (false, true) => Open::Yes,
        };
        let known = self.sandboxes.identity(row.hub(), row.container());
        let identity = text::identity(row.container(), row.dossier(), &known);
        let trouble = asked.trouble.as_ref();
        let mut wanted = text::question(row, identity, open, trouble, &self.zone);
        wanted.icon.clone_from(&self.icon);
        let opens = words::opens(row);
        let mut slot = None;
        let mut since = now;
        if let Some(popup) = &asked.popup {
            slot = Some(popup.slot);
            let same = popup.opens == opens
                && popup.shown.summary == wanted.summary
                && popup.shown.actions == wanted.actions;
            if same && !popup.gone {
                if popup.shown == wanted {
                    return Ok(());
                }
                let recount = popup.posted.saturating_add(RECOUNT);
                if now < recount {
                    return Err(recount);
                }
                since = popup.since;
            }
        }
        self.pace.take(now)?;
        let slot = slot.unwrap_or_else(|| self.slot());
        let post = self.post(slot, wanted, false);
        let popup = Popup {
            since,
            ..Popup::of(&post, post.notification.clone(), opens, now)
        };
        if let Some(asked) = self.asked.get_mut(&row.number()) {
            asked.popup = Some(popup);
        }
        orders.push(Order::Post(Box::new(post)));
        Ok(())
    }

    /// Takes in that a post is on the screen.
    pub fn posted(&mut self, slot: Slot, version: u64, now: Now) {
        let popup = self.asked.values_mut().find_map(|asked| {
            asked
                .popup
                .as_mut()
                .filter(|popup| (popup.slot, popup.version) == (slot, version))
        });
        let Some(popup) = popup else {
            // A result, or a notice: it moves what else there is.
            self.moved = now.steady;
            return;
        };
        if popup.since == popup.posted {
            popup.since = now.steady;
            self.moved = now.steady;
        }
        popup.posted = now.steady;
    }

    /// Takes in that the desktop did not take a post. All is tried again after some time.
    pub fn not_posted(&mut self, post: Post, now: Now) {
        let slot = post.slot;
        let until = now.steady.saturating_add(AFTER_FAILURE);
        self.pace.bar(until);
        for asked in self.asked.values_mut() {
            asked.popup.take_if(|popup| popup.slot == slot);
        }
        self.group.take_if(|popup| popup.slot == slot);
        if self.sandboxes.alerts().any(|alert| alert == slot) {
            self.notices.put_back(slot, post.notification);
        }
        self.wake(until);
    }

    /// Takes in a click on an action of what `slot` shows. It answers only what the popup said,
    /// and only if that has stood there for [`GUARD`]; otherwise the question is shown again.
    pub fn click(&mut self, slot: Slot, key: &str, inbox: &Inbox, now: Now) -> Click {
        let guarded = now.steady.saturating_sub(self.moved) < GUARD;
        // What is left moves up, under the pointer of who clicks twice.
        self.moved = now.steady;
        let asked = self.asked.iter_mut().find_map(|(number, asked)| {
            let popup = asked.popup.as_mut().filter(|popup| popup.slot == slot)?;
            Some((*number, popup))
        });
        let Some((number, popup)) = asked else {
            return Click::Nothing;
        };
        let (Some(action), Some(row)) = (text::answer(key), inbox.row(number)) else {
            return Click::Nothing;
        };
        if row.answering().is_some() {
            return Click::Nothing;
        }
        // Many desktops take a popup away that is clicked on, whatever they were asked for.
        popup.gone = true;
        self.due = Some(now.steady);
        if popup.opens != words::opens(row) {
            return Click::Again("what an answer opens has changed since it was shown");
        }
        if guarded || now.steady.saturating_sub(popup.since) < GUARD {
            return Click::Again("it came too soon after the popups changed");
        }
        Click::Answer(number, action)
    }

    /// Takes in that what was posted was closed, or expired: that is no answer. The question keeps
    /// quiet until it is blocked again after half a minute.
    pub fn closed(&mut self, slot: Slot, version: u64, inbox: &Inbox, now: Now) {
        let is_it = |popup: &mut Popup| (popup.slot, popup.version) == (slot, version);
        // What is left moves up, under the pointer of who closed it.
        self.moved = now.steady;
        if self.group.take_if(is_it).is_some() {
            for asked in self.asked.values_mut() {
                asked.dismissed.get_or_insert(now.steady);
            }
            return;
        }
        for (number, asked) in &mut self.asked {
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
            if answering || popup.gone {
                // Its slot is where the answer will be shown.
                popup.gone = true;
            } else {
                asked.popup = None;
                asked.dismissed = Some(now.steady);
            }
            return;
        }
        self.sandboxes.closed(slot);
    }

    /// Takes in that what was posted is gone with the whole desktop: it is to be shown again.
    pub fn lost(&mut self, slot: Slot, version: u64, now: Now) {
        let is_it = |popup: &mut Popup| (popup.slot, popup.version) == (slot, version);
        self.group.take_if(is_it);
        for asked in self.asked.values_mut() {
            asked.popup.take_if(is_it);
        }
        self.wake(now.steady);
    }

    /// Returns the places of what stays on the screen until it is taken away.
    pub fn shown(&self) -> Vec<Slot> {
        let questions = self.asked.values().filter_map(|asked| asked.popup.as_ref());
        let popups = questions.chain(&self.group).map(|popup| popup.slot);
        popups.chain(self.sandboxes.alerts()).collect()
    }

    fn ended(&mut self, row: &Row, end: &End) {
        let Some(popup) = self
            .asked
            .remove(&row.number())
            .and_then(|asked| asked.popup)
        else {
            return;
        };
        let result = match end {
            End::Decided(decision) if self.categories.has(Category::Verdict) => {
                let known = self.sandboxes.identity(row.hub(), row.container());
                let identity = text::identity(row.container(), row.dossier(), &known);
                text::answered(row, identity, decision)
            }
            _ => None,
        };
        match result {
            Some(result) => self.results.push_back((popup.slot, result)),
            None => self.closes.push(popup.slot),
        }
    }

    fn trouble(&mut self, number: RowNumber, trouble: Trouble) {
        let verdicts = self.categories.has(Category::Verdict);
        if let Some(asked) = self.asked.get_mut(&number) {
            asked.trouble = verdicts.then_some(trouble);
            if let Some(popup) = &mut asked.popup {
                // It was clicked on, and may have been taken away by that.
                popup.gone = true;
            }
        }
    }

    fn wake(&mut self, at: Duration) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn slot(&mut self) -> Slot {
        self.slots = self.slots.saturating_add(1);
        Slot(self.slots)
    }

    fn post(&mut self, slot: Slot, mut notification: Notification, last: bool) -> Post {
        self.versions = self.versions.saturating_add(1);
        notification.icon.clone_from(&self.icon);
        Post {
            slot,
            version: self.versions,
            notification,
            last,
        }
    }
}

impl Popup {
    fn of(post: &Post, shown: Notification, opens: String, now: Duration) -> Self {
        Self {
            slot: post.slot,
            version: post.version,
            shown,
            opens,
            since: now,
            posted: now,
            gone: false,
        }
    }
}
