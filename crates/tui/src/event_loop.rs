// SPDX-License-Identifier: Apache-2.0
//! The event loop: passes keys, changes of the inbox and signals to the model, performs its
//! effects, and draws.

use std::io;
use std::time::Duration;

use crossterm::event::Event;
use operator::Session;
use operator::clock::{ClockReading, TimeZone};
use operator::inbox::{Inbox, InboxChange};
use rustix::process::Signal;
use terok_clearance::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::input::TerminalInput;
use crate::layout::ScreenLayout;
use crate::model::{TuiEffect, TuiMessage, TuiModel};
use crate::theme::Theme;
use crate::tty::{RawTerminal, TTY_WRITE_TIMEOUT};
use crate::view::SessionView;

/// Options of the user interface.
#[derive(Debug, Clone, Default)]
pub struct TuiOptions {
    /// The capabilities of the terminal.
    pub theme: Theme,
    /// The operator's time zone.
    pub zone: TimeZone,
    /// Whether other work runs on this thread, which a stalled terminal must not delay for long.
    pub shares_thread: bool,
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
                UiEvent::Handled => {}
                UiEvent::SuspendRequested => ui.suspend()?,
                UiEvent::QuitRequested => return Ok(TuiEnd::Done),
                UiEvent::Interrupted => return Ok(TuiEnd::Interrupted),
            },
        }
    }
}

/// The user interface, which the caller opens and closes. A closed user interface follows the hubs,
/// but does not use the terminal.
pub struct FullScreenUi {
    session: Session,
    model: TuiModel,
    open: Option<OpenTerminal>,
    start: Instant,
    /// The time of the last frame; in the future after the terminal accepted no output.
    last_drawn: Option<Instant>,
    write_timeout: Duration,
}

/// The terminal while the user interface is open.
struct OpenTerminal {
    terminal: RawTerminal,
    input: TerminalInput,
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
            model: TuiModel::new(hub_source, options.theme, options.zone),
            open: None,
            start: Instant::now(),
            last_drawn: None,
            write_timeout: if options.shares_thread {
                SHARED_WRITE_TIMEOUT
            } else {
                TTY_WRITE_TIMEOUT
            },
        }
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
            let input = TerminalInput::new()?;
            self.open = Some(OpenTerminal { terminal, input });
        }
        self.update_without_effect(TuiMessage::Resumed);
        self.draw()
    }

    /// Restores the terminal, if open.
    pub fn close(&mut self) {
        self.open = None;
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
        let resumed = open.terminal.suspend()?;
        self.update_without_effect(if resumed {
            TuiMessage::Resumed
        } else {
            TuiMessage::NoJobControl
        });
        self.draw()
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
        tokio::select! {
            biased;
            event = next_input(&mut self.open) => self.handle_input(event?),
            () = sleep_until(due), if draw => {
                self.draw()?;
                Ok(UiEvent::Handled)
            }
            changes = self.session.next() => self.handle_changes(changes),
        }
    }

    /// Applies changes of the inbox, and those that have arrived meanwhile.
    fn handle_changes(&mut self, changes: Vec<InboxChange>) -> io::Result<UiEvent> {
        let mut event = self.update(TuiMessage::Changed(changes))?;
        for _ in 1..MAX_SESSION_EVENTS_PER_TURN {
            if event != UiEvent::Handled {
                break;
            }
            let Some(changes) = self.session.try_next() else {
                break;
            };
            event = self.update(TuiMessage::Changed(changes))?;
        }
        Ok(event)
    }

    fn handle_input(&mut self, event: Event) -> io::Result<UiEvent> {
        let more = self
            .open
            .as_ref()
            .is_some_and(|open| open.input.has_buffered_bytes());
        let msg = match event {
            Event::Key(key) if more => TuiMessage::KeyBurst(key),
            Event::Key(key) => TuiMessage::Key(key),
            Event::Mouse(mouse) => TuiMessage::Mouse(mouse),
            Event::Paste(text) => TuiMessage::Paste(text),
            Event::Resize(..) => {
                self.clear()?;
                TuiMessage::Resized
            }
            Event::FocusGained | Event::FocusLost => return Ok(UiEvent::Handled),
        };
        let event = self.update(msg)?;
        // The effect of a key is drawn at once, unless the terminal accepts no output.
        let stalled = self.last_drawn.is_some_and(|drawn| drawn > Instant::now());
        if event == UiEvent::Handled && self.model.needs_redraw() && !stalled {
            self.draw()?;
        }
        Ok(event)
    }

    /// Applies a message that has no effect.
    fn update_without_effect(&mut self, msg: TuiMessage) {
        let effect = self.update_model(msg);
        debug_assert_eq!(effect, None);
    }

    fn update_model(&mut self, msg: TuiMessage) -> Option<TuiEffect> {
        let (now, view) = (self.now(), SessionView::from(&self.session));
        self.model.update(msg, view, now)
    }

    /// Applies a message, and performs its effect.
    fn update(&mut self, msg: TuiMessage) -> io::Result<UiEvent> {
        match self.update_model(msg) {
            None => {}
            Some(TuiEffect::Answer { rows, action }) => {
                for row in rows {
                    // The model checked each row in the same inbox.
                    let sent = self.session.answer(row, action);
                    debug_assert_eq!(sent, Ok(()));
                }
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
async fn next_input(open: &mut Option<OpenTerminal>) -> io::Result<Event> {
    match open {
        Some(open) => open.input.next().await,
        None => std::future::pending().await,
    }
}
