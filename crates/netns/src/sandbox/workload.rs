// SPDX-License-Identifier: Apache-2.0
//! The last steps of the workload's process before `exec`: it drops all rights.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::{chdir, getpid, setpgid, setsid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::tcsetpgrp;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::TerminalSpec;
use super::init_channel::{InitFault, InitReport};
use super::limits::LimitPlan;
use super::seccomp::WorkloadSeccomp;
use crate::sys;

/// The command to run in a sandbox.
#[derive(Clone, Debug, Default)]
pub struct WorkloadSpec {
    /// The program: a path, or a name to look up in the `PATH` of `environment`.
    pub program: OsString,
    /// The arguments, without the program's name.
    pub arguments: Vec<OsString>,
    /// The complete environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The working directory.
    pub directory: PathBuf,
    /// Standard input, output and error. `None` keeps the caller's, or the terminal of a
    /// [`TerminalSpec`].
    pub stdio: [Option<Arc<OwnedFd>>; 3],
}

/// The inputs of the workload's start.
#[derive(Debug)]
pub(super) struct WorkloadLauncher<'a> {
    pub(super) workload: &'a WorkloadSpec,
    /// The slave side of the terminal, and the descriptors that it replaces.
    pub(super) terminal: Option<(&'a OwnedFd, &'a TerminalSpec)>,
    pub(super) filter: &'a WorkloadSeccomp,
    pub(super) limits: &'a LimitPlan,
    /// Root with all of its ids keeps the capabilities over files and ids, in its own namespace.
    pub(super) keeps_file_rights: bool,
}

impl WorkloadLauncher<'_> {
    /// Becomes the workload. Returns only on failure.
    ///
    /// `hand_over` gives the descriptor of the filter to the init process.
    pub(super) fn exec_workload(
        &self,
        hand_over: impl FnOnce(&OwnedFd) -> Result<(), InitFault>,
    ) -> InitReport {
        let prepared = self
            .prepare_process()
            .and_then(|listener| hand_over(&listener));
        if let Err(fault) = prepared {
            return InitReport::Failed(fault);
        }
        // `exec` also restores the default action of SIGPIPE.
        let error = Command::new(&self.workload.program)
            .args(&self.workload.arguments)
            .env_clear()
            .envs(
                self.workload
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .exec();
        InitReport::NotExecuted(error.raw_os_error().unwrap_or(libc::EINVAL))
    }

    /// Returns the descriptor of the filter.
    fn prepare_process(&self) -> Result<OwnedFd, InitFault> {
        match self.terminal {
            Some((slave, terminal)) => {
                attach_terminal(slave, terminal)
                    .map_err(InitFault::at_step("attaching the terminal"))?;
            }
            None => drop(setsid().map_err(InitFault::at_step("leaving the session"))?),
        }
        redirect_stdio(&self.workload.stdio)
            .map_err(InitFault::at_step("redirecting standard input and output"))?;
        let directory = &self.workload.directory;
        chdir(directory).map_err(InitFault::at_step(format!(
            "changing to {}",
            directory.display()
        )))?;
        sys::close_on_exec_from_3().map_err(InitFault::at_step("closing descriptors"))?;
        sys::signals::unblock_all().map_err(InitFault::at_step("unblocking signals"))?;
        self.limits.apply_to_process()?;
        let kept = if self.keeps_file_rights {
            FILE_RIGHTS
        } else {
            CapabilitySet::empty()
        };
        drop_capabilities_except(kept).map_err(InitFault::at_step("dropping capabilities"))?;
        self.filter.apply().map_err(|error| InitFault {
            step: format!("applying the system call filter: {error}"),
            errno: io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EINVAL),
        })
    }
}

/// Makes the workload the foreground job of the init process's session: a session leader could not
/// be stopped by Ctrl-Z.
fn attach_terminal(slave: &OwnedFd, terminal: &TerminalSpec) -> Result<(), Errno> {
    setpgid(None, None)?;
    tcsetpgrp(slave, getpid())?;
    let [stdin, stdout, stderr] = terminal.replaces_stdio;
    if stdin {
        dup2_stdin(slave)?;
    }
    if stdout {
        dup2_stdout(slave)?;
    }
    if stderr {
        dup2_stderr(slave)?;
    }
    Ok(())
}

/// Unlike the originals, the copies stay open across `exec`.
fn redirect_stdio([stdin, stdout, stderr]: &[Option<Arc<OwnedFd>>; 3]) -> Result<(), Errno> {
    if let Some(stdin) = stdin {
        dup2_stdin(stdin)?;
    }
    if let Some(stdout) = stdout {
        dup2_stdout(stdout)?;
    }
    if let Some(stderr) = stderr {
        dup2_stderr(stderr)?;
    }
    Ok(())
}

/// The capabilities of root over files and ids, which package managers need.
///
/// They hold in the workload's own user namespace, which owns no other namespace: no network,
/// mount, process or setting. Its ids are those of outside, so that they hold for the files of
/// every user, as root's do. Nested user namespaces have all capabilities anyway.
const FILE_RIGHTS: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID);

/// Drops capabilities for good. They cover only the workload's own namespace, but would expose more
/// kernel code to it.
fn drop_capabilities_except(kept: CapabilitySet) -> Result<(), Errno> {
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if kept.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) => break, // the kernel has no further capabilities
            Err(error) => return Err(error),
        }
    }
    clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    set_no_new_privs(true)
}
