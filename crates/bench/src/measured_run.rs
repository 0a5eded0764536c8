// SPDX-License-Identifier: Apache-2.0
//! A running probe: inside `terok-clearance run`, inside a peer's namespace, or beside both.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tempfile::TempDir;
use terok_clearance::socket::RuntimeDir;

use crate::latency_samples::{LatencySamples, SpanTimer};
use crate::measured_ui::{clearance_program, isolate_environment};
use crate::proc_stats::MeasuredChild;

/// The time after which a missing reply of a probe fails the benchmark.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// A probe that waits for commands. Killed on drop.
#[derive(Debug)]
pub(crate) struct ProbeProcess {
    commands: ChildStdin,
    replies: Receiver<String>,
    kept_reply: Option<String>,
    /// The program that was started: the probe itself, or what the probe runs in.
    pub(crate) program: MeasuredChild,
}

impl ProbeProcess {
    /// Starts a probe as the last words of `command`, and waits until it replies.
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Self> {
        let ourselves = std::env::current_exe().context("finding the path of this program")?;
        command.arg(ourselves).arg("serve-probe");
        Self::start_as(command)
    }

    /// Starts a probe without a sandbox.
    pub(crate) fn start_straight() -> anyhow::Result<Self> {
        let ourselves = std::env::current_exe().context("finding the path of this program")?;
        let mut command = Command::new(ourselves);
        command.arg("serve-probe");
        Self::start_as(command)
    }

    fn start_as(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = MeasuredChild::start(&mut command)?;
        let commands = program.0.stdin.take().context("a probe has no input")?;
        let output = program.0.stdout.take().context("a probe has no output")?;
        let (tell, replies) = channel();
        // Ends with the output of the probe.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    break;
                }
            }
        });
        let mut probe = Self {
            commands,
            replies,
            kept_reply: None,
            program,
        };
        probe.measure("hello")?;
        Ok(probe)
    }

    /// Sends a command without waiting for the reply.
    pub(crate) fn begin(&mut self, command: &str) -> anyhow::Result<()> {
        let sent = self.commands.write_all(format!("{command}\n").as_bytes());
        sent.with_context(|| format!("sending {command:?} to a probe"))
    }

    /// Waits for the reply to `command`.
    pub(crate) fn finish(&mut self, command: &str) -> anyhow::Result<Vec<u64>> {
        let reply = match self.kept_reply.take() {
            Some(reply) => Ok(reply),
            None => self.replies.recv_timeout(REPLY_TIMEOUT),
        };
        match reply {
            Ok(reply) => serde_json::from_str(&reply)
                .with_context(|| format!("a probe replied {reply:?} to {command:?}")),
            Err(RecvTimeoutError::Timeout) => {
                bail!("a probe did not reply to {command:?} within {REPLY_TIMEOUT:?}")
            }
            Err(RecvTimeoutError::Disconnected) => bail!("a probe ended at {command:?}"),
        }
    }

    /// Returns `true` if the reply to the last command does not arrive within `timeout`, and keeps
    /// the reply otherwise.
    pub(crate) fn is_busy(&mut self, timeout: Duration) -> bool {
        if self.kept_reply.is_none() {
            self.kept_reply = self.replies.recv_timeout(timeout).ok();
        }
        self.kept_reply.is_none()
    }

    /// Sends a command, and returns the reply's figures.
    pub(crate) fn measure(&mut self, command: &str) -> anyhow::Result<Vec<u64>> {
        self.begin(command)?;
        self.finish(command)
    }

    /// Sends a command, and adds the reply's durations to `samples`.
    pub(crate) fn sample(
        &mut self,
        command: &str,
        samples: &mut LatencySamples,
    ) -> anyhow::Result<()> {
        for nanoseconds in self.measure(command)? {
            samples.push(Duration::from_nanos(nanoseconds));
        }
        Ok(())
    }

    /// Sends a command for a bulk transfer, and returns its speed in MB/s.
    pub(crate) fn measure_speed(&mut self, command: &str) -> anyhow::Result<f64> {
        match *self.measure(command)?.as_slice() {
            [bytes, nanoseconds] => Ok(to_figure(bytes) / to_figure(nanoseconds) * 1e3),
            _ => bail!("a probe's reply to {command:?} is no transfer"),
        }
    }
}

/// Converts a count to a figure of the report.
#[expect(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "figures below 2^53 are exact"
)]
pub(crate) const fn to_figure(count: u64) -> f64 {
    count as f64
}

/// `terok-clearance run` with a probe as its command. Killed on drop.
#[derive(Debug)]
pub(crate) struct MeasuredRun {
    /// The probe inside.
    pub(crate) probe: ProbeProcess,
    pub(crate) directory: TempDir,
}

impl MeasuredRun {
    /// Starts a run that allows these ports of `host.internal`, and waits for its probe.
    pub(crate) fn start(allowed: &[u16]) -> anyhow::Result<Self> {
        let directory = private_directory()?;
        let mut command = run_command(directory.path(), allowed)?;
        command.arg("--");
        Ok(Self {
            probe: ProbeProcess::start(command)?,
            directory,
        })
    }

    /// Returns the path of the socket for operators.
    pub(crate) fn hub_path(&self) -> anyhow::Result<PathBuf> {
        let clock = SpanTimer::start();
        loop {
            let hubs = RuntimeDir::new(self.directory.path()).live_hubs();
            if let Some(hub) = hubs.first() {
                return Ok(hub.path.clone());
            }
            if clock.elapsed() > REPLY_TIMEOUT {
                bail!("the run has no socket for operators");
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Returns a directory for the sockets and the state of a run.
pub(crate) fn private_directory() -> anyhow::Result<TempDir> {
    let directory = TempDir::with_prefix("clearance-bench").context("making a directory")?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(directory.path(), private).context("making a directory private")?;
    Ok(directory)
}

/// Returns the command line of a run that nobody answers, without the sandbox's command.
pub(crate) fn run_command(directory: &Path, allowed: &[u16]) -> anyhow::Result<Command> {
    let mut command = Command::new(clearance_program()?);
    isolate_environment(&mut command, directory);
    command.env("PATH", program_search_path());
    command.args(["run", "--quiet", "--ui", "none", "--proxy", "none"]);
    for port in allowed {
        command.args([
            OsStr::new("--allow"),
            format!("host.internal:{port}").as_ref(),
        ]);
    }
    command.stderr(Stdio::inherit());
    Ok(command)
}

/// Returns the directories with programs, which the measured programs get too.
#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark has no configuration"
)]
pub(crate) fn program_search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}
