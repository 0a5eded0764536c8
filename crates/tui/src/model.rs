// SPDX-License-Identifier: Apache-2.0
//! The state of the user interface, and the effect of each message on it. No I/O, no clock.

mod answering;
mod commands;
mod messages;
mod rules;

use std::collections::BTreeSet;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent};
use operator::ScopeChoice;
use operator::answer_guard::{AnswerGuard, KeyBurstDetector, ListGuard};
use operator::clock::{ClockReading, TimeZone};
use operator::inbox::{InboxChange, RowEnd, RowNumber};
use operator::phrases::{self, MessageTone};
use terok_clearance::{Action, DisplayText};

pub use messages::{IgnoredInput, TuiEffect, TuiMessage};

use crate::activity_log::ActivityLog;
use crate::confirm_dialog::ConfirmDialog;
use crate::drawn::{DrawnQuestionPane, DrawnScreen};
use crate::key_press::latin_place;
use crate::keys::{TuiCommand, ViewMode};
use crate::revoke_dialog::RevokeDialog;
use crate::rule_list::RuleList;
use crate::sandbox_list::SandboxList;
use crate::scope_picker::ScopePicker;
use crate::selection::QuestionSelection;
use crate::theme::Theme;
use crate::view::SessionView;

/// Maximum length of a filter.
const MAX_FILTER_CHARS: usize = 200;

/// The state of the user interface; the questions themselves are in the [`SessionView`].
#[derive(Debug)]
pub struct TuiModel {
    pub(crate) selection: QuestionSelection,
    pub(crate) log: ActivityLog,
    pub(crate) sandboxes: SandboxList,
    pub(crate) mode: ViewMode,
    pub(crate) confirm: Option<ConfirmDialog>,
    pub(crate) scopes: ScopePicker,
    pub(crate) rules: RuleList,
    pub(crate) revoke: Option<RevokeDialog>,
    pub(crate) status: Option<(MessageTone, String)>,
    pub(crate) hub_source: DisplayText,
    pub(crate) theme: Theme,
    pub(crate) zone: TimeZone,
    /// The first line of the page or of the details; a frame limits the value to the length.
    pub(crate) first_line: usize,
    /// The last frame that the terminal accepted.
    drawn: DrawnScreen,
    /// The question that the last frame showed.
    answer_guard: Option<AnswerGuard>,
    list_guard: ListGuard,
    reading_start: ReadingStart,
    key_bursts: KeyBurstDetector,
    mouse_captured: bool,
    /// Number of rules whose end has no reply.
    pending_revokes: usize,
    /// Whether the operator asked to quit once every answer took effect.
    quit_requested: bool,
    needs_redraw: bool,
}

/// The frame with which a time to read started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadingStart {
    /// One that the terminal has processed.
    Processed,
    /// The last one, of which the terminal has reported nothing yet.
    LastFrame,
    /// An earlier one, of which the terminal has reported nothing yet.
    EarlierFrame,
}

/// The reason why a key cannot be an answer, whatever the screen shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyDoubt {
    /// The key arrived together with others.
    Burst,
    /// The key may be a part of something else.
    Ambiguous,
}

/// Returns the reason why a key is no answer, if any.
const fn describe_doubt(doubt: Option<KeyDoubt>, is_held: bool) -> Option<&'static str> {
    match doubt {
        Some(KeyDoubt::Burst) => {
            Some("keys arrived too fast; wait a moment and press the key again")
        }
        Some(KeyDoubt::Ambiguous) => {
            Some("the key came after Escape or a reply of the terminal; press it again")
        }
        None if is_held => Some("the key may be held; release it for a moment"),
        None => None,
    }
}

impl TuiModel {
    /// Returns the initial state; `hub_source` is shown as the place where hubs are searched.
    pub fn new(hub_source: &str, theme: Theme, zone: TimeZone) -> Self {
        Self {
            selection: QuestionSelection::default(),
            log: ActivityLog::default(),
            sandboxes: SandboxList::default(),
            mode: ViewMode::Questions,
            confirm: None,
            scopes: ScopePicker::new(ScopeChoice::Run),
            rules: RuleList::default(),
            revoke: None,
            status: None,
            hub_source: DisplayText::new(hub_source),
            theme,
            zone,
            first_line: 0,
            drawn: DrawnScreen::default(),
            answer_guard: None,
            list_guard: ListGuard::default(),
            reading_start: ReadingStart::Processed,
            key_bursts: KeyBurstDetector::default(),
            mouse_captured: true,
            pending_revokes: 0,
            quit_requested: false,
            needs_redraw: true,
        }
    }

    /// Sets how long an answer lasts without a choice, where a question offers that.
    #[must_use]
    pub fn with_default_scope(mut self, choice: ScopeChoice) -> Self {
        self.scopes = ScopePicker::new(choice);
        self
    }

    /// Applies a message, and returns the task for the event loop, if any.
    pub fn update(
        &mut self,
        msg: TuiMessage,
        view: SessionView<'_>,
        now: ClockReading,
    ) -> Option<TuiEffect> {
        let effect = self.apply(msg, view, now);
        let selected = self.selected_row(view);
        self.scopes.retain(selected);
        effect
    }

    fn apply(
        &mut self,
        msg: TuiMessage,
        view: SessionView<'_>,
        now: ClockReading,
    ) -> Option<TuiEffect> {
        match msg {
            TuiMessage::Changed(changes) => {
                self.apply_changes(&changes, view, now);
                if self.quit_requested && !self.is_waiting(view) {
                    return Some(TuiEffect::Quit);
                }
                self.reload_changed_rules(&changes)
            }
            TuiMessage::RulesListed(hub, rules) => self.apply_rules(&hub, rules, now),
            TuiMessage::RuleRevoked { hub, rule, result } => {
                self.apply_revoked(&hub, &rule, result, view, now)
            }
            TuiMessage::Drawn(drawn) => {
                self.record_drawn(drawn, now.monotonic);
                None
            }
            TuiMessage::Processed => {
                self.restart_time(now.monotonic);
                None
            }
            TuiMessage::AnswerBeforeProcessed => {
                self.key_bursts.record_key(now.monotonic);
                self.needs_redraw = true;
                let text = "NOT answered: the terminal has not shown all of it yet; press again";
                self.set_status(MessageTone::Bad, text);
                None
            }
            TuiMessage::Key(key) => self.handle_key(key, None, view, now),
            TuiMessage::KeyBurst(key) => self.handle_key(key, Some(KeyDoubt::Burst), view, now),
            TuiMessage::DoubtfulKey(key) => {
                self.handle_key(key, Some(KeyDoubt::Ambiguous), view, now)
            }
            TuiMessage::Ignored(input) => {
                self.key_bursts.record_key(now.monotonic);
                self.explain_ignored(input);
                None
            }
            TuiMessage::Mouse(event) => {
                self.handle_mouse(event);
                None
            }
            TuiMessage::Paste(text) => {
                self.key_bursts.record_key(now.monotonic);
                self.handle_paste(&text, view);
                None
            }
            TuiMessage::Resized => {
                self.forget_screen();
                None
            }
            TuiMessage::Resumed => {
                self.quit_requested = false;
                self.forget_screen();
                None
            }
            TuiMessage::NoJobControl => {
                self.needs_redraw = true;
                self.set_status(MessageTone::Bad, "no shell could resume this program");
                None
            }
        }
    }

    /// Returns `true` if the screen is out of date.
    pub const fn needs_redraw(&self) -> bool {
        self.needs_redraw
    }

    /// Returns the number of the selected question.
    pub const fn selected(&self) -> Option<RowNumber> {
        self.selection.selected()
    }

    /// Returns `true` if mouse events are reported.
    pub(crate) const fn captures_mouse(&self) -> bool {
        self.mouse_captured
    }

    fn set_status(&mut self, tone: MessageTone, text: impl Into<String>) {
        self.status = Some((tone, text.into()));
    }

    /// Returns `true` while characters are the text of a filter.
    pub(crate) fn is_typing(&self) -> bool {
        self.mode == ViewMode::Filter
    }

    /// Returns `true` for a key that answers questions in this mode.
    pub(crate) fn is_answer(&self, key: KeyEvent) -> bool {
        let command = self.mode.command_for(key);
        command.is_some_and(|command| self.answer_of(command).is_some())
    }

    /// Returns the answer that a command sends in this mode, if any.
    fn answer_of(&self, command: TuiCommand) -> Option<Action> {
        // With marked questions, the answer key only opens the confirm dialog.
        let opens_dialog = self.mode == ViewMode::Questions && !self.selection.marked().is_empty();
        match command {
            // Checked like an answer: the end of a deny may let connections pass.
            TuiCommand::Confirm if self.mode == ViewMode::Revoke => Some(Action::Allow),
            TuiCommand::Confirm => self.confirm.as_ref().map(ConfirmDialog::action),
            TuiCommand::Answer(action) => (!opens_dialog).then_some(action),
            _ => None,
        }
    }

    fn handle_key(
        &mut self,
        key: KeyEvent,
        doubt: Option<KeyDoubt>,
        view: SessionView<'_>,
        now: ClockReading,
    ) -> Option<TuiEffect> {
        let command = self.mode.command_for(key)?;
        self.needs_redraw = true;
        self.status = None;
        let is_together = doubt.is_some();
        let is_burst = self.key_bursts.record_key(now.monotonic);
        let doubt = doubt.or_else(|| is_burst.then_some(KeyDoubt::Burst));
        match self.answer_of(command) {
            None => {
                self.key_bursts.record_other_key();
                if is_together && command.changes_scope() {
                    let text = "scope NOT changed: keys arrived together; press the key again";
                    self.set_status(MessageTone::Bad, text);
                    return None;
                }
            }
            Some(action) => {
                let is_held = self.key_bursts.is_held(action, now.monotonic);
                if let Some(refusal) = describe_doubt(doubt, is_held) {
                    // The time to read restarts, and its end may be a better reason.
                    let unread = match command {
                        TuiCommand::Answer(_) => self.check_read(view, now.monotonic).err(),
                        _ => None,
                    };
                    let refusal = unread.unwrap_or_else(|| refusal.to_owned());
                    self.set_status(MessageTone::Bad, format!("NOT answered: {refusal}"));
                    return None;
                }
            }
        }
        if command == TuiCommand::Unbound {
            self.explain_unbound(key);
            return None;
        }
        let effect = self.run_command(command, view, now.monotonic);
        if let Some(TuiEffect::Answer { action, .. }) = &effect {
            self.key_bursts.record_answer(*action, now.monotonic);
        }
        effect
    }

    /// Explains why a key without a binding does nothing.
    fn explain_unbound(&mut self, key: KeyEvent) {
        let KeyCode::Char(typed) = key.code else {
            return self.set_status(MessageTone::Quiet, "? shows the keys");
        };
        let meant = latin_place(typed).unwrap_or(typed).to_ascii_lowercase();
        let meant = KeyEvent {
            code: KeyCode::Char(meant),
            ..key
        };
        let is_bound = self.mode.command_for(meant) != Some(TuiCommand::Unbound);
        let reason = if !typed.is_ascii() {
            "the keyboard types other letters; switch it to Latin ones"
        } else if typed.is_ascii_uppercase() && is_bound {
            "keys are lowercase letters; release Shift or Caps Lock"
        } else {
            return self.set_status(MessageTone::Quiet, "? shows the keys");
        };
        let what = if self.is_answer(meant) {
            "NOT answered"
        } else {
            "no effect"
        };
        self.set_status(MessageTone::Bad, format!("{what}: {reason}"));
    }

    fn explain_ignored(&mut self, input: IgnoredInput) {
        self.needs_redraw = true;
        let text = match input {
            IgnoredInput::UnknownKey => "no effect: an unknown key; ? shows the keys",
            IgnoredInput::InsideReply => {
                "no effect: the keys look like a reply of the terminal; press Escape first"
            }
            IgnoredInput::InsidePaste => "pasted text is ignored, up to its end",
        };
        self.set_status(MessageTone::Bad, text);
    }

    fn handle_paste(&mut self, text: &str, view: SessionView<'_>) {
        self.needs_redraw = true;
        if self.mode == ViewMode::Filter {
            let typed = text.chars().filter(|c| !c.is_control());
            let filter = self.selection.filter().chars().chain(typed);
            let filter: String = filter.take(MAX_FILTER_CHARS).collect();
            self.selection.set_filter(&filter, view.inbox);
        } else {
            self.set_status(MessageTone::Bad, "pasted text is ignored");
        }
    }

    /// Restarts every time to read: the operator did not see the screen for a while.
    fn forget_screen(&mut self) {
        self.answer_guard = None;
        self.selection.take_user_selected();
        if let Some(confirm) = &mut self.confirm {
            confirm.reset_shown_time();
        }
        if let Some(revoke) = &mut self.revoke {
            revoke.reset_shown_time();
        }
        self.needs_redraw = true;
    }

    /// Returns `true` if a time to read started with the last frame.
    pub(crate) const fn starts_reading(&self) -> bool {
        matches!(self.reading_start, ReadingStart::LastFrame)
    }

    /// Restarts the times to read that started with a frame that the terminal shows only now.
    fn restart_time(&mut self, now: Duration) {
        if self.reading_start != ReadingStart::Processed {
            self.reading_start = ReadingStart::Processed;
            if let Some(guard) = &mut self.answer_guard {
                guard.restart(now);
            }
            if let Some(confirm) = &mut self.confirm {
                confirm.restart_shown_time(now);
            }
            if let Some(revoke) = &mut self.revoke {
                revoke.restart_shown_time(now);
            }
        }
    }

    /// Records a frame that the terminal accepted.
    fn record_drawn(&mut self, drawn: DrawnScreen, now: Duration) {
        self.needs_redraw = false;
        if let Some(list) = &drawn.list {
            self.selection.record_drawn(list);
        }
        if let Some(page) = drawn.page {
            self.first_line = page.first_line;
        }
        if let (Some(confirm), Some(shown)) = (&mut self.confirm, drawn.confirm) {
            confirm.record_drawn(shown, now);
        }
        if let (Some(revoke), Some(page)) = (&mut self.revoke, drawn.page) {
            revoke.record_drawn(page, now);
        }
        if let Some(rules) = drawn.rules {
            self.rules.record_drawn(rules);
        }
        self.answer_guard = match &drawn.question_pane {
            Some(pane) => self.guard_drawn_question(pane, now),
            // After another page, the question must be read again.
            None => None,
        };
        let guard = self.answer_guard.as_ref();
        let (confirm, revoke) = (self.confirm.as_ref(), self.revoke.as_ref());
        let starts = guard.is_some_and(|guard| guard.starts_at(now))
            || confirm.is_some_and(|confirm| confirm.is_shown_since(now))
            || revoke.is_some_and(|revoke| revoke.is_shown_since(now));
        self.reading_start = match self.reading_start {
            _ if starts => ReadingStart::LastFrame,
            ReadingStart::Processed => ReadingStart::Processed,
            ReadingStart::LastFrame | ReadingStart::EarlierFrame => ReadingStart::EarlierFrame,
        };
        self.drawn = drawn;
    }

    fn guard_drawn_question(
        &mut self,
        pane: &DrawnQuestionPane,
        now: Duration,
    ) -> Option<AnswerGuard> {
        if self.selection.take_rows_changed() {
            self.list_guard.record_change(now);
        }
        let chosen = self.selection.take_user_selected();
        let question = pane.question.as_ref()?;
        Some(AnswerGuard::record_drawn(
            self.answer_guard.take(),
            question.number,
            question.effects.clone(),
            question.lines,
            chosen && self.list_guard.is_unchanging(now),
            now,
        ))
    }

    fn apply_changes(&mut self, changes: &[InboxChange], view: SessionView<'_>, now: ClockReading) {
        let counters = (self.drawn.unanswered, self.drawn.is_synced);
        self.needs_redraw |= counters != (view.unanswered, view.is_synced);
        let mut ended = BTreeSet::new();
        for change in changes {
            self.needs_redraw |= !matches!(change, InboxChange::Synced(_));
            self.sandboxes.apply_change(change, view.inbox);
            if matches!(change, InboxChange::Added(_)) {
                self.selection.record_added();
            }
            match change {
                InboxChange::Added(number) | InboxChange::Updated(number) => {
                    if let Some(row) = view.inbox.row(*number) {
                        self.selection.add_row(row);
                    }
                }
                InboxChange::Ended(row, end) => {
                    ended.insert(row.number());
                    let was_answered = row.answering().is_some();
                    self.report_end(change, row.number(), was_answered, end);
                }
                InboxChange::Failed { .. } | InboxChange::ResultUnknown { .. } => {
                    if let Some(message) = phrases::describe_change(change) {
                        self.show_message(message);
                    }
                }
                _ => {}
            }
            self.log.record(change, view.inbox, now.wall_time);
        }
        if !ended.is_empty() {
            self.selection.remove_rows(&ended);
        }
    }

    /// Reports the end of a question if it was selected, or answered here.
    fn report_end(
        &mut self,
        change: &InboxChange,
        number: RowNumber,
        was_answered: bool,
        end: &RowEnd,
    ) {
        let selected = self.selection.selected() == Some(number);
        if self.mode == ViewMode::Details && selected {
            self.mode = ViewMode::Questions;
        }
        match phrases::describe_change(change) {
            Some(message) if was_answered || (selected && matches!(end, RowEnd::Decided(_))) => {
                self.show_message(message);
            }
            _ if selected && !matches!(end, RowEnd::Evicted) => {
                let reason = phrases::describe_row_end(end);
                let text = format!("question {number} is gone: {reason}");
                self.set_status(MessageTone::Quiet, text);
            }
            _ => {}
        }
    }

    /// Shows the result of an answer in the status line, which every screen size has.
    fn show_message(&mut self, message: phrases::ChangeMessage) {
        let label = message.label.map(|label| format!("{label}  "));
        let by = message.decided_by.map(|by| format!("  by {by}"));
        let text = label.unwrap_or_default() + &message.text + &by.unwrap_or_default();
        self.set_status(message.tone, text);
    }
}
