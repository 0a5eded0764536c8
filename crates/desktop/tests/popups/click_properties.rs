// SPDX-License-Identifier: Apache-2.0
//! Property: in any order of events and clicks, an answer has the scope in its popup.
//!
//! The check uses the popups on the screen and their age, and nothing else of the model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use operator::inbox::{InboxEvent, OperatorAnswer, OperatorReply};
use operator::{AnswerScope, phrases};
use proptest::prelude::*;
use serde_json::json;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{Event, Request};
use terok_clearance::{Action, DecisionAction, RuleLifetime, Scope};
use terok_clearance_desktop::notifier::{Notification, TextLimits};
use terok_clearance_desktop::popups::{
    CLICK_GUARD_DELAY, ClickOutcome, PopupCommand, PopupSlot, PopupUpdate,
};

use crate::harness::{PopupHarness, decided, web, web_question};

/// The actions: the key, the answer, its lifetime if it is not the question's own, and the line of
/// the popup that says so.
type KnownAction = (
    &'static str,
    Action,
    Option<(RuleLifetime, Option<u32>)>,
    &'static str,
);
const ACTIONS: [KnownAction; 6] = [
    ("allow", Action::Allow, None, "Allow opens "),
    ("deny", Action::Deny, None, ""),
    (
        "allow-5min",
        Action::Allow,
        Some((RuleLifetime::Sandbox, Some(300))),
        "Allow 5 min: same for 5 minutes",
    ),
    (
        "allow-once",
        Action::Allow,
        Some((RuleLifetime::Once, None)),
        "Allow once: only the next connection within 60 s",
    ),
    (
        "allow-1h",
        Action::Allow,
        Some((RuleLifetime::Sandbox, Some(3600))),
        "Allow 1 h: same for 1 hour",
    ),
    (
        "allow-always",
        Action::Allow,
        Some((RuleLifetime::Always, None)),
        "Always allow: same always, in every sandbox",
    ),
];

#[derive(Debug, Clone)]
enum Step {
    /// A packet to one address of a name.
    Blocked(u8, u8),
    Withdrawn(usize),
    DecidedElsewhere(usize),
    Down,
    /// The hub reconnects; `true` for a restarted hub without questions.
    Back(bool),
    Replied(usize, bool),
    /// The popup commands are taken.
    Flush,
    /// The notifier shows the popups of the commands.
    Show,
    /// A click on an action, if the popup has it.
    Click(usize, usize),
    /// A question offers all lifetimes, or none.
    Offered(usize, bool),
    Close(usize),
    /// All popups are lost with the notification service.
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
        12 => (any::<usize>(), 0..ACTIONS.len()).prop_map(|(which, key)| Step::Click(which, key)),
        2 => (any::<usize>(), any::<bool>()).prop_map(|(which, all)| Step::Offered(which, all)),
        1 => any::<usize>().prop_map(Step::Close),
        1 => Just(Step::Lost),
        12 => prop::sample::select(vec![10, 300, 599, 600, 700, 2000]).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

/// A popup on the screen: its version, its content, and the time since which it asks its question.
type Shown = (u64, Notification, Duration);

struct ClickModel {
    harness: PopupHarness,
    pending: BTreeMap<String, Arc<Request>>,
    up: bool,
    next: u64,
    screen: BTreeMap<PopupSlot, Shown>,
    /// The time of the last change of the layout.
    moved: Duration,
    /// The popups of the commands that are not shown yet.
    commands: Vec<PopupUpdate>,
    unanswered: Vec<OperatorAnswer>,
}

fn opens(shown: &Notification) -> Option<&str> {
    let mut lines = shown.body.lines();
    lines.find_map(|line| line.strip_prefix("Allow opens "))
}

/// Returns the lines that say what the actions open.
fn promises(shown: &Notification) -> Vec<&str> {
    let lines = shown.body.lines();
    lines
        .filter(|line| line.starts_with('A') && line.contains("llow"))
        .collect()
}

fn lifetimes(all: bool) -> Vec<RuleLifetime> {
    use RuleLifetime::{Always, Once, Project, Sandbox};
    if all {
        vec![Once, Sandbox, Project, Always]
    } else {
        Vec::new()
    }
}

impl ClickModel {
    fn new() -> Self {
        let mut harness = PopupHarness::connected();
        let now = harness.now();
        harness.model.set_limits(TextLimits::UNLIMITED, now);
        harness.flush();
        Self {
            harness,
            pending: BTreeMap::new(),
            up: true,
            next: 0,
            screen: BTreeMap::new(),
            moved: Duration::ZERO,
            commands: Vec::new(),
            unanswered: Vec::new(),
        }
    }

    /// Applies an event without taking commands.
    fn apply(&mut self, event: InboxEvent) {
        let changes = self.harness.inbox.apply_event(&web(), event);
        self.harness.apply_changes(&changes);
    }

    fn receive(&mut self, event: Event) {
        self.apply(InboxEvent::Received(event));
    }

    fn some_question(&self, which: usize) -> Option<Arc<Request>> {
        let which = which.checked_rem(self.pending.len())?;
        self.pending.values().nth(which).cloned()
    }

    /// Returns a popup that can be clicked: none that is being replaced.
    fn some_popup(&self, which: usize) -> Option<(PopupSlot, Shown)> {
        let still = |slot: &PopupSlot| !self.commands.iter().any(|post| post.slot == *slot);
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
                    let changes = json!({ "address": address, "lifetimes": lifetimes(true) });
                    Event::Pending(web_question(self.next, &name, changes))
                };
                if let Event::Pending(question) | Event::Repeated(question) = &event {
                    self.pending
                        .insert(question.id.to_string(), Arc::clone(question));
                }
                self.receive(event);
            }
            Step::Withdrawn(which) if self.up => {
                if let Some(request) = self.some_question(which) {
                    self.pending.remove(request.id.as_str());
                    let reason = "evicted".into();
                    self.receive(Event::Withdrawn { request, reason });
                }
            }
            Step::DecidedElsewhere(which) if self.up => {
                if let Some(request) = self.some_question(which) {
                    self.pending.remove(request.id.as_str());
                    let decision = decided(&request, Action::Allow, "uid 1001");
                    self.receive(Event::Decided(Arc::new(decision)));
                }
            }
            Step::Down => {
                self.up = false;
                self.apply(InboxEvent::Down("it was cut off".into()));
            }
            Step::Back(new) => {
                if !self.up && new {
                    self.pending.clear();
                    self.apply(InboxEvent::Restarted);
                }
                self.up = true;
                self.apply(InboxEvent::Up(ProtocolVersion::Clearance2));
                for question in self.pending.values().cloned().collect::<Vec<_>>() {
                    self.receive(Event::Pending(question));
                }
                self.receive(Event::Synced);
            }
            Step::Replied(which, ok) => self.reply(which, ok),
            Step::Flush => self.flush(),
            Step::Show => self.show(),
            Step::Click(which, key) => self.click(which, ACTIONS[key]),
            Step::Offered(which, all) if self.up => {
                let Some(mut question) = self.some_question(which) else {
                    return;
                };
                Arc::make_mut(&mut question).lifetimes = lifetimes(all);
                self.pending
                    .insert(question.id.to_string(), Arc::clone(&question));
                self.receive(Event::Repeated(question));
            }
            Step::Close(which) => {
                if let Some((slot, (version, ..))) = self.some_popup(which) {
                    self.screen.remove(&slot);
                    self.moved = self.harness.clock;
                    let now = self.harness.now();
                    self.harness
                        .model
                        .handle_closed(slot, version, &self.harness.inbox, now);
                }
            }
            Step::Lost => {
                let now = self.harness.now();
                self.moved = self.harness.clock;
                for post in std::mem::take(&mut self.commands) {
                    self.harness.model.mark_not_shown(post, now);
                }
                for (slot, (version, ..)) in std::mem::take(&mut self.screen) {
                    self.harness.model.mark_lost(slot, version, now);
                }
            }
            Step::Wait(ms) => self.harness.clock += Duration::from_millis(ms),
            // A disconnected hub sends nothing.
            _ => {}
        }
    }

    fn reply(&mut self, which: usize, ok: bool) {
        let Some(which) = which.checked_rem(self.unanswered.len()) else {
            return;
        };
        let answer = self.unanswered.swap_remove(which);
        let id = answer.request.id.as_str();
        let reply = if !self.pending.contains_key(id) {
            OperatorReply::NoSuchRequest
        } else if ok {
            self.pending.remove(id);
            OperatorReply::Decided(decided(&answer.request, answer.action, "uid 1000"))
        } else {
            OperatorReply::Failed("it went wrong".into())
        };
        let changes = self.harness.inbox.apply_reply(&answer, reply);
        self.harness.apply_changes(&changes);
    }

    /// Takes commands once the former ones are carried out.
    fn flush(&mut self) {
        let now = self.harness.now();
        let due = self.harness.model.next_due();
        if !self.commands.is_empty() || due.is_none_or(|due| due > now.monotonic) {
            return;
        }
        for order in self.harness.model.take_commands(&self.harness.inbox, now) {
            match order {
                PopupCommand::Close(slot) => {
                    if self.screen.remove(&slot).is_some() {
                        self.moved = self.harness.clock;
                    }
                    self.harness.model.mark_closed(now);
                }
                PopupCommand::Show(post) => self.commands.push(*post),
            }
        }
    }

    fn show(&mut self) {
        let (now, clock) = (self.harness.now(), self.harness.clock);
        for post in std::mem::take(&mut self.commands) {
            self.harness.model.mark_shown(post.slot, post.version, now);
            let before = self.screen.get(&post.slot);
            let same = before.filter(|(_, before, _)| {
                (promises(before), &before.summary, &before.actions)
                    == (
                        promises(&post.notification),
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

    fn click(&mut self, which: usize, (key, clicked, lifetime, line): KnownAction) {
        let Some((slot, (version, shown, since))) = self.some_popup(which) else {
            return;
        };
        if !shown
            .actions
            .iter()
            .any(|action| action.key().as_str() == key)
        {
            return;
        }
        let now = self.harness.now();
        let click = self
            .harness
            .model
            .handle_click(slot, key, &self.harness.inbox, now);
        if let ClickOutcome::Answer(number, action, asked) = click {
            let row = self.harness.inbox.row(number).unwrap();
            let own = AnswerScope::default_of(row);
            let says = phrases::describe_effect(row, Action::Allow, &own);
            let addresses = phrases::describe_present_addresses(row).unwrap();
            assert_eq!(opens(&shown), Some(&*format!("{says} ({addresses})")));
            assert!(shown.body.contains(line), "{key}: {shown:?}");
            assert!(shown.summary.contains(row.dest().as_str()), "{shown:?}");
            assert_eq!(action, clicked);
            let stood = self.harness.clock.saturating_sub(since.max(self.moved));
            assert!(
                stood >= CLICK_GUARD_DELAY,
                "{shown:?} stood there for {stood:?}"
            );
            let row = row.number();
            if let Ok(answers) = self.harness.inbox.answer_with(row, action, &asked) {
                for answer in &answers {
                    assert_eq!(DecisionAction::from(answer.action), action.into());
                    let mut promised = answer.request.scope.clone();
                    if let Some((keep, seconds)) = lifetime {
                        promised = Scope {
                            keep,
                            seconds,
                            ..promised
                        };
                    }
                    assert_eq!(answer.scope, promised);
                    let twice = self.unanswered.iter();
                    let twice = twice.filter(|other| other.row == answer.row).count();
                    assert_eq!(twice, 0, "answered twice: {answer:?}");
                }
                self.unanswered.extend(answers);
            }
        }
        // Most notification services close a popup that was clicked.
        self.screen.remove(&slot);
        self.moved = self.harness.clock;
        self.harness
            .model
            .handle_closed(slot, version, &self.harness.inbox, now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_click_answers_the_question_in_its_popup(steps in steps()) {
        let mut clicks = ClickModel::new();
        for step in &steps {
            clicks.step(step);
        }
        // No question is lost: in the end each one is on the screen, alone or in a group.
        let waits = |row: &operator::inbox::Row| row.answering().is_none();
        let quiet = Duration::from_secs(60);
        for answer in std::mem::take(&mut clicks.unanswered) {
            let changes = clicks.harness.inbox.apply_reply(&answer, OperatorReply::Failed("it went wrong".into()));
            clicks.harness.apply_changes(&changes);
        }
        for question in clicks.pending.values().cloned().collect::<Vec<_>>() {
            if clicks.up {
                clicks.harness.clock += quiet;
                let mut again = question;
                Arc::make_mut(&mut again).count += 1;
                clicks.receive(Event::Repeated(again));
            }
        }
        for _ in 0..40 {
            clicks.show();
            clicks.flush();
            clicks.harness.clock += Duration::from_secs(1);
        }
        let rows = clicks.harness.inbox.rows().filter(|row| waits(row) && clicks.up && !row.is_forgotten_by_hub());
        let rows: Vec<_> = rows.collect();
        let titles: Vec<_> = clicks.screen.values().map(|(_, shown, _)| &shown.summary).collect();
        let grouped = titles.iter().any(|title| title.contains(" questions from "));
        for row in rows {
            let named = titles.iter().any(|title| title.contains(row.dest().as_str()));
            prop_assert!(named || grouped, "{} is not on the screen: {titles:?}", row.dest());
        }
    }
}
