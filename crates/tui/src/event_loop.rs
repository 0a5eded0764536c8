// SPDX-License-Identifier: Apache-2.0
//! The event loop: passes keys, changes of the inbox and signals to the model, performs its
//! effects, and draws.

use std::io::{self, Write as _};
use std::time::Duration;

use crossterm::event::{KeyEvent, KeyEventKind, KeyModifiers};
use operator::bell::{BellChoice, QuestionBell};
use operator::clock::{ClockReading, TimeZone};
use operator::inbox::{Inbox, InboxChange};
use operator::{ScopeChoice, Session};
use rustix::process::Signal;
use terok_clearance::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::decoder::{InputDecoder, InputFrame};
use crate::hotkey::Hotkey;
use crate::input::{TerminalInput, TtyEvent};
use crate::key_press::{ENABLE_KEY_REPORTS, KeyPress};
use crate::layout::ScreenLayout;
use crate::model::{IgnoredInput, TuiEffect, TuiMessage, TuiModel};
use crate::open_terminal::OpenTerminal;
use crate::rule_calls::HubRuleCalls;
use crate::theme::Theme;
use crate::tty::{RawTerminal, TTY_WRITE_TIMEOUT};
use crate::view::SessionView;

/// Options of the user interface.
#[derive(Debug, Clone)]
pub struct TuiOptions {
    /// The capabilities of the terminal.
    pub theme: Theme,
    /// The operator's time zone.
    pub zone: TimeZone,
    /// Whether other work runs on this thread, which a stalled terminal must not delay for long.
    pub shares_thread: bool,
    /// A key for the caller, which [`FullScreenUi::next`] reports.
    pub hotkey: Option<Hotkey>,
    /// The sign of a new question.
    pub bell: BellChoice,
    /// How long an answer lasts without a choice, where a question offers that.
    pub default_scope: ScopeChoice,
}

impl Default for TuiOptions {
    fn default() -> Self {
        Self {
            theme: Theme::default(),
            zone: TimeZone::default(),
            shares_thread: false,
            hotkey: None,
            bell: BellChoice::default(),
            default_scope: ScopeChoice::Run,
        }
    }
}

/// The reason for the end of [`run_tui`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TuiEnd<T> {
    /// The operator quit.
    Done,
    /// The operator pressed Ctrl-C.
    Interrupted,
    /// The caller's future resolved.
    Stopped(T),
}

/// Minimum time between two frames, except after a key.
const FRAME_INTERVAL: Duration = Duration::from_millis(33);
/// Delay before the next frame after a terminal accepted no output.
const STALL_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Time limit for a frame if other work runs on the thread.
const SHARED_WRITE_TIMEOUT: Duration = Duration::from_millis(50);
/// How long an answer key waits for further input, which would make it a part of a text or of a
/// reply of the terminal.
const ANSWER_LOOKAHEAD: Duration = Duration::from_millis(150);
/// Maximum number of hub events and replies applied before keys are read again.
const MAX_SESSION_EVENTS_PER_TURN: usize = 64;

/// Runs the user interface on the terminal of standard input and output, until the operator quits
/// or `stop` resolves.
///
/// `hub_source` is shown as the place where hubs are searched. The terminal is always restored,
/// also after a panic and if this future is dropped. SIGTSTP and SIGCONT are caught. An error means
/// that there is no terminal, or that the terminal was closed. The end of the user interface never
/// writes a rule.
pub async fn run_tui<T>(
    session: Session,
    hub_source: &str,
    options: TuiOptions,
    stop: impl Future<Output = T>,
) -> io::Result<TuiEnd<T>> {
    tokio::select! {
        biased;
        stopped = stop => Ok(TuiEnd::Stopped(stopped)),
        done = run_event_loop(session, hub_source, options) => done,
    }
}

async fn run_event_loop<T>(
    session: Session,
    hub_source: &str,
    options: TuiOptions,
) -> io::Result<TuiEnd<T>> {
    let mut suspend = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    let mut resume = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
    let mut ui = FullScreenUi::new(session, hub_source, options);
    ui.open()?;
    loop {
        tokio::select! {
            biased;
            _ = suspend.recv() => ui.suspend()?,
            // After a SIGSTOP, another program may have changed the terminal.
            _ = resume.recv() => ui.open()?,
            event = ui.next() => match event? {
                // There is no hotkey here.
                UiEvent::Handled | UiEvent::HotkeyPressed { .. } => {}
                UiEvent::SuspendRequested => ui.suspend()?,
                UiEvent::QuitRequested => {
                    ui.receive_reports().await;
                    return Ok(TuiEnd::Done);
                }
                UiEvent::Interrupted => {
                    ui.receive_reports().await;
                    return Ok(TuiEnd::Interrupted);
                }
            },
        }
    }
}

/// The user interface, which the caller opens and closes. A closed user interface follows the hubs,
/// but does not use the terminal.
pub struct FullScreenUi {
    session: Session,
    model: TuiModel,
    rule_calls: HubRuleCalls,
    open: Option<OpenTerminal>,
    start: Instant,
    /// The time of the last frame; in the future after the terminal accepted no output.
    last_drawn: Option<Instant>,
    write_timeout: Duration,
    hotkey: Option<Hotkey>,
    /// Whether a key was pressed since the user interface was opened.
    key_pressed: bool,
    /// An answer key that waits for further input, and the time when it was pressed.
    held_answer: Option<(KeyEvent, Instant)>,
    bell: QuestionBell,
    /// The state of the input while the user interface is closed.
    decoder: InputDecoder,
    continues_input: bool,
}

/// The result of [`FullScreenUi::next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UiEvent {
    /// Nothing for the caller to do.
    Handled,
    /// The operator wants to quit.
    QuitRequested,
    /// The operator pressed Ctrl-C.
    Interrupted,
    /// The operator wants to suspend to the shell, as with Ctrl-Z.
    SuspendRequested,
    /// The operator pressed the hotkey of the options.
    HotkeyPressed {
        /// No other key was pressed since the user interface was opened.
        is_first_key: bool,
    },
}

impl std::fmt::Debug for FullScreenUi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FullScreenUi")
            .field("open", &self.open.is_some())
            .finish_non_exhaustive()
    }
}

impl FullScreenUi {
    /// Returns a closed user interface.
    pub fn new(session: Session, hub_source: &str, options: TuiOptions) -> Self {
        if options.theme.color {
            // The caller decided on colours; crossterm would otherwise read NO_COLOR itself.
            crossterm::style::force_color_output(true);
        }
        Self {
            session,
            model: TuiModel::new(hub_source, options.theme, options.zone)
                .with_default_scope(options.default_scope),
            rule_calls: HubRuleCalls::default(),
            open: None,
            start: Instant::now(),
            last_drawn: None,
            write_timeout: if options.shares_thread {
                SHARED_WRITE_TIMEOUT
            } else {
                TTY_WRITE_TIMEOUT
            },
            hotkey: options.hotkey,
            key_pressed: false,
            held_answer: None,
            bell: QuestionBell::new(options.bell),
            decoder: InputDecoder::default(),
            continues_input: false,
        }
    }

    /// Continues the input of a caller that has read the same terminal, while closed. The rest of
    /// an unfinished reply is then no key.
    pub fn continue_input(&mut self, decoder: InputDecoder) {
        self.decoder = decoder;
        self.continues_input = true;
    }

    /// Returns the state of the input for a caller that reads the same terminal next, while closed.
    pub fn take_input(&mut self) -> InputDecoder {
        std::mem::take(&mut self.decoder)
    }

    /// Takes over the terminal of standard input and output, and draws. If already open, sets the
    /// terminal's modes and draws again.
    ///
    /// An error means that there is no terminal. [`Self::close`], dropping the user interface and a
    /// panic restore the terminal.
    pub fn open(&mut self) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            open.terminal.reenter()?;
        } else {
            let mut terminal = RawTerminal::enter(self.write_timeout)?;
            terminal.set_mouse(self.model.captures_mouse())?;
            let input = TerminalInput::new(std::mem::take(&mut self.decoder))?;
            let continues_input = std::mem::take(&mut self.continues_input);
            self.open = Some(OpenTerminal::new(terminal, input, continues_input));
            self.key_pressed = false;
        }
        self.held_answer = None;
        self.enable_key_reports()?;
        self.update_without_effect(TuiMessage::Resumed);
        self.draw()
    }

    /// Restores the terminal, if open.
    pub fn close(&mut self) {
        self.held_answer = None;
        if let Some(open) = self.open.take() {
            self.decoder = open.input.into_decoder();
        }
    }

    /// Returns `true` if the user interface has the terminal.
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns the current questions.
    pub const fn inbox(&self) -> &Inbox {
        self.session.inbox()
    }

    /// Restores the terminal and stops this process, as Ctrl-Z does, until the shell resumes it.
    /// Without a shell that could, shows a message instead.
    pub fn suspend(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        self.held_answer = None;
        let resumed = open.terminal.suspend()?;
        self.enable_key_reports()?;
        self.update_without_effect(if resumed {
            TuiMessage::Resumed
        } else {
            TuiMessage::NoJobControl
        });
        self.draw()
    }

    /// Asks for key reports with the next frame.
    fn enable_key_reports(&mut self) -> io::Result<()> {
        match &mut self.open {
            Some(open) => {
                let backend = open.terminal.screen.backend_mut();
                backend.write_all(ENABLE_KEY_REPORTS)
            }
            None => Ok(()),
        }
    }

    /// Handles the next key, change of the inbox or due frame. An error means that the terminal was
    /// closed.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> io::Result<UiEvent> {
        let due = match self.last_drawn {
            Some(drawn) => drawn.checked_add(FRAME_INTERVAL).unwrap_or(drawn),
            None => self.start,
        };
        let draw = self.is_open() && self.model.needs_redraw();
        let held = self.held_answer.as_ref();
        let held_until = held.and_then(|(_, pressed)| pressed.checked_add(ANSWER_LOOKAHEAD));
        tokio::select! {
            biased;
            event = next_input(&mut self.open) => self.handle_input(event?),
            () = sleep_until(held_until.unwrap_or(self.start)), if held_until.is_some() => {
                self.release_answer()
            }
            () = sleep_until(due), if draw => {
                self.draw()?;
                Ok(UiEvent::Handled)
            }
            reply = self.rule_calls.next_reply() => self.update(reply),
            changes = self.session.next() => self.handle_changes(changes),
        }
    }

    /// Applies changes of the inbox, and those that have arrived meanwhile.
    fn handle_changes(&mut self, changes: Vec<InboxChange>) -> io::Result<UiEvent> {
        let mut has_new = changes.iter().any(InboxChange::is_new_question);
        let mut event = self.update(TuiMessage::Changed(changes))?;
        for _ in 1..MAX_SESSION_EVENTS_PER_TURN {
            if event != UiEvent::Handled {
                break;
            }
            let Some(changes) = self.session.try_next() else {
                break;
            };
            has_new |= changes.iter().any(InboxChange::is_new_question);
            event = self.update(TuiMessage::Changed(changes))?;
        }
        self.ring_bell(has_new)?;
        Ok(event)
    }

    fn handle_input(&mut self, event: TtyEvent) -> io::Result<UiEvent> {
        let key = match event {
            TtyEvent::Resized => {
                self.clear()?;
                return self.update_and_draw(TuiMessage::Resized, None);
            }
            TtyEvent::Frame(InputFrame::StatusReport) => return self.handle_report(),
            TtyEvent::Frame(InputFrame::Mouse(mouse)) => {
                return self.update_and_draw(TuiMessage::Mouse(mouse), None);
            }
            TtyEvent::Frame(InputFrame::Key(key)) if key.is_release() => {
                return Ok(UiEvent::Handled);
            }
            TtyEvent::Frame(InputFrame::Key(key)) => Ok(key),
            TtyEvent::Frame(InputFrame::Quiet) => Err(None),
            TtyEvent::Frame(InputFrame::Paste(text)) => Err(Some(TuiMessage::Paste(text))),
            TtyEvent::Frame(InputFrame::Unknown) => {
                Err(Some(TuiMessage::Ignored(IgnoredInput::UnknownKey)))
            }
            TtyEvent::InsideString => Err(Some(TuiMessage::Ignored(self.unfinished_string()))),
        };
        // The key was a part of a text, or of a reply.
        let refused = self.held_answer.take().map(|(answer, pressed)| {
            let refused = TuiMessage::KeyBurst(answer);
            (refused, pressed)
        });
        if let Some((refused, pressed)) = refused {
            let event = self.update_and_draw(refused, Some(pressed))?;
            // So that the operator sees the refusal, and does not leave before.
            let is_control = |key: KeyPress| key.typed().modifiers.contains(KeyModifiers::CONTROL);
            if event != UiEvent::Handled || key.as_ref().is_ok_and(|key| !is_control(*key)) {
                return Ok(event);
            }
        }
        match key {
            Ok(key) => self.handle_key(key),
            Err(Some(message)) => self.update_and_draw(message, None),
            Err(None) => Ok(UiEvent::Handled),
        }
    }

    fn handle_report(&mut self) -> io::Result<UiEvent> {
        if self.open.as_mut().is_some_and(OpenTerminal::record_report) {
            return self.update_and_draw(TuiMessage::Processed, None);
        }
        Ok(UiEvent::Handled)
    }

    /// Waits a moment for requested reports, which would otherwise reach the next program.
    async fn receive_reports(&mut self) {
        if let Some(open) = &mut self.open {
            open.receive_reports().await;
        }
    }

    fn handle_key(&mut self, key: KeyPress) -> io::Result<UiEvent> {
        let is_first_key = !std::mem::replace(&mut self.key_pressed, true);
        if self.hotkey.is_some_and(|hotkey| hotkey.matches(key)) {
            return Ok(UiEvent::HotkeyPressed { is_first_key });
        }
        let more = self
            .open
            .as_ref()
            .is_some_and(|open| open.input.has_more_bytes());
        let event = if self.model.is_typing() {
            key.typed()
        } else {
            key.command()
        };
        let message = if !key.is_certain() {
            TuiMessage::DoubtfulKey(event)
        } else if more || event.kind == KeyEventKind::Repeat {
            TuiMessage::KeyBurst(event)
        } else if self.model.is_answer(event) {
            if self.open.as_mut().is_some_and(OpenTerminal::is_behind) {
                return self.update_and_draw(TuiMessage::AnswerBeforeProcessed, None);
            }
            self.held_answer = Some((event, Instant::now()));
            return Ok(UiEvent::Handled);
        } else {
            TuiMessage::Key(event)
        };
        self.update_and_draw(message, None)
    }

    /// Applies the answer key that no further input followed.
    fn release_answer(&mut self) -> io::Result<UiEvent> {
        let Some((answer, pressed)) = self.held_answer.take() else {
            return Ok(UiEvent::Handled);
        };
        let more = self
            .open
            .as_ref()
            .is_some_and(|open| open.input.has_more_bytes());
        let message = if more {
            TuiMessage::KeyBurst(answer)
        } else {
            TuiMessage::Key(answer)
        };
        self.update_and_draw(message, Some(pressed))
    }

    fn unfinished_string(&self) -> IgnoredInput {
        match &self.open {
            Some(open) if open.input.is_inside_paste() => IgnoredInput::InsidePaste,
            _ => IgnoredInput::InsideReply,
        }
    }

    /// Applies a message of the operator, from `at` or now, and draws its effect at once, unless
    /// the terminal accepts no output.
    fn update_and_draw(&mut self, msg: TuiMessage, at: Option<Instant>) -> io::Result<UiEvent> {
        let event = self.update_at(msg, at)?;
        let stalled = self.last_drawn.is_some_and(|drawn| drawn > Instant::now());
        if event == UiEvent::Handled && self.model.needs_redraw() && !stalled {
            self.draw()?;
        }
        Ok(event)
    }

    /// Applies a message that has no effect.
    fn update_without_effect(&mut self, msg: TuiMessage) {
        let effect = self.update_model(msg, None);
        debug_assert_eq!(effect, None);
    }

    /// Applies a message of the time `at`, or of now.
    fn update_model(&mut self, msg: TuiMessage, at: Option<Instant>) -> Option<TuiEffect> {
        let (mut now, view) = (self.now(), SessionView::from(&self.session));
        if let Some(at) = at {
            now.monotonic = at.duration_since(self.start);
        }
        self.model.update(msg, view, now)
    }

    /// Applies a message, and performs its effect.
    fn update(&mut self, msg: TuiMessage) -> io::Result<UiEvent> {
        self.update_at(msg, None)
    }

    fn update_at(&mut self, msg: TuiMessage, at: Option<Instant>) -> io::Result<UiEvent> {
        match self.update_model(msg, at) {
            None => {}
            Some(TuiEffect::Answer { rows, action }) => {
                for (row, scope) in rows {
                    // The model checked each row in the same inbox.
                    let sent = self.session.answer_with(row, action, &scope);
                    debug_assert_eq!(sent, Ok(()));
                }
            }
            Some(TuiEffect::ListRules(hubs)) => {
                for hub in hubs {
                    let client = self.session.client(&hub);
                    self.rule_calls.list(hub, client);
                }
            }
            Some(TuiEffect::Revoke { hub, rule }) => {
                let client = self.session.client(&hub);
                self.rule_calls.revoke(hub, rule, client);
            }
            Some(TuiEffect::Refresh) => {
                self.session.retry_now();
                self.clear()?;
            }
            Some(TuiEffect::CaptureMouse(capture)) => {
                if let Some(open) = &mut self.open {
                    open.terminal.set_mouse(capture)?;
                }
            }
            Some(TuiEffect::Suspend) => return Ok(UiEvent::SuspendRequested),
            Some(TuiEffect::Quit) => return Ok(UiEvent::QuitRequested),
            Some(TuiEffect::Interrupt) => return Ok(UiEvent::Interrupted),
        }
        Ok(UiEvent::Handled)
    }

    /// Announces new questions, while open.
    fn ring_bell(&mut self, has_new: bool) -> io::Result<()> {
        let count = self.session.inbox().rows().len();
        if let Some(open) = &mut self.open
            && has_new
            && let Some(sign) = self.bell.ring(count, self.start.elapsed())
        {
            // Sent with the next frame, which shows the question.
            open.terminal
                .screen
                .backend_mut()
                .write_all(sign.as_bytes())?;
        }
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        match &mut self.open {
            Some(open) => open.terminal.clear(),
            None => Ok(()),
        }
    }

    /// Draws a frame. The model gets the record only if the terminal accepted the whole frame.
    fn draw(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let (model, view) = (&self.model, SessionView::from(&self.session));
        let mut shown = None;
        let written = open.terminal.screen.draw(|frame| {
            let layout = ScreenLayout::new(model, view, frame.area());
            frame.render_widget(&layout, frame.area());
            shown = Some(layout.into_drawn());
        });
        match (written.map(drop), shown) {
            (Ok(()), Some(shown)) => {
                self.update_without_effect(TuiMessage::Drawn(shown));
                self.last_drawn = Some(Instant::now());
                if self.model.starts_reading()
                    && let Some(open) = &mut self.open
                {
                    match open.request_report() {
                        Err(error) if error.kind() != io::ErrorKind::TimedOut => return Err(error),
                        Ok(()) | Err(_) => {}
                    }
                }
            }
            (Ok(()), None) => {}
            // The screen has a part of the frame at most: start over later.
            (Err(error), _) if error.kind() == io::ErrorKind::TimedOut => {
                open.terminal.clear_with_modes()?;
                self.update_without_effect(TuiMessage::Resized);
                self.last_drawn = Instant::now().checked_add(STALL_RETRY_DELAY);
            }
            (Err(error), _) => return Err(error),
        }
        Ok(())
    }

    fn now(&self) -> ClockReading {
        ClockReading {
            wall_time: Timestamp::now(),
            monotonic: self.start.elapsed(),
        }
    }
}

/// Returns the next input; pending while the user interface is closed.
async fn next_input(open: &mut Option<OpenTerminal>) -> io::Result<TtyEvent> {
    match open {
        Some(open) => open.input.next().await,
        None => std::future::pending().await,
    }
}
