// SPDX-License-Identifier: Apache-2.0
//! Builds a sandbox around one command: namespaces of its own, nothing connected, nobody to talk to.
//!
//! Two user namespaces, one in the other. The outer one belongs to the operator and owns the
//! network, mount and pid namespaces; its root is the sandbox's first process, which is ours. The
//! workload lives in the inner one under the operator's own name: root of nothing, so that it can
//! change neither its firewall nor what is mounted, and a user namespace that it makes cannot
//! either.
//!
//! The order is the safety: [`Sandbox::build`] returns when everything stands and the network has
//! no more than its loopback; the caller puts the firewall up and connects it; only
//! [`Sandbox::start`] starts the workload. Whoever drops a sandbox before that, or at any time
//! after, ends all that is in it, and so does the end of the calling process, however it comes.

mod init;
mod init_channel;
mod mount_plan;
mod mountinfo;
mod mounts;
mod seccomp;
mod userns_restriction;
mod workload;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{
    DumpableBehavior, Signal, WaitId, WaitIdOptions, getegid, geteuid, set_dumpable_behavior,
    waitid,
};
use rustix::termios::{Termios, Winsize};
use thiserror::Error;

pub use userns_restriction::UsernsRestriction;
pub use workload::WorkloadSpec;

use crate::{NetnsRef, PollableFd, ProcessHandle, sys};
use init_channel::{InitCommand, InitFault, InitReport, receive_packet};

/// What to build.
#[derive(Clone, Debug, Default)]
pub struct SandboxSpec {
    /// What is to run.
    pub workload: WorkloadSpec,
    /// Directories that only the operator's side may see and change: configuration, state, sockets.
    /// They are made if they are missing (mode 0700), and their parents cannot be renamed from
    /// inside.
    pub protected_paths: Vec<PathBuf>,
    /// Directories of which the workload gets an empty one of its own. Made if missing, as above.
    pub tmpfs_paths: Vec<PathBuf>,
    /// Sockets, or directories of sockets, that are hidden if they are there. All of `/run`, the
    /// shared directories of X11 and every socket in use that is bound to an absolute path are
    /// hidden without being named.
    pub masked_paths: Vec<PathBuf>,
    /// What `/etc/resolv.conf` names inside.
    pub resolvers: Vec<IpAddr>,
    /// The operator's terminal, if the workload is to have one of its own.
    pub terminal: Option<TerminalSpec>,
}

/// A terminal to be made for the workload, after the operator's.
#[derive(Clone, Debug)]
pub struct TerminalSpec {
    /// The operator's settings.
    pub attributes: Termios,
    /// The operator's window.
    pub window_size: Winsize,
    /// Which of standard input, output and error it stands in for. The others stay as they are.
    pub replaces_stdio: [bool; 3],
}

/// Why there is no sandbox. Nothing ran.
#[derive(Debug, Error)]
pub enum SandboxBuildError {
    /// This machine does not let this user make user namespaces, or gives no rights in them.
    #[error("no sandbox can be built here: {restriction}")]
    Restricted {
        /// What keeps us from it.
        restriction: UsernsRestriction,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel gives no new `/proc`, because parts of the present one are hidden from us.
    #[error("no sandbox can be built here: parts of /proc are hidden, as in a container")]
    MaskedProc(#[source] io::Error),
    /// The calling process has more than one thread.
    #[error("a process of several threads cannot build a sandbox")]
    Multithreaded,
    /// A step failed.
    #[error("{step} failed")]
    Step {
        /// The step.
        step: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The first process of the sandbox ended before it was ready.
    #[error("the first process of the sandbox ended too early")]
    InitDied,
}

impl SandboxBuildError {
    /// Returns what an operator can do about it, where that is known.
    pub const fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Restricted { restriction, .. } => Some(restriction.advice()),
            Self::MaskedProc(_) => Some(
                "Run it outside the container, or start the container with an unmasked /proc \
                 (podman: --security-opt unmask=ALL, docker: --security-opt systempaths=unconfined).",
            ),
            Self::Multithreaded | Self::Step { .. } | Self::InitDied => None,
        }
    }
}

/// Why the workload did not start. The sandbox is gone.
#[derive(Debug, Error)]
pub enum WorkloadStartError {
    /// There is no such program.
    #[error("the program was not found")]
    NotFound(#[source] io::Error),
    /// The program is there, and cannot be executed.
    #[error("the program cannot be executed")]
    NotExecutable(#[source] io::Error),
    /// The sandbox failed first.
    #[error("the sandbox failed")]
    Sandbox(#[source] SandboxBuildError),
}

/// A sandbox in which nothing runs yet but its first process.
#[derive(Debug)]
pub struct Sandbox {
    init: InitProcess,
    control: OwnedFd,
    terminal: Option<OwnedFd>,
}

impl Sandbox {
    /// Builds the sandbox and returns when it stands.
    ///
    /// It forks, so it must be called before the process has threads. As a side effect the calling
    /// process can no longer be traced or read by others of the same user (`PR_SET_DUMPABLE` 0).
    pub fn build(blueprint: &SandboxSpec) -> Result<Self, SandboxBuildError> {
        let at = |step: &str| {
            let step = step.to_owned();
            |source| SandboxBuildError::Step { step, source }
        };
        let layout = mount_plan::plan_mounts(blueprint).map_err(at("looking at the machine"))?;
        let (control, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|error| at("making a socket pair")(error.into()))?;
        let ids = init::OperatorIds {
            user: geteuid().as_raw(),
            group: getegid().as_raw(),
        };
        let spaces = libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP;
        let ours = control.as_fd();
        let init = sys::clone::spawn_in_namespaces(spaces, || {
            // This copy of our end would keep the sandbox from seeing that we are gone.
            sys::close_in_child(ours);
            init::run_init(blueprint, &layout, &theirs, ids)
        });
        let init = InitProcess(init.map_err(clone_error)?);
        drop(theirs);

        write_id_maps(&init.0, 0, ids.user, 0, ids.group).map_err(|source| {
            let fault = InitFault::at_step("mapping the user")(source);
            build_error(fault)
        })?;
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|error| at("hiding this process's memory")(error.into()))?;
        // If it cannot be told it has ended, which the answer says.
        drop(InitCommand::Build.send(&control));
        match receive_report(&control).map_err(at("hearing the sandbox"))? {
            (Some(InitReport::Ready), terminal) => Ok(Self {
                init,
                control,
                terminal,
            }),
            (Some(InitReport::Failed(fault)), _) => Err(build_error(fault)),
            _ => Err(SandboxBuildError::InitDied),
        }
    }

    /// Returns the sandbox's first process, whose network is the sandbox's.
    pub fn init_process(&self) -> &ProcessHandle {
        &self.init.0
    }

    /// Returns where sockets in the sandbox's network are opened.
    pub fn netns_ref(&self) -> io::Result<NetnsRef> {
        Ok(NetnsRef::OfProcess(self.init.0.try_clone()?))
    }

    /// Starts the workload and returns when its program runs.
    pub fn start(self) -> Result<RunningSandbox, WorkloadStartError> {
        let lost = |source| {
            let step = "speaking to the sandbox".to_owned();
            WorkloadStartError::Sandbox(SandboxBuildError::Step { step, source })
        };
        drop(InitCommand::Start.send(&self.control)); // as above: the answer says it
        let (report, pidfd) = receive_report(&self.control).map_err(lost)?;
        match (report, pidfd) {
            (Some(InitReport::Started), Some(pidfd)) => Ok(RunningSandbox {
                workload: pidfd,
                control: PollableFd::new(self.control).map_err(lost)?,
                terminal: self.terminal,
                init: self.init,
            }),
            (Some(InitReport::NotExecuted(errno)), _) => {
                let error = io::Error::from_raw_os_error(errno);
                Err(match errno {
                    libc::ENOENT | libc::ENOTDIR => WorkloadStartError::NotFound(error),
                    _ => WorkloadStartError::NotExecutable(error),
                })
            }
            (Some(InitReport::Failed(InitFault { step, errno })), _) => {
                let source = io::Error::from_raw_os_error(errno);
                Err(WorkloadStartError::Sandbox(SandboxBuildError::Step {
                    step,
                    source,
                }))
            }
            _ => Err(WorkloadStartError::Sandbox(SandboxBuildError::InitDied)),
        }
    }
}

/// A workload that runs.
#[derive(Debug)]
pub struct RunningSandbox {
    workload: OwnedFd,
    control: PollableFd,
    terminal: Option<OwnedFd>,
    init: InitProcess,
}

/// What happened to a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadStatus {
    /// It stopped itself, or was stopped from its terminal; see [`Running::resume`].
    Stopped,
    /// It ended with this status.
    Exited(u8),
    /// It was ended by this signal.
    Killed(u8),
}

impl RunningSandbox {
    /// Returns the master side of the workload's terminal, once.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Returns the sandbox's first process, whose network is the sandbox's.
    pub fn init_process(&self) -> &ProcessHandle {
        &self.init.0
    }

    /// Sends a signal to the workload; `ESRCH` when it has ended.
    pub fn signal_workload(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.workload, signal)?)
    }

    /// Lets a workload that has stopped go on, and all that stopped with it.
    pub fn resume_workload(&self) -> io::Result<()> {
        InitCommand::Continue.send(&self.control)
    }

    /// Returns the next change. After the end of the workload nothing of the sandbox is left, and
    /// this must not be called again. It may be dropped before it is done; nothing is lost by that.
    pub async fn wait_for_status(&self) -> io::Result<WorkloadStatus> {
        let hear = |fd: std::os::fd::BorrowedFd<'_>| receive_packet(fd, RecvFlags::DONTWAIT);
        let (packet, _) = self.control.read_with(hear).await?;
        // All three are below 256: wait(2) has eight bits for a status, seven for a signal.
        let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
        Ok(match InitReport::decode(&packet) {
            Some(InitReport::Stopped) => WorkloadStatus::Stopped,
            Some(InitReport::Exited(status)) => WorkloadStatus::Exited(byte(status)),
            Some(InitReport::Killed(signal)) => WorkloadStatus::Killed(byte(signal)),
            // The first process was killed, and everything with it.
            _ => WorkloadStatus::Killed(byte(libc::SIGKILL)),
        })
    }
}

/// The first process. Dropping it ends the sandbox and waits until nothing of it is left.
#[derive(Debug)]
struct InitProcess(ProcessHandle);

impl Drop for InitProcess {
    fn drop(&mut self) {
        drop(self.0.send_signal(Signal::KILL)); // ESRCH: it has ended
        while let Err(rustix::io::Errno::INTR) =
            waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::EXITED)
        {}
    }
}

/// What the sandbox says next (none: it is gone), and the descriptor that came with it.
fn receive_report(control: &OwnedFd) -> io::Result<(Option<InitReport>, Option<OwnedFd>)> {
    let (packet, with) = receive_packet(control, RecvFlags::empty())?;
    Ok((InitReport::decode(&packet), with))
}

/// Writes the maps of a new user namespace: one user, one group, no others ever.
fn write_id_maps(
    process: &ProcessHandle,
    user: u32,
    outer_user: u32,
    group: u32,
    outer_group: u32,
) -> io::Result<()> {
    let file = |name| format!("/proc/{}/{name}", process.pid());
    fs::write(file("setgroups"), "deny")?;
    fs::write(file("uid_map"), format!("{user} {outer_user} 1"))?;
    fs::write(file("gid_map"), format!("{group} {outer_group} 1"))
}

/// The kernel refused to make the namespaces at all.
fn clone_error(source: io::Error) -> SandboxBuildError {
    if source.raw_os_error() == Some(libc::EDEADLK) {
        return SandboxBuildError::Multithreaded;
    }
    build_error(InitFault::at_step("making namespaces")(source))
}

fn build_error(fault: InitFault) -> SandboxBuildError {
    let source = io::Error::from_raw_os_error(fault.errno);
    if fault.step == mounts::MOUNT_PROC_STEP && fault.errno == libc::EPERM {
        return SandboxBuildError::MaskedProc(source);
    }
    match UsernsRestriction::detect(fault.errno) {
        Some(restriction) => SandboxBuildError::Restricted {
            restriction,
            source,
        },
        None => SandboxBuildError::Step {
            step: fault.step,
            source,
        },
    }
}
