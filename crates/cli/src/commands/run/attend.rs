// SPDX-License-Identifier: Apache-2.0
//! Stays with the command until it has ended: terminal, signals, questions, network, supervisor.

use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use netns::sandbox::{Change, Running};
use operator::hubs::Hubs;
use operator::inbox::{Answer, Reply};
use rustix::process::Signal as Number;
use supervisor::{ServeError, Supervisor};
use terok_clearance::client::AnswerError;
use terok_clearance::{Decision, DisplayText};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::ask::{Act, Ask};
use super::network::Connection;
use super::relay::Relay;
use super::summary::Summary;
use super::terminal::Operator;
use crate::{Context, Failure, Status};

/// How long the last output and the last words to operators may take after the command's end.
const FAREWELL: Duration = Duration::from_secs(3);

/// Everything that is there while the command runs.
pub(super) struct Attend<'a> {
    pub(super) running: Running,
    pub(super) signals: Signals,
    pub(super) operator: Option<Operator>,
    pub(super) connection: Option<Connection>,
    /// Whether to ask here, if there is a terminal.
    pub(super) prompt: bool,
    pub(super) quiet: bool,
    pub(super) summary: Summary,
    pub(super) context: &'a Context,
}

type Answered = (Answer, Result<Decision, AnswerError>);

/// The terminal, while the command has one of its own.
struct Desk {
    operator: Operator,
    relay: Relay,
    ask: Ask,
    /// Our own hub's questions, if they are asked here.
    hubs: Option<Hubs>,
    answers: JoinSet<Answered>,
}

impl Attend<'_> {
    /// Returns the command's status when it has ended and nothing of the sandbox is left.
    pub(super) async fn until_its_end(self, supervisor: Supervisor) -> Result<Status, Failure> {
        let Self {
            mut running,
            mut signals,
            operator,
            mut connection,
            prompt,
            quiet,
            summary,
            context,
        } = self;
        let output = &context.output;
        let hub = supervisor.hub().to_owned();
        let master = running.take_terminal();
        let mut desk = match operator.zip(master) {
            None => None,
            Some((mut operator, master)) => {
                operator.take().context("taking the terminal")?;
                let handle = operator.handle().context("taking the terminal")?;
                let hubs = (prompt && connection.is_some()).then(|| Hubs::one(hub));
                Some(Desk {
                    operator,
                    relay: Relay::new(handle, master).context("taking the terminal")?,
                    ask: Ask::default(),
                    hubs: hubs
                        .transpose()
                        .context("listening to the sandbox's questions")?,
                    answers: JoinSet::new(),
                })
            }
        };
        if !quiet && connection.is_some() {
            let asks_here = desk.as_ref().is_some_and(|desk| desk.hubs.is_some());
            let words = if asks_here {
                "terok-clearance: nothing is open but what was allowed; Ctrl-] answers questions"
            } else {
                "terok-clearance: nothing is open but what was allowed; answer questions with \
                 `terok-clearance clearance` in another terminal"
            };
            tell(&mut desk, context, words);
        }

        let stop = CancellationToken::new();
        let mut serving = pin!(supervisor.serve(stop.clone()));
        let mut served = None;
        let status = loop {
            tokio::select! {
                biased;
                change = running.changed() => match change.context("waiting for the command")? {
                    Change::Exited(status) => break Status(status),
                    Change::Killed(signal) => break Status(128_u8.saturating_add(signal)),
                    Change::Stopped => if let Some(desk) = &mut desk {
                        desk.operator.suspend().context("stopping with the command")?;
                        desk.resize();
                        running.resume().context("waking the command")?;
                    },
                },
                signal = signals.next() => match signal {
                    Caught::Pass(number) => drop(running.signal(number)), // it may have ended
                    Caught::Resized => if let Some(desk) = &mut desk { desk.resize() },
                    Caught::Continued => if let Some(desk) = &mut desk {
                        desk.operator.take().context("taking the terminal again")?;
                        desk.resize();
                    },
                },
                ended = &mut serving, if served.is_none() => {
                    if let Err(error) = &ended {
                        let words = format!("terok-clearance: {}: nothing new can be answered; \
                            what was denied stays denied", whole(error));
                        tell(&mut desk, context, &words);
                    }
                    served = Some(ended);
                }
                error = lost(&mut connection) => {
                    connection = None;
                    let words = format!("terok-clearance: the sandbox lost its network: {error}");
                    tell(&mut desk, context, &words);
                }
                worked = work(&mut desk) => worked?,
            }
        };

        // From the inside out. Dropping it waits until nothing of the sandbox is left.
        drop(running);
        if let Some(desk) = &mut desk {
            // A terminal that does not read for so long misses the end.
            drop(timeout(FAREWELL, desk.relay.drain()).await);
            desk.operator.give_back();
        }
        if served.is_none() && timeout(FAREWELL, &mut serving).await.is_err() {
            stop.cancel();
        }
        if let Some(connection) = connection {
            drop(connection.close().await); // it ended by itself
        }
        if context.json {
            output.error_line(&summary.json().to_string());
        } else if let Some(words) = summary.words().filter(|_| !quiet) {
            output.error_line(&words);
        }
        Ok(status)
    }
}

/// Says something of our own: on the terminal if we have it, else on standard error.
fn tell(desk: &mut Option<Desk>, context: &Context, words: &str) {
    match desk {
        Some(desk) => desk.relay.say(&format!("{words}\n")),
        None => context.output.error_line(words),
    }
}

async fn lost(connection: &mut Option<Connection>) -> anyhow::Error {
    match connection {
        Some(connection) => connection.ended().await,
        None => std::future::pending().await,
    }
}

/// Does the next thing that is to be done at the terminal; never ends where there is none.
async fn work(desk: &mut Option<Desk>) -> anyhow::Result<()> {
    match desk {
        Some(desk) => desk.work().await,
        None => std::future::pending().await,
    }
}

impl Desk {
    async fn work(&mut self) -> anyhow::Result<()> {
        let listen = self.operator.is_ours();
        tokio::select! {
            biased;
            Some(answered) = self.answers.join_next() => match answered {
                Ok((answer, result)) => {
                    let acts = self.ask.settle(&answer, Reply::from(result), Instant::now());
                    self.act(acts, &[]);
                }
                Err(error) => if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                },
            },
            typed = self.relay.typed(listen) => {
                let keys = typed.context("reading the terminal")?;
                let act = self.ask.typed(&keys, Instant::now());
                self.act([act], &keys);
            }
            (hub, news) = next(&mut self.hubs) => {
                let acts = self.ask.hear(&hub, news, Instant::now());
                self.act(acts, &[]);
            }
        }
        Ok(())
    }

    fn act(&mut self, acts: impl IntoIterator<Item = Act>, keys: &[u8]) {
        for act in acts {
            match act {
                Act::Nothing => {}
                Act::Pass => self.relay.pass(keys),
                Act::Say(words) => self.relay.say(&words),
                Act::Open(words) => {
                    self.relay.hold(true);
                    let clear = if self.relay.is_full_screen() {
                        "\x1b[H\x1b[2J"
                    } else {
                        ""
                    };
                    self.relay.say(&format!("{clear}{words}"));
                }
                Act::Close(words) => {
                    self.relay.say(&words);
                    self.relay.hold(false);
                    if let Ok(size) = self.operator.size() {
                        self.relay.redraw(size);
                    }
                }
                Act::Notice(count) => self.notice(count),
                Act::Send(answers) => self.send(answers),
            }
        }
    }

    /// Tells of questions in passing: a line between those of the command, or, if the command draws
    /// on the whole screen, over its last one.
    fn notice(&mut self, count: usize) {
        let questions = if count == 1 { "question" } else { "questions" };
        let words = format!("terok-clearance: {count} {questions}; Ctrl-] to answer");
        if self.relay.is_full_screen() {
            self.relay
                .say(&format!("\x1b7\x1b[999;1H\x1b[7m{words}\x1b[0m\x1b[K\x1b8"));
        } else {
            self.relay.say(&format!("\n{words}\n"));
        }
    }

    fn send(&mut self, answers: Vec<Answer>) {
        for answer in answers {
            let client = self.hubs.as_ref().and_then(|hubs| hubs.client(&answer.hub));
            self.answers.spawn(async move {
                let Some(client) = client else {
                    // A row is of a hub that was reached, and one that was reached has a client.
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

    fn resize(&mut self) {
        if let Ok(size) = self.operator.size() {
            self.relay.resize(size);
        }
    }
}

async fn next(hubs: &mut Option<Hubs>) -> (operator::inbox::HubId, operator::inbox::News) {
    match hubs {
        Some(hubs) => hubs.next().await,
        None => std::future::pending().await,
    }
}

/// The signals that concern a command, caught from the moment of the making on.
#[derive(Debug)]
pub(super) struct Signals {
    passed: [(Number, Signal); 6],
    resized: Signal,
    continued: Signal,
}

/// A signal that was caught.
#[derive(Debug)]
enum Caught {
    /// The command is to have it.
    Pass(Number),
    /// The window has another size.
    Resized,
    /// We may go on after a stop.
    Continued,
}

impl Signals {
    pub(super) fn catch() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("catching signals");
        Ok(Self {
            passed: [
                (Number::INT, catch(SignalKind::interrupt())?),
                (Number::TERM, catch(SignalKind::terminate())?),
                (Number::HUP, catch(SignalKind::hangup())?),
                (Number::QUIT, catch(SignalKind::quit())?),
                (Number::USR1, catch(SignalKind::user_defined1())?),
                (Number::USR2, catch(SignalKind::user_defined2())?),
            ],
            resized: catch(SignalKind::window_change())?,
            continued: catch(SignalKind::from_raw(Number::CONT.as_raw()))?,
        })
    }

    /// Returns when one of those has come that end a program, with the status for it.
    pub(super) async fn deadly(&mut self) -> Status {
        loop {
            if let Caught::Pass(number) = self.next().await {
                let number = u8::try_from(number.as_raw()).unwrap_or_default();
                return Status(128_u8.saturating_add(number));
            }
        }
    }

    async fn next(&mut self) -> Caught {
        let Self {
            passed: [one, two, three, four, five, six],
            resized,
            continued,
        } = self;
        tokio::select! {
            _ = one.1.recv() => Caught::Pass(one.0),
            _ = two.1.recv() => Caught::Pass(two.0),
            _ = three.1.recv() => Caught::Pass(three.0),
            _ = four.1.recv() => Caught::Pass(four.0),
            _ = five.1.recv() => Caught::Pass(five.0),
            _ = six.1.recv() => Caught::Pass(six.0),
            _ = resized.recv() => Caught::Resized,
            _ = continued.recv() => Caught::Continued,
        }
    }
}

/// An error with its causes.
fn whole(error: &ServeError) -> DisplayText {
    let first: Option<&dyn std::error::Error> = Some(error);
    let causes = std::iter::successors(first, |error| error.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    DisplayText::new(&causes.join(": "))
}
