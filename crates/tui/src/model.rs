// SPDX-License-Identifier: Apache-2.0
//! Everything the UI knows, and what each message does to it. No I/O, no clock.

use std::time::Duration;

use crossterm::event::{KeyEvent, MouseEvent};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::widgets::Widget;
use terok_clearance::{Action, DisplayText};

use crate::activity_log::ActivityLog;
use crate::answer_guard::{AnswerGuard, KeyRefusal, MIN_KEY_INTERVAL};
use crate::confirm::ConfirmDialog;
use crate::keys::{CursorMove, InfoPage, TuiCommand, ViewMode};
use crate::layout::ScreenLayout;
use crate::sandbox_table::SandboxTable;
use crate::selection::{QuestionSelection, target_index};
use crate::theme::Theme;
use operator::clock::{ClockReading, TimeZone};
use operator::inbox::{
    HubId, Inbox, InboxChange, InboxEvent, OperatorAnswer, OperatorReply, RowEnd, RowNumber,
    RowRefusal,
};
use operator::phrases::{self, MessageTone};

/// Everything the UI knows.
#[derive(Debug)]
pub struct TuiModel {
    pub(crate) inbox: Inbox,
    pub(crate) selection: QuestionSelection,
    pub(crate) log: ActivityLog,
    pub(crate) sandboxes: SandboxTable,
    pub(crate) mode: ViewMode,
    pub(crate) confirm: Option<ConfirmDialog>,
    /// What the screen says that an answer would open.
    pub(crate) answer_guard: Option<AnswerGuard>,
    /// When the list was last drawn with questions that had come or gone by themselves.
    pub(crate) list_changed_at: Option<Duration>,
    /// When a key was last pressed.
    last_key_at: Option<Duration>,
    pub(crate) status: Option<(MessageTone, String)>,
    pub(crate) hub_source: DisplayText,
    pub(crate) theme: Theme,
    pub(crate) zone: TimeZone,
    /// How far the page or the details are scrolled, in lines, and how far they can be.
    pub(crate) scroll: (usize, usize),
    pub(crate) mouse_captured: bool,
    /// Whether every hub that was there at the start has been heard.
    pub(crate) hubs_synced: bool,
    pub(crate) layout: ScreenLayout,
    in_flight: AnswersInFlight,
    needs_redraw: bool,
}

/// The answers that nobody has confirmed yet.
#[derive(Debug, Default)]
struct AnswersInFlight {
    count: usize,
    /// Whether the person has asked to leave when there are none.
    quit_requested: bool,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum TuiMessage {
    /// A hub, or its connection, has told something.
    InboxEvent(HubId, InboxEvent),
    /// Every hub that was there at the start has been heard.
    HubsSynced,
    /// A hub replied to an answer.
    Replied(OperatorAnswer, OperatorReply),
    /// A key was pressed.
    Key(KeyEvent),
    /// The same, and others came together with it: that is no answer.
    KeyBurst(KeyEvent),
    /// The mouse did something.
    Mouse(MouseEvent),
    /// Text was pasted, which is never taken for keys.
    Paste(String),
    /// The terminal has another size.
    Resized,
    /// The UI goes on after it was stopped.
    Resumed,
    /// It could not be stopped: there is no shell that would let it go on.
    NoJobControl,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TuiEffect {
    /// Tell the hubs these answers.
    SendAnswers(Vec<OperatorAnswer>),
    /// Look for hubs, and draw everything anew.
    Refresh,
    /// Take the mouse, or leave it to the terminal.
    CaptureMouse(bool),
    /// Stop, as a job of the shell.
    Suspend,
    /// End.
    Quit,
    /// End, as Ctrl-C does.
    Interrupt,
}

impl TuiModel {
    /// Returns a model of nothing yet; `place` says where it listens.
    pub fn new(place: &str, theme: Theme, zone: TimeZone) -> Self {
        Self {
            inbox: Inbox::new(),
            selection: QuestionSelection::default(),
            log: ActivityLog::default(),
            sandboxes: SandboxTable::default(),
            mode: ViewMode::Questions,
            confirm: None,
            answer_guard: None,
            list_changed_at: None,
            last_key_at: None,
            status: None,
            hub_source: DisplayText::new(place),
            theme,
            zone,
            scroll: (0, 0),
            mouse_captured: true,
            hubs_synced: false,
            layout: ScreenLayout::default(),
            in_flight: AnswersInFlight::default(),
            needs_redraw: true,
        }
    }

    /// Takes in what happened, and returns what is to be done.
    pub fn update(&mut self, msg: TuiMessage, now: ClockReading) -> Option<TuiEffect> {
        match msg {
            TuiMessage::InboxEvent(hub, news) => {
                let changes = self.inbox.apply_event(&hub, news);
                self.apply_changes(&changes, now);
                None
            }
            TuiMessage::HubsSynced => {
                self.needs_redraw |= !std::mem::replace(&mut self.hubs_synced, true);
                None
            }
            TuiMessage::Replied(answer, reply) => {
                let changes = self.inbox.apply_reply(&answer, reply);
                self.needs_redraw = true;
                self.apply_changes(&changes, now);
                let AnswersInFlight {
                    count: answers,
                    quit_requested: leaving,
                } = &mut self.in_flight;
                *answers = answers.saturating_sub(1);
                (*leaving && *answers == 0).then_some(TuiEffect::Quit)
            }
            TuiMessage::Key(key) => self.handle_key(key, false, now),
            TuiMessage::KeyBurst(key) => self.handle_key(key, true, now),
            TuiMessage::Mouse(event) => {
                self.handle_mouse(event);
                None
            }
            TuiMessage::Paste(text) => {
                self.needs_redraw = true;
                if self.mode == ViewMode::Filter {
                    let typed = text.chars().filter(|c| !c.is_control());
                    let filter = self.selection.filter().chars().chain(typed);
                    let filter: String = filter.take(MAX_FILTER_CHARS).collect();
                    self.selection.set_filter(&filter, &self.inbox);
                } else {
                    self.set_status(MessageTone::Bad, "pasted text is not taken for keys");
                }
                None
            }
            TuiMessage::Resized | TuiMessage::Resumed => {
                if matches!(msg, TuiMessage::Resumed) {
                    self.in_flight.quit_requested = false;
                }
                // Nobody has seen the screen meanwhile.
                self.answer_guard = None;
                if let Some(confirm) = &mut self.confirm {
                    confirm.reset_shown_time();
                }
                self.needs_redraw = true;
                None
            }
            TuiMessage::NoJobControl => {
                self.needs_redraw = true;
                self.set_status(MessageTone::Bad, "there is no shell to go back to");
                None
            }
        }
    }

    /// Takes in a key; `together`, others came with it.
    fn handle_key(
        &mut self,
        key: KeyEvent,
        together: bool,
        now: ClockReading,
    ) -> Option<TuiEffect> {
        let command = self.mode.command_for(key)?;
        self.needs_redraw = true;
        self.status = None;
        let before = self.last_key_at.replace(now.monotonic);
        let together = together
            || before.is_some_and(|at| now.monotonic.saturating_sub(at) < MIN_KEY_INTERVAL);
        // With marks, it asks only.
        let asks = self.mode == ViewMode::Questions && !self.selection.marked.is_empty();
        let answers =
            command == TuiCommand::Confirm || (matches!(command, TuiCommand::Answer(_)) && !asks);
        if together && answers {
            let why = "NOT answered: keys came too fast. Press it again";
            self.set_status(MessageTone::Bad, why);
            return None;
        }
        self.run_command(command, now)
    }

    /// Says whether there is something new to draw, and takes it for drawn.
    pub fn take_needs_redraw(&mut self) -> bool {
        std::mem::take(&mut self.needs_redraw)
    }

    /// Says whether there is something new to draw.
    pub const fn needs_redraw(&self) -> bool {
        self.needs_redraw
    }

    /// Says whether the mouse is taken, not left to the terminal.
    pub(crate) const fn captures_mouse(&self) -> bool {
        self.mouse_captured
    }

    pub(crate) fn request_redraw(&mut self) {
        self.needs_redraw = true;
    }

    /// Returns how many answers are on their way.
    pub const fn in_flight_count(&self) -> usize {
        self.in_flight.count
    }

    pub(crate) fn in_flight_text(&self) -> String {
        match self.in_flight_count() {
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
        self.selection.selected()
    }

    pub(crate) fn set_status(&mut self, tone: MessageTone, text: impl Into<String>) {
        self.status = Some((tone, text.into()));
    }

    fn apply_changes(&mut self, changes: &[InboxChange], now: ClockReading) {
        for change in changes {
            self.needs_redraw |= !matches!(change, InboxChange::Synced(_));
            self.sandboxes.apply_change(change, &self.inbox);
            match change {
                InboxChange::Added(number) | InboxChange::Updated(number) => {
                    if let Some(row) = self.inbox.row(*number) {
                        self.selection.add_row(row);
                    }
                }
                InboxChange::Ended(row, end) => {
                    let number = row.number();
                    let ours = row.answering().is_some();
                    let read = self.selection.selected() == Some(number);
                    self.selection.mark_ended(number);
                    if self.mode == ViewMode::Details && read {
                        self.mode = ViewMode::Questions;
                    }
                    match phrases::describe_change(change) {
                        Some(told) if ours || (read && matches!(end, RowEnd::Decided(_))) => {
                            self.show_outcome(told);
                        }
                        _ if read && !matches!(end, RowEnd::Evicted) => {
                            let why = phrases::describe_row_end(end);
                            self.set_status(
                                MessageTone::Quiet,
                                format!("question {number} is gone: {why}"),
                            );
                        }
                        _ => {}
                    }
                }
                InboxChange::Failed { .. } | InboxChange::ResultUnknown { .. } => {
                    if let Some(told) = phrases::describe_change(change) {
                        self.show_outcome(told);
                    }
                }
                _ => {}
            }
            self.log.record(change, &self.inbox, now.epoch_micros);
        }
    }

    /// Shows what became of an answer where every window has room for it.
    fn show_outcome(&mut self, told: phrases::ChangeMessage) {
        let head = told.label.map(|head| format!("{head}  "));
        let by = told.decided_by.map(|by| format!("  by {by}"));
        let text = head.unwrap_or_default() + &told.text + &by.unwrap_or_default();
        self.set_status(told.tone, text);
    }

    fn run_command(&mut self, command: TuiCommand, now: ClockReading) -> Option<TuiEffect> {
        match command {
            TuiCommand::Navigate(to) => self.navigate(to),
            TuiCommand::Answer(action) => return self.answer(action, now),
            TuiCommand::Confirm => return self.answer_marked(now),
            TuiCommand::ToggleMark => self.selection.toggle_mark(),
            TuiCommand::ToggleMarkAll => self.selection.toggle_all_marks(),
            TuiCommand::ShowDetails if self.selection.selected().is_some() => {
                self.switch_mode(ViewMode::Details);
            }
            TuiCommand::EditFilter => self.mode = ViewMode::Filter,
            TuiCommand::KeepFilter => self.mode = ViewMode::Questions,
            TuiCommand::DeleteChar => {
                let mut filter = self.selection.filter().to_owned();
                filter.pop();
                self.selection.set_filter(&filter, &self.inbox);
            }
            TuiCommand::ClearFilter => self.selection.set_filter("", &self.inbox),
            TuiCommand::InsertChar(c)
                if self.selection.filter().chars().count() < MAX_FILTER_CHARS =>
            {
                let filter = format!("{}{c}", self.selection.filter());
                self.selection.set_filter(&filter, &self.inbox);
            }
            TuiCommand::ShowDetails | TuiCommand::InsertChar(_) => {}
            TuiCommand::ShowHelp => self.switch_mode(ViewMode::Page(InfoPage::Help)),
            TuiCommand::ShowLog => {
                self.switch_mode(ViewMode::Page(InfoPage::Log));
                self.scroll.0 = usize::MAX;
            }
            TuiCommand::ShowSandboxes => self.switch_mode(ViewMode::Page(InfoPage::Sandboxes)),
            TuiCommand::Back => self.go_back(),
            TuiCommand::Refresh => return Some(TuiEffect::Refresh),
            TuiCommand::ToggleMouse => {
                self.mouse_captured = !self.mouse_captured;
                self.set_status(
                    MessageTone::Quiet,
                    if self.mouse_captured {
                        "a click selects a question; it never answers one"
                    } else {
                        "the mouse is the terminal's"
                    },
                );
                return Some(TuiEffect::CaptureMouse(self.mouse_captured));
            }
            TuiCommand::Quit if self.in_flight_count() == 0 || self.in_flight.quit_requested => {
                return Some(TuiEffect::Quit);
            }
            TuiCommand::Quit => {
                self.in_flight.quit_requested = true;
                let waiting = self.in_flight_text();
                self.set_status(MessageTone::Quiet, format!("{waiting}; q leaves at once"));
            }
            TuiCommand::Interrupt => return Some(TuiEffect::Interrupt),
            TuiCommand::Suspend => return Some(TuiEffect::Suspend),
            TuiCommand::Unbound => self.set_status(MessageTone::Quiet, "? shows the keys"),
        }
        None
    }

    fn switch_mode(&mut self, mode: ViewMode) {
        self.mode = mode;
        self.scroll = (0, 0);
    }

    fn go_back(&mut self) {
        match self.mode {
            ViewMode::Questions if !self.selection.filter().is_empty() => {
                self.selection.set_filter("", &self.inbox);
            }
            ViewMode::Questions => self.selection.marked.clear(),
            ViewMode::Filter => {
                self.selection.set_filter("", &self.inbox);
                self.mode = ViewMode::Questions;
            }
            ViewMode::Confirm => {
                self.confirm = None;
                self.mode = ViewMode::Questions;
                self.set_status(MessageTone::Quiet, "nothing was answered");
            }
            ViewMode::Details | ViewMode::Page(_) => self.mode = ViewMode::Questions,
        }
    }

    pub(crate) fn navigate(&mut self, to: CursorMove) {
        match self.mode {
            ViewMode::Questions | ViewMode::Filter => self.selection.navigate(to),
            ViewMode::Confirm => {
                if let Some(confirm) = &mut self.confirm {
                    confirm.navigate(to);
                }
            }
            ViewMode::Details | ViewMode::Page(_) => {
                let (at, last) = self.scroll;
                let window = self.layout.page_height;
                self.scroll.0 = target_index(at.min(last), to, window, last);
            }
        }
    }

    fn answer(&mut self, action: Action, now: ClockReading) -> Option<TuiEffect> {
        self.selection.remove_ended();
        if self.mode == ViewMode::Questions && !self.selection.marked.is_empty() {
            let mut confirm = ConfirmDialog::new(action);
            let rows = self.selection.marked.iter();
            for row in rows.filter_map(|number| self.inbox.row(*number)) {
                confirm.add(row);
            }
            self.confirm = Some(confirm);
            self.mode = ViewMode::Confirm;
            return None;
        }
        let Some(row) = self
            .selection
            .selected()
            .and_then(|row| self.inbox.row(row))
        else {
            self.set_status(MessageTone::Quiet, "nothing is asked");
            return None;
        };
        let number = row.number();
        let opens = phrases::describe_allow_effect(row);
        let shown = self
            .answer_guard
            .as_mut()
            .filter(|shown| shown.number == number);
        let accepted = shown.map_or(Err(KeyRefusal::JustAppeared), |shown| {
            shown.check_key(&opens, now.monotonic)
        });
        let refused = match accepted {
            Ok(()) => match self.inbox.answer(number, action) {
                Ok(answers) => return Some(self.send_answers(answers)),
                Err(refusal) => refusal_text(&refusal),
            },
            Err(KeyRefusal::JustAppeared) => {
                format!("question {number} has only just come here. Read it, then press again")
            }
            Err(KeyRefusal::Changed) => {
                format!("question {number} has just changed. Read it, then press again")
            }
            Err(KeyRefusal::NotFullyShown) => {
                if self.mode == ViewMode::Details {
                    format!("PgDn shows the rest of question {number}, Home its start")
                } else {
                    format!("Enter shows all of question {number}: there is no room here")
                }
            }
        };
        self.set_status(MessageTone::Bad, format!("NOT answered: {refused}"));
        None
    }

    fn send_answers(&mut self, answers: Vec<OperatorAnswer>) -> TuiEffect {
        self.in_flight.count = self.in_flight_count().saturating_add(answers.len());
        self.in_flight.quit_requested = false;
        TuiEffect::SendAnswers(answers)
    }

    fn answer_marked(&mut self, now: ClockReading) -> Option<TuiEffect> {
        let confirm = self.confirm.as_ref()?;
        if let Err(why) = confirm.check_ready(now.monotonic) {
            self.set_status(MessageTone::Bad, why);
            return None;
        }
        let confirm = self.confirm.take()?;
        self.mode = ViewMode::Questions;
        let mut answers = Vec::new();
        let (mut sent, mut changed, mut refusals) = (0_usize, 0_usize, Vec::new());
        for (number, opens) in confirm.rows() {
            let now = self.inbox.row(number).map(phrases::describe_allow_effect);
            if now.is_some_and(|now| now != opens) {
                changed = changed.saturating_add(1);
                continue;
            }
            match self.inbox.answer(number, confirm.action()) {
                Ok(more) => {
                    answers.extend(more);
                    self.selection.marked.remove(&number);
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
            let first = refusals.first().map(refusal_text);
            let refusals = first.map_or_else(String::new, |first| {
                format!("; {} NOT: {first}", refusals.len())
            });
            let text = format!("{sent} answered{changed}{refusals}");
            self.set_status(MessageTone::Bad, text);
        }
        (!answers.is_empty()).then(|| self.send_answers(answers))
    }

    /// Lays the screen out for an area: what is drawn next, and thereby what a key answers.
    pub fn lay_out(&mut self, area: Rect, now: ClockReading) {
        ScreenLayout::lay_out(self, area, now.monotonic);
    }
}

/// The longest filter.
const MAX_FILTER_CHARS: usize = 200;

fn refusal_text(refusal: &RowRefusal) -> String {
    match refusal {
        RowRefusal::Ended(number, end) => {
            format!(
                "question {number} is gone: {}",
                phrases::describe_row_end(end)
            )
        }
        other => other.to_string(),
    }
}

impl Widget for &TuiModel {
    fn render(self, area: Rect, buf: &mut Buffer) {
        self.layout.paint(area, buf);
    }
}
