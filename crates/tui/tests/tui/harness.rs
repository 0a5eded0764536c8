// SPDX-License-Identifier: Apache-2.0
//! A user interface with a fake inbox, terminal and clock.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use operator::inbox::{
    HubId, Inbox, InboxChange, InboxEvent, OperatorAnswer, OperatorReply, RowNumber,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Cell;
use serde_json::{Value, json};
use terok_clearance::client::ProtocolVersion;
use terok_clearance::wire::clearance2::{Event, ListedRule, Request};
use terok_clearance::{Action, Decision, RuleLifetime, ShieldState};
use terok_clearance_tui::{
    ClockReading, ScreenLayout, SessionView, Theme, TimeZone, TuiEffect, TuiMessage, TuiModel,
};

/// 2026-11-22 12:42:07 UTC, in microseconds.
pub(crate) const NOON: u64 = 1_795_351_327_000_000;

/// The effect of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Answers were sent.
    Sent(Vec<OperatorAnswer>),
    /// Another effect.
    Ui(TuiEffect),
}

/// A user interface with an inbox, a terminal and a clock.
pub(crate) struct TestUi {
    pub(crate) model: TuiModel,
    pub(crate) inbox: Inbox,
    /// Number of answers without a reply.
    pub(crate) unanswered: usize,
    /// The hubs that were asked for their rules.
    pub(crate) listings: Vec<HubId>,
    is_synced: bool,
    terminal: Terminal<TestBackend>,
    pub(crate) clock: Duration,
}

/// The default hub.
pub(crate) fn web() -> HubId {
    hub("web")
}

pub(crate) fn hub(name: &str) -> HubId {
    HubId::new(Path::new(&format!(
        "/run/user/1000/terok/clearance/{name}/hub.sock"
    )))
}

pub(crate) fn request(json: &str) -> Arc<Request> {
    Arc::new(serde_json::from_str(json).unwrap())
}

/// Returns question `n` of sandbox `web`, about the name `name`.
pub(crate) fn asks(n: u64, name: &str) -> Arc<Request> {
    asks_at(n, name, "203.0.113.7")
}

pub(crate) fn asks_at(n: u64, name: &str, address: &str) -> Arc<Request> {
    let at = NOON + n * 1_000_000;
    request(&format!(
        r#"{{"id": "web:{n}", "container": "web", "dest": "{name}", "address": "{address}",
            "port": 443, "protocol": "tcp", "domain": "{name}",
            "scope": {{"dest": "{name}", "port": 443, "protocol": "tcp", "keep": "sandbox"}},
            "process": {{"pid": 4711, "uid": 1000, "name": "curl",
                         "command": ["curl", "-sS", "https://{name}/"]}},
            "dossier": {{"project": "warp", "task": "build-42", "name": "web"}},
            "first_seen": {at}, "last_seen": {at}, "count": 1}}"#
    ))
}

/// The lifetimes of a hub with every kind of rule.
pub(crate) const LIFETIMES: [RuleLifetime; 4] = [
    RuleLifetime::Once,
    RuleLifetime::Sandbox,
    RuleLifetime::Project,
    RuleLifetime::Always,
];

/// Returns the question with an offer of every lifetime and of these wider names.
pub(crate) fn offering(mut question: Arc<Request>, wider: &[&str]) -> Arc<Request> {
    let offers = Arc::make_mut(&mut question);
    offers.lifetimes = LIFETIMES.to_vec();
    offers.wider = wider.iter().map(|name| name.parse().unwrap()).collect();
    question
}

/// Returns a rule of a hub, with these changes.
pub(crate) fn rule(name: &str, changes: Value) -> ListedRule {
    let mut rule = json!({
        "rule": name, "action": "allow", "dest": "registry.npmjs.org:443/tcp", "keep": "sandbox",
        "origin": "decision", "origin_name": "web:1", "by": "uid 1000 pid 812 (terok-clearance)",
        "since": NOON - 720_000_000, "uses": 12, "last_used": NOON - 125_000_000, "open": 3,
    });
    let Value::Object(changes) = changes else {
        panic!("{changes} is no object");
    };
    rule.as_object_mut().unwrap().extend(changes);
    serde_json::from_value(rule).unwrap()
}

impl TestUi {
    /// Returns a user interface without hubs.
    pub(crate) fn new(width: u16, height: u16) -> Self {
        let theme = Theme {
            color: true,
            unicode: true,
        };
        Self::with(theme, width, height)
    }

    pub(crate) fn with(theme: Theme, width: u16, height: u16) -> Self {
        let mut ui = Self {
            model: TuiModel::new("/run/user/1000", theme, TimeZone::default()),
            inbox: Inbox::new(),
            unanswered: 0,
            listings: Vec::new(),
            is_synced: false,
            terminal: Terminal::new(TestBackend::new(width, height)).unwrap(),
            clock: Duration::ZERO,
        };
        ui.draw();
        ui
    }

    /// Returns a user interface with one synced hub.
    pub(crate) fn up(width: u16, height: u16) -> Self {
        let theme = Theme {
            color: true,
            unicode: true,
        };
        Self::up_with(theme, width, height)
    }

    pub(crate) fn up_with(theme: Theme, width: u16, height: u16) -> Self {
        let mut ui = Self::with(theme, width, height);
        ui.news(InboxEvent::Up(ProtocolVersion::Clearance2));
        ui.says(Event::Synced);
        ui.sync();
        ui.draw();
        ui
    }

    pub(crate) fn now(&self) -> ClockReading {
        let passed = u64::try_from(self.clock.as_micros()).unwrap();
        ClockReading {
            wall_time: terok_clearance::Timestamp::from_micros(NOON + passed),
            monotonic: self.clock,
        }
    }

    /// Draws, then lets time pass.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.draw();
        self.clock += Duration::from_millis(ms);
    }

    /// Applies a message, and performs its effect as the event loop does.
    pub(crate) fn tell(&mut self, msg: TuiMessage) -> Option<Effect> {
        let now = self.now();
        let view = SessionView {
            inbox: &self.inbox,
            unanswered: self.unanswered,
            is_synced: self.is_synced,
        };
        Some(match self.model.update(msg, view, now)? {
            TuiEffect::Answer { rows, action } => {
                let answers = |(row, scope)| self.inbox.answer_with(row, action, &scope).unwrap();
                let answers: Vec<_> = rows.into_iter().flat_map(answers).collect();
                self.unanswered += answers.len();
                Effect::Sent(answers)
            }
            TuiEffect::ListRules(hubs) => {
                self.listings.extend(hubs);
                return None;
            }
            other => Effect::Ui(other),
        })
    }

    fn change(&mut self, changes: Vec<InboxChange>) -> Option<Effect> {
        self.tell(TuiMessage::Changed(changes))
    }

    /// Marks the session as synced.
    pub(crate) fn sync(&mut self) {
        self.is_synced = true;
        assert_eq!(self.change(Vec::new()), None);
    }

    /// Applies the reply of a hub to an answer.
    pub(crate) fn reply(
        &mut self,
        answer: &OperatorAnswer,
        reply: OperatorReply,
    ) -> Option<Effect> {
        self.unanswered -= 1;
        let changes = self.inbox.apply_reply(answer, reply);
        self.change(changes)
    }

    /// Applies a reply that an answer took effect.
    pub(crate) fn confirm(&mut self, answer: &OperatorAnswer) -> Option<Effect> {
        let decision = decision(answer, "uid 1000");
        self.reply(answer, OperatorReply::Decided(decision))
    }

    pub(crate) fn news(&mut self, news: InboxEvent) {
        self.news_of(&web(), news);
    }

    pub(crate) fn news_of(&mut self, hub: &HubId, news: InboxEvent) {
        let changes = self.inbox.apply_event(hub, news);
        assert_eq!(self.change(changes), None);
    }

    pub(crate) fn says(&mut self, event: Event) {
        self.news(InboxEvent::Received(event));
    }

    pub(crate) fn asks(&mut self, request: &Arc<Request>) {
        self.says(Event::Pending(Arc::clone(request)));
    }

    pub(crate) fn shield(&mut self, container: &str, state: ShieldState) {
        let container = container.parse().unwrap();
        self.says(Event::Shield { container, state });
    }

    /// Applies the reply of a hub with its rules.
    pub(crate) fn lists(&mut self, hub: &HubId, rules: Vec<ListedRule>) {
        let listed = TuiMessage::RulesListed(hub.clone(), Ok(rules));
        assert_eq!(self.tell(listed), None);
    }

    /// Presses a key, without drawing.
    pub(crate) fn press(&mut self, code: KeyCode) -> Option<Effect> {
        let key = KeyEvent::new(code, KeyModifiers::NONE);
        self.tell(TuiMessage::Key(key))
    }

    /// Types a text slowly: after each key, the screen is drawn and read.
    pub(crate) fn types(&mut self, keys: &str) -> Option<Effect> {
        let mut effect = None;
        for c in keys.chars() {
            effect = self.press(KeyCode::Char(c));
            self.wait(600);
        }
        effect
    }

    pub(crate) fn click(&mut self, row: u16) {
        let effect = self.tell(TuiMessage::Mouse(MouseEvent {
            kind: MouseEventKind::Down(MouseButton::Left),
            column: 10,
            row,
            modifiers: KeyModifiers::NONE,
        }));
        assert_eq!(effect, None);
    }

    pub(crate) fn resize(&mut self, width: u16, height: u16) {
        self.terminal.backend_mut().resize(width, height);
        self.tell(TuiMessage::Resized);
        self.draw();
    }

    pub(crate) fn draw(&mut self) {
        let (model, inbox) = (&self.model, &self.inbox);
        let view = SessionView {
            inbox,
            unanswered: self.unanswered,
            is_synced: self.is_synced,
        };
        let mut drawn = None;
        self.terminal
            .draw(|frame| {
                let layout = ScreenLayout::new(model, view, frame.area());
                frame.render_widget(&layout, frame.area());
                drawn = Some(layout.into_drawn());
            })
            .unwrap();
        assert_eq!(self.tell(TuiMessage::Drawn(drawn.unwrap())), None);
    }

    /// Draws, and returns the screen as text without trailing spaces.
    pub(crate) fn screen(&mut self) -> String {
        self.draw();
        let buffer = self.terminal.backend().buffer();
        let width = usize::from(buffer.area.width);
        let cells: Vec<_> = buffer.content().iter().map(Cell::symbol).collect();
        let lines = cells
            .chunks(width)
            .map(|line| line.concat().trim_end().to_owned());
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn cells(&self) -> &[Cell] {
        self.terminal.backend().buffer().content()
    }

    /// Draws, and returns the status line.
    pub(crate) fn status(&mut self) -> String {
        let screen = self.screen();
        let line = screen.lines().rev().nth(1).unwrap();
        line.trim().to_owned()
    }

    pub(crate) fn selected(&self) -> Option<u64> {
        self.model.selected().map(RowNumber::get)
    }
}

/// Returns the answers of an effect, which must have some.
pub(crate) fn answers(effect: Option<Effect>) -> Vec<OperatorAnswer> {
    match effect {
        Some(Effect::Sent(answers)) => answers,
        other => panic!("no answers: {other:?}"),
    }
}

pub(crate) fn decision(answer: &OperatorAnswer, by: &str) -> Decision {
    Decision {
        request: answer.request.id.clone(),
        container: answer.request.container.clone(),
        dest: answer.request.dest.clone(),
        action: answer.action.into(),
        scope: Some(answer.scope.clone()),
        by: by.into(),
        at: terok_clearance::Timestamp::from_micros(NOON),
        ok: true,
        reason: None,
    }
}

pub(crate) const ALLOW: Action = Action::Allow;
