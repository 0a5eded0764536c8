// SPDX-License-Identifier: Apache-2.0
//! The loop: keys, hubs, replies and signals go into the model; effects and frames come out.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crossterm::event::{Event, EventStream};
use futures_util::{FutureExt as _, StreamExt as _};
use rustix::process::Signal;
use terok_clearance::Decision;
use terok_clearance::client::AnswerError;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::model::{Effect, Model, Msg};
use super::terminal::Taken;
use super::theme::Theme;
use crate::clock::{Now, Zone};
use crate::hubs::Hubs;
use crate::inbox::{Answer, Reply};

/// How the UI looks.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What the terminal can show.
    pub theme: Theme,
    /// Where the person is.
    pub zone: Zone,
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
/// The most news that are taken in before keys have their turn.
const AT_ONCE: usize = 64;
/// The most answers that are on their way at the same time.
const IN_FLIGHT: usize = 64;

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

struct Ui {
    hubs: Hubs,
    model: Model,
    terminal: Taken,
    keys: EventStream,
    queue: VecDeque<Answer>,
    answers: JoinSet<(Answer, Result<Decision, AnswerError>)>,
    start: Instant,
    drawn: Option<Instant>,
}

async fn run<T>(hubs: Hubs, place: &str, options: Options) -> io::Result<Ended<T>> {
    let mut suspend = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    let mut resume = signal(SignalKind::from_raw(Signal::CONT.as_raw()))?;
    if options.theme.color {
        // Whether there are colours was decided before, not by the library's own look around.
        crossterm::style::force_color_output(true);
    }
    let mut ui = Ui {
        hubs,
        model: Model::new(place, options.theme, options.zone),
        terminal: Taken::take()?,
        keys: EventStream::new(),
        queue: VecDeque::new(),
        answers: JoinSet::new(),
        start: Instant::now(),
        drawn: None,
    };
    if ui.hubs.is_settled() {
        ui.tell(Msg::Settled);
    }
    loop {
        if let Some(ended) = ui.turn(&mut suspend, &mut resume).await? {
            return Ok(ended);
        }
    }
}

impl Ui {
    async fn turn<T>(
        &mut self,
        suspend: &mut unix::Signal,
        resume: &mut unix::Signal,
    ) -> io::Result<Option<Ended<T>>> {
        let due = match self.drawn {
            Some(drawn) => drawn.checked_add(FRAME).unwrap_or(drawn),
            None => self.start,
        };
        tokio::select! {
            biased;
            event = self.keys.next() => match event {
                Some(event) => return self.event(event?),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            },
            _ = suspend.recv() => self.suspend()?,
            _ = resume.recv() => {
                // Somebody stopped us without a word; the terminal may have been another's since.
                self.terminal.take_again()?;
                self.tell(Msg::Resumed);
                self.draw()?;
            }
            Some(answered) = self.answers.join_next() => return self.answered(answered),
            () = sleep_until(due), if self.model.is_changed() => self.draw()?,
            (hub, news) = self.hubs.next() => {
                self.tell(Msg::News(hub, news));
                for _ in 1..AT_ONCE {
                    let Some((hub, news)) = self.hubs.next().now_or_never() else {
                        break;
                    };
                    self.tell(Msg::News(hub, news));
                }
                if self.hubs.is_settled() {
                    self.tell(Msg::Settled);
                }
            }
        }
        Ok(None)
    }

    /// Tells the model something that asks for nothing.
    fn tell(&mut self, msg: Msg) {
        let effect = self.model.update(msg, self.now());
        debug_assert_eq!(effect, None);
    }

    fn event<T>(&mut self, event: Event) -> io::Result<Option<Ended<T>>> {
        let msg = match event {
            Event::Key(key) => Msg::Key(key),
            Event::Mouse(mouse) => Msg::Mouse(mouse),
            Event::Paste(text) => Msg::Paste(text),
            Event::Resize(..) => {
                self.terminal.clear()?;
                Msg::Resized
            }
            Event::FocusGained | Event::FocusLost => return Ok(None),
        };
        let effect = self.model.update(msg, self.now());
        let ended = match effect {
            Some(effect) => self.perform(effect)?,
            None => None,
        };
        // Whoever presses a key wants to see what it did.
        if ended.is_none() && self.model.is_changed() {
            self.draw()?;
        }
        Ok(ended)
    }

    fn perform<T>(&mut self, effect: Effect) -> io::Result<Option<Ended<T>>> {
        match effect {
            Effect::Answer(answers) => {
                self.queue.extend(answers);
                self.send();
            }
            Effect::Refresh => {
                self.hubs.poke();
                self.terminal.clear()?;
            }
            Effect::Mouse(mouse) => self.terminal.mouse(mouse)?,
            Effect::Suspend => self.suspend()?,
            Effect::Quit => return Ok(Some(Ended::Done)),
            Effect::Interrupt => return Ok(Some(Ended::Interrupted)),
        }
        Ok(None)
    }

    fn suspend(&mut self) -> io::Result<()> {
        let resumed = self.terminal.suspend()?;
        self.tell(if resumed { Msg::Resumed } else { Msg::NoShell });
        self.draw()
    }

    /// Sends the answers that wait, as many as may be on their way at once.
    fn send(&mut self) {
        while self.answers.len() < IN_FLIGHT
            && let Some(answer) = self.queue.pop_front()
        {
            let client = self.hubs.client(&answer.hub);
            self.answers.spawn(async move {
                let Some(client) = client else {
                    // Its hub is gone since, and with it the question.
                    return (answer, Err(AnswerError::TooOld("answering")));
                };
                let scope = Some(answer.scope.clone());
                let decided = client
                    .decide(&answer.request, answer.action.into(), scope)
                    .await;
                (answer, decided)
            });
        }
    }

    fn answered<T>(
        &mut self,
        answered: Result<(Answer, Result<Decision, AnswerError>), JoinError>,
    ) -> io::Result<Option<Ended<T>>> {
        let effect = match answered {
            Ok((answer, result)) => {
                let msg = Msg::Replied(answer, Reply::from(result));
                self.model.update(msg, self.now())
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => None,
            },
        };
        self.send();
        match effect {
            Some(effect) => self.perform(effect),
            None => Ok(None),
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        let now = self.now();
        let model = &mut self.model;
        self.terminal.screen.draw(|frame| {
            model.lay_out(frame.area(), now);
            frame.render_widget(&*model, frame.area());
        })?;
        model.takes_changed();
        self.drawn = Some(Instant::now());
        Ok(())
    }

    fn now(&self) -> Now {
        Now {
            epoch: crate::prompt::now(),
            steady: self.start.elapsed(),
        }
    }
}
