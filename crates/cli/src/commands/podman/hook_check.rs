// SPDX-License-Identifier: Apache-2.0
//! Proves that the hooks are in force, and starts the listener for supervisors where no service
//! manager does.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use containers::hooks_in_force::{HookCheck, HookFault, is_listening};
use containers::host_layout::START_SOCKET;
use terok_clearance::DisplayText;

use super::PodmanCommandError;
use crate::{CommandContext, CommandError, UserEnvironment, block_on};

/// Maximum time until the listener accepts.
const LISTENER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two looks at the socket.
const LISTENER_POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The state of the hooks before a start.
#[derive(Debug)]
pub(super) struct HookState {
    /// Faults for which there is no remedy here.
    pub(super) faults: Vec<HookFault>,
    /// Directories for `--hooks-dir`; empty if podman's configuration names ours.
    pub(super) hooks_directories: Vec<PathBuf>,
    /// The listener for supervisors must be started.
    pub(super) needs_listener: bool,
    /// podman's configuration does not name our directory.
    not_configured: Option<HookFault>,
}

impl HookState {
    /// Makes it a fault that podman's configuration does not name our directory: podman looks for
    /// hooks when a container starts, and `podman start` gets no `--hooks-dir`.
    pub(super) fn require_configuration(&mut self) {
        self.hooks_directories.clear();
        self.faults.extend(self.not_configured.take());
    }

    /// Returns an error unless the hooks are in force, and starts the listener for `starts`.
    pub(super) fn establish(
        self,
        starts: bool,
        context: &CommandContext,
    ) -> Result<(), CommandError> {
        if !self.faults.is_empty() {
            return Err(PodmanCommandError::NotInForce(self.faults).into());
        }
        if starts && self.needs_listener {
            start_listener(context)?;
        }
        Ok(())
    }
}

/// Returns the parts of this host on which the hooks depend.
pub(crate) fn host_hook_check(environment: &UserEnvironment) -> anyhow::Result<HookCheck> {
    Ok(HookCheck {
        hooks_directory: environment.hooks_dir(),
        podman: environment.podman_config_files(),
        runtime_dir: environment.hook_dirs().start,
        program: std::env::current_exe().context("cannot find this program")?,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Looks at the hooks.
pub(super) fn check_hooks(environment: &UserEnvironment) -> anyhow::Result<HookState> {
    let check = host_hook_check(environment)?;
    let mut state = HookState {
        faults: Vec::new(),
        hooks_directories: Vec::new(),
        needs_listener: false,
        not_configured: None,
    };
    for fault in check.find_faults() {
        match &fault {
            HookFault::NotConfigured { directory, others } => {
                // Ours last: of files with the same name the last counts.
                state.hooks_directories.clone_from(others);
                state.hooks_directories.retain(|other| other != directory);
                state.hooks_directories.push(directory.clone());
                state.not_configured = Some(fault);
            }
            _ if fault.is_mended_by_wrapper() => state.needs_listener = true,
            _ => state.faults.push(fault),
        }
    }
    Ok(state)
}

/// Starts the listener, and returns when it accepts. It outlives this process and serves all
/// containers.
fn start_listener(context: &CommandContext) -> Result<(), CommandError> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let path = context.environment.hook_dirs().start.join(START_SOCKET);
    let mut listener = Command::new(&program)
        .args(["container-supervisor", "--listen"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C at the terminal of one container is not for the supervisors of all.
        .process_group(0)
        .spawn()
        .map_err(|source| PodmanCommandError::Execute {
            path: program,
            source,
        })?;
    block_on(async {
        let wait = async {
            loop {
                if is_listening(&path) {
                    return Ok(());
                }
                if let Ok(Some(status)) = listener.try_wait() {
                    return Err(DisplayText::new(&status.to_string()));
                }
                tokio::time::sleep(LISTENER_POLL_INTERVAL).await;
            }
        };
        let started = tokio::time::timeout(LISTENER_TIMEOUT, wait).await;
        let started = started.unwrap_or_else(|_elapsed| Err("it does not accept".into()));
        started.map_err(|reason| PodmanCommandError::Listener(reason).into())
    })
}
