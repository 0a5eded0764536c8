// SPDX-License-Identifier: Apache-2.0
//! Stays with the command until it has ended: signals, terminal, popups, network, supervisor.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use netns::sandbox::{RunningSandbox, WorkloadStatus};
use operator::Session;
use operator::discovery::Hubs;
use rustix::process::Signal as Number;
use supervisor::{Supervisor, SupervisorServeError};
use terok_clearance::DisplayText;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::console::RunConsole;
use super::controlling_tty::ControllingTty;
use super::frontend::{RunFrontend, RunPopups};
use super::network::NetworkConnection;
use super::summary::RunSummary;
use crate::desktop::BackgroundPopups;
use crate::{CommandContext, CommandFailure, CommandStatus};

/// How long the last output and the last words to operators may take after the command's end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// Everything that is there while the command runs.
pub(super) struct RunSession<'a> {
    pub(super) running: RunningSandbox,
    pub(super) signals: RunSignals,
    pub(super) tty: Option<ControllingTty>,
    pub(super) connection: Option<NetworkConnection>,
    pub(super) frontend: RunFrontend,
    pub(super) quiet: bool,
    pub(super) summary: RunSummary,
    pub(super) context: &'a CommandContext,
}

impl RunSession<'_> {
    /// Returns the command's status when it has ended and nothing of the sandbox is left.
    pub(super) async fn run_until_exit(
        self,
        supervisor: Supervisor,
    ) -> Result<CommandStatus, CommandFailure> {
        let Self {
            mut running,
            mut signals,
            tty: operator,
            mut connection,
            frontend: front,
            quiet,
            summary,
            context,
        } = self;
        let output = &context.output;
        let hub = supervisor.hub_path().to_owned();
        let master = running.take_terminal();
        let words = front.start_message();
        let terminal = operator.zip(master);
        let (mut desk, mut popups) = open_console(front, terminal, &hub, context)?;
        if !quiet && connection.is_some() {
            announce(&mut desk, context, &words);
        }

        let stop = CancellationToken::new();
        let mut serving = pin!(supervisor.serve(stop.clone()));
        let mut served = None;
        let status = loop {
            tokio::select! {
                biased;
                change = running.wait_for_status() => match change.context("waiting for the command")? {
                    WorkloadStatus::Exited(status) => break CommandStatus(status),
                    WorkloadStatus::Killed(signal) => break CommandStatus(128_u8.saturating_add(signal)),
                    WorkloadStatus::Stopped => if let Some(desk) = &mut desk {
                        desk.suspend().context("stopping with the command")?;
                        running.resume_workload().context("waking the command")?;
                    },
                },
                signal = signals.next() => match signal {
                    CaughtSignal::Forward(number) => drop(running.signal_workload(number)), // it may have ended
                    CaughtSignal::Resized => if let Some(desk) = &mut desk { desk.resize() },
                    CaughtSignal::Continued => if let Some(desk) = &mut desk {
                        desk.reacquire_tty().context("taking the terminal again")?;
                    },
                },
                ended = &mut serving, if served.is_none() => {
                    if let Err(error) = &ended {
                        let words = format!("terok-clearance: {}: nothing new can be answered; \
                            what was denied stays denied", error_chain(error));
                        announce(&mut desk, context, &words);
                    }
                    served = Some(ended);
                }
                error = wait_for_network_loss(&mut connection) => {
                    connection = None;
                    let words = format!("terok-clearance: the sandbox lost its network: {error}");
                    announce(&mut desk, context, &words);
                }
                () = run_popups(&mut popups) => {}
                worked = step_console(&mut desk) => worked?,
            }
        };

        // From the inside out. Dropping it waits until nothing of the sandbox is left.
        drop(running);
        if let Some(desk) = &mut desk {
            // A terminal that does not read for so long misses the end.
            drop(timeout(SHUTDOWN_TIMEOUT, desk.close()).await);
        }
        if served.is_none() && timeout(SHUTDOWN_TIMEOUT, &mut serving).await.is_err() {
            stop.cancel();
        }
        if let Some(popups) = popups {
            // A desktop that does not answer for so long keeps them.
            drop(timeout(SHUTDOWN_TIMEOUT, popups.close()).await);
        }
        if let Some(connection) = connection {
            drop(connection.close().await); // it ended by itself
        }
        if context.json {
            output.print_error_line(&summary.json().to_string());
        } else if let Some(words) = summary.text().filter(|_| !quiet) {
            output.print_error_line(&words);
        }
        Ok(status)
    }
}

/// Takes over the terminal, if there is one, and starts the user interfaces of `frontend`.
fn open_console(
    frontend: RunFrontend,
    terminal: Option<(ControllingTty, OwnedFd)>,
    hub: &Path,
    context: &CommandContext,
) -> anyhow::Result<(Option<RunConsole>, Option<BackgroundPopups>)> {
    let hubs = || Hubs::at_socket(hub.to_owned()).context("listening to the sandbox's questions");
    let mut console = None;
    if let Some((tty, master)) = terminal {
        let screen = frontend.screen.map(|mode| hubs().map(|hubs| (mode, hubs)));
        let taken = RunConsole::new(tty, master, screen.transpose()?, context);
        console = Some(taken.context("using the terminal")?);
    }
    let popups = match frontend.popups {
        RunPopups::Own(desktop) => {
            let session = Session::at_socket(hub.to_owned());
            let session = session.context("listening to the sandbox's questions")?;
            Some(desktop.start_popups(session))
        }
        RunPopups::Notifier | RunPopups::Off => None,
    };
    Ok((console, popups))
}

/// Says something of our own: on the terminal if we have it, else on standard error.
fn announce(desk: &mut Option<RunConsole>, context: &CommandContext, words: &str) {
    match desk {
        Some(desk) => desk.print_line(words),
        None => context.output.print_error_line(words),
    }
}

async fn wait_for_network_loss(connection: &mut Option<NetworkConnection>) -> anyhow::Error {
    match connection {
        Some(connection) => connection.wait_for_exit().await,
        None => std::future::pending().await,
    }
}

/// Asks by popups, where there are any; never ends.
async fn run_popups(popups: &mut Option<BackgroundPopups>) {
    if let Some(popups) = popups {
        popups.run().await;
    }
    std::future::pending::<()>().await;
}

/// Does the next thing that is to be done at the terminal; never ends where there is none.
async fn step_console(desk: &mut Option<RunConsole>) -> anyhow::Result<()> {
    match desk {
        Some(desk) => desk.step().await,
        None => std::future::pending().await,
    }
}

/// The signals that concern a command, caught from the moment of the making on.
#[derive(Debug)]
pub(super) struct RunSignals {
    forwarded: [(Number, Signal); 6],
    resized: Signal,
    continued: Signal,
}

/// A signal that was caught.
#[derive(Debug)]
enum CaughtSignal {
    /// The command is to have it.
    Forward(Number),
    /// The window has another size.
    Resized,
    /// We may go on after a stop.
    Continued,
}

impl RunSignals {
    pub(super) fn catch() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("catching signals");
        Ok(Self {
            forwarded: [
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
    pub(super) async fn next_terminating(&mut self) -> CommandStatus {
        loop {
            if let CaughtSignal::Forward(number) = self.next().await {
                let number = u8::try_from(number.as_raw()).unwrap_or_default();
                return CommandStatus(128_u8.saturating_add(number));
            }
        }
    }

    async fn next(&mut self) -> CaughtSignal {
        let Self {
            forwarded: [one, two, three, four, five, six],
            resized,
            continued,
        } = self;
        tokio::select! {
            _ = one.1.recv() => CaughtSignal::Forward(one.0),
            _ = two.1.recv() => CaughtSignal::Forward(two.0),
            _ = three.1.recv() => CaughtSignal::Forward(three.0),
            _ = four.1.recv() => CaughtSignal::Forward(four.0),
            _ = five.1.recv() => CaughtSignal::Forward(five.0),
            _ = six.1.recv() => CaughtSignal::Forward(six.0),
            _ = resized.recv() => CaughtSignal::Resized,
            _ = continued.recv() => CaughtSignal::Continued,
        }
    }
}

/// An error with its causes.
fn error_chain(error: &SupervisorServeError) -> DisplayText {
    let first: Option<&dyn std::error::Error> = Some(error);
    let causes = std::iter::successors(first, |error| error.source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    DisplayText::new(&causes.join(": "))
}
