// SPDX-License-Identifier: Apache-2.0
//! Serves the running command: signals, terminal, popups, network, supervisor.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use desktop::BackgroundPopups;
use names::HostResolver;
use netns::sandbox::{RunningSandbox, WorkloadStatus};
use operator::Session;
use record::RecordNotice;
use rustix::process::Signal;
use store::RuleFileWatch;
use supervisor::{DialedSupervisor, EgressNotice, HostSockets};
use terok_clearance::DisplayText;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::console::RunConsole;
use crate::controlling_tty::ControllingTty;
use crate::frontend::{RunFrontend, RunPopups};
use crate::learnt_dests::LearntRecorder;
use crate::run_record::RunRecord;
use crate::signals::{CaughtSignal, RunSignals};
use crate::stream_relay::StreamRelays;
use crate::summary::SummaryRecorder;
use crate::{RunError, RunNotice, RunOutcome, RunReporter, RunRules};

/// Maximum time after the command's end for the last output and the last events to operators.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// The supervisor of a run: lookups as on the host, and sockets of this process.
pub(crate) type RunSupervisor = DialedSupervisor<HostResolver, HostSockets>;

/// The running command and the parts of the run.
pub(crate) struct RunSession<'a> {
    pub(crate) running: RunningSandbox,
    pub(crate) signals: RunSignals,
    pub(crate) tty: Option<ControllingTty>,
    pub(crate) streams: StreamRelays,
    pub(crate) shared_sockets: Vec<PathBuf>,
    pub(crate) is_connected: bool,
    pub(crate) rules: RunRules,
    /// The rule files, if answers may be kept and changes can be noticed.
    pub(crate) rule_files: Option<RuleFileWatch>,
    /// Notified when a rule file may have changed.
    pub(crate) kept_changed: Arc<Notify>,
    pub(crate) events: mpsc::Receiver<RunEvent>,
    pub(crate) frontend: RunFrontend,
    pub(crate) recorder: SummaryRecorder,
    pub(crate) learnt: LearntRecorder,
    pub(crate) record: RunRecord,
    pub(crate) reporter: &'a dyn RunReporter,
}

impl RunSession<'_> {
    /// Serves the command until the end, when nothing of the sandbox is left.
    pub(crate) async fn run_until_exit(
        self,
        supervisor: RunSupervisor,
    ) -> Result<RunOutcome, RunError> {
        let Self {
            mut running,
            mut signals,
            tty,
            mut streams,
            shared_sockets,
            is_connected,
            rules,
            mut rule_files,
            kept_changed,
            mut events,
            frontend,
            recorder,
            learnt,
            record,
            reporter,
        } = self;
        let start_notice = frontend.start_notice(&rules);
        let terminal = tty.zip(running.take_terminal());
        let (mut console, mut popups) =
            open_frontend(frontend, terminal, supervisor.hub_path(), reporter)?;
        let first = is_connected.then_some(start_notice);
        let learning = (is_connected && rules.learns).then_some(RunNotice::Learning);
        let sockets = shared_sockets.iter();
        let sockets = sockets.map(|path| RunNotice::SharedSocket(path));
        let ports = supervisor.published().map(RunNotice::Published);
        let first = first.into_iter().chain(learning).chain(sockets);
        announce_all(
            &mut console,
            reporter,
            &first.chain(ports).collect::<Vec<_>>(),
        );

        let stop = CancellationToken::new();
        let mut serving = pin!(supervisor.serve(stop.clone()));
        let mut has_supervisor = true;
        let outcome = loop {
            tokio::select! {
                biased;
                status = wait_for_status(&running) => match status? {
                    WorkloadStatus::Exited(status) => break RunOutcome::Exited { status },
                    WorkloadStatus::Killed(signal) => break RunOutcome::Killed { signal },
                    WorkloadStatus::Stopped => if let Some(console) = &mut console {
                        console.suspend().map_err(RunError::Suspend)?;
                        running.resume_workload().map_err(RunError::ResumeCommand)?;
                    },
                },
                signal = signals.next() => match signal {
                    // An error means that the command has ended.
                    CaughtSignal::Forward(number) => drop(running.signal_workload(number)),
                    CaughtSignal::Resized => if let Some(console) = &mut console {
                        console.resize();
                    },
                    CaughtSignal::Continued => if let Some(console) = &mut console {
                        console.reacquire_tty().map_err(RunError::ReacquireTerminal)?;
                    },
                },
                ended = &mut serving, if has_supervisor => {
                    has_supervisor = false;
                    if let Err(error) = &ended {
                        announce(&mut console, reporter, &RunNotice::SupervisorFailed(error));
                    }
                }
                Some(event) = events.recv() => {
                    announce(&mut console, reporter, &event.notice());
                }
                () = wait_for_rule_change(&mut rule_files) => kept_changed.notify_one(),
                () = run_popups(&mut popups) => {}
                () = streams.run() => {}
                stepped = step_console(&mut console) => {
                    stepped?;
                    // As the kernel tells the processes of a terminal that was closed.
                    if console.as_mut().is_some_and(RunConsole::take_hang_up) {
                        drop(running.signal_workload(Signal::HUP));
                    }
                }
            }
        };

        // First the sandbox: dropping it waits until nothing of it is left.
        drop(running);
        tokio::select! {
            () = streams.drain() => {}
            _ = signals.next_terminating() => {} // whoever has the socket does not read it
        }
        if let Some(console) = &mut console {
            // A terminal that is not read for that long loses the end of the output.
            drop(timeout(SHUTDOWN_TIMEOUT, console.close()).await);
        }
        if has_supervisor && timeout(SHUTDOWN_TIMEOUT, &mut serving).await.is_err() {
            stop.cancel();
        }
        if let Some(popups) = popups {
            // A desktop that does not reply for that long keeps the popups.
            drop(timeout(SHUTDOWN_TIMEOUT, popups.close()).await);
        }
        announce_rest(reporter, &mut events);
        let learnt = rules.learns.then(|| learnt.learnt());
        announce_end(
            reporter,
            &recorder.summary(),
            learnt.as_ref(),
            record.finish(outcome),
        );
        Ok(outcome)
    }
}

/// An event of another thread, or of the supervisor, for the person at the terminal.
#[derive(Debug)]
pub(crate) enum RunEvent {
    /// A refusal without a question.
    Egress(EgressNotice),
    /// A change of the record's state.
    Record(RecordNotice),
    /// A file of kept answers cannot be read.
    KeptUnreadable(DisplayText),
}

impl RunEvent {
    const fn notice(&self) -> RunNotice<'_> {
        match self {
            Self::Egress(notice) => RunNotice::Egress(notice),
            Self::Record(notice) => RunNotice::Record(notice),
            Self::KeptUnreadable(reason) => RunNotice::KeptUnreadable(reason),
        }
    }
}

/// Waits until a rule file may have changed; forever without a watch.
async fn wait_for_rule_change(watch: &mut Option<RuleFileWatch>) {
    let Some(changes) = watch else {
        return std::future::pending().await;
    };
    if let Err(error) = changes.changed().await {
        tracing::warn!(%error, "changes of the rule files are not noticed any more");
        *watch = None;
    }
}

/// Takes over the terminal, if any, and starts the user interfaces of `frontend`.
fn open_frontend<'a>(
    frontend: RunFrontend,
    terminal: Option<(ControllingTty, OwnedFd)>,
    hub: &Path,
    reporter: &'a dyn RunReporter,
) -> Result<(Option<RunConsole<'a>>, Option<BackgroundPopups>), RunError> {
    let session = || Session::at_socket(hub.to_owned()).map_err(RunError::ListenToHub);
    let mut console = None;
    if let Some((tty, master)) = terminal {
        let screen = frontend
            .screen
            .map(|screen| session().map(|session| (screen, session)));
        let opened = RunConsole::new(tty, master, screen.transpose()?, reporter);
        console = Some(opened.map_err(RunError::SetUpTerminal)?);
    }
    let popups = match frontend.popups {
        RunPopups::Own(desktop) => Some(desktop.start_popups(session()?)),
        RunPopups::Notifier | RunPopups::Off => None,
    };
    Ok((console, popups))
}

/// Shows a message: on the console, if any, else by the reporter.
/// Prints what was reported while the sandbox ended.
fn announce_rest(reporter: &dyn RunReporter, events: &mut mpsc::Receiver<RunEvent>) {
    while let Ok(event) = events.try_recv() {
        announce(&mut None, reporter, &event.notice());
    }
}

/// Prints what is known at the end.
fn announce_end(
    reporter: &dyn RunReporter,
    summary: &crate::RunSummary,
    learnt: Option<&crate::LearntDests>,
    is_recorded: bool,
) {
    let last = [
        Some(RunNotice::Ended(summary)),
        learnt.map(RunNotice::Learnt),
        (!is_recorded).then_some(RunNotice::RecordIncomplete),
    ];
    let last: Vec<_> = last.into_iter().flatten().collect();
    announce_all(&mut None, reporter, &last);
}

fn announce_all(
    console: &mut Option<RunConsole<'_>>,
    reporter: &dyn RunReporter,
    notices: &[RunNotice<'_>],
) {
    for notice in notices {
        announce(console, reporter, notice);
    }
}

fn announce(
    console: &mut Option<RunConsole<'_>>,
    reporter: &dyn RunReporter,
    notice: &RunNotice<'_>,
) {
    let Some(text) = reporter.message(notice) else {
        return;
    };
    match console {
        Some(console) => console.print_line(&text),
        None => reporter.print(&text),
    }
}

async fn wait_for_status(running: &RunningSandbox) -> Result<WorkloadStatus, RunError> {
    let status = running.wait_for_status().await;
    status.map_err(RunError::WaitForCommand)
}

/// Shows the popups, if any; never returns.
async fn run_popups(popups: &mut Option<BackgroundPopups>) {
    if let Some(popups) = popups {
        popups.run().await;
    }
    std::future::pending::<()>().await;
}

/// Handles the next event at the terminal; without a console never returns.
async fn step_console(console: &mut Option<RunConsole<'_>>) -> Result<(), RunError> {
    match console {
        Some(console) => console.step().await,
        None => std::future::pending().await,
    }
}
