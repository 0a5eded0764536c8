// SPDX-License-Identifier: Apache-2.0
//! The loop: keys, hubs, replies and signals go into the model; effects and frames come out.

use std::io;
use std::time::Duration;

use crossterm::event::Event;
use futures_util::FutureExt as _;
use rustix::process::Signal;
use terok_clearance::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use crate::input::TerminalInput;
use crate::model::{TuiEffect, TuiMessage, TuiModel};
use crate::theme::Theme;
use crate::tty::{RawTerminal, TTY_WRITE_TIMEOUT};
use operator::clock::{ClockReading, TimeZone};
use operator::discovery::{AnswerDispatcher, Hubs};
use operator::inbox::Inbox;

/// How the UI looks.
#[derive(Debug, Clone, Default)]
pub struct TuiOptions {
    /// What the terminal can show.
    pub theme: Theme,
    /// Where the person is.
    pub zone: TimeZone,
    /// Whether others work on this thread, whom a terminal that takes nothing must not hold up.
    pub shares_thread: bool,
}

/// Why the UI ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TuiEnd<T> {
    /// The person left.
    Done,
    /// The person pressed Ctrl-C.
    Interrupted,
    /// It was stopped.
    Stopped(T),
}

/// The least time between two frames that nobody pressed a key for.
const FRAME_INTERVAL: Duration = Duration::from_millis(33);
/// How long to wait before a terminal that took nothing is painted on again.
const STALL_RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long a frame may wait for the terminal where others work on the thread, too.
const SHARED_WRITE_TIMEOUT: Duration = Duration::from_millis(50);
/// The most news that are taken in before keys have their turn.
const MAX_HUB_EVENTS_PER_TURN: usize = 64;

/// Asks on the terminal that standard input and output are, until the person leaves or `stop`
/// resolves.
///
/// `place` says where it listens. The terminal is given back as it was found, whatever happens:
/// also when this future is dropped, and at a panic. It catches SIGTSTP and SIGCONT. Fails when
/// there is no terminal, or no more. Leaving, `stop` and failing write no rule.
pub async fn run_tui<T>(
    hubs: Hubs,
    place: &str,
    options: TuiOptions,
    stop: impl Future<Output = T>,
) -> io::Result<TuiEnd<T>> {
    tokio::select! {
        biased;
        stopped = stop => Ok(TuiEnd::Stopped(stopped)),
        done = run_event_loop(hubs, place, options) => done,
    }
}

async fn run_event_loop<T>(hubs: Hubs, place: &str, options: TuiOptions) -> io::Result<TuiEnd<T>> {
    let mut suspend = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    let mut resume = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
    let mut ui = FullScreenUi::new(hubs, place, options);
    ui.open()?;
    loop {
        tokio::select! {
            biased;
            _ = suspend.recv() => ui.suspend()?,
            // Somebody stopped us without a word; the terminal may have been another's since.
            _ = resume.recv() => ui.open()?,
            happened = ui.next() => match happened? {
                UiEvent::Handled => {}
                UiEvent::SuspendRequested => ui.suspend()?,
                UiEvent::QuitRequested => return Ok(TuiEnd::Done),
                UiEvent::Interrupted => return Ok(TuiEnd::Interrupted),
            },
        }
    }
}

/// The UI, which others may open and close: while it is closed it listens on, and the terminal is
/// theirs.
pub struct FullScreenUi {
    hubs: Hubs,
    model: TuiModel,
    answers: AnswerDispatcher,
    open: Option<OpenTerminal>,
    start: Instant,
    last_drawn: Option<Instant>,
    write_timeout: Duration,
}

/// What it has of the terminal while it is open.
struct OpenTerminal {
    terminal: RawTerminal,
    input: TerminalInput,
}

/// The result of [`FullScreenUi::next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UiEvent {
    /// Something that it has seen to.
    Handled,
    /// The person wants to leave.
    QuitRequested,
    /// The person pressed Ctrl-C.
    Interrupted,
    /// The person wants the shell for a while, as with Ctrl-Z.
    SuspendRequested,
}

impl std::fmt::Debug for FullScreenUi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ui")
            .field("open", &self.open.is_some())
            .finish_non_exhaustive()
    }
}

impl FullScreenUi {
    /// Returns it closed: nothing is painted, and no key is read.
    pub fn new(hubs: Hubs, place: &str, options: TuiOptions) -> Self {
        if options.theme.color {
            // Whether there are colours was decided before, not by the library's own look around.
            crossterm::style::force_color_output(true);
        }
        let mut ui = Self {
            hubs,
            model: TuiModel::new(place, options.theme, options.zone),
            answers: AnswerDispatcher::default(),
            open: None,
            start: Instant::now(),
            last_drawn: None,
            write_timeout: if options.shares_thread {
                SHARED_WRITE_TIMEOUT
            } else {
                TTY_WRITE_TIMEOUT
            },
        };
        ui.check_hubs_synced();
        ui
    }

    /// Takes the terminal that standard input and output are, and paints; takes and paints it anew
    /// where it is open already.
    ///
    /// Fails where they are no terminal. Dropping the UI, and a panic, give it back as it was.
    pub fn open(&mut self) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            open.terminal.reenter()?;
        } else {
            let mut terminal = RawTerminal::enter(self.write_timeout)?;
            terminal.set_mouse(self.model.captures_mouse())?;
            let input = TerminalInput::new()?;
            self.open = Some(OpenTerminal { terminal, input });
        }
        self.update_model(TuiMessage::Resumed);
        self.draw()
    }

    /// Gives the terminal back, if it is taken.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Says whether it has the terminal.
    pub const fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Returns what is asked.
    pub const fn inbox(&self) -> &Inbox {
        self.model.inbox()
    }

    /// Gives the terminal back and stops, as Ctrl-Z does, until the shell lets us go on. Does
    /// nothing, and says so, where there is no shell that would.
    pub fn suspend(&mut self) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let resumed = open.terminal.suspend()?;
        self.update_model(if resumed {
            TuiMessage::Resumed
        } else {
            TuiMessage::NoJobControl
        });
        self.draw()
    }

    /// Takes in the next thing that happens. Fails when the terminal does, or is at its end.
    ///
    /// A call that is dropped before it is done loses nothing.
    pub async fn next(&mut self) -> io::Result<UiEvent> {
        let due = match self.last_drawn {
            Some(drawn) => drawn.checked_add(FRAME_INTERVAL).unwrap_or(drawn),
            None => self.start,
        };
        let draw = self.is_open() && self.model.needs_redraw();
        tokio::select! {
            biased;
            event = next_input(&mut self.open) => return self.handle_input(event?),
            (answer, reply) = self.answers.next_reply() => {
                let effect = self.model.update(TuiMessage::Replied(answer, reply), self.now());
                return self.perform_effect(effect);
            }
            () = sleep_until(due), if draw => self.draw()?,
            (hub, news) = self.hubs.next_event() => {
                self.update_model(TuiMessage::InboxEvent(hub, news));
                for _ in 1..MAX_HUB_EVENTS_PER_TURN {
                    let Some((hub, news)) = self.hubs.next_event().now_or_never() else {
                        break;
                    };
                    self.update_model(TuiMessage::InboxEvent(hub, news));
                }
                self.check_hubs_synced();
            }
        }
        Ok(UiEvent::Handled)
    }

    fn check_hubs_synced(&mut self) {
        if self.hubs.is_synced() {
            self.update_model(TuiMessage::HubsSynced);
        }
    }

    /// Tells the model something that asks for nothing.
    fn update_model(&mut self, msg: TuiMessage) {
        let effect = self.model.update(msg, self.now());
        debug_assert_eq!(effect, None);
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
        let effect = self.model.update(msg, self.now());
        let happened = self.perform_effect(effect)?;
        // Whoever presses a key wants to see what it did, where there is something to see it on.
        let stalled = self.last_drawn.is_some_and(|drawn| drawn > Instant::now());
        if happened == UiEvent::Handled && self.model.needs_redraw() && !stalled {
            self.draw()?;
        }
        Ok(happened)
    }

    fn perform_effect(&mut self, effect: Option<TuiEffect>) -> io::Result<UiEvent> {
        match effect {
            None => {}
            Some(TuiEffect::SendAnswers(answers)) => self.answers.send(&self.hubs, answers),
            Some(TuiEffect::Refresh) => {
                self.hubs.retry_now();
                self.clear()?;
            }
            Some(TuiEffect::CaptureMouse(mouse)) => {
                if let Some(open) = &mut self.open {
                    open.terminal.set_mouse(mouse)?;
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

    fn draw(&mut self) -> io::Result<()> {
        let now = self.now();
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let model = &mut self.model;
        let drawn = open.terminal.screen.draw(|frame| {
            model.lay_out(frame.area(), now);
            frame.render_widget(&*model, frame.area());
        });
        match drawn.map(drop) {
            Ok(()) => {
                model.take_needs_redraw();
                self.last_drawn = Some(Instant::now());
            }
            // Nobody sees it now. It is painted anew when there is time.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                open.terminal.clear_with_modes()?;
                self.update_model(TuiMessage::Resized);
                self.last_drawn = Instant::now().checked_add(STALL_RETRY_DELAY);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn now(&self) -> ClockReading {
        ClockReading {
            epoch_micros: Timestamp::now().as_micros(),
            monotonic: self.start.elapsed(),
        }
    }
}

/// Returns what is pressed next; does not end while the UI is closed.
async fn next_input(open: &mut Option<OpenTerminal>) -> io::Result<Event> {
    match open {
        Some(open) => open.input.next().await,
        None => std::future::pending().await,
    }
}
