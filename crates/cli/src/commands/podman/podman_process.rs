// SPDX-License-Identifier: Apache-2.0
//! Runs podman with this process's terminal and standard streams.
//!
//! podman stays in the process group, so that the terminal is its own: job control and the signals
//! of keys reach it without help. Signals that only this process got are passed on.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::PodmanCommandError;
use crate::{CommandError, CommandStatus, block_on};

/// Runs podman, and returns its status as a shell does.
pub(super) fn run_podman(
    program: &Path,
    arguments: &[OsString],
) -> Result<CommandStatus, CommandError> {
    block_on(async {
        let mut signals = PassedSignals::catch().context("cannot catch signals")?;
        let spawned = Command::new(program).args(arguments).spawn();
        let mut podman = spawned.map_err(|source| PodmanCommandError::Execute {
            path: program.to_owned(),
            source,
        })?;
        let pid = podman.id().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw);
        let status = loop {
            tokio::select! {
                status = podman.wait() => break status.context("cannot wait for podman")?,
                signal = signals.next() => {
                    // podman may just have ended.
                    if let Some(pid) = pid
                        && let Err(error) = kill_process(pid, signal)
                    {
                        tracing::debug!(%error, "podman did not get a signal");
                    }
                }
            }
        };
        Ok(shell_status(status))
    })
}

fn shell_status(status: ExitStatus) -> CommandStatus {
    let code = status.code();
    let code = code.or_else(|| Some(status.signal()?.saturating_add(128)));
    let code = code.and_then(|code| u8::try_from(code).ok());
    CommandStatus(code.unwrap_or(CommandStatus::RUN_FAILED.0))
}

/// The signals that are passed on to podman.
struct PassedSignals {
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    user_1: tokio::signal::unix::Signal,
    user_2: tokio::signal::unix::Signal,
}

impl PassedSignals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next signal that podman has not got from the terminal. Cancel safe.
    async fn next(&mut self) -> Signal {
        loop {
            let (signal, is_of_keys) = tokio::select! {
                _ = self.interrupt.recv() => (Signal::INT, true),
                _ = self.quit.recv() => (Signal::QUIT, true),
                _ = self.terminate.recv() => (Signal::TERM, false),
                _ = self.hang_up.recv() => (Signal::HUP, false),
                _ = self.user_1.recv() => (Signal::USR1, false),
                _ = self.user_2.recv() => (Signal::USR2, false),
            };
            if !(is_of_keys && has_keyboard()) {
                return signal;
            }
        }
    }
}

/// Returns `true` if this process group gets the signals of a terminal's keys.
fn has_keyboard() -> bool {
    let terminal: Option<File> = OpenOptions::new().read(true).open("/dev/tty").ok();
    let foreground = terminal.and_then(|terminal| tcgetpgrp(terminal).ok());
    foreground.is_some_and(|group| group == rustix::process::getpgrp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_that_of_a_shell() {
        let run = |script: &str| {
            let arguments = ["-c".into(), OsString::from(script)];
            run_podman(Path::new("/bin/sh"), &arguments).unwrap().0
        };
        assert_eq!(run("exit 0"), 0);
        assert_eq!(run("exit 125"), 125);
        assert_eq!(run("kill -TERM $$"), 143);
        let missing = run_podman(Path::new("/nonexistent/podman"), &[]).unwrap_err();
        assert!(missing.to_string().contains("cannot execute"));
    }

    #[test]
    fn signals_of_this_process_alone_are_passed_on() {
        for signal in [Signal::TERM, Signal::HUP, Signal::USR1] {
            let place = tempfile::tempdir().unwrap();
            let ready = place.path().join("ready");
            let script = "trap 'exit 9' TERM HUP USR1; touch \"$0\"; while :; do sleep 0.02; done";
            let arguments = ["-c".into(), script.into(), ready.clone().into_os_string()];
            let sender = std::thread::spawn(move || {
                while !ready.exists() {
                    std::thread::yield_now();
                }
                kill_process(rustix::process::getpid(), signal).unwrap();
            });
            let status = run_podman(Path::new("/bin/sh"), &arguments).unwrap();
            assert_eq!(status, CommandStatus(9), "{signal:?}");
            sender.join().unwrap();
        }
    }
}
