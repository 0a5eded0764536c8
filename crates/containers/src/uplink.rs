// SPDX-License-Identifier: Apache-2.0
//! The connection of a container in the filtered way: made by `pasta(1)` or `slirp4netns(1)` after
//! the rules are in force.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use netns::{ProcessHandle, kill_on_parent_exit, run_with_private_mounts};
use rustix::pipe::PipeFlags;
use terok_clearance::DisplayText;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

/// Maximum time until the connection stands. Usual are 50 ms.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum bytes of the program's messages in an error.
const MAX_MESSAGE_BYTES: u64 = 2_048;

/// A program that connects a network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkProgram {
    path: PathBuf,
    kind: UplinkKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UplinkKind {
    Pasta,
    Slirp4netns,
}

/// A running program that connects a container. It ends with this value.
#[derive(Debug)]
pub struct Uplink {
    child: Child,
    /// What the program says. A full pipe would stop the program, and a closed one end it.
    messages: Option<ChildStderr>,
}

/// A container was not connected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UplinkError {
    /// Neither program is installed.
    #[error(
        "neither pasta nor slirp4netns is installed, which connect a container behind its rules: \
         install passt (or slirp4netns), or start the container with \
         org.terok.clearance.network=dialed, which needs neither"
    )]
    NoProgram,
    /// The program could not be run.
    #[error("cannot run {}", path.display())]
    Run {
        /// The program.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The program failed.
    #[error("{} could not connect the container: {message}", path.display())]
    Failed {
        /// The program.
        path: PathBuf,
        /// What it said.
        message: DisplayText,
    },
}

impl UplinkProgram {
    /// Chooses a program: pasta for an ordinary user, slirp4netns for root, else the other one.
    /// `find` returns the path of a program.
    pub fn find(find: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, UplinkError> {
        let pasta = || Some(Self::new(find("pasta")?, UplinkKind::Pasta));
        let slirp = || Some(Self::new(find("slirp4netns")?, UplinkKind::Slirp4netns));
        let found = if rustix::process::geteuid().is_root() {
            // As root, pasta becomes another user first, and cannot enter the namespace then.
            slirp()
        } else {
            pasta().or_else(slirp)
        };
        found.ok_or(UplinkError::NoProgram)
    }

    const fn new(path: PathBuf, kind: UplinkKind) -> Self {
        Self { path, kind }
    }
}

impl Uplink {
    /// Connects the network namespace of `process`, and returns when the connection stands.
    pub async fn start(
        program: &UplinkProgram,
        process: &ProcessHandle,
    ) -> Result<Self, UplinkError> {
        let failed = |message| UplinkError::Failed {
            path: program.path.clone(),
            message,
        };
        let started = timeout(START_TIMEOUT, start_program(program, process)).await;
        let started =
            started.map_err(|_elapsed| failed(DisplayText::new("it was not ready in time")))?;
        let started = started.map_err(|source| UplinkError::Run {
            path: program.path.clone(),
            source,
        });
        started?.map_err(failed)
    }

    /// Resolves when the program has ended, and discards what it says until then. Cancel safe.
    pub async fn wait(&mut self) {
        let Self { child, messages } = self;
        let discarded = async {
            if let Some(messages) = messages
                && let Err(error) = tokio::io::copy(messages, &mut tokio::io::sink()).await
            {
                tracing::debug!(%error, "the messages of the connecting program are not read");
            }
        };
        let (ended, ()) = tokio::join!(child.wait(), discarded);
        if let Err(error) = ended {
            tracing::warn!(%error, "cannot wait for the program that connects the container");
            std::future::pending::<()>().await;
        }
    }
}

/// Starts a program and waits until the connection stands. Returns the messages of a program that
/// failed.
async fn start_program(
    program: &UplinkProgram,
    process: &ProcessHandle,
) -> io::Result<Result<Uplink, DisplayText>> {
    let (ready, ready_to) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let pid = process.pid().to_string();
    let mut command = Command::new(&program.path);
    match program.kind {
        // The path may be that of passt, a link to which it is: its name decides what it does.
        UplinkKind::Pasta => command.arg0("pasta").args(PASTA_ARGUMENTS).arg(pid),
        UplinkKind::Slirp4netns => command.args(SLIRP_ARGUMENTS).args([&pid, "tap0"]),
    };
    command
        .stdin(Stdio::from(ready_to))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    kill_on_parent_exit(command.as_std_mut());
    if rustix::process::geteuid().is_root() {
        // slirp4netns makes another directory its root.
        run_with_private_mounts(command.as_std_mut());
    }
    let mut child = command.spawn()?;
    // Closes this process's copy of the pipe.
    drop(command);
    let mut ready = pipe::Receiver::from_owned_fd(ready)?;
    if ready.read_u8().await.is_ok() {
        let messages = child.stderr.take();
        return Ok(Ok(Uplink { child, messages }));
    }
    child.start_kill()?;
    let mut text = Vec::new();
    if let Some(messages) = child.stderr.take() {
        messages
            .take(MAX_MESSAGE_BYTES)
            .read_to_end(&mut text)
            .await?;
    }
    child.wait().await?;
    Ok(Err(DisplayText::new(String::from_utf8_lossy(&text).trim())))
}

/// Nothing of the host is reachable by loopback, and no port of either side is forwarded. The
/// process id is written to standard input, a pipe, when the connection stands.
const PASTA_ARGUMENTS: [&str; 14] = [
    "--foreground",
    "--config-net",
    "--quiet",
    "--no-map-gw",
    "-t",
    "none",
    "-u",
    "none",
    "-T",
    "none",
    "-U",
    "none",
    "--pid",
    "/proc/self/fd/0",
];

/// The options of podman for a container behind slirp4netns. A byte is written to standard input, a
/// pipe, when the connection stands.
const SLIRP_ARGUMENTS: [&str; 8] = [
    "--configure",
    "--mtu=65520",
    "--disable-host-loopback",
    "--disable-dns",
    "--enable-ipv6",
    "--enable-sandbox",
    "--enable-seccomp",
    "--ready-fd=0",
];

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// Returns a program that runs a script; standard input is the pipe of readiness.
    fn program(directory: &tempfile::TempDir, script: &str) -> UplinkProgram {
        let path = directory.path().join("slirp4netns");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        UplinkProgram::new(path, UplinkKind::Slirp4netns)
    }

    #[tokio::test]
    async fn a_program_with_more_messages_than_a_pipe_holds_is_not_stopped_by_them() {
        let directory = tempfile::tempdir().unwrap();
        let script = "printf 1 >&0; head -c 1000000 /dev/zero >&2";
        let program = program(&directory, script);
        let own = ProcessHandle::current().unwrap();
        let mut uplink = Uplink::start(&program, &own).await.unwrap();
        uplink.wait().await;
    }

    #[tokio::test]
    async fn the_words_of_a_program_that_fails_are_the_error() {
        let directory = tempfile::tempdir().unwrap();
        let program = program(&directory, "echo no tap device >&2; exit 1");
        let own = ProcessHandle::current().unwrap();
        let error = Uplink::start(&program, &own).await.unwrap_err();
        assert!(error.to_string().ends_with("no tap device"), "{error}");
    }
}
