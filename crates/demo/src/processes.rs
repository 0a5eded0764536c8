// SPDX-License-Identifier: Apache-2.0
//! The parts of a demo: the process of the simulated internet, the thread of the supervisor, and
//! the program in the sandbox with its pipes. Dropping a part ends the part; `close` also returns
//! an error after an abnormal end.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use netns::sandbox::{RunningSandbox, StreamKind};
use netns::{NetnsRef, ProcessHandle};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::stderr;
use supervisor::{DialedConfig, DialedSupervisor};
use terok_clearance::DisplayText;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::INTERNET_COMMAND;
use crate::error::{ChildMessageError, DemoError, DemoPartError};
use crate::internet_sockets::{InternetLookup, InternetSockets};
use crate::protocol::{InternetMessage, WorkloadMessage, read_message};
use crate::supervisor_trace::SupervisorTrace;

/// Name of the simulated internet in errors.
const INTERNET_PART: &str = "the simulated internet";
/// Name of the supervisor in errors.
const SUPERVISOR_PART: &str = "the supervisor";
/// Name of the program in errors.
pub(crate) const WORKLOAD_PART: &str = "the program in the sandbox";
/// Maximum time for the start and for the end of a part.
const START_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// What arrived at the simulated internet.
#[derive(Debug, Default)]
pub(crate) struct InternetArrivals {
    /// The number of connections to each host.
    pub(crate) connections: BTreeMap<SocketAddr, usize>,
    /// The number of queries for each name.
    pub(crate) lookups: BTreeMap<DisplayText, usize>,
}

/// The process of the simulated internet.
#[derive(Debug)]
pub(crate) struct InternetProcess {
    child: Child,
    stdin: ChildStdin,
    output: BufReader<ChildStdout>,
    buffer: Vec<u8>,
}

impl InternetProcess {
    /// Starts the process beside the sandbox of `process`. Also returns the reason if IPv6 is
    /// missing. At the end the process removes `directory`, because a killed demo cannot do so.
    pub(crate) async fn start(
        process: &ProcessHandle,
        directory: &Path,
    ) -> Result<(Self, Option<DisplayText>), DemoError> {
        let failed = DemoPartError::of(INTERNET_PART);
        let mut child = Command::new("/proc/self/exe")
            .arg0("terok-clearance")
            .args([INTERNET_COMMAND, &process.pid().to_string()])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Ctrl-C then reaches only the demo, which closes the standard input of this process.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed(DemoPartError::Start(error)))?;
        let no_pipe = || failed(DemoPartError::Start(io::ErrorKind::BrokenPipe.into()));
        let mut this = Self {
            stdin: child.stdin.take().ok_or_else(no_pipe)?,
            output: BufReader::new(child.stdout.take().ok_or_else(no_pipe)?),
            buffer: Vec::new(),
            child,
        };
        let message = tokio::time::timeout(START_STOP_TIMEOUT, this.next_message()).await;
        let message = message.map_err(|_elapsed| failed(DemoPartError::NotReady))?;
        Err(failed(match message {
            Ok(Some(InternetMessage::Ready { without_v6 })) => return Ok((this, without_v6)),
            Ok(Some(InternetMessage::Failed { error })) => DemoPartError::Reported(error),
            Ok(Some(InternetMessage::Reached { .. } | InternetMessage::LookedUp { .. })) => {
                DemoPartError::UnexpectedMessage
            }
            Ok(None) => DemoPartError::Ended("without a message".to_owned()),
            Err(error) => error.into(),
        }))
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// Opens the network namespace of the process.
    pub(crate) fn netns_ref(&self) -> Result<NetnsRef, DemoError> {
        let file = File::open(format!("/proc/{}/ns/net", self.pid()));
        let file = file.map_err(|error| {
            DemoPartError::of(INTERNET_PART)(DemoPartError::OpenNamespace(error))
        })?;
        Ok(NetnsRef::NamespaceFile(file.into()))
    }

    /// Ends the process and returns what arrived there.
    pub(crate) async fn close(mut self) -> Result<InternetArrivals, DemoError> {
        let failed = DemoPartError::of(INTERNET_PART);
        drop(self.stdin);
        let mut arrivals = InternetArrivals::default();
        let rest = async {
            while let Some(message) = read_message(&mut self.output, &mut self.buffer).await? {
                match message {
                    InternetMessage::Reached { host } => {
                        *arrivals.connections.entry(host).or_default() += 1;
                    }
                    InternetMessage::LookedUp { name } => {
                        *arrivals.lookups.entry(name).or_default() += 1;
                    }
                    InternetMessage::Failed { error } => {
                        return Err(DemoPartError::Reported(error));
                    }
                    InternetMessage::Ready { .. } => {}
                }
            }
            self.child.wait().await.map_err(DemoPartError::Wait)
        };
        let ended = tokio::time::timeout(START_STOP_TIMEOUT, rest).await;
        let ended = ended.map_err(|_elapsed| failed(DemoPartError::NotEnded))?;
        ended.map_err(failed)?;
        Ok(arrivals)
    }

    async fn next_message(&mut self) -> Result<Option<InternetMessage>, ChildMessageError> {
        read_message(&mut self.output, &mut self.buffer).await
    }
}

/// The supervisor in a separate thread with a separate runtime.
#[derive(Debug)]
pub(crate) struct SupervisorThread {
    thread: Option<JoinHandle<Result<(), DemoPartError>>>,
    stop: CancellationToken,
    hub: PathBuf,
    trace: SupervisorTrace,
}

impl SupervisorThread {
    /// Starts the supervisor. On return, the gateway's rules are in force, and the hub listens.
    pub(crate) async fn start(
        config: DialedConfig<InternetLookup, InternetSockets>,
    ) -> Result<Self, DemoError> {
        let failed = DemoPartError::of(SUPERVISOR_PART);
        let stop = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let token = stop.clone();
        let trace = SupervisorTrace::default();
        let observer = trace.observer();
        let thread = std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_io()
                    .enable_time()
                    .build()
                    .map_err(DemoPartError::Start)?;
                runtime.block_on(async {
                    let supervisor = DialedSupervisor::start(config)?;
                    // Fails if the demo was stopped; the token is cancelled then.
                    drop(ready.send(supervisor.hub_path().to_owned()));
                    supervisor.with_observer(observer).serve(token).await?;
                    Ok(())
                })
            })
            .map_err(|error| failed(DemoPartError::Start(error)))?;
        let mut this = Self {
            thread: Some(thread),
            stop,
            hub: PathBuf::new(),
            trace,
        };
        match is_ready.await {
            Ok(hub) => this.hub = hub,
            Err(_ended) => {
                this.close().await?;
                return Err(failed(DemoPartError::Ended("without a hub".to_owned())));
            }
        }
        Ok(this)
    }

    /// Returns the path of the hub's socket.
    pub(crate) fn hub(&self) -> &Path {
        &self.hub
    }

    /// Returns the record of the supervisor's steps.
    pub(crate) const fn trace(&self) -> &SupervisorTrace {
        &self.trace
    }

    /// Stops the supervisor and waits until the sockets are closed.
    pub(crate) async fn close(mut self) -> Result<(), DemoError> {
        let failed = DemoPartError::of(SUPERVISOR_PART);
        self.stop.cancel();
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let joined = tokio::task::spawn_blocking(|| thread.join());
        let joined = tokio::time::timeout(START_STOP_TIMEOUT, joined).await;
        match joined {
            Err(_elapsed) => Err(failed(DemoPartError::NotEnded)),
            Ok(Ok(Ok(ended))) => ended.map_err(failed),
            Ok(Err(_) | Ok(Err(_))) => Err(failed(DemoPartError::Panicked)),
        }
    }
}

impl Drop for SupervisorThread {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // Wait until the sockets are closed. The thread's result does not matter: the demo has
            // failed or was stopped.
            drop(thread.join());
        }
    }
}

/// The demo's ends of the program's standard input and output.
#[derive(Debug)]
pub(crate) struct WorkloadPipes {
    input: OwnedFd,
    output: OwnedFd,
}

impl WorkloadPipes {
    /// Creates both pipes. Also returns the program's ends. Standard error is inherited, unless it
    /// is a terminal or another file that a sandbox must not have.
    pub(crate) fn new() -> io::Result<(Self, [Option<Arc<OwnedFd>>; 3])> {
        let (read, input) = pipe_with(PipeFlags::CLOEXEC)?;
        let (output, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let error = if StreamKind::of(stderr()).is_harmless() {
            None
        } else {
            Some(Arc::new(
                File::options().write(true).open("/dev/null")?.into(),
            ))
        };
        let inside = [Some(Arc::new(read)), Some(Arc::new(write)), error];
        Ok((Self { input, output }, inside))
    }
}

/// The program in the sandbox. Dropping the value ends the sandbox.
#[derive(Debug)]
pub(crate) struct WorkloadProcess {
    running: RunningSandbox,
    input: pipe::Sender,
    output: BufReader<pipe::Receiver>,
    buffer: Vec<u8>,
}

impl WorkloadProcess {
    /// Combines the running program with the demo's ends of the pipes.
    pub(crate) fn new(running: RunningSandbox, pipes: WorkloadPipes) -> Result<Self, DemoError> {
        let failed = |error| DemoPartError::of(WORKLOAD_PART)(DemoPartError::Start(error));
        let output = pipe::Receiver::from_owned_fd(pipes.output).map_err(failed)?;
        Ok(Self {
            running,
            input: pipe::Sender::from_owned_fd(pipes.input).map_err(failed)?,
            output: BufReader::new(output),
            buffer: Vec::new(),
        })
    }

    /// Sends a line to the program.
    pub(crate) async fn write_line(&mut self, line: &[u8]) -> Result<(), DemoError> {
        let sent = self.input.write_all(line).await;
        sent.map_err(|error| {
            DemoPartError::of(WORKLOAD_PART)(ChildMessageError::from(error).into())
        })
    }

    /// Returns the next message of the program. Cancel safe.
    pub(crate) async fn next_message(&mut self) -> Result<WorkloadMessage, DemoError> {
        // The sandbox's first process also holds the pipe, so the pipe outlives the program.
        let failure = tokio::select! {
            message = read_message(&mut self.output, &mut self.buffer) => match message {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => DemoPartError::Ended("its output is closed".to_owned()),
                Err(error) => error.into(),
            },
            status = self.running.wait_for_status() => match status {
                Ok(status) => DemoPartError::Ended(format!("{status:?}")),
                Err(error) => DemoPartError::Wait(error),
            },
        };
        Err(DemoPartError::of(WORKLOAD_PART)(failure))
    }
}
