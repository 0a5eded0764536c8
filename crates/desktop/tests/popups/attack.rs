// SPDX-License-Identifier: Apache-2.0
//! Whatever comes in and wherever it is clicked: an answer is the one that the popup said.
//!
//! The oracle knows nothing of the board. It reads what is on the screen, and since when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use operator::inbox::{InboxEvent, OperatorAnswer, OperatorReply};
use operator::phrases;
use proptest::prelude::*;
use serde_json::json;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{Event, Request};
use terok_clearance::{Action, DecisionAction};
use terok_clearance_desktop::notifier::Notification;
use terok_clearance_desktop::popups::{
    CLICK_GUARD_DELAY, ClickOutcome, PopupCommand, PopupSlot, PopupUpdate,
};

use crate::rig::{Rig, asks, decided, web};

#[derive(Debug, Clone)]
enum Step {
    /// A packet to a name, at one of its addresses.
    Blocked(u8, u8),
    Withdrawn(usize),
    DecidedElsewhere(usize),
    Down,
    /// The hub is back; or another is, which knows nothing.
    Back(bool),
    Replied(usize, bool),
    /// The desktop is told what to do.
    Flush,
    /// The desktop shows what it was told.
    Show,
    Click(usize, bool),
    Close(usize),
    /// All that is shown is lost with the desktop.
    Lost,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..6_u8, 0..3_u8).prop_map(|(name, at)| Step::Blocked(name, at)),
        1 => any::<usize>().prop_map(Step::Withdrawn),
        1 => any::<usize>().prop_map(Step::DecidedElsewhere),
        1 => Just(Step::Down),
        2 => any::<bool>().prop_map(Step::Back),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, ok)| Step::Replied(which, ok)),
        8 => Just(Step::Flush),
        6 => Just(Step::Show),
        10 => (any::<usize>(), any::<bool>()).prop_map(|(which, allow)| Step::Click(which, allow)),
        1 => any::<usize>().prop_map(Step::Close),
        1 => Just(Step::Lost),
        12 => prop::sample::select(vec![10, 300, 599, 600, 700, 2000]).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

/// What is on the screen: its version, what it says, and since when it says what it asks.
type Shown = (u64, Notification, Duration);

struct Attack {
    rig: Rig,
    pending: BTreeMap<String, Arc<Request>>,
    up: bool,
    next: u64,
    screen: BTreeMap<PopupSlot, Shown>,
    /// When a popup last came or went.
    moved: Duration,
    /// What the desktop was told and has not shown yet.
    told: Vec<PopupUpdate>,
    on_their_way: Vec<OperatorAnswer>,
}

fn opens(shown: &Notification) -> Option<&str> {
    let mut lines = shown.body.lines();
    lines.find_map(|line| line.strip_prefix("Allow opens "))
}

impl Attack {
    fn new() -> Self {
        Self {
            rig: Rig::up(),
            pending: BTreeMap::new(),
            up: true,
            next: 0,
            screen: BTreeMap::new(),
            moved: Duration::ZERO,
            told: Vec::new(),
            on_their_way: Vec::new(),
        }
    }

    /// Tells it, and leaves the desktop for later.
    fn news(&mut self, news: InboxEvent) {
        let changes = self.rig.inbox.apply_event(&web(), news);
        self.rig.changed(&changes);
    }

    fn says(&mut self, event: Event) {
        self.news(InboxEvent::Received(event));
    }

    fn some_question(&self, which: usize) -> Option<Arc<Request>> {
        let which = which.checked_rem(self.pending.len())?;
        self.pending.values().nth(which).cloned()
    }

    /// Returns a popup that can be clicked on: not one that is being replaced.
    fn some_popup(&self, which: usize) -> Option<(PopupSlot, Shown)> {
        let still = |slot: &PopupSlot| !self.told.iter().any(|post| post.slot == *slot);
        let shown = self.screen.iter().filter(|(slot, _)| still(slot));
        let shown: Vec<_> = shown.collect();
        let (slot, shown) = shown.get(which.checked_rem(shown.len())?)?;
        Some((**slot, (*shown).clone()))
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Blocked(name, address) if self.up => {
                self.next += 1;
                let (name, address) = (format!("q{name}.example"), format!("203.0.113.{address}"));
                let mut known = self.pending.values();
                let known = known
                    .find(|known| known.dest.as_str() == name && known.address.as_str() == address);
                let event = if let Some(known) = known.cloned() {
                    let mut again = known;
                    Arc::make_mut(&mut again).count += 1;
                    Event::Repeated(again)
                } else {
                    Event::Pending(asks(self.next, &name, json!({ "address": address })))
                };
                if let Event::Pending(asked) | Event::Repeated(asked) = &event {
                    self.pending.insert(asked.id.to_string(), Arc::clone(asked));
                }
                self.says(event);
            }
            Step::Withdrawn(which) if self.up => {
                if let Some(request) = self.some_question(which) {
                    self.pending.remove(request.id.as_str());
                    let reason = "evicted".into();
                    self.says(Event::Withdrawn { request, reason });
                }
            }
            Step::DecidedElsewhere(which) if self.up => {
                if let Some(request) = self.some_question(which) {
                    self.pending.remove(request.id.as_str());
                    let decision = decided(&request, Action::Allow, "uid 1001");
                    self.says(Event::Decided(Arc::new(decision)));
                }
            }
            Step::Down => {
                self.up = false;
                self.news(InboxEvent::Down("it was cut off".into()));
            }
            Step::Back(new) => {
                if !self.up && new {
                    self.pending.clear();
                    self.news(InboxEvent::Restarted);
                }
                self.up = true;
                self.news(InboxEvent::Up(ProtocolVersion::Clearance2));
                for asked in self.pending.values().cloned().collect::<Vec<_>>() {
                    self.says(Event::Pending(asked));
                }
                self.says(Event::Synced);
            }
            Step::Replied(which, ok) => self.reply(which, ok),
            Step::Flush => self.flush(),
            Step::Show => self.show(),
            Step::Click(which, allow) => self.click(which, allow),
            Step::Close(which) => {
                if let Some((slot, (version, ..))) = self.some_popup(which) {
                    self.screen.remove(&slot);
                    self.moved = self.rig.clock;
                    let now = self.rig.now();
                    self.rig
                        .board
                        .handle_closed(slot, version, &self.rig.inbox, now);
                }
            }
            Step::Lost => {
                let now = self.rig.now();
                self.moved = self.rig.clock;
                for post in std::mem::take(&mut self.told) {
                    self.rig.board.mark_not_shown(post, now);
                }
                for (slot, (version, ..)) in std::mem::take(&mut self.screen) {
                    self.rig.board.mark_lost(slot, version, now);
                }
            }
            Step::Wait(ms) => self.rig.clock += Duration::from_millis(ms),
            // What is not there says nothing.
            _ => {}
        }
    }

    fn reply(&mut self, which: usize, ok: bool) {
        let Some(which) = which.checked_rem(self.on_their_way.len()) else {
            return;
        };
        let answer = self.on_their_way.swap_remove(which);
        let id = answer.request.id.as_str();
        let reply = if !self.pending.contains_key(id) {
            OperatorReply::NoSuchRequest
        } else if ok {
            self.pending.remove(id);
            OperatorReply::Decided(decided(&answer.request, answer.action, "uid 1000"))
        } else {
            OperatorReply::Failed("it went wrong".into())
        };
        let changes = self.rig.inbox.apply_reply(&answer, reply);
        self.rig.changed(&changes);
    }

    /// One order after the other is carried out: nothing new is asked for before.
    fn flush(&mut self) {
        let now = self.rig.now();
        let due = self.rig.board.next_due();
        if !self.told.is_empty() || due.is_none_or(|due| due > now.monotonic) {
            return;
        }
        for order in self.rig.board.take_commands(&self.rig.inbox, now) {
            match order {
                PopupCommand::Close(slot) => {
                    if self.screen.remove(&slot).is_some() {
                        self.moved = self.rig.clock;
                    }
                    self.rig.board.mark_closed(now);
                }
                PopupCommand::Show(post) => self.told.push(*post),
            }
        }
    }

    fn show(&mut self) {
        let (now, clock) = (self.rig.now(), self.rig.clock);
        for post in std::mem::take(&mut self.told) {
            self.rig.board.mark_shown(post.slot, post.version, now);
            let before = self.screen.get(&post.slot);
            let same = before.filter(|(_, before, _)| {
                (opens(before), &before.summary, &before.actions)
                    == (
                        opens(&post.notification),
                        &post.notification.summary,
                        &post.notification.actions,
                    )
            });
            let since = same.map_or(clock, |(.., since)| *since);
            let lines = |shown: &Notification| shown.body.lines().count();
            if before.is_none_or(|(_, before, _)| lines(before) != lines(&post.notification)) {
                self.moved = clock;
            }
            let shown = (post.version, post.notification, since);
            self.screen.insert(post.slot, shown);
        }
    }

    fn click(&mut self, which: usize, allow: bool) {
        let Some((slot, (version, shown, since))) = self.some_popup(which) else {
            return;
        };
        let key = if allow { "allow" } else { "deny" };
        if !shown
            .actions
            .iter()
            .any(|action| action.key().as_str() == key)
        {
            return;
        }
        let now = self.rig.now();
        let click = self.rig.board.handle_click(slot, key, &self.rig.inbox, now);
        if let ClickOutcome::Answer(number, action) = click {
            let row = self.rig.inbox.row(number).unwrap();
            let says = phrases::describe_allow_effect(row);
            assert_eq!(opens(&shown), Some(says.as_str()));
            assert!(shown.summary.contains(row.dest().as_str()), "{shown:?}");
            let clicked = if allow { Action::Allow } else { Action::Deny };
            assert_eq!(action, clicked);
            let stood = self.rig.clock.saturating_sub(since.max(self.moved));
            assert!(
                stood >= CLICK_GUARD_DELAY,
                "{shown:?} stood there for {stood:?}"
            );
            if let Ok(answers) = self.rig.inbox.answer(number, action) {
                for answer in &answers {
                    assert_eq!(DecisionAction::from(answer.action), action.into());
                    let (scope, asked) = (&answer.scope, &answer.request.scope);
                    assert_eq!(scope, asked);
                    let twice = self.on_their_way.iter();
                    let twice = twice.filter(|other| other.row == answer.row).count();
                    assert_eq!(twice, 0, "answered twice: {answer:?}");
                }
                self.on_their_way.extend(answers);
            }
        }
        // As daemons do that take away what was clicked on.
        self.screen.remove(&slot);
        self.moved = self.rig.clock;
        self.rig
            .board
            .handle_closed(slot, version, &self.rig.inbox, now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_click_is_the_answer_that_the_popup_asked_for(steps in steps()) {
        let mut attack = Attack::new();
        for step in &steps {
            attack.step(step);
        }
        // And none is lost: when all has come to rest, each is on the screen or with others there.
        let waits = |row: &operator::inbox::Row| row.answering().is_none();
        let quiet = Duration::from_secs(60);
        for answer in std::mem::take(&mut attack.on_their_way) {
            let changes = attack.rig.inbox.apply_reply(&answer, OperatorReply::Failed("it went wrong".into()));
            attack.rig.changed(&changes);
        }
        for asked in attack.pending.values().cloned().collect::<Vec<_>>() {
            if attack.up {
                attack.rig.clock += quiet;
                let mut again = asked;
                Arc::make_mut(&mut again).count += 1;
                attack.says(Event::Repeated(again));
            }
        }
        for _ in 0..40 {
            attack.show();
            attack.flush();
            attack.rig.clock += Duration::from_secs(1);
        }
        let rows = attack.rig.inbox.rows().filter(|row| waits(row) && attack.up && !row.is_forgotten_by_hub());
        let rows: Vec<_> = rows.collect();
        let titles: Vec<_> = attack.screen.values().map(|(_, shown, _)| &shown.summary).collect();
        let grouped = titles.iter().any(|title| title.contains(" questions from "));
        for row in rows {
            let named = titles.iter().any(|title| title.contains(row.dest().as_str()));
            prop_assert!(named || grouped, "{} is not on the screen: {titles:?}", row.dest());
        }
    }
}
