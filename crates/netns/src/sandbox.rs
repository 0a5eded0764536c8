// SPDX-License-Identifier: Apache-2.0
//! Builds a sandbox around one command: namespaces of its own without any connection.
//!
//! Two nested user namespaces. The outer one belongs to the operator and owns the network, mount
//! and pid namespaces; its root is the init process of the sandbox. The workload lives in the inner
//! one under the operator's user id and is root of nothing: neither the workload nor a user
//! namespace below it can change the firewall or the mounts.
//!
//! The order provides the safety. [`Sandbox::build`] returns when everything is set up and the
//! network consists of its loopback. The caller then installs the firewall and connects the
//! network. Only [`Sandbox::start`] starts the workload. Dropping a sandbox ends all of its
//! processes at any time, and so does the end of the calling process, however caused.

mod cgroup;
mod id_maps;
mod init;
pub(crate) mod init_channel;
mod limits;
mod mount_plan;
mod mountinfo;
mod mounts;
mod owned_copies;
mod seccomp;
mod socket_broker;
mod stream_kind;
mod userns_restriction;
mod workload;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{
    DumpableBehavior, Signal, WaitId, WaitIdOptions, set_dumpable_behavior, waitid,
};
use rustix::termios::{Termios, Winsize};
use thiserror::Error;

pub use id_maps::is_machine_root;
pub use limits::SandboxLimits;
pub use stream_kind::StreamKind;
pub use userns_restriction::UsernsRestriction;
pub use workload::WorkloadSpec;

use crate::{NetnsRef, PollableFd, ProcessHandle, sys};
use cgroup::SandboxCgroup;
use id_maps::OperatorIds;
use init_channel::{InitCommand, InitFault, InitReport, receive_packet};

/// The configuration of a sandbox.
#[derive(Clone, Debug, Default)]
pub struct SandboxSpec {
    /// The command to run.
    pub workload: WorkloadSpec,
    /// Directories for the operator's side only: configuration, state, sockets. Missing ones are
    /// created (mode 0700), and their parents cannot be renamed from inside.
    pub protected_paths: Vec<PathBuf>,
    /// Directories replaced by empty ones for the workload. Missing ones are created as above.
    pub tmpfs_paths: Vec<PathBuf>,
    /// Sockets of the operator's side that the workload may connect to. All other sockets in the
    /// file system are out of its reach unless it bound them itself, whatever their path.
    pub shared_sockets: Vec<PathBuf>,
    /// A socket for the workload that is at another path inside.
    pub placed_socket: Option<PlacedSocket>,
    /// Programs that the workload cannot change or replace: they stay at their path, read-only.
    pub read_only_programs: Vec<PathBuf>,
    /// Files that programs trust only if root or the user owns them. The workload sees copies of
    /// those that another user owns: inside, other users have no user id.
    pub owned_files: Vec<PathBuf>,
    /// A workload of root has all users and groups of root, and the rights over ids and files that
    /// a package manager needs.
    pub root_keeps_ids: bool,
    /// Limits of the workload.
    pub limits: SandboxLimits,
    /// The machine's root may mount a new `/proc` and control groups, as sandboxes inside the
    /// sandbox do. It can then change the settings of the kernel and end its supervisor: the
    /// sandbox confines it no longer. Ordinary users may always do so, without these rights.
    pub root_may_nest: bool,
    /// The name servers of `/etc/resolv.conf` inside.
    pub resolvers: Vec<IpAddr>,
    /// The domains of `/etc/resolv.conf` inside that complete names of one label.
    pub search_domains: Vec<String>,
    /// The operator's terminal, if the workload gets one of its own.
    pub terminal: Option<TerminalSpec>,
}

/// A socket that the workload may connect to at a path of its own.
///
/// Inside, the file is in a read-only file system that is mounted at its directory: no program in
/// the sandbox can remove, replace or cover it for the others. Outside, the file needs no name once
/// the sandbox is built.
#[derive(Clone, Debug)]
pub struct PlacedSocket {
    /// The file outside.
    pub path: PathBuf,
    /// The file inside, in a directory below `/run`.
    pub shown_at: PathBuf,
}

/// The terminal to create for the workload, modelled on the operator's.
#[derive(Clone, Debug)]
pub struct TerminalSpec {
    /// The settings of the operator's terminal.
    pub attributes: Termios,
    /// The size of the operator's terminal.
    pub window_size: Winsize,
    /// Replaced standard streams: input, output, error. The others stay unchanged.
    pub replaces_stdio: [bool; 3],
}

/// A sandbox could not be built. Nothing was run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SandboxBuildError {
    /// This machine does not let this user create user namespaces, or grants no rights in them.
    #[error("this machine does not allow a sandbox: {restriction}")]
    Restricted {
        /// The responsible setting.
        restriction: UsernsRestriction,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// The kernel refuses a new `/proc` because parts of the present one are masked.
    #[error("this machine does not allow a sandbox: parts of /proc are masked, as in a container")]
    MaskedProc(#[source] io::Error),
    /// The machine's root asked for a limit of processes, and the kernel has none here.
    #[error("this machine cannot limit the processes of root")]
    NoProcessLimit,
    /// The calling process has more than one thread.
    #[error("a process with several threads cannot build a sandbox")]
    Multithreaded,
    /// A socket to share cannot be opened, or is none.
    #[error("cannot share {path:?} with the sandbox")]
    SharedSocket {
        /// The path.
        path: PathBuf,
        /// The kernel error; `ENOTSOCK` for another file.
        #[source]
        source: io::Error,
    },
    /// A standard stream would give the workload more than bytes.
    #[error("{stream} of the command is {kind}: use a file, a pipe or a terminal")]
    Stream {
        /// The standard stream.
        stream: &'static str,
        /// The file.
        kind: StreamKind,
    },
    /// A step failed.
    #[error("{step} failed")]
    Step {
        /// The failed step.
        step: String,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// The init process of the sandbox ended during the setup.
    #[error("the init process of the sandbox ended before the sandbox was ready")]
    InitDied,
}

impl SandboxBuildError {
    /// Returns the remedy for the operator, if one is known.
    pub const fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Restricted { restriction, .. } => Some(restriction.advice()),
            Self::MaskedProc(_) => Some(
                "Run it outside the container, or start the container with an unmasked /proc \
                 (podman: --security-opt unmask=ALL, \
                 docker: --security-opt systempaths=unconfined).",
            ),
            Self::NoProcessLimit => Some(
                "It needs Linux 6.14, or a control group of its own with the controller `pids`.",
            ),
            Self::Multithreaded
            | Self::SharedSocket { .. }
            | Self::Stream { .. }
            | Self::Step { .. }
            | Self::InitDied => None,
        }
    }
}

/// The workload did not start. The sandbox is gone.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkloadStartError {
    /// The program does not exist.
    #[error("the program was not found")]
    NotFound(#[source] io::Error),
    /// The program exists but cannot be executed.
    #[error("the program cannot be executed")]
    NotExecutable(#[source] io::Error),
    /// The sandbox failed first.
    #[error("the sandbox failed")]
    Sandbox(#[source] SandboxBuildError),
}

/// A sandbox without a workload: only the init process runs.
#[derive(Debug)]
pub struct Sandbox {
    init: InitProcess,
    control: OwnedFd,
    terminal: Option<OwnedFd>,
    cgroup: Option<SandboxCgroup>,
}

impl Sandbox {
    /// Builds the sandbox and returns when it is complete.
    ///
    /// Forks, and hence must be called before the process has threads. Side effect: other processes
    /// of the same user can no longer trace or read the calling process (`PR_SET_DUMPABLE` 0).
    pub fn build(spec: &SandboxSpec) -> Result<Self, SandboxBuildError> {
        let at = |step: &str| {
            let step = step.to_owned();
            |source| SandboxBuildError::Step { step, source }
        };
        require_harmless_streams(spec)?;
        let sockets = spec.shared_sockets.iter();
        let sockets = sockets.map(|path| {
            let path = path.clone();
            mount_plan::open_shared_socket(&path)
                .map_err(|source| SandboxBuildError::SharedSocket { path, source })
        });
        let sockets = sockets.collect::<Result<_, _>>()?;
        let mut plan =
            mount_plan::plan_mounts(spec, sockets).map_err(at("inspecting the machine"))?;
        plan.placed_socket = spec
            .placed_socket
            .as_ref()
            .map(|placed| {
                let path = placed.path.clone();
                mount_plan::open_shared_socket(&path)
                    .map(|socket| (socket, placed.shown_at.clone()))
                    .map_err(|source| SandboxBuildError::SharedSocket { path, source })
            })
            .transpose()?;
        let (control, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|error| at("making a socket pair")(error.into()))?;
        let ids = OperatorIds::current(spec.root_keeps_ids);
        let mut cgroup = SandboxCgroup::create(&spec.limits);
        let spaces = libc::CLONE_NEWUSER
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS;
        if spec.limits.processes.is_some() && limits::lacks_process_limit(cgroup.as_ref()) {
            return Err(SandboxBuildError::NoProcessLimit);
        }
        let mut limits = limits::plan_limits(&spec.limits, cgroup.as_ref());
        let root_may_nest = spec.root_may_nest && is_machine_root();
        if cgroup::exposes_caller(cgroup.as_ref()) && !root_may_nest {
            limits.forbid_cgroup_namespaces();
        }
        let ours = control.as_fd();
        let init = sys::clone::spawn_in_namespaces(spaces, || {
            // A copy of the parent's end would hide the death of the parent from the sandbox.
            sys::close_in_child(ours);
            let inputs = init::InitInputs {
                spec,
                plan: &plan,
                limits: &limits,
                ids,
            };
            init::run_init(&inputs, &theirs)
        });
        let init = InitProcess(init.map_err(clone_error)?);
        drop(theirs);

        if let Some(group) = &cgroup {
            group
                .admit(&init.0)
                .map_err(at("moving the sandbox into its control group"))?;
        }
        ids.map_outer(&init.0).map_err(|source| {
            let fault = InitFault::at_step("mapping the user")(source);
            build_error(fault)
        })?;
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .map_err(|error| at("hiding this process's memory")(error.into()))?;
        // A failure to send means the end of the init process; the missing reply reports it.
        drop(InitCommand::Build.send(&control));
        match receive_report(&control).map_err(at("receiving from the sandbox"))? {
            (Some(InitReport::Ready), terminal) => Ok(Self {
                init,
                control,
                terminal,
                cgroup: cgroup.take(),
            }),
            (Some(InitReport::Failed(fault)), _) => Err(build_error(fault)),
            _ => Err(SandboxBuildError::InitDied),
        }
    }

    /// Returns the init process of the sandbox, which is in the sandbox's network namespace.
    pub fn init_process(&self) -> &ProcessHandle {
        &self.init.0
    }

    /// Returns a reference to the sandbox's network namespace.
    pub fn netns_ref(&self) -> io::Result<NetnsRef> {
        Ok(NetnsRef::OfProcess(self.init.0.try_clone()?))
    }

    /// Starts the workload and returns when its program runs.
    pub fn start(self) -> Result<RunningSandbox, WorkloadStartError> {
        let lost = |source| {
            let step = "communicating with the sandbox".to_owned();
            WorkloadStartError::Sandbox(SandboxBuildError::Step { step, source })
        };
        drop(InitCommand::Start.send(&self.control)); // as above: the reply tells
        let (report, pidfd) = receive_report(&self.control).map_err(lost)?;
        match (report, pidfd) {
            (Some(InitReport::Started), Some(pidfd)) => Ok(RunningSandbox {
                workload: pidfd,
                control: PollableFd::new(self.control).map_err(lost)?,
                terminal: self.terminal,
                init: self.init,
                _cgroup: self.cgroup,
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

/// A sandbox with a running workload.
#[derive(Debug)]
pub struct RunningSandbox {
    workload: OwnedFd,
    control: PollableFd,
    terminal: Option<OwnedFd>,
    init: InitProcess,
    /// Removed when the process above has ended.
    _cgroup: Option<SandboxCgroup>,
}

/// A change of a workload's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadStatus {
    /// The workload stopped, for example from its terminal; see
    /// [`RunningSandbox::resume_workload`].
    Stopped,
    /// The workload ended with this exit status.
    Exited(u8),
    /// A signal ended the workload.
    Killed(u8),
}

impl RunningSandbox {
    /// Returns the master side of the workload's terminal, once.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Returns the init process of the sandbox, which is in the sandbox's network namespace.
    pub fn init_process(&self) -> &ProcessHandle {
        &self.init.0
    }

    /// Sends a signal to the workload; `ESRCH` if it has ended.
    pub fn signal_workload(&self, signal: Signal) -> io::Result<()> {
        Ok(rustix::process::pidfd_send_signal(&self.workload, signal)?)
    }

    /// Continues a stopped workload together with its process group.
    pub fn resume_workload(&self) -> io::Result<()> {
        InitCommand::Continue.send(&self.control)
    }

    /// Returns the next change. Cancel safe. Must not be called again after the end of the
    /// workload, when nothing of the sandbox is left.
    pub async fn wait_for_status(&self) -> io::Result<WorkloadStatus> {
        let receive = |fd: std::os::fd::BorrowedFd<'_>| receive_packet(fd, RecvFlags::DONTWAIT);
        let (packet, _) = self.control.read_with(receive).await?;
        // All are below 256: wait(2) has eight bits for a status and seven for a signal.
        let byte = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
        Ok(match InitReport::decode(&packet) {
            Some(InitReport::Stopped) => WorkloadStatus::Stopped,
            Some(InitReport::Exited(status)) => WorkloadStatus::Exited(byte(status)),
            Some(InitReport::Killed(signal)) => WorkloadStatus::Killed(byte(signal)),
            // The init process was killed, and all other processes with it.
            _ => WorkloadStatus::Killed(byte(libc::SIGKILL)),
        })
    }
}

/// The init process. Dropping it ends the sandbox and waits until all of its processes are gone.
#[derive(Debug)]
struct InitProcess(ProcessHandle);

impl Drop for InitProcess {
    fn drop(&mut self) {
        drop(self.0.send_signal(Signal::KILL)); // ESRCH: it has ended already
        while let Err(rustix::io::Errno::INTR) =
            waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::EXITED)
        {}
    }
}

/// Fails if a standard stream of the workload is a file with abilities of its own.
fn require_harmless_streams(spec: &SandboxSpec) -> Result<(), SandboxBuildError> {
    let own = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ];
    let terminal = spec.terminal.as_ref();
    let replaced = terminal.map_or([false; 3], |terminal| terminal.replaces_stdio);
    let given = &spec.workload.stdio;
    let names = ["standard input", "standard output", "standard error"];
    for (((own, given), replaced), stream) in own.into_iter().zip(given).zip(replaced).zip(names) {
        let kind = StreamKind::of(given.as_ref().map_or(own, |fd| fd.as_fd()));
        let is_replaced = replaced && given.is_none();
        if !is_replaced && !kind.is_harmless() {
            return Err(SandboxBuildError::Stream { stream, kind });
        }
    }
    Ok(())
}

/// Receives the next report (`None`: the sandbox is gone) and the descriptor sent with it.
fn receive_report(control: &OwnedFd) -> io::Result<(Option<InitReport>, Option<OwnedFd>)> {
    let (packet, with) = receive_packet(control, RecvFlags::empty())?;
    Ok((InitReport::decode(&packet), with))
}

/// Converts the kernel's refusal to create the namespaces.
fn clone_error(source: io::Error) -> SandboxBuildError {
    if source.raw_os_error() == Some(libc::EDEADLK) {
        return SandboxBuildError::Multithreaded;
    }
    build_error(InitFault::at_step("creating namespaces")(source))
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
