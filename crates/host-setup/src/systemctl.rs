// SPDX-License-Identifier: Apache-2.0
//! Calls of `systemctl`.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The manager that a call is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitManager {
    /// The machine's.
    System,
    /// The calling user's.
    User {
        /// The user's runtime directory, where the manager listens.
        runtime_dir: PathBuf,
    },
}

/// The program `systemctl`, for one manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Systemctl {
    program: PathBuf,
    manager: UnitManager,
}

/// A call of `systemctl` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SystemctlError {
    /// The program was not executed, or its output not read.
    #[error("cannot run {}", program.display())]
    Execute {
        /// The program.
        program: PathBuf,
        /// The kernel error.
        #[source]
        source: io::Error,
    },
    /// The program exceeded its time limit, and was killed.
    #[error("`{command}` did not end within {seconds} s")]
    Timeout {
        /// The command.
        command: String,
        /// The time limit.
        seconds: u64,
    },
    /// The program said that it failed.
    #[error("`{command}` failed: {message}")]
    Failed {
        /// The command.
        command: String,
        /// What it printed, else its status.
        message: String,
    },
}

const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum bytes of a message of `systemctl`.
const MAX_MESSAGE: u64 = 4096;
/// Maximum bytes of a list of units.
const MAX_LIST: u64 = 1024 * 1024;

impl Systemctl {
    /// Returns calls of `program` for `manager`, whether or not the manager runs.
    pub const fn new(program: PathBuf, manager: UnitManager) -> Self {
        Self { program, manager }
    }

    /// Returns `true` if the manager runs. `root` is the root directory of the machine.
    pub fn is_manager_running(&self, root: &Path) -> bool {
        match &self.manager {
            // sd_booted(3)
            UnitManager::System => root.join("run/systemd/system").is_dir(),
            UnitManager::User { runtime_dir } => runtime_dir.join("systemd/private").exists(),
        }
    }

    /// Has the manager read its unit files again.
    pub fn daemon_reload(&self) -> Result<(), SystemctlError> {
        self.call(&["daemon-reload"])
    }

    /// Starts a unit now and at each later start of its target.
    pub fn enable_now(&self, unit: &str) -> Result<(), SystemctlError> {
        self.call(&["enable", "--now", unit])
    }

    /// Stops a unit now and at each later start of its target.
    pub fn disable_now(&self, unit: &str) -> Result<(), SystemctlError> {
        self.call(&["disable", "--now", unit])
    }

    /// Restarts a unit that runs.
    pub fn try_restart(&self, unit: &str) -> Result<(), SystemctlError> {
        self.call(&["try-restart", unit])
    }

    /// Returns `true` if a unit is active.
    pub fn is_active(&self, unit: &str) -> bool {
        self.call(&["is-active", "--quiet", unit]).is_ok()
    }

    /// Returns `true` if a unit starts with its target.
    pub fn is_enabled(&self, unit: &str) -> bool {
        self.call(&["is-enabled", "--quiet", unit]).is_ok()
    }

    /// Returns the names of loaded units that match `pattern` and are not inactive or failed.
    pub fn list_running(&self, pattern: &str) -> Result<Vec<String>, SystemctlError> {
        let states = "--state=active,activating,deactivating,reloading";
        let arguments = [
            "list-units",
            "--plain",
            "--no-legend",
            "--full",
            states,
            pattern,
        ];
        let output = self.output(&arguments)?;
        let names = output
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        Ok(names.map(str::to_owned).collect())
    }

    /// Returns a call as it is typed.
    pub fn describe(&self, arguments: &[&str]) -> String {
        let mut words = vec!["systemctl"];
        if matches!(self.manager, UnitManager::User { .. }) {
            words.push("--user");
        }
        words.extend(arguments);
        words.join(" ")
    }

    pub(crate) fn call(&self, arguments: &[&str]) -> Result<(), SystemctlError> {
        self.output(arguments).map(drop)
    }

    fn output(&self, arguments: &[&str]) -> Result<String, SystemctlError> {
        let failed = |source| SystemctlError::Execute {
            program: self.program.clone(),
            source,
        };
        let mut command = Command::new(&self.program);
        if let UnitManager::User { runtime_dir } = &self.manager {
            // Unset for a user who came by su(1).
            command.arg("--user").env("XDG_RUNTIME_DIR", runtime_dir);
        }
        let command = command
            .args(arguments)
            .env("SYSTEMD_PAGER", "")
            .env("SYSTEMD_COLORS", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let reader = |pipe: Option<Box<dyn io::Read + Send>>, limit: u64| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                if let Some(pipe) = pipe {
                    // What was read before an error is shown all the same.
                    drop(pipe.take(limit).read_to_end(&mut bytes));
                }
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let stdout = child.stdout.take().map(|pipe| Box::new(pipe) as _);
        let stderr = child.stderr.take().map(|pipe| Box::new(pipe) as _);
        let (stdout, stderr) = (reader(stdout, MAX_LIST), reader(stderr, MAX_MESSAGE));
        if !wait_for_exit(&child, CALL_TIMEOUT).map_err(failed)? {
            // Fails if it has ended meanwhile.
            drop(child.kill());
            child.wait().map_err(failed)?;
            return Err(SystemctlError::Timeout {
                command: self.describe(arguments),
                seconds: CALL_TIMEOUT.as_secs(),
            });
        }
        let status = child.wait().map_err(failed)?;
        let (stdout, stderr) = (joined(stdout), joined(stderr));
        if status.success() {
            return Ok(stdout);
        }
        let message = stderr.trim().replace('\n', "; ");
        Err(SystemctlError::Failed {
            command: self.describe(arguments),
            message: if message.is_empty() {
                status.to_string()
            } else {
                message
            },
        })
    }
}

fn joined(reader: std::thread::JoinHandle<String>) -> String {
    reader.join().unwrap_or_default()
}

/// Waits for the end of a child; `false` after `limit`.
fn wait_for_exit(child: &Child, limit: Duration) -> io::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    let handle = pidfd_open(pid, PidfdFlags::empty())?;
    let limit = Timespec::try_from(limit).map_err(io::Error::other)?;
    let mut events = [PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN)];
    let ready = rustix::io::retry_on_intr(|| poll(&mut events, Some(&limit)))?;
    Ok(ready > 0)
}
