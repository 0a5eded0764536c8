// SPDX-License-Identifier: Apache-2.0
//! The init process of a sandbox: builds, starts the workload, reaps children, ends everything.
//!
//! It is root of the outer user namespace and process 1 of the pid namespace; its end makes the
//! kernel end all other processes of the sandbox. It ends together with the supervisor, through the
//! parent-death signal `SIGKILL` and through the end of the control socket.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdGetfdFlags, Resource, Rlimit, Signal, WaitOptions, getrlimit, ioctl_tiocsctty,
    kill_process, kill_process_group, pidfd_getfd, set_parent_process_death_signal, setrlimit,
    setsid, wait,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcsetattr, tcsetwinsize};

use super::id_maps::{OperatorIds, is_machine_root};
use super::init_channel::{InitCommand, InitFault, InitReport, MAX_PACKET_BYTES, receive_packet};
use super::limits::LimitPlan;
use super::mount_plan::MountPlan;
use super::seccomp::WorkloadSeccomp;
use super::socket_broker::SocketBroker;
use super::{SandboxSpec, TerminalSpec, mounts, workload};
use crate::link::RtnetlinkSocket;
use crate::process::ProcessHandle;
use crate::sys;

/// What the init process builds from.
#[derive(Clone, Copy, Debug)]
pub(super) struct InitInputs<'a> {
    pub(super) spec: &'a SandboxSpec,
    pub(super) plan: &'a MountPlan,
    pub(super) limits: &'a LimitPlan,
    pub(super) ids: OperatorIds,
}

/// Runs the init process and returns its exit status, which is never read.
pub(super) fn run_init(inputs: &InitInputs<'_>, control: &OwnedFd) -> u8 {
    if let Err(fault) = build_and_supervise(inputs, control) {
        // The only recipient is the supervisor; a failure to send means that it is gone.
        drop(InitReport::Failed(fault).send(control, None));
    }
    0
}

fn build_and_supervise(inputs: &InitInputs<'_>, control: &OwnedFd) -> Result<(), InitFault> {
    let InitInputs {
        spec, plan, limits, ..
    } = *inputs;
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(InitFault::at_step("tying the sandbox to its supervisor"))?;
    let children =
        sys::signals::open_sigchld_fd().map_err(InitFault::at_step("catching signals"))?;
    if next_command(control)? != Some(InitCommand::Build) {
        return Ok(()); // the supervisor may have died before the death signal was set
    }
    setsid().map_err(InitFault::at_step("leaving the operator's session"))?;
    bring_loopback_up()?;
    // The supervisor has moved this process into the sandbox's control group.
    sys::unshare_cgroup_namespace().map_err(InitFault::at_step(
        "creating the namespace of control groups",
    ))?;
    let inputs_of_mounts = mounts::MountInputs {
        plan,
        limits,
        resolvers: &spec.resolvers,
        search_domains: &spec.search_domains,
        may_nest: spec.root_may_nest || !is_machine_root(),
    };
    mounts::build_mounts(&inputs_of_mounts)?;
    let filter = WorkloadSeccomp::compile().map_err(|error| InitFault {
        step: format!("compiling the system call filter: {error}"),
        errno: libc::EINVAL,
    })?;
    let terminal = spec
        .terminal
        .as_ref()
        .map(open_workload_terminal)
        .transpose()?;
    let (master, slave) = terminal.unzip();
    let gone = InitFault::at_step("reporting to the supervisor");
    InitReport::Ready
        .send(control, master.as_ref())
        .map_err(gone)?;
    drop(master);

    if next_command(control)? != Some(InitCommand::Start) {
        return Ok(());
    }
    let started = start_workload(inputs, slave.as_ref(), &filter, control)?;
    let Some((workload, calls)) = started else {
        return Ok(());
    };
    drop(slave); // the workload has its own copy; its end must be visible at the master
    raise_open_files_limit();
    // The socket broker follows paths of the workload: `/proc/1/fd/7/…` must lead nowhere.
    let mut kept = vec![
        control.as_fd(),
        children.as_fd(),
        workload.as_fd(),
        calls.as_fd(),
    ];
    kept.extend(plan.socket_files().map(|file| file.as_fd()));
    sys::close_copies_except(&kept);
    let shared = plan.socket_files().map(OwnedFd::try_clone);
    let broker = shared
        .collect::<Result<_, _>>()
        .and_then(|shared| Ok(SocketBroker::new(calls, shared)?))
        .map_err(InitFault::at_step("starting the socket broker"))?;
    supervise_workload(&workload, control, &children, broker)
}

/// The socket broker keeps one descriptor for each socket file of the workload.
fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays");
    }
}

/// Receives the next command; `None` if the supervisor is gone.
fn next_command(control: &OwnedFd) -> Result<Option<InitCommand>, InitFault> {
    let received = receive_packet(control, RecvFlags::empty());
    let (packet, _) = received.map_err(InitFault::at_step("receiving from the supervisor"))?;
    Ok(InitCommand::decode(&packet))
}

fn bring_loopback_up() -> Result<(), InitFault> {
    let up = || {
        let mut links = RtnetlinkSocket::open()?;
        let name = "lo".parse().map_err(|_never| crate::link::LinkError {
            step: "naming the loopback link".to_owned(),
            errno: Errno::INVAL,
        })?;
        let loopback = links.find_link(&name)?;
        links.bring_up(loopback)
    };
    up().map_err(|error| InitFault::at_step(error.step)(error.errno))
}

/// Creates a terminal inside the sandbox with the settings of the operator's, and makes the init
/// process the leader of its session. Returns master and slave side.
fn open_workload_terminal(like: &TerminalSpec) -> Result<(OwnedFd, OwnedFd), InitFault> {
    let make = || {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        tcsetattr(&slave, OptionalActions::Now, &like.attributes)?;
        tcsetwinsize(&slave, like.window_size)?;
        ioctl_tiocsctty(&slave)?;
        Ok((master, slave))
    };
    make().map_err(InitFault::at_step::<Errno>(
        "creating the workload's terminal",
    ))
}

/// Starts the workload and reports the result to the supervisor. Returns `None` if the program
/// could not be executed.
fn start_workload(
    inputs: &InitInputs<'_>,
    terminal: Option<&OwnedFd>,
    filter: &WorkloadSeccomp,
    control: &OwnedFd,
) -> Result<Option<(ProcessHandle, OwnedFd)>, InitFault> {
    let InitInputs {
        spec, limits, ids, ..
    } = *inputs;
    let piping = || InitFault::at_step::<Errno>("creating a pipe");
    let (mapped, when_mapped) = pipe_with(PipeFlags::CLOEXEC).map_err(piping())?;
    let (outcome, report_pipe) = pipe_with(PipeFlags::CLOEXEC).map_err(piping())?;
    let begin = workload::WorkloadLauncher {
        workload: &spec.workload,
        terminal: terminal.zip(spec.terminal.as_ref()),
        filter,
        limits,
        keeps_file_rights: ids.keeps_all(),
    };
    limits.apply_inherited()?;
    let workload = sys::clone::spawn_in_namespaces(libc::CLONE_NEWUSER, || {
        let mut go = [0];
        let mut mapped = File::from(mapped);
        let mut report_pipe = File::from(report_pipe);
        if mapped.read_exact(&mut go).is_ok() {
            let report = begin.exec_workload(|listener| {
                let report = InitReport::Filtered(listener.as_raw_fd());
                report_pipe
                    .write_all(&report.encode())
                    .and_then(|()| mapped.read_exact(&mut go))
                    .map_err(InitFault::at_step("handing over the system call filter"))
            });
            // The only reader is the init process; without it the sandbox is gone.
            drop(report_pipe.write_all(&report.encode()));
        }
        0
    })
    .map_err(InitFault::at_step("starting the workload"))?;
    // The pipe ends moved into the closure are closed here; the child has copies.

    ids.map_inner(&workload).map_err(InitFault::at_step(
        "mapping the workload to the operator's user",
    ))?;
    let (mut go, mut outcome) = (File::from(when_mapped), File::from(outcome));
    let starting = || InitFault::at_step("starting the workload");
    let reading = || InitFault::at_step("reading the result of the workload's start");
    go.write_all(b"g").map_err(starting())?;
    let mut packet = [0; MAX_PACKET_BYTES];
    let length = outcome.read(&mut packet).map_err(reading())?;
    let mut report = packet.get(..length).unwrap_or_default().to_vec();
    let mut calls = None;
    if let Some(InitReport::Filtered(number)) = InitReport::decode(&report) {
        // Not as a message: those have a limit that the workload of another sandbox may use up.
        let copied = pidfd_getfd(&workload, number, PidfdGetfdFlags::empty());
        calls = Some(copied.map_err(InitFault::at_step("taking over the system call filter"))?);
        go.write_all(b"g").map_err(starting())?;
        report.clear();
        outcome.read_to_end(&mut report).map_err(reading())?;
    }
    if let Some(report) = InitReport::decode(&report) {
        report
            .send(control, None)
            .map_err(InitFault::at_step("reporting to the supervisor"))?;
        return Ok(None);
    }
    let Some(calls) = calls else {
        return Ok(None); // killed: the supervisor sees the end of this process
    };
    let pidfd = workload.as_fd().try_clone_to_owned();
    let pidfd = pidfd.map_err(InitFault::at_step("duplicating the workload's pidfd"))?;
    InitReport::Started
        .send(control, Some(&pidfd))
        .map_err(InitFault::at_step("reporting to the supervisor"))?;
    Ok(Some((workload, calls)))
}

/// Reaps children, serves the workload's sockets and obeys the supervisor, until the workload or
/// the supervisor has ended.
fn supervise_workload(
    workload: &ProcessHandle,
    control: &OwnedFd,
    children: &OwnedFd,
    mut broker: SocketBroker,
) -> Result<(), InitFault> {
    let pid = workload.raw_pid();
    loop {
        broker.handle_events(now())?;
        for change in reap_children() {
            let Some(report) = change?.report_for(pid) else {
                continue;
            };
            let sent = report.send(control, None);
            if report != InitReport::Stopped {
                return Ok(());
            }
            sent.map_err(InitFault::at_step("reporting to the supervisor"))?;
        }
        wait_for_event(control, children, &broker)?;
        drain_signals(children);
        match receive_packet(control, RecvFlags::DONTWAIT) {
            Ok((packet, _)) if InitCommand::decode(&packet) == Some(InitCommand::Continue) => {
                // The whole job continues: children in the process group may have stopped with it.
                let continued = kill_process_group(pid, Signal::CONT)
                    .or_else(|_no_group| kill_process(pid, Signal::CONT));
                continued
                    .or_else(ignore_ended)
                    .map_err(InitFault::at_step("continuing the workload"))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => return Ok(()), // the supervisor is gone
        }
    }
}

fn wait_for_event(
    control: &OwnedFd,
    children: &OwnedFd,
    broker: &SocketBroker,
) -> Result<(), InitFault> {
    let [calls, connects] = broker.event_fds();
    let mut fds = [control.as_fd(), children.as_fd(), calls, connects]
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let wait = broker
        .next_deadline()
        .map(|at| at.saturating_duration_since(now()))
        .map(Timespec::try_from)
        .transpose()
        .unwrap_or_default();
    match poll(&mut fds, wait.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(InitFault::at_step("waiting for an event")(error)),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the clock of the init process's loop"
)]
fn now() -> Instant {
    Instant::now()
}

/// Treats the end of the process as success: no signal is needed any more.
fn ignore_ended(error: Errno) -> Result<(), Errno> {
    if error == Errno::SRCH {
        Ok(())
    } else {
        Err(error)
    }
}

fn drain_signals(children: &OwnedFd) {
    let mut buffer = [0; 1024];
    while rustix::io::read(children, &mut buffer).is_ok() {}
}

/// A reaped child and its status.
struct ChildStatus {
    pid: Pid,
    report: Option<InitReport>,
}

impl ChildStatus {
    fn report_for(self, pid: Pid) -> Option<InitReport> {
        (self.pid == pid).then_some(self.report).flatten()
    }
}

/// Returns the pending status changes of children without waiting.
fn reap_children() -> impl Iterator<Item = Result<ChildStatus, InitFault>> {
    std::iter::from_fn(|| match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
        Ok(Some((pid, status))) => {
            let report = status
                .exit_status()
                .map(InitReport::Exited)
                .or_else(|| status.terminating_signal().map(InitReport::Killed))
                .or_else(|| status.stopped().then_some(InitReport::Stopped));
            Some(Ok(ChildStatus { pid, report }))
        }
        Ok(None) | Err(Errno::CHILD) => None,
        Err(error) => Some(Err(InitFault::at_step("reaping a child")(error))),
    })
}
