// SPDX-License-Identifier: Apache-2.0
//! A random attack: for any sequence of events and keys, every answer is the one that the screen
//! asked for.
//!
//! The oracle does not use the model. After each frame it reads the text of the screen, as a person
//! does, and compares the sent answers with that text and with the time for which it was visible.

mod oracle;
pub(crate) mod read;

use std::collections::BTreeMap;
use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use operator::inbox::{HubId, InboxEvent, OperatorAnswer, OperatorReply, Row};
use proptest::prelude::*;
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{Event, Request};
use terok_clearance::{Action, DisplayText};
use terok_clearance_tui::TuiMessage;

use oracle::{assert_matches_text, effect, elsewhere};
use read::{Part, Read, is_typing, read};

use crate::harness::{Effect, NOON, TestUi, decision, hub, request};

const HUBS: [&str; 2] = ["web", "db"];
const SIZES: [(u16, u16); 6] = [(80, 24), (110, 30), (60, 15), (40, 10), (20, 5), (200, 50)];

/// What a question offers: the wider names, the lifetimes, and the number of connections that wait.
const OFFERS: [(&str, &str, u32); 5] = [
    (r#"["*.b.PARENT", "*.PARENT"]"#, ALL_LIFETIMES, 0),
    (r#"["*.b.PARENT", "*.PARENT"]"#, ALL_LIFETIMES, 1),
    ("[]", ALL_LIFETIMES, 2),
    (r#"["*.PARENT"]"#, r#"["sandbox", "project"]"#, 0),
    ("[]", "[]", 0),
];
const ALL_LIFETIMES: &str = r#"["once", "sandbox", "project", "always"]"#;

/// A step of the attack.
#[derive(Debug, Clone)]
enum Step {
    /// A blocked packet: hub, name, address.
    Blocked(usize, u8, u8),
    /// The name of a question becomes known, which changes what an answer opens.
    Named(usize, usize, u8),
    /// A question offers other scopes, or other connections wait for it.
    Offered(usize, usize, usize),
    Withdrawn(usize, usize),
    DecidedElsewhere(usize, usize, bool),
    Down(usize),
    /// A hub is connected again: the same process, or a new one without questions.
    Back(usize, bool),
    Gone(usize),
    /// A hub replies to a pending answer.
    Replied(usize, u8),
    Key(KeyCode),
    Click(u16),
    Wheel(bool),
    Paste,
    Resize(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop::sample::select(vec![
        KeyCode::Char('a'),
        KeyCode::Char('a'),
        KeyCode::Char('a'),
        KeyCode::Char('x'),
        KeyCode::Char('y'),
        KeyCode::Char('y'),
        KeyCode::Char(' '),
        KeyCode::Char(' '),
        KeyCode::Char('*'),
        KeyCode::Char('j'),
        KeyCode::Char('k'),
        KeyCode::Char('G'),
        KeyCode::Char('/'),
        KeyCode::Char('0'),
        KeyCode::Char('1'),
        KeyCode::Char('2'),
        KeyCode::Char('3'),
        KeyCode::Char('4'),
        KeyCode::Char('5'),
        KeyCode::Char('6'),
        KeyCode::Char('6'),
        KeyCode::Char('w'),
        KeyCode::Char('w'),
        KeyCode::Char('?'),
        KeyCode::Char('r'),
        KeyCode::Char('l'),
        KeyCode::Char('n'),
        KeyCode::PageDown,
        KeyCode::Down,
        KeyCode::End,
        KeyCode::Enter,
        KeyCode::Esc,
        KeyCode::Backspace,
    ]);
    let hub = 0..HUBS.len();
    let step = prop_oneof![
        10 => (hub.clone(), 0..3_u8, 0..3_u8).prop_map(|(h, n, at)| Step::Blocked(h, n, at)),
        2 => (hub.clone(), any::<usize>(), 0..3_u8).prop_map(|(h, q, n)| Step::Named(h, q, n)),
        2 => (hub.clone(), any::<usize>(), 0..OFFERS.len())
            .prop_map(|(h, q, offer)| Step::Offered(h, q, offer)),
        2 => (hub.clone(), any::<usize>()).prop_map(|(h, q)| Step::Withdrawn(h, q)),
        3 => (hub.clone(), any::<usize>(), any::<bool>())
            .prop_map(|(h, q, ok)| Step::DecidedElsewhere(h, q, ok)),
        1 => hub.clone().prop_map(Step::Down),
        2 => (hub.clone(), any::<bool>()).prop_map(|(h, new)| Step::Back(h, new)),
        1 => hub.prop_map(Step::Gone),
        4 => (any::<usize>(), 0..6_u8).prop_map(|(q, how)| Step::Replied(q, how)),
        30 => key.prop_map(Step::Key),
        2 => (0..30_u16).prop_map(Step::Click),
        1 => any::<bool>().prop_map(Step::Wheel),
        1 => Just(Step::Paste),
        1 => (0..SIZES.len()).prop_map(Step::Resize),
        14 => prop::sample::select(vec![0, 20, 60, 300, 399, 401, 600, 700]).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

/// What the oracle read on the screen, and when.
#[derive(Debug)]
struct Eye {
    read: Read,
    /// The last reading other than `Nothing`.
    asked: Read,
    typing: bool,
    part: Part,
    since: u64,
    /// The questions at the last frame, and the time of their last change.
    rows: Vec<u64>,
    shifted: Option<u64>,
    /// The selected question, and whether the operator's move selected it in an unchanging list.
    selected: (Option<u64>, bool),
    /// Whether an operator's move may have brought the text on the screen.
    brought: bool,
    /// Whether the operator moved the selection since the last frame.
    moved: bool,
    /// Every question that the confirm dialog has shown.
    together: BTreeMap<u64, String>,
    together_since: u64,
    /// The time of the last key.
    last_key: Option<u64>,
}

struct Attack {
    ui: TestUi,
    eye: Eye,
    hubs: Vec<HubId>,
    pending: [BTreeMap<String, Arc<Request>>; 2],
    up: [bool; 2],
    next: u64,
    pending_answers: Vec<OperatorAnswer>,
}

impl Attack {
    fn new() -> Self {
        let hubs: Vec<_> = HUBS.iter().map(|name| hub(name)).collect();
        let mut ui = TestUi::new(80, 24);
        for hub in &hubs {
            ui.news_of(hub, InboxEvent::Up(ProtocolVersion::Clearance2));
            ui.news_of(hub, InboxEvent::Received(Event::Synced));
        }
        ui.sync();
        let eye = Eye {
            read: Read::Nothing,
            asked: Read::Nothing,
            typing: false,
            part: None,
            since: 0,
            rows: Vec::new(),
            shifted: None,
            selected: (None, false),
            brought: false,
            moved: false,
            together: BTreeMap::new(),
            together_since: 0,
            last_key: None,
        };
        let mut attack = Self {
            ui,
            eye,
            hubs,
            pending: Default::default(),
            up: [true; 2],
            next: 0,
            pending_answers: Vec::new(),
        };
        attack.look();
        attack
    }

    fn ms(&self) -> u64 {
        u64::try_from(self.ui.clock.as_millis()).unwrap()
    }

    /// Draws a frame, and reads it.
    fn look(&mut self) {
        let screen = self.ui.screen();
        let read = read(&screen, &mut self.eye.part);
        self.eye.typing = is_typing(&screen);
        let now = self.ms();
        let moved = std::mem::take(&mut self.eye.moved);
        let rows = self.ui.inbox.rows().map(|row| row.number().get());
        let rows: Vec<_> = rows.collect();
        if rows != self.eye.rows {
            self.eye.shifted = Some(now);
        }
        self.eye.rows = rows;
        // In a changing list, the operator may have aimed at another question.
        let aimed = moved && self.eye.shifted.is_none_or(|at| now - at >= 500);
        let selected = self.ui.selected();
        if selected != self.eye.selected.0 {
            self.eye.selected = (selected, aimed);
        }
        if read != self.eye.read {
            self.eye.since = now;
            // A move may also show more of the question that was selected before the change.
            self.eye.brought = aimed || (moved && self.eye.selected.1);
        }
        if let Read::Together(action, many, items) = &read {
            // The dialog goes on after the window was too small for a while.
            let goes_on = matches!(&self.eye.asked, Read::Together(before, were, _)
                if before == action && were == many)
                && !items.iter().any(|(number, words)| {
                    let before = self.eye.together.get(number);
                    before.is_some_and(|before| before != words)
                });
            if !goes_on {
                self.eye.together.clear();
                self.eye.together_since = now;
            }
            self.eye.together.extend(items.clone());
        }
        if read != Read::Nothing {
            self.eye.asked = read.clone();
        }
        self.eye.read = read;
    }

    fn request(&mut self, hub: usize, name: &str, address: u8) -> Arc<Request> {
        self.next += 1;
        let (n, sandbox) = (self.next, HUBS[hub]);
        let parent = name.strip_prefix("a.b.").unwrap();
        let at = NOON + n;
        request(&format!(
            r#"{{"id": "{sandbox}:{n}", "container": "{sandbox}", "dest": "{name}",
                "address": "203.0.113.{address}", "port": 443, "protocol": "tcp", "domain": "{name}",
                "scope": {{"dest": "{name}", "port": 443, "protocol": "tcp", "keep": "sandbox"}},
                "wider": ["*.b.{parent}", "*.{parent}"], "lifetimes": {ALL_LIFETIMES},
                "dossier": {{}}, "first_seen": {at}, "last_seen": {at}, "count": 1}}"#
        ))
    }

    fn news(&mut self, hub: usize, news: InboxEvent) {
        let hub = self.hubs[hub].clone();
        self.ui.news_of(&hub, news);
    }

    fn some_question(&self, hub: usize, which: usize) -> Option<Arc<Request>> {
        let pending = &self.pending[hub];
        pending
            .values()
            .nth(which.checked_rem(pending.len())?)
            .cloned()
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Blocked(hub, name, address) if self.up[hub] => {
                let name = format!("a.b.q{name}.ex");
                let (asks, address) = (self.pending[hub].values(), address + 1);
                let same = asks
                    .filter(|asked| asked.dest.as_str() == name)
                    .find(|asked| asked.address.as_str() == format!("203.0.113.{address}"));
                let event = if let Some(asked) = same.cloned() {
                    let mut again = asked;
                    Arc::make_mut(&mut again).count += 1;
                    Event::Repeated(again)
                } else {
                    Event::Pending(self.request(hub, &name, address))
                };
                if let Event::Pending(asked) | Event::Repeated(asked) = &event {
                    self.pending[hub].insert(asked.id.to_string(), Arc::clone(asked));
                }
                self.news(hub, InboxEvent::Received(event));
            }
            Step::Named(hub, which, name) if self.up[hub] => {
                let Some(mut asked) = self.some_question(hub, which) else {
                    return;
                };
                let name = format!("a.b.n{name}.ex");
                let changed = Arc::make_mut(&mut asked);
                changed.dest = name.parse().unwrap();
                changed.scope.dest = name.parse().unwrap();
                self.pending[hub].insert(asked.id.to_string(), Arc::clone(&asked));
                self.news(hub, InboxEvent::Received(Event::Repeated(asked)));
            }
            Step::Offered(hub, which, offer) if self.up[hub] => self.offer(hub, which, offer),
            Step::Withdrawn(hub, which) if self.up[hub] => {
                if let Some(request) = self.some_question(hub, which) {
                    self.pending[hub].remove(request.id.as_str());
                    let reason = DisplayText::new("evicted");
                    self.news(
                        hub,
                        InboxEvent::Received(Event::Withdrawn { request, reason }),
                    );
                }
            }
            Step::DecidedElsewhere(hub, which, ok) if self.up[hub] => {
                if let Some(request) = self.some_question(hub, which) {
                    if ok {
                        self.pending[hub].remove(request.id.as_str());
                    }
                    let decision = elsewhere(&request, ok);
                    self.news(
                        hub,
                        InboxEvent::Received(Event::Decided(Arc::new(decision))),
                    );
                }
            }
            Step::Down(hub) => {
                self.up[hub] = false;
                self.news(hub, InboxEvent::Down("connection lost".into()));
            }
            Step::Back(hub, new) => {
                if !self.up[hub] && new {
                    self.pending[hub].clear();
                    self.news(hub, InboxEvent::Restarted);
                }
                self.up[hub] = true;
                self.news(hub, InboxEvent::Up(ProtocolVersion::Clearance2));
                let asked: Vec<_> = self.pending[hub].values().cloned().collect();
                for asked in asked {
                    self.news(hub, InboxEvent::Received(Event::Pending(asked)));
                }
                self.news(hub, InboxEvent::Received(Event::Synced));
            }
            Step::Gone(hub) => {
                self.up[hub] = false;
                self.pending[hub].clear();
                self.news(hub, InboxEvent::Gone);
            }
            Step::Replied(which, how) => self.reply(which, how),
            Step::Key(code) => self.press(code),
            Step::Click(row) => self.point(MouseEventKind::Down(MouseButton::Left), row),
            Step::Wheel(true) => self.point(MouseEventKind::ScrollDown, 0),
            Step::Wheel(false) => self.point(MouseEventKind::ScrollUp, 0),
            Step::Paste => {
                assert_eq!(self.ui.tell(TuiMessage::Paste("ay1".to_owned())), None);
                self.look();
            }
            Step::Resize(size) => {
                let (width, height) = SIZES[size];
                self.ui.resize(width, height);
                self.eye.part = None;
                self.look();
            }
            Step::Wait(ms) => {
                self.look();
                self.ui.wait(ms);
            }
            // A disconnected hub sends nothing.
            _ => {}
        }
    }

    /// Lets a question offer other scopes.
    fn offer(&mut self, hub: usize, which: usize, offer: usize) {
        let Some(mut asked) = self.some_question(hub, which) else {
            return;
        };
        let (names, lifetimes, waiting) = OFFERS[offer];
        let changed = Arc::make_mut(&mut asked);
        let parent = changed.dest.as_str().strip_prefix("a.b.").unwrap();
        let names = names.replace("PARENT", parent);
        changed.wider = serde_json::from_str(&names).unwrap();
        changed.lifetimes = serde_json::from_str(lifetimes).unwrap();
        changed.waiting = Some(waiting);
        self.pending[hub].insert(asked.id.to_string(), Arc::clone(&asked));
        self.news(hub, InboxEvent::Received(Event::Repeated(asked)));
    }

    fn point(&mut self, kind: MouseEventKind, row: u16) {
        let event = MouseEvent {
            kind,
            column: 10,
            row,
            modifiers: KeyModifiers::NONE,
        };
        assert_eq!(self.ui.tell(TuiMessage::Mouse(event)), None);
        self.eye.moved = true;
        self.look();
    }

    fn reply(&mut self, which: usize, how: u8) {
        if self.pending_answers.is_empty() {
            return;
        }
        let which = which % self.pending_answers.len();
        let answer = self.pending_answers.swap_remove(which);
        let hub = self.hubs.iter().position(|hub| *hub == answer.hub).unwrap();
        let asks = self.pending[hub].contains_key(answer.request.id.as_str());
        let reply = match how {
            0..3 if asks => {
                self.pending[hub].remove(answer.request.id.as_str());
                OperatorReply::Decided(decision(&answer, "uid 1000"))
            }
            3 if asks => OperatorReply::EnforcementFailed("no such sandbox".into()),
            4 => OperatorReply::ResultUnknown("connection lost".into()),
            _ if asks => OperatorReply::Failed("an error".into()),
            _ => OperatorReply::NoSuchRequest,
        };
        // No key of the attack quits.
        let effect = self.ui.reply(&answer, reply);
        assert_eq!(effect, None);
    }

    fn press(&mut self, code: KeyCode) {
        let before = self.ui.inbox.rows().map(|row| {
            let up = self.ui.inbox.is_connected(row.hub());
            let open = up && !row.is_forgotten_by_hub() && row.answering().is_none();
            (row.number().get(), (open, row.clone()))
        });
        let before: BTreeMap<_, _> = before.collect();
        let key = KeyEvent::new(code, KeyModifiers::NONE);
        match self.ui.tell(TuiMessage::Key(key)) {
            // The choice of a scope moves nothing.
            None => {
                self.eye.moved |= !matches!(code, KeyCode::Char('a' | 'x' | 'y' | '0'..='6' | 'w'));
            }
            Some(Effect::Sent(answers)) => {
                self.check_answers(code, &answers, &before);
                self.pending_answers.extend(answers);
            }
            Some(effect) => panic!("{code:?} did {effect:?}"),
        }
        self.eye.last_key = Some(self.ms());
        self.look();
    }

    /// Compares the answers of a key with the text that was visible when the key was pressed.
    fn check_answers(
        &self,
        code: KeyCode,
        answers: &[OperatorAnswer],
        before: &BTreeMap<u64, (bool, Row)>,
    ) {
        assert!(!self.eye.typing, "{code:?} is text of the filter");
        let paused = self.eye.last_key.is_none_or(|at| self.ms() - at >= 400);
        assert!(paused, "another key came at {:?}", self.eye.last_key);
        let stood = self.ms() - self.eye.since;
        let mut rows: BTreeMap<u64, Vec<&OperatorAnswer>> = BTreeMap::new();
        for answer in answers {
            assert!(
                !self
                    .pending_answers
                    .iter()
                    .any(|other| other.row == answer.row),
                "answered twice: {answer:?}"
            );
            rows.entry(answer.row.get()).or_default().push(answer);
        }
        match &self.eye.read {
            Read::Nothing => panic!("answered without a question on the screen: {answers:?}"),
            Read::Question(number, words) => {
                let action = match code {
                    KeyCode::Char('a') => Action::Allow,
                    KeyCode::Char('x') => Action::Deny,
                    other => panic!("{other:?} answered"),
                };
                assert_eq!(rows.keys().collect::<Vec<_>>(), [number]);
                let words = &words[usize::from(action == Action::Deny)];
                assert_matches_text(words, &rows[number], &before[number].1, action);
                let needs = if self.eye.brought { 50 } else { 500 };
                assert!(stood >= needs, "{words:?} was visible for {stood} ms");
            }
            Read::Together(action, (many, _), _) => {
                assert_eq!(code, KeyCode::Char('y'));
                if *action == Action::Allow {
                    assert_eq!(
                        self.eye.together.len(),
                        *many,
                        "some were not shown of {:?}",
                        self.eye
                    );
                }
                let stood = self.ms() - self.eye.together_since;
                assert!(stood >= 500, "the questions were visible for {stood} ms");
                for (number, answers) in &rows {
                    let Some(words) = self.eye.together.get(number) else {
                        continue;
                    };
                    assert_matches_text(words, answers, &before[number].1, *action);
                }
                for (number, words) in &self.eye.together {
                    let same = before
                        .get(number)
                        .is_some_and(|(open, row)| *open && *words == effect(words, row, *action));
                    assert_eq!(rows.contains_key(number), same, "{number}: {words}");
                }
            }
        }
    }
}

/// Steps that mostly mark and answer several questions.
fn together() -> impl Strategy<Value = Vec<Step>> {
    let key = prop::sample::select(vec![
        KeyCode::Char('a'),
        KeyCode::Char('x'),
        KeyCode::Char('y'),
        KeyCode::Char('y'),
        KeyCode::Char('y'),
        KeyCode::Char(' '),
        KeyCode::Char('*'),
        KeyCode::Char('2'),
        KeyCode::Char('6'),
        KeyCode::Char('0'),
        KeyCode::PageDown,
        KeyCode::End,
        KeyCode::Esc,
    ]);
    let hub = 0..HUBS.len();
    let step = prop_oneof![
        3 => (hub.clone(), 0..3_u8, 0..3_u8).prop_map(|(h, n, at)| Step::Blocked(h, n, at)),
        1 => (hub.clone(), any::<usize>(), 0..3_u8).prop_map(|(h, q, n)| Step::Named(h, q, n)),
        1 => (hub.clone(), any::<usize>(), 0..OFFERS.len())
            .prop_map(|(h, q, offer)| Step::Offered(h, q, offer)),
        1 => (hub.clone(), any::<usize>()).prop_map(|(h, q)| Step::Withdrawn(h, q)),
        1 => hub.prop_map(Step::Down),
        12 => key.prop_map(Step::Key),
        1 => (0..SIZES.len()).prop_map(Step::Resize),
        6 => prop::sample::select(vec![20, 60, 399, 401, 600]).prop_map(Step::Wait),
    ];
    let asked = (0..HUBS.len()).prop_flat_map(|hub| {
        let names = prop::collection::vec(0..3_u8, 1..8);
        names.prop_map(move |names| {
            let asks = names
                .into_iter()
                .map(move |name| Step::Blocked(hub, name, 0));
            asks.collect::<Vec<_>>()
        })
    });
    let marked = vec![
        Step::Wait(600),
        Step::Key(KeyCode::Char('*')),
        Step::Key(KeyCode::Char('a')),
        Step::Wait(60),
    ];
    (asked, prop::collection::vec(step, 1..40))
        .prop_map(move |(asked, steps)| [asked, marked.clone(), steps].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn confirmed_answers_match_the_dialog(steps in together()) {
        let mut attack = Attack::new();
        for step in &steps {
            attack.step(step);
        }
    }

    #[test]
    fn every_answer_matches_the_screen(steps in steps()) {
        let mut attack = Attack::new();
        for step in &steps {
            attack.step(step);
        }
    }
}
