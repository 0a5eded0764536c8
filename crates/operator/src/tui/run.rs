// SPDX-License-Identifier: Apache-2.0
//! The loop: keys, hubs, replies and signals go into the model; effects and frames come out.

use std::io;
use std::time::Duration;

use crossterm::event::Event;
use futures_util::FutureExt as _;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep_until};

use super::input::Input;
use super::model::{Effect, Model, Msg};
use super::terminal::{LONGEST, Taken};
use super::theme::Theme;
use crate::clock::{Now, Zone};
use crate::hubs::{Answers, Hubs};
use crate::inbox::Inbox;

/// How the UI looks.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What the terminal can show.
    pub theme: Theme,
    /// Where the person is.
    pub zone: Zone,
    /// Whether others work on this thread, whom a terminal that takes nothing must not hold up.
    pub shares_thread: bool,
}

/// Why the UI ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended<T> {
    /// The person left.
    Done,
    /// The person pressed Ctrl-C.
    Interrupted,
    /// It was stopped.
    Stopped(T),
}

/// The least time between two frames that nobody pressed a key for.
const FRAME: Duration = Duration::from_millis(33);
/// How long to wait before a terminal that took nothing is painted on again.
const STALLED: Duration = Duration::from_secs(1);
/// How long a frame may wait for the terminal where others work on the thread, too.
const SHARED: Duration = Duration::from_millis(50);
/// The most news that are taken in before keys have their turn.
const AT_ONCE: usize = 64;

/// Asks on the terminal that standard input and output are, until the person leaves or `stop`
/// resolves.
///
/// `place` says where it listens. The terminal is given back as it was found, whatever happens:
/// also when this future is dropped, and at a panic. It catches SIGTSTP and SIGCONT. Fails when
/// there is no terminal, or no more. Leaving, `stop` and failing write no rule.
pub async fn converse<T>(
    hubs: Hubs,
    place: &str,
    options: Options,
    stop: impl Future<Output = T>,
) -> io::Result<Ended<T>> {
    tokio::select! {
        biased;
        stopped = stop => Ok(Ended::Stopped(stopped)),
        done = run(hubs, place, options) => done,
    }
}

async fn run<T>(hubs: Hubs, place: &str, options: Options) -> io::Result<Ended<T>> {
    let mut suspend = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    let mut resume = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
    let mut ui = Ui::new(hubs, place, options);
    ui.open()?;
    loop {
        tokio::select! {
            biased;
            _ = suspend.recv() => ui.suspend()?,
            // Somebody stopped us without a word; the terminal may have been another's since.
            _ = resume.recv() => ui.open()?,
            happened = ui.next() => match happened? {
                Happened::News => {}
                Happened::Suspend => ui.suspend()?,
                Happened::Left => return Ok(Ended::Done),
                Happened::Interrupted => return Ok(Ended::Interrupted),
            },
        }
    }
}

/// The UI, which others may open and close: while it is closed it listens on, and the terminal is
/// theirs.
pub struct Ui {
    hubs: Hubs,
    model: Model,
    answers: Answers,
    open: Option<Open>,
    start: Instant,
    drawn: Option<Instant>,
    patience: Duration,
}

/// What it has of the terminal while it is open.
struct Open {
    terminal: Taken,
    input: Input,
}

/// What [`Ui::next`] has taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// Something that it has seen to.
    News,
    /// The person wants to leave.
    Left,
    /// The person pressed Ctrl-C.
    Interrupted,
    /// The person wants the shell for a while, as with Ctrl-Z.
    Suspend,
}

impl std::fmt::Debug for Ui {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ui")
            .field("open", &self.open.is_some())
            .finish_non_exhaustive()
    }
}

impl Ui {
    /// Returns it closed: nothing is painted, and no key is read.
    pub fn new(hubs: Hubs, place: &str, options: Options) -> Self {
        if options.theme.color {
            // Whether there are colours was decided before, not by the library's own look around.
            crossterm::style::force_color_output(true);
        }
        let mut ui = Self {
            hubs,
            model: Model::new(place, options.theme, options.zone),
            answers: Answers::default(),
            open: None,
            start: Instant::now(),
            drawn: None,
            patience: if options.shares_thread {
                SHARED
            } else {
                LONGEST
            },
        };
        ui.settle();
        ui
    }

    /// Takes the terminal that standard input and output are, and paints; takes and paints it anew
    /// where it is open already.
    ///
    /// Fails where they are no terminal. Dropping the UI, and a panic, give it back as it was.
    pub fn open(&mut self) -> io::Result<()> {
        if let Some(open) = &mut self.open {
            open.terminal.take_again()?;
        } else {
            let mut terminal = Taken::take(self.patience)?;
            terminal.mouse(self.model.takes_mouse())?;
            let input = Input::new()?;
            self.open = Some(Open { terminal, input });
        }
        self.tell(Msg::Resumed);
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
        self.tell(if resumed { Msg::Resumed } else { Msg::NoShell });
        self.draw()
    }

    /// Takes in the next thing that happens. Fails when the terminal does, or is at its end.
    ///
    /// A call that is dropped before it is done loses nothing.
    pub async fn next(&mut self) -> io::Result<Happened> {
        let due = match self.drawn {
            Some(drawn) => drawn.checked_add(FRAME).unwrap_or(drawn),
            None => self.start,
        };
        let draw = self.is_open() && self.model.is_changed();
        tokio::select! {
            biased;
            event = pressed(&mut self.open) => return self.event(event?),
            (answer, reply) = self.answers.next() => {
                let effect = self.model.update(Msg::Replied(answer, reply), self.now());
                return self.perform(effect);
            }
            () = sleep_until(due), if draw => self.draw()?,
            (hub, news) = self.hubs.next() => {
                self.tell(Msg::News(hub, news));
                for _ in 1..AT_ONCE {
                    let Some((hub, news)) = self.hubs.next().now_or_never() else {
                        break;
                    };
                    self.tell(Msg::News(hub, news));
                }
                self.settle();
            }
        }
        Ok(Happened::News)
    }

    fn settle(&mut self) {
        if self.hubs.is_settled() {
            self.tell(Msg::Settled);
        }
    }

    /// Tells the model something that asks for nothing.
    fn tell(&mut self, msg: Msg) {
        let effect = self.model.update(msg, self.now());
        debug_assert_eq!(effect, None);
    }

    fn event(&mut self, event: Event) -> io::Result<Happened> {
        let more = self.open.as_ref().is_some_and(|open| open.input.more());
        let msg = match event {
            Event::Key(key) if more => Msg::Burst(key),
            Event::Key(key) => Msg::Key(key),
            Event::Mouse(mouse) => Msg::Mouse(mouse),
            Event::Paste(text) => Msg::Paste(text),
            Event::Resize(..) => {
                self.clear()?;
                Msg::Resized
            }
            Event::FocusGained | Event::FocusLost => return Ok(Happened::News),
        };
        let effect = self.model.update(msg, self.now());
        let happened = self.perform(effect)?;
        // Whoever presses a key wants to see what it did, where there is something to see it on.
        let stalled = self.drawn.is_some_and(|drawn| drawn > Instant::now());
        if happened == Happened::News && self.model.is_changed() && !stalled {
            self.draw()?;
        }
        Ok(happened)
    }

    fn perform(&mut self, effect: Option<Effect>) -> io::Result<Happened> {
        match effect {
            None => {}
            Some(Effect::Answer(answers)) => self.answers.send(&self.hubs, answers),
            Some(Effect::Refresh) => {
                self.hubs.poke();
                self.clear()?;
            }
            Some(Effect::Mouse(mouse)) => {
                if let Some(open) = &mut self.open {
                    open.terminal.mouse(mouse)?;
                }
            }
            Some(Effect::Suspend) => return Ok(Happened::Suspend),
            Some(Effect::Quit) => return Ok(Happened::Left),
            Some(Effect::Interrupt) => return Ok(Happened::Interrupted),
        }
        Ok(Happened::News)
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
                model.takes_changed();
                self.drawn = Some(Instant::now());
            }
            // Nobody sees it now. It is painted anew when there is time.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                open.terminal.clear_with_modes()?;
                self.tell(Msg::Resized);
                self.drawn = Instant::now().checked_add(STALLED);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn now(&self) -> Now {
        Now {
            epoch: crate::prompt::now(),
            steady: self.start.elapsed(),
        }
    }
}

/// Returns what is pressed next; does not end while the UI is closed.
async fn pressed(open: &mut Option<Open>) -> io::Result<Event> {
    match open {
        Some(open) => open.input.next().await,
        None => std::future::pending().await,
    }
}
