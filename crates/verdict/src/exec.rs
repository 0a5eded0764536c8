// SPDX-License-Identifier: Apache-2.0
//! Applies orders by running a `terok-shield` program, one process per order.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use netns::{StderrCapture, StderrPart, find_program, find_program_in};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;
use tokio::time::timeout;

use crate::{SanitizedStderr, VerdictBackend, VerdictOrder, VerdictReply};

const SHIELD_PROGRAM: &str = "terok-shield";

/// Variables of the caller's environment passed to the program: locations of files of the program
/// and of the container engine, and the language.
///
/// Nothing else is passed on, in particular no variable that loads code into a program
/// (`LD_PRELOAD`, `PYTHONPATH`, …) or redirects it.
pub const PASSED_ENVIRONMENT: [&str; 17] = [
    "HOME",
    "USER",
    "LOGNAME",
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "DBUS_SESSION_BUS_ADDRESS",
    "CONTAINER_HOST",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "TEROK_SHIELD_STATE_DIR",
    "TEROK_SHIELD_CONFIG_DIR",
];

/// Returns the path of `terok-shield`: beside `current_exe`, or in an absolute directory of `path`,
/// a `PATH`.
///
/// The sibling takes precedence, so that no `PATH` leads orders to another installation.
pub fn find_shield_program(current_exe: Option<&Path>, path: Option<&OsStr>) -> Option<PathBuf> {
    current_exe
        .and_then(Path::parent)
        .and_then(|directory| find_program_in(SHIELD_PROGRAM, directory))
        .or_else(|| find_program(SHIELD_PROGRAM, path?))
}

/// One byte over the limit shows [`SanitizedStderr`] that the output was longer.
const CAPTURE_BYTES: usize = SanitizedStderr::MAX_BYTES + 1;

/// Runs `terok-shield ACTION CONTAINER DEST` for each order.
#[derive(Debug, Clone)]
pub struct ExecBackend {
    program: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    timeout: Duration,
}

impl ExecBackend {
    /// Timeout for the program.
    pub const RUN_TIMEOUT: Duration = Duration::from_secs(10);

    /// Creates a backend for `program` with exactly the variables of `environment`. Without a
    /// program every order fails.
    pub fn new(
        program: Option<PathBuf>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        Self {
            program,
            environment: environment.into_iter().collect(),
            timeout: Self::RUN_TIMEOUT,
        }
    }

    /// Replaces [`Self::RUN_TIMEOUT`].
    #[must_use]
    pub fn with_timeout(self, limit: Duration) -> Self {
        Self {
            timeout: limit,
            ..self
        }
    }

    async fn run_program(&self, program: &Path, order: &VerdictOrder) -> VerdictReply {
        // Every argument is a validated word and cannot be an option.
        let mut command = Command::new(program);
        command
            .arg(order.action().as_str())
            .arg(order.container().as_str())
            .arg(order.target().to_string())
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return VerdictReply::from_error("spawn failed: ", &error),
        };
        let mut group = ProcessGroup::new(child.id());
        let mut stderr = StderrCapture::new(child.stderr.take(), StderrPart::Start(CAPTURE_BYTES));
        let finished = timeout(self.timeout, async {
            loop {
                tokio::select! {
                    biased;
                    status = child.wait() => break status,
                    () = stderr.read_to_end(), if !stderr.is_closed() => {}
                }
            }
        })
        .await;
        if let Ok(status) = finished {
            // The pid may be reused from here on.
            group.release();
            stderr.drain_pipe();
            return reply_from_exit(status, stderr.bytes());
        }
        drop(group);
        // A killed process ends soon; if the kernel delays it, it is reaped later.
        drop(timeout(Duration::from_secs(1), child.wait()).await);
        let seconds = self.timeout.as_secs_f64();
        tracing::warn!(
            action = order.action().as_str(),
            seconds,
            "terok-shield timed out"
        );
        VerdictReply::failed(&format!("timed out after {seconds:.1}s"))
    }
}

impl VerdictBackend for ExecBackend {
    fn supports_ports(&self) -> bool {
        false
    }

    async fn apply(&self, order: &VerdictOrder) -> VerdictReply {
        if !order.is_whole_dest() {
            return VerdictReply::unsupported_scope();
        }
        match &self.program {
            Some(program) => self.run_program(program, order).await,
            None => VerdictReply::failed("terok-shield not found on PATH"),
        }
    }
}

fn reply_from_exit(status: io::Result<ExitStatus>, stderr: &[u8]) -> VerdictReply {
    let stderr = SanitizedStderr::new(stderr);
    match status {
        Ok(status) if status.success() => VerdictReply { ok: true, stderr },
        Ok(_) if !stderr.as_str().is_empty() => VerdictReply { ok: false, stderr },
        Ok(status) => VerdictReply::failed(&match (status.code(), status.signal()) {
            (Some(code), _) => {
                format!("terok-shield ended with status {code} and said nothing")
            }
            (None, Some(signal)) => format!("terok-shield was killed by signal {signal}"),
            (None, None) => "terok-shield ended in an unknown way".to_owned(),
        }),
        Err(error) => VerdictReply::from_error("waiting for terok-shield failed: ", &error),
    }
}

/// A process group, killed on drop unless released after its leader's end.
#[derive(Debug)]
pub struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    /// Creates the group of a process that leads one, and is not reaped yet.
    pub fn new(leader: Option<u32>) -> Self {
        let leader = leader.and_then(|id| i32::try_from(id).ok());
        Self(leader.and_then(Pid::from_raw))
    }

    /// Keeps the group alive on drop: after its leader was reaped, its id may be another one's.
    pub const fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(Err(error)) = self
            .0
            .map(|leader| kill_process_group(leader, Signal::KILL))
        {
            // All of its processes have ended already.
            tracing::debug!(%error, "the process group has ended already");
        }
    }
}
