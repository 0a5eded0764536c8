// SPDX-License-Identifier: Apache-2.0
//! The life of a sandbox's first process: it builds, starts the workload, reaps, and ends all.
//!
//! It is the root of the outer user namespace and process 1 of the pid namespace. When it ends the
//! kernel ends everything else in there; it ends when the supervisor does, whose end the kernel
//! answers with `SIGKILL`, and which is also seen as the end of the control socket.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitOptions, ioctl_tiocsctty, kill_process, kill_process_group,
    set_parent_process_death_signal, setsid, wait,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{OptionalActions, tcsetattr, tcsetwinsize};

use super::channel::{Fault, Order, Report, receive};
use super::filter::Filter;
use super::survey::Layout;
use super::{Blueprint, Terminal, map_user, mounts, workload};
use crate::link::Links;
use crate::process::Process;
use crate::sys;

/// Lives, and returns the exit status, in which nobody is interested.
pub(super) fn live(blueprint: &Blueprint, layout: &Layout, control: &OwnedFd, ids: Ids) -> u8 {
    if let Err(fault) = serve(blueprint, layout, control, ids) {
        // When this cannot be told, the supervisor is gone, and with it all interest.
        drop(Report::Failed(fault).send(control, None));
    }
    0
}

/// Who the operator is, in the supervisor's user namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    pub(super) user: u32,
    pub(super) group: u32,
}

fn serve(blueprint: &Blueprint, layout: &Layout, control: &OwnedFd, ids: Ids) -> Result<(), Fault> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(Fault::at("tying the sandbox to its supervisor"))?;
    let children = sys::signals::children_only().map_err(Fault::at("catching signals"))?;
    if next_order(control)? != Some(Order::Build) {
        return Ok(()); // the supervisor is gone, perhaps before the tie above held
    }
    setsid().map_err(Fault::at("leaving the operator's session"))?;
    loopback_up()?;
    mounts::build(layout, &blueprint.resolvers)?;
    let filter = Filter::compile().map_err(|error| Fault {
        step: format!("compiling the system call filter: {error}"),
        errno: libc::EINVAL,
    })?;
    let terminal = blueprint.terminal.as_ref().map(own_terminal).transpose()?;
    let (master, slave) = terminal.unzip();
    let gone = Fault::at("speaking to the supervisor");
    Report::Ready.send(control, master.as_ref()).map_err(gone)?;
    drop(master);

    if next_order(control)? != Some(Order::Start) {
        return Ok(());
    }
    let Some(workload) = start(blueprint, slave.as_ref(), &filter, control, ids)? else {
        return Ok(());
    };
    drop(slave); // the workload has its own; its end is to be seen at the master
    attend(&workload, control, &children)
}

/// What the supervisor says next; none when it is gone.
fn next_order(control: &OwnedFd) -> Result<Option<Order>, Fault> {
    let heard = receive(control, RecvFlags::empty());
    let (packet, _) = heard.map_err(Fault::at("hearing the supervisor"))?;
    Ok(Order::decode(&packet))
}

fn loopback_up() -> Result<(), Fault> {
    let up = || {
        let mut links = Links::open()?;
        let name = "lo".parse().map_err(|_never| crate::link::LinkError {
            step: "naming the loopback".to_owned(),
            errno: Errno::INVAL,
        })?;
        let loopback = links.find(&name)?;
        links.up(loopback)
    };
    up().map_err(|error| Fault::at(error.to_string())(error.errno))
}

/// Makes a terminal inside the sandbox, set up like the operator's, and this process the leader of
/// its session. Returns the master and the slave side.
fn own_terminal(like: &Terminal) -> Result<(OwnedFd, OwnedFd), Fault> {
    let make = || {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        unlockpt(&master)?;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        tcsetattr(&slave, OptionalActions::Now, &like.attributes)?;
        tcsetwinsize(&slave, like.size)?;
        ioctl_tiocsctty(&slave)?;
        Ok((master, slave))
    };
    make().map_err(Fault::at::<Errno>("making the workload's terminal"))
}

/// Starts the workload and tells the supervisor; none when its program could not be executed, of
/// which the supervisor then knows.
fn start(
    blueprint: &Blueprint,
    terminal: Option<&OwnedFd>,
    filter: &Filter,
    control: &OwnedFd,
    ids: Ids,
) -> Result<Option<Process>, Fault> {
    let piping = || Fault::at::<Errno>("making a pipe");
    let (mapped, when_mapped) = pipe_with(PipeFlags::CLOEXEC).map_err(piping())?;
    let (outcome, tell) = pipe_with(PipeFlags::CLOEXEC).map_err(piping())?;
    let begin = workload::Beginning {
        workload: &blueprint.workload,
        terminal: terminal.zip(blueprint.terminal.as_ref()),
        filter,
    };
    let workload = sys::clone::child(libc::CLONE_NEWUSER, || {
        let mut go = [0];
        let mut mapped = File::from(mapped);
        if mapped.read_exact(&mut go).is_ok() {
            let report = begin.execute();
            // The only reader is the process above; if it is gone, so is everything.
            drop(File::from(tell).write_all(&report.encode()));
        }
        0
    })
    .map_err(Fault::at("starting the workload"))?;
    // The child has its own copies of the ends that moved into its closure; ours went with it.

    map_user(&workload, ids.user, 0, ids.group, 0)
        .map_err(Fault::at("giving the workload the operator's name"))?;
    File::from(when_mapped)
        .write_all(b"g")
        .map_err(Fault::at("starting the workload"))?;
    let mut report = Vec::new();
    let heard = File::from(outcome).read_to_end(&mut report);
    heard.map_err(Fault::at("hearing the workload"))?;
    if let Some(report) = Report::decode(&report) {
        report
            .send(control, None)
            .map_err(Fault::at("speaking to the supervisor"))?;
        return Ok(None);
    }
    let pidfd = workload.as_fd().try_clone_to_owned();
    let pidfd = pidfd.map_err(Fault::at("holding the workload"))?;
    Report::Started
        .send(control, Some(&pidfd))
        .map_err(Fault::at("speaking to the supervisor"))?;
    Ok(Some(workload))
}

/// Reaps whatever ends and obeys the supervisor, until the workload or the supervisor has ended.
fn attend(workload: &Process, control: &OwnedFd, children: &OwnedFd) -> Result<(), Fault> {
    let pid = workload.raw_pid();
    loop {
        for change in changes() {
            let Some(report) = change?.about(pid) else {
                continue;
            };
            let told = report.send(control, None);
            if report != Report::Stopped {
                return Ok(());
            }
            told.map_err(Fault::at("speaking to the supervisor"))?;
        }
        let mut fds = [
            PollFd::new(control, PollFlags::IN),
            PollFd::new(children, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Fault::at("waiting")(error)),
        }
        if fds.iter().any(|fd| !fd.revents().is_empty()) {
            drain(children);
        }
        match receive(control, RecvFlags::DONTWAIT) {
            Ok((packet, _)) if Order::decode(&packet) == Some(Order::Continue) => {
                // Its whole job: it may have children in its process group that stopped with it.
                let woken = kill_process_group(pid, Signal::CONT)
                    .or_else(|_no_group| kill_process(pid, Signal::CONT));
                woken
                    .or_else(gone)
                    .map_err(Fault::at("waking the workload"))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => return Ok(()), // the supervisor is gone
        }
    }
}

/// Takes the end of the process for success: it wants nothing any more.
fn gone(error: Errno) -> Result<(), Errno> {
    if error == Errno::SRCH {
        Ok(())
    } else {
        Err(error)
    }
}

fn drain(children: &OwnedFd) {
    let mut heard = [0; 1024];
    while rustix::io::read(children, &mut heard).is_ok() {}
}

/// One child, and what became of it.
struct Change {
    pid: Pid,
    report: Option<Report>,
}

impl Change {
    fn about(self, pid: Pid) -> Option<Report> {
        (self.pid == pid).then_some(self.report).flatten()
    }
}

/// The changes of children that can be had without waiting.
fn changes() -> impl Iterator<Item = Result<Change, Fault>> {
    std::iter::from_fn(|| match wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
        Ok(Some((pid, status))) => {
            let report = status
                .exit_status()
                .map(Report::Exited)
                .or_else(|| status.terminating_signal().map(Report::Killed))
                .or_else(|| status.stopped().then_some(Report::Stopped));
            Some(Ok(Change { pid, report }))
        }
        Ok(None) | Err(Errno::CHILD) => None,
        Err(error) => Some(Err(Fault::at("reaping")(error))),
    })
}
