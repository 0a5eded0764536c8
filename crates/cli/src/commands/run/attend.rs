// SPDX-License-Identifier: Apache-2.0
//! Stays with the command until it has ended: signals, terminal, popups, network, supervisor.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use netns::sandbox::{RunningSandbox, WorkloadStatus};
use operator::discovery::Hubs;
use rustix::process::Signal as Number;
use supervisor::{Supervisor, SupervisorServeError};
use terok_clearance::DisplayText;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::desk::{Asks, Desk};
use super::network::Connection;
use super::summary::Summary;
use super::terminal::Operator;
use super::ui::Front;
use crate::desktop::Popups;
use crate::{Context, Failure, Status};

/// How long the last output and the last words to operators may take after the command's end.
const FAREWELL: Duration = Duration::from_secs(3);

/// Everything that is there while the command runs.
pub(super) struct Attend<'a> {
    pub(super) running: RunningSandbox,
    pub(super) signals: Signals,
    pub(super) operator: Option<Operator>,
    pub(super) connection: Option<Connection>,
    pub(super) front: Front,
    pub(super) quiet: bool,
    pub(super) summary: Summary,
    pub(super) context: &'a Context,
}

impl Attend<'_> {
    /// Returns the command's status when it has ended and nothing of the sandbox is left.
    pub(super) async fn until_its_end(self, supervisor: Supervisor) -> Result<Status, Failure> {
        let Self {
            mut running,
            mut signals,
            operator,
            mut connection,
            front,
            quiet,
            summary,
            context,
        } = self;
        let output = &context.output;
        let hub = supervisor.hub_path().to_owned();
        let master = running.take_terminal();
        let words = front.words(master.is_some());
        let terminal = operator.zip(master);
        let (mut desk, mut popups) = set_up(front, terminal, &hub, context)?;
        if !quiet && connection.is_some() {
            tell(&mut desk, context, &words);
        }

        let stop = CancellationToken::new();
        let mut serving = pin!(supervisor.serve(stop.clone()));
        let mut served = None;
        let status = loop {
            tokio::select! {
                biased;
                change = running.wait_for_status() => match change.context("waiting for the command")? {
                    WorkloadStatus::Exited(status) => break Status(status),
                    WorkloadStatus::Killed(signal) => break Status(128_u8.saturating_add(signal)),
                    WorkloadStatus::Stopped => if let Some(desk) = &mut desk {
                        desk.suspend().context("stopping with the command")?;
                        running.resume_workload().context("waking the command")?;
                    },
                },
                signal = signals.next() => match signal {
                    Caught::Pass(number) => drop(running.signal_workload(number)), // it may have ended
                    Caught::Resized => if let Some(desk) = &mut desk { desk.resize() },
                    Caught::Continued => if let Some(desk) = &mut desk {
                        desk.take_again().context("taking the terminal again")?;
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
                () = ask(&mut popups) => {}
                worked = work(&mut desk) => worked?,
            }
        };

        // From the inside out. Dropping it waits until nothing of the sandbox is left.
        drop(running);
        if let Some(desk) = &mut desk {
            // A terminal that does not read for so long misses the end.
            drop(timeout(FAREWELL, desk.end()).await);
        }
        if served.is_none() && timeout(FAREWELL, &mut serving).await.is_err() {
            stop.cancel();
        }
        if let Some(popups) = popups {
            // A desktop that does not answer for so long keeps them.
            drop(timeout(FAREWELL, popups.end()).await);
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

/// Takes the terminal, if there is one, and begins to ask on `front`.
fn set_up(
    front: Front,
    terminal: Option<(Operator, OwnedFd)>,
    hub: &Path,
    context: &Context,
) -> anyhow::Result<(Option<Desk>, Option<Popups>)> {
    let hubs = || Hubs::at_socket(hub.to_owned()).context("listening to the sandbox's questions");
    let (asks, desktop) = match front {
        Front::Popups { desktop, aloud } => (Some(Asks::at_a_prompt(aloud)), Some(desktop)),
        Front::Notifier { aloud } => (Some(Asks::at_a_prompt(aloud)), None),
        Front::Prompt => (Some(Asks::Aloud), None),
        Front::Screen => (Some(Asks::OnTheScreen), None),
        Front::Nothing => (None, None),
    };
    let mut desk = None;
    if let Some((operator, master)) = terminal {
        let asks = asks.map(|asks| hubs().map(|hubs| (asks, hubs)));
        let taken = Desk::new(operator, master, asks.transpose()?, context);
        desk = Some(taken.context("taking the terminal")?);
    }
    let popups = desktop.map(|desktop| hubs().map(|hubs| desktop.start(hubs)));
    Ok((desk, popups.transpose()?))
}

/// Says something of our own: on the terminal if we have it, else on standard error.
fn tell(desk: &mut Option<Desk>, context: &Context, words: &str) {
    match desk {
        Some(desk) => desk.say(words),
        None => context.output.error_line(words),
    }
}

async fn lost(connection: &mut Option<Connection>) -> anyhow::Error {
    match connection {
        Some(connection) => connection.ended().await,
        None => std::future::pending().await,
    }
}

/// Asks by popups, where there are any; never ends.
async fn ask(popups: &mut Option<Popups>) {
    if let Some(popups) = popups {
        popups.ask().await;
    }
    std::future::pending::<()>().await;
}

/// Does the next thing that is to be done at the terminal; never ends where there is none.
async fn work(desk: &mut Option<Desk>) -> anyhow::Result<()> {
    match desk {
        Some(desk) => desk.work().await,
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
fn whole(error: &SupervisorServeError) -> DisplayText {
    let first: Option<&dyn std::error::Error> = Some(error);
    let causes = std::iter::successors(first, |error| error.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    DisplayText::new(&causes.join(": "))
}
