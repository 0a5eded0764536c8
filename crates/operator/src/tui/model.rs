// SPDX-License-Identifier: Apache-2.0
//! Everything the UI knows, and what each message does to it. No I/O, no clock.

use std::time::Duration;

use crossterm::event::{KeyEvent, MouseEvent};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;
use terok_clearance::{Action, DisplayText};

use super::confirm::Confirm;
use super::guard::{BURST, Shown, TooSoon};
use super::keys::{Command, Mode, Move, Page};
use super::list::{List, step};
use super::log::Log;
use super::sandboxes::Sandboxes;
use super::screen::Screen;
use super::theme::Theme;
use crate::clock::{Now, Zone};
use crate::inbox::{Answer, Change, End, HubId, Inbox, News, Refusal, Reply, RowNumber};
use crate::words::{self, Tone};

/// Everything the UI knows.
#[derive(Debug)]
pub struct Model {
    pub(super) inbox: Inbox,
    pub(super) list: List,
    pub(super) log: Log,
    pub(super) sandboxes: Sandboxes,
    pub(super) mode: Mode,
    pub(super) confirm: Option<Confirm>,
    /// What the screen says that an answer would open.
    pub(super) shown: Option<Shown>,
    /// When the list was last drawn with questions that had come or gone by themselves.
    pub(super) shifted: Option<Duration>,
    /// When a key was last pressed.
    pressed: Option<Duration>,
    pub(super) status: Option<(Tone, String)>,
    pub(super) place: DisplayText,
    pub(super) theme: Theme,
    pub(super) zone: Zone,
    /// How far the page or the details are scrolled, in lines, and how far they can be.
    pub(super) scroll: (usize, usize),
    pub(super) mouse: bool,
    /// Whether every hub that was there at the start has been heard.
    pub(super) settled: bool,
    pub(super) screen: Screen,
    under_way: UnderWay,
    changed: bool,
}

/// The answers that nobody has confirmed yet.
#[derive(Debug, Default)]
struct UnderWay {
    answers: usize,
    /// Whether the person has asked to leave when there are none.
    leaving: bool,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Msg {
    /// A hub, or its connection, has told something.
    News(HubId, News),
    /// Every hub that was there at the start has been heard.
    Settled,
    /// A hub replied to an answer.
    Replied(Answer, Reply),
    /// A key was pressed.
    Key(KeyEvent),
    /// The same, and others came together with it: that is no answer.
    Burst(KeyEvent),
    /// The mouse did something.
    Mouse(MouseEvent),
    /// Text was pasted, which is never taken for keys.
    Paste(String),
    /// The terminal has another size.
    Resized,
    /// The UI goes on after it was stopped.
    Resumed,
    /// It could not be stopped: there is no shell that would let it go on.
    NoShell,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Tell the hubs these answers.
    Answer(Vec<Answer>),
    /// Look for hubs, and draw everything anew.
    Refresh,
    /// Take the mouse, or leave it to the terminal.
    Mouse(bool),
    /// Stop, as a job of the shell.
    Suspend,
    /// End.
    Quit,
    /// End, as Ctrl-C does.
    Interrupt,
}

impl Model {
    /// Returns a model of nothing yet; `place` says where it listens.
    pub fn new(place: &str, theme: Theme, zone: Zone) -> Self {
        Self {
            inbox: Inbox::new(),
            list: List::default(),
            log: Log::default(),
            sandboxes: Sandboxes::default(),
            mode: Mode::Questions,
            confirm: None,
            shown: None,
            shifted: None,
            pressed: None,
            status: None,
            place: DisplayText::new(place),
            theme,
            zone,
            scroll: (0, 0),
            mouse: true,
            settled: false,
            screen: Screen::default(),
            under_way: UnderWay::default(),
            changed: true,
        }
    }

    /// Takes in what happened, and returns what is to be done.
    pub fn update(&mut self, msg: Msg, now: Now) -> Option<Effect> {
        match msg {
            Msg::News(hub, news) => {
                let changes = self.inbox.hear(&hub, news);
                self.take_in(&changes, now);
                None
            }
            Msg::Settled => {
                self.changed |= !std::mem::replace(&mut self.settled, true);
                None
            }
            Msg::Replied(answer, reply) => {
                let changes = self.inbox.settle(&answer, reply);
                self.changed = true;
                self.take_in(&changes, now);
                let UnderWay { answers, leaving } = &mut self.under_way;
                *answers = answers.saturating_sub(1);
                (*leaving && *answers == 0).then_some(Effect::Quit)
            }
            Msg::Key(key) => self.pressed(key, false, now),
            Msg::Burst(key) => self.pressed(key, true, now),
            Msg::Mouse(event) => {
                self.point(event);
                None
            }
            Msg::Paste(text) => {
                self.changed = true;
                if self.mode == Mode::Filter {
                    let typed = text.chars().filter(|c| !c.is_control());
                    let filter = self.list.filter().chars().chain(typed);
                    let filter: String = filter.take(FILTER_LENGTH).collect();
                    self.list.set_filter(&filter, &self.inbox);
                } else {
                    self.say(Tone::Bad, "pasted text is not taken for keys");
                }
                None
            }
            Msg::Resized | Msg::Resumed => {
                if matches!(msg, Msg::Resumed) {
                    self.under_way.leaving = false;
                }
                // Nobody has seen the screen meanwhile.
                self.shown = None;
                if let Some(confirm) = &mut self.confirm {
                    confirm.hidden();
                }
                self.changed = true;
                None
            }
            Msg::NoShell => {
                self.changed = true;
                self.say(Tone::Bad, "there is no shell to go back to");
                None
            }
        }
    }

    /// Takes in a key; `together`, others came with it.
    fn pressed(&mut self, key: KeyEvent, together: bool, now: Now) -> Option<Effect> {
        let command = self.mode.command(key)?;
        self.changed = true;
        self.status = None;
        let before = self.pressed.replace(now.steady);
        let together = together || before.is_some_and(|at| now.steady.saturating_sub(at) < BURST);
        // With marks, it asks only.
        let asks = self.mode == Mode::Questions && !self.list.marked.is_empty();
        let answers =
            command == Command::Confirm || (matches!(command, Command::Answer(_)) && !asks);
        if together && answers {
            let why = "NOT answered: keys came too fast. Press it again";
            self.say(Tone::Bad, why);
            return None;
        }
        self.command(command, now)
    }

    /// Says whether there is something new to draw, and takes it for drawn.
    pub fn takes_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Says whether there is something new to draw.
    pub const fn is_changed(&self) -> bool {
        self.changed
    }

    /// Says whether the mouse is taken, not left to the terminal.
    pub(super) const fn takes_mouse(&self) -> bool {
        self.mouse
    }

    pub(super) fn touch(&mut self) {
        self.changed = true;
    }

    /// Returns how many answers are on their way.
    pub const fn waiting(&self) -> usize {
        self.under_way.answers
    }

    pub(super) fn what_is_under_way(&self) -> String {
        match self.waiting() {
            1 => "waiting for an answer to take effect".to_owned(),
            answers => format!("waiting for {answers} answers to take effect"),
        }
    }

    /// Returns the questions.
    pub const fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// Returns the number of the selected question.
    pub fn selected(&self) -> Option<RowNumber> {
        self.list.selected()
    }

    pub(super) fn say(&mut self, tone: Tone, text: impl Into<String>) {
        self.status = Some((tone, text.into()));
    }

    fn take_in(&mut self, changes: &[Change], now: Now) {
        for change in changes {
            self.changed |= !matches!(change, Change::Synced(_));
            self.sandboxes.take_in(change, &self.inbox);
            match change {
                Change::Asked(number) | Change::Again(number) => {
                    if let Some(row) = self.inbox.row(*number) {
                        self.list.asked(row);
                    }
                }
                Change::Ended(row, end) => {
                    let number = row.number();
                    let ours = row.answering().is_some();
                    let read = self.list.selected() == Some(number);
                    self.list.ended(number);
                    if self.mode == Mode::Details && read {
                        self.mode = Mode::Questions;
                    }
                    match words::told(change) {
                        Some(told) if ours || (read && matches!(end, End::Decided(_))) => {
                            self.outcome(told);
                        }
                        _ if read && !matches!(end, End::Crowded) => {
                            let why = words::why(end);
                            self.say(Tone::Quiet, format!("question {number} is gone: {why}"));
                        }
                        _ => {}
                    }
                }
                Change::Failed { .. } | Change::Unsure { .. } => {
                    if let Some(told) = words::told(change) {
                        self.outcome(told);
                    }
                }
                _ => {}
            }
            self.log.add(change, &self.inbox, now.epoch);
        }
    }

    /// Shows what became of an answer where every window has room for it.
    fn outcome(&mut self, told: words::Told) {
        let head = told.head.map(|head| format!("{head}  "));
        let by = told.by.map(|by| format!("  by {by}"));
        let text = head.unwrap_or_default() + &told.text + &by.unwrap_or_default();
        self.say(told.tone, text);
    }

    fn command(&mut self, command: Command, now: Now) -> Option<Effect> {
        match command {
            Command::Go(to) => self.go(to),
            Command::Answer(action) => return self.answer(action, now),
            Command::Confirm => return self.confirmed(now),
            Command::Mark => self.list.mark(),
            Command::MarkAll => self.list.mark_all(),
            Command::Open if self.list.selected().is_some() => self.turn_to(Mode::Details),
            Command::Filter => self.mode = Mode::Filter,
            Command::KeepFilter => self.mode = Mode::Questions,
            Command::Erase => {
                let mut filter = self.list.filter().to_owned();
                filter.pop();
                self.list.set_filter(&filter, &self.inbox);
            }
            Command::EraseAll => self.list.set_filter("", &self.inbox),
            Command::Type(c) if self.list.filter().chars().count() < FILTER_LENGTH => {
                let filter = format!("{}{c}", self.list.filter());
                self.list.set_filter(&filter, &self.inbox);
            }
            Command::Open | Command::Type(_) => {}
            Command::Help => self.turn_to(Mode::Page(Page::Help)),
            Command::Log => {
                self.turn_to(Mode::Page(Page::Log));
                self.scroll.0 = usize::MAX;
            }
            Command::Sandboxes => self.turn_to(Mode::Page(Page::Sandboxes)),
            Command::Back => self.back(),
            Command::Refresh => return Some(Effect::Refresh),
            Command::Mouse => {
                self.mouse = !self.mouse;
                self.say(
                    Tone::Quiet,
                    if self.mouse {
                        "a click selects a question; it never answers one"
                    } else {
                        "the mouse is the terminal's"
                    },
                );
                return Some(Effect::Mouse(self.mouse));
            }
            Command::Quit if self.waiting() == 0 || self.under_way.leaving => {
                return Some(Effect::Quit);
            }
            Command::Quit => {
                self.under_way.leaving = true;
                let waiting = self.what_is_under_way();
                self.say(Tone::Quiet, format!("{waiting}; q leaves at once"));
            }
            Command::Interrupt => return Some(Effect::Interrupt),
            Command::Suspend => return Some(Effect::Suspend),
            Command::Unknown => self.say(Tone::Quiet, "? shows the keys"),
        }
        None
    }

    fn turn_to(&mut self, mode: Mode) {
        self.mode = mode;
        self.scroll = (0, 0);
    }

    fn back(&mut self) {
        match self.mode {
            Mode::Questions if !self.list.filter().is_empty() => {
                self.list.set_filter("", &self.inbox);
            }
            Mode::Questions => self.list.marked.clear(),
            Mode::Filter => {
                self.list.set_filter("", &self.inbox);
                self.mode = Mode::Questions;
            }
            Mode::Confirm => {
                self.confirm = None;
                self.mode = Mode::Questions;
                self.say(Tone::Quiet, "nothing was answered");
            }
            Mode::Details | Mode::Page(_) => self.mode = Mode::Questions,
        }
    }

    pub(super) fn go(&mut self, to: Move) {
        match self.mode {
            Mode::Questions | Mode::Filter => self.list.go(to),
            Mode::Confirm => {
                if let Some(confirm) = &mut self.confirm {
                    confirm.go(to);
                }
            }
            Mode::Details | Mode::Page(_) => {
                let (at, last) = self.scroll;
                let window = self.screen.window;
                self.scroll.0 = step(at.min(last), to, window, last);
            }
        }
    }

    fn answer(&mut self, action: Action, now: Now) -> Option<Effect> {
        self.list.tidy();
        if self.mode == Mode::Questions && !self.list.marked.is_empty() {
            let mut confirm = Confirm::new(action);
            let rows = self.list.marked.iter();
            for row in rows.filter_map(|number| self.inbox.row(*number)) {
                confirm.add(row);
            }
            self.confirm = Some(confirm);
            self.mode = Mode::Confirm;
            return None;
        }
        let Some(row) = self.list.selected().and_then(|row| self.inbox.row(row)) else {
            self.say(Tone::Quiet, "nothing is asked");
            return None;
        };
        let number = row.number();
        let opens = words::opens(row);
        let shown = self.shown.as_mut().filter(|shown| shown.number == number);
        let accepted = shown.map_or(Err(TooSoon::JustAppeared), |shown| {
            shown.accepts(&opens, now.steady)
        });
        let refused = match accepted {
            Ok(()) => match self.inbox.answer(number, action) {
                Ok(answers) => return Some(self.send(answers)),
                Err(refusal) => refused(&refusal),
            },
            Err(TooSoon::JustAppeared) => {
                format!("question {number} has only just come here. Read it, then press again")
            }
            Err(TooSoon::Changed) => {
                format!("question {number} has just changed. Read it, then press again")
            }
            Err(TooSoon::NoRoom) => {
                if self.mode == Mode::Details {
                    format!("PgDn shows the rest of question {number}, Home its start")
                } else {
                    format!("Enter shows all of question {number}: there is no room here")
                }
            }
        };
        self.say(Tone::Bad, format!("NOT answered: {refused}"));
        None
    }

    fn send(&mut self, answers: Vec<Answer>) -> Effect {
        self.under_way.answers = self.waiting().saturating_add(answers.len());
        self.under_way.leaving = false;
        Effect::Answer(answers)
    }

    fn confirmed(&mut self, now: Now) -> Option<Effect> {
        let confirm = self.confirm.as_ref()?;
        if let Err(why) = confirm.accepts(now.steady) {
            self.say(Tone::Bad, why);
            return None;
        }
        let confirm = self.confirm.take()?;
        self.mode = Mode::Questions;
        let mut answers = Vec::new();
        let (mut sent, mut changed, mut refusals) = (0_usize, 0_usize, Vec::new());
        for (number, opens) in confirm.rows() {
            let now = self.inbox.row(number).map(words::opens);
            if now.is_some_and(|now| now != opens) {
                changed = changed.saturating_add(1);
                continue;
            }
            match self.inbox.answer(number, confirm.action()) {
                Ok(more) => {
                    answers.extend(more);
                    self.list.marked.remove(&number);
                    sent = sent.saturating_add(1);
                }
                Err(refusal) => refusals.push(refusal),
            }
        }
        if changed > 0 || !refusals.is_empty() {
            let changed = match changed {
                0 => String::new(),
                many => format!("; {many} NOT: changed meanwhile, still marked"),
            };
            let first = refusals.first().map(refused);
            let refusals = first.map_or_else(String::new, |first| {
                format!("; {} NOT: {first}", refusals.len())
            });
            let text = format!("{sent} answered{changed}{refusals}");
            self.say(Tone::Bad, text);
        }
        (!answers.is_empty()).then(|| self.send(answers))
    }

    /// Lays the screen out for an area: what is drawn next, and thereby what a key answers.
    pub fn lay_out(&mut self, area: Rect, now: Now) {
        Screen::lay_out(self, area, now.steady);
    }
}

/// The longest filter.
const FILTER_LENGTH: usize = 200;

fn refused(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Ended(number, end) => {
            format!("question {number} is gone: {}", words::why(end))
        }
        other => other.to_string(),
    }
}

impl Widget for &Model {
    fn render(self, area: Rect, buf: &mut Buffer) {
        self.screen.paint(area, buf);
    }
}
